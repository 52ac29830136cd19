//! `apply`: the whole document from a file, atomically, with its difference. And
//! what reads files for other commands.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use clap::Args;

use crate::cli::client::{Call, Client};
use crate::cli::commit::{self, Commit, Wait};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::screen::Screen;

/// What the API takes.
const MAX_BYTES: u64 = 4 << 20;

/// `tidegate apply`.
#[derive(Args)]
pub(crate) struct Apply {
    #[command(flatten)]
    given: Given,

    /// The document, YAML or JSON; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    file: String,

    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    wait: Wait,
}

impl Apply {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        let text = read(&self.file)?;
        self.send(&client, text, screen).await
    }

    async fn send(
        self,
        client: &Client,
        text: Vec<u8>,
        screen: &mut Screen<'_>,
    ) -> Result<(), Error> {
        let mut call = Call::put(&["config"]).body(content_type(&self.file, &text), text);
        if self.dry_run {
            call = call.query("dry_run", "true");
        } else {
            call = call.wait_applied(self.wait.wait);
        }
        let done: Commit = client.send(call).await?.json()?;
        commit::show_diff(&done.diff, screen)?;
        if !self.dry_run {
            return done.tell(screen);
        }
        screen.note(match commit::summary(&done.diff).as_str() {
            "" => format!("dry run: revision {} says the same", done.revision),
            summary => format!("dry run: {summary}; nothing was changed"),
        })?;
        Ok(())
    }
}

/// JSON where it is that, so that places in it are told as JSON's own.
fn content_type(name: &str, text: &[u8]) -> &'static str {
    let json = Path::new(name).extension().is_some_and(|e| e == "json");
    if json || text.trim_ascii_start().starts_with(b"{") {
        "application/json"
    } else {
        "application/yaml"
    }
}

/// A file's bytes, or those of standard input, bounded as the API is.
pub(crate) fn read(name: &str) -> Result<Vec<u8>, Error> {
    let path = Path::new(name);
    let mut bytes = Vec::new();
    let input: Box<dyn Read> = match name {
        "-" => Box::new(io::stdin().lock()),
        _ => Box::new(File::open(path).map_err(Error::file(path))?),
    };
    input
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::file(path))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::Content {
            path: path.to_owned(),
            why: "it has more than 4 MiB, which the control plane refuses".into(),
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    fn apply(dry_run: bool, wait: Option<Duration>) -> Apply {
        Apply {
            given: Given::default(),
            file: "fleet.yaml".into(),
            dry_run,
            wait: Wait { wait },
        }
    }

    #[tokio::test]
    async fn a_document_is_sent_whole_and_its_difference_is_shown() {
        let rest = Rest::start().await;
        let answer = json!({ "revision": 4, "change": 9, "changed": true,
            "diff": [{ "kind": "pools", "name": "p", "change": "added", "fields": [] }],
            "applied": { "applied": ["a", "b"], "failed": [], "pending": [], "offline": [] } });
        rest.answer("PUT /config", 200, &answer);
        let mut captured = Captured::default();
        let waiting = apply(false, Some(Duration::from_secs(30)));
        let text = b"pools: []".to_vec();
        waiting
            .send(&rest.client(), text, &mut captured.screen())
            .await
            .unwrap();
        assert_eq!(
            captured.out(),
            "+ pools/p\nrevision 4, change 9\napplied by 2 agents\n"
        );
        let seen = rest.seen();
        assert_eq!(seen[0].line, "PUT /config?wait=applied&timeout=30s");
        assert_eq!(seen[0].content_type, "application/yaml");
        assert_eq!(seen[0].body, "pools: []");
    }

    #[tokio::test]
    async fn a_dry_run_asks_for_one_and_says_that_nothing_changed() {
        let rest = Rest::start().await;
        let diff = json!([{ "kind": "pools", "name": "p", "change": "removed", "fields": [] }]);
        let answer = json!({ "revision": 4, "change": 9, "changed": true, "diff": diff });
        rest.answer("PUT /config", 200, &answer);
        let mut captured = Captured::default();
        let dry = apply(true, None);
        dry.send(&rest.client(), b"{}".to_vec(), &mut captured.screen())
            .await
            .unwrap();
        assert_eq!(captured.out(), "- pools/p\n");
        assert!(captured.notes().contains("1 removed; nothing was changed"));
        assert_eq!(rest.seen()[0].line, "PUT /config?dry_run=true");
        assert_eq!(rest.seen()[0].content_type, "application/json");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_sent() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        let error = read(&file.path().display().to_string()).unwrap_err();
        assert!(error.to_string().contains("4 MiB"), "{error}");
    }
}
