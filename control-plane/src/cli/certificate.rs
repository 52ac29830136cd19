//! `cert`: certificates go in whole, and their keys never come out.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::apply::read;
use crate::cli::client::{Call, Client};
use crate::cli::commit::{Commit, Wait};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::get::{self, Kind, Output};
use crate::cli::screen::Screen;
use crate::cli::words;

/// `tidegate cert`.
#[derive(Args)]
pub(crate) struct Certificates {
    #[command(flatten)]
    given: Given,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Store a certificate with its key, or a newer one of that name.
    Upload(Upload),
    /// All certificates: what they serve, until when, and who holds their keys.
    List(Output),
    /// Remove a certificate that no listener names.
    Remove {
        /// Its name.
        name: String,
    },
}

#[derive(Args)]
struct Upload {
    /// The name by which listeners use it.
    name: String,

    /// The certificate, PEM: leaf first, then the authorities between.
    #[arg(long, value_name = "FILE")]
    chain: String,

    /// Its private key, PEM.
    #[arg(long, value_name = "FILE")]
    key: String,

    #[command(flatten)]
    wait: Wait,
}

impl Certificates {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        match self.what {
            What::Upload(upload) => upload.run(&client, screen).await,
            What::List(output) => {
                get::show(&client, Kind::Certificates, None, output, screen).await
            }
            What::Remove { name } => {
                let call = Call::delete(&["certificates", &name]);
                let done: Commit = client.send(call).await?.json()?;
                done.tell(screen)
            }
        }
    }
}

impl Upload {
    async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Error> {
        let body = json!({ "chain": pem(&self.chain)?, "private_key": pem(&self.key)? });
        let place = ["certificates", self.name.as_str()];
        let call = Call::put(&place).json(&body).wait_applied(self.wait.wait);
        let done: Commit = client.send(call).await?.json()?;
        let stored: Value = client.send(Call::get(&place)).await?.json()?;
        let names = match words::at(&stored, "/dns_names").as_str() {
            words::NOTHING => "no server name".to_owned(),
            names => names.to_owned(),
        };
        let until = words::until(&stored, "/not_after", screen.now());
        screen.line(format!("{}: for {names}, {}", self.name, ends(&until)))?;
        done.tell(screen)
    }
}

fn ends(until: &str) -> String {
    match until.strip_prefix("in ") {
        Some(span) => format!("ends in {span}"),
        None => until.to_owned(),
    }
}

fn pem(file: &str) -> Result<String, Error> {
    String::from_utf8(read(file)?).map_err(|_| Error::Content {
        path: file.into(),
        why: "it is not PEM, which begins with -----BEGIN. From DER: openssl x509 -inform der"
            .into(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    #[tokio::test]
    async fn a_certificate_goes_in_and_its_key_is_not_shown() {
        let rest = Rest::start().await;
        let commit = json!({ "revision": 2, "change": 3, "changed": true, "diff": [] });
        rest.answer("PUT /certificates/play", 200, &commit);
        let stored = json!({ "name": "play", "dns_names": ["play.example.com"],
            "not_after": "2026-12-01T12:00:00Z" });
        rest.answer("GET /certificates/play", 200, &stored);
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let upload = Upload {
            name: "play".into(),
            chain: file("chain.pem", "the chain"),
            key: file("key.pem", "the key"),
            wait: Wait { wait: None },
        };
        let mut captured = Captured::default();
        upload
            .run(&rest.client(), &mut captured.screen())
            .await
            .unwrap();
        let sent: Value = serde_json::from_str(&rest.seen()[0].body).unwrap();
        assert_eq!(
            sent,
            json!({ "chain": "the chain", "private_key": "the key" })
        );
        let out = captured.out();
        assert!(
            out.contains("play: for play.example.com, ends in 30d"),
            "{out}"
        );
        assert!(!out.contains("the key") && !captured.notes().contains("the key"));
    }

    #[test]
    fn a_file_that_is_no_text_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [0x30, 0x82, 0xff]).unwrap();
        let path = file.path().display().to_string();
        let error = pem(&path).unwrap_err().to_string();
        assert!(error.contains(&path) && error.contains("PEM"), "{error}");
    }
}
