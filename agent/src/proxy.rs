//! The PROXY protocol on sockets: reading the header a trusted peer must send,
//! and writing ours to the backend. The bytes themselves are `core`'s.

use std::io;
use std::net::SocketAddr;

use tidegate_core::addr::{ClientAddr, unmapped};
use tidegate_core::proxy_protocol::{self, Decoded, Header, Version};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::cause::{Cause, Phase};
use crate::connection::Connection;
use crate::engine::TcpStream;

/// Who connected to what, as far as anybody before us has told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) client: ClientAddr,
    /// The address the client connected to.
    pub(crate) destination: SocketAddr,
}

/// A connection as it arrives.
pub(crate) struct Arrival {
    pub(crate) ends: Ends,
    /// The extensions of the header it came with, as they came.
    pub(crate) extensions: Vec<u8>,
}

/// Finds out who the client is: the peer, or whom a PROXY header names where
/// the listener requires one. `None`: the peer speaks for itself (`LOCAL`, a
/// health check), and is itself the client.
///
/// # Errors
/// A peer that may not send a header, or one that sends something else.
pub(crate) async fn arrival(
    stream: &mut TcpStream,
    connection: &Connection,
) -> Result<Arrival, Cause> {
    let peer = connection.live.peer;
    let direct = || Arrival {
        ends: Ends {
            client: peer.as_client(),
            destination: local_address(stream, connection.bind()),
        },
        extensions: Vec::new(),
    };
    let Some(trusted) = &connection.spec.accept_proxy else {
        return Ok(direct());
    };
    if !trusted.iter().any(|net| net.contains(&peer.ip())) {
        return Err(Cause::NotTrusted);
    }
    let direct = direct();
    connection.enter(Phase::ProxyHeader);
    // Apart: its window must not stay in the connection's task for ever.
    match Box::pin(read_header(stream)).await? {
        (Header::Local, _) => Ok(direct),
        (
            Header::Proxied {
                client,
                destination,
            },
            extensions,
        ) => Ok(Arrival {
            ends: Ends {
                client: ClientAddr::new(client),
                destination: unmapped(destination),
            },
            extensions,
        }),
    }
}

/// Writes a header.
///
/// # Errors
/// As write(2).
pub(crate) async fn write(
    upstream: &mut (impl AsyncWrite + Unpin),
    version: Version,
    header: &Header,
) -> io::Result<()> {
    upstream
        .write_all(proxy_protocol::encode(version, header).as_bytes())
        .await
}

/// Reads exactly the header: what follows belongs to TLS or to the backend.
///
/// The bytes are looked at first (MSG_PEEK). When they end inside the header
/// all of them are its own and are taken, so that the next wait is for new
/// bytes and cannot spin; when the header is whole, just its length is taken.
async fn read_header(stream: &mut TcpStream) -> Result<(Header, Vec<u8>), Cause> {
    let mut seen = Vec::new();
    let mut window = [0; 256];
    loop {
        let count = stream
            .peek(&mut window)
            .await
            .map_err(|_| Cause::ClientReset)?;
        let news = window.get(..count).filter(|news| !news.is_empty());
        let news = match news {
            Some(news) => news,
            None if seen.is_empty() => return Err(Cause::ClientClosed),
            None => return Err(Cause::BadProxyHeader),
        };
        let before = seen.len();
        seen.extend_from_slice(news);
        match proxy_protocol::decode(&seen) {
            Err(malformed) => {
                tracing::debug!(%malformed, "PROXY header refused");
                return Err(Cause::BadProxyHeader);
            }
            Ok(Decoded::Partial) => take(stream, &mut window, count).await?,
            Ok(Decoded::Whole {
                header,
                extensions,
                length,
            }) => {
                take(stream, &mut window, length.saturating_sub(before)).await?;
                let extensions = seen.get(extensions..length).unwrap_or_default();
                return Ok((header, extensions.to_vec()));
            }
        }
    }
}

async fn take(stream: &mut TcpStream, window: &mut [u8], count: usize) -> Result<(), Cause> {
    let place = window.get_mut(..count).ok_or(Cause::Internal)?;
    stream
        .read_exact(place)
        .await
        .map_err(|_| Cause::ClientReset)?;
    Ok(())
}

/// Asks the kernel only where the listener's own address does not say it.
fn local_address(stream: &TcpStream, bind: SocketAddr) -> SocketAddr {
    if bind.ip().is_unspecified() {
        stream.local_addr().map_or(bind, unmapped)
    } else {
        bind
    }
}
