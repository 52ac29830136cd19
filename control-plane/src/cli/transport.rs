//! Why there was no answer: the chain of errors under a request, put into one
//! sentence with the mend.

use std::error::Error as StdError;
use std::io;

use rustls::CertificateError;

use crate::cli::connection::Connection;
use crate::cli::error::Error;

/// What a failed request means for whoever typed the command.
pub(crate) fn explain(error: &reqwest::Error, connection: &Connection) -> Error {
    let address = host_and_port(connection);
    if let Some(error) = find::<rustls::Error>(error) {
        return Error::Transport(tls(error, connection, &address));
    }
    if error.is_timeout() {
        return Error::Transport(format!(
            "{address} did not answer in time: is that the control plane, and is there a way to it \
             (firewall, network)?"
        ));
    }
    let kind = find::<io::Error>(error).map(io::Error::kind);
    if kind == Some(io::ErrorKind::ConnectionRefused) {
        return Error::Transport(format!(
            "nobody listens at {address}. Start the control plane there (tidegate serve; to try: \
             tidegate dev), or name the right place with --url"
        ));
    }
    let chain = chain(error);
    if chain.contains("dns error") {
        return Error::Transport(format!(
            "the name in {} leads nowhere: {chain}. Name the control plane with --url",
            connection.url
        ));
    }
    Error::Transport(format!("no answer from {address}: {chain}"))
}

fn tls(error: &rustls::Error, connection: &Connection, address: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            let trusted = match &connection.ca_file {
                Some(path) => format!("the authority in {}", path.display()),
                None => "an authority that this machine trusts".to_owned(),
            };
            format!(
                "the certificate of {address} was not signed by {trusted}. Name its authority with \
                 --ca-file: ca.pem of the control plane's state directory"
            )
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!(
            "the certificate of {address} is for another name ({error}). Use a name that it has in \
             --url, or start the control plane with: tidegate serve --name {}",
            connection.url.host_str().unwrap_or("HOST")
        ),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => format!(
            "the certificate of {address} has expired, or this machine's clock is wrong: restart \
             the control plane, or give it a new one (--tls-chain)"
        ),
        rustls::Error::InvalidCertificate(other) => {
            format!("the certificate of {address} cannot be accepted: {other}")
        }
        rustls::Error::InvalidMessage(_) => format!(
            "{address} does not speak TLS: is it the control plane's REST address (port 7443)?"
        ),
        other => format!(
            "no TLS with {address}: {other}. Is it the control plane's REST address (port 7443)?"
        ),
    }
}

fn host_and_port(connection: &Connection) -> String {
    let host = connection.url.host_str().unwrap_or_default();
    match connection.url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The first error of a type under this one. An `io::Error` hides what it wraps
/// from `source`.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        if let Some(inner) = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            && let Some(found) = find::<E>(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Every error of the chain, outermost first, without reqwest's own words.
fn chain(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        let said = error.to_string();
        if words.last() != Some(&said) {
            words.push(said);
        }
        next = error.source();
    }
    if words.is_empty() {
        // No address in it: that may hold what was typed.
        return "the request failed".to_owned();
    }
    words.join(": ")
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use crate::cli::client::Call;
    use crate::cli::testing::Rest;

    async fn told(client: crate::cli::client::Client) -> String {
        let error = client.send(Call::get(&["status"])).await.err().unwrap();
        error.to_string()
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_address_and_what_to_start() {
        let rest = Rest::start().await;
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let told = told(rest.client_at(&format!("https://{address}"))).await;
        assert!(told.contains(&address.to_string()), "{told}");
        assert!(told.contains("tidegate serve"), "{told}");
    }

    #[tokio::test]
    async fn another_authority_is_told_with_the_option() {
        let (rest, other) = (Rest::start().await, Rest::start().await);
        let told = told(other.client_at(rest.url())).await;
        assert!(told.contains("--ca-file"), "{told}");
        assert!(
            told.contains(&other.ca_file().display().to_string()),
            "{told}"
        );
    }

    #[tokio::test]
    async fn another_name_is_told_with_how_to_add_it() {
        let rest = Rest::named("elsewhere.example").await;
        let told = told(rest.client()).await;
        assert!(told.contains("--name 127.0.0.1"), "{told}");
    }

    #[tokio::test]
    async fn a_port_without_tls_is_told_so() {
        let rest = Rest::start().await;
        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = plain.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = plain.accept().await.unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
            // Held until the client has read it.
            let _held = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4096]).await;
        });
        let told = told(rest.client_at(&format!("https://{address}"))).await;
        assert!(told.contains("does not speak TLS"), "{told}");
    }

    #[tokio::test]
    async fn no_error_quotes_the_token() {
        let rest = Rest::start().await;
        rest.problem("GET /status", 401, "unknown token");
        let told = told(rest.client()).await;
        assert!(!told.contains(rest.token()), "{told}");
    }
}
