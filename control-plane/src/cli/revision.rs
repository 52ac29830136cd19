//! `revision`: the document's past: who changed what, and back to it.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::client::{Call, Client};
use crate::cli::commit::{self, Commit, Resource, Wait};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::get::{self, Kind, Output};
use crate::cli::screen::Screen;
use crate::cli::words::{age, at};

/// `tidegate revision`.
#[derive(Args)]
pub(crate) struct Revisions {
    #[command(flatten)]
    given: Given,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The latest revisions, youngest first.
    List(Output),
    /// The document as it was: apply -f - takes it.
    Show {
        /// Its number.
        number: u64,
    },
    /// What a revision changed.
    Diff {
        /// Its number.
        number: u64,
        /// Compared with this one; the one before when absent.
        #[arg(long, value_name = "NUMBER")]
        against: Option<u64>,
    },
    /// Make the document what it was: a new revision with the old content. Certificates, admin
    /// states and agents stay as they are.
    Rollback {
        /// Its number.
        number: u64,
        #[command(flatten)]
        wait: Wait,
    },
}

#[derive(Deserialize)]
struct Difference {
    from: u64,
    to: u64,
    diff: Vec<Resource>,
}

impl Revisions {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        self.what.run(&client, screen).await
    }
}

impl What {
    async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Error> {
        match self {
            Self::List(output) => get::show(client, Kind::Revisions, None, output, screen).await,
            Self::Show { number } => {
                let number = number.to_string();
                let call = Call::get(&["revisions", &number]);
                show(&client.send(call).await?.json()?, screen)
            }
            Self::Diff { number, against } => {
                let number = number.to_string();
                let mut call = Call::get(&["revisions", &number, "diff"]);
                if let Some(against) = against {
                    call = call.query("against", against.to_string());
                }
                let difference: Difference = client.send(call).await?.json()?;
                commit::show_diff(&difference.diff, screen)?;
                let summary = match commit::summary(&difference.diff).as_str() {
                    "" => "the same".to_owned(),
                    summary => summary.to_owned(),
                };
                let Difference { from, to, .. } = difference;
                screen.note(format!("from revision {from} to {to}: {summary}"))?;
                Ok(())
            }
            Self::Rollback { number, wait } => {
                let number = number.to_string();
                let call = Call::post(&["revisions", &number, "rollback"]);
                let answer = client.send(call.wait_applied(wait.wait)).await?;
                let done: Commit = answer.json()?;
                commit::show_diff(&done.diff, screen)?;
                done.tell(screen)
            }
        }
    }
}

fn show(revision: &Value, screen: &mut Screen<'_>) -> Result<(), Error> {
    screen.line(format!(
        "# revision {}: {}, by {}, {} ago",
        at(revision, "/number"),
        at(revision, "/action"),
        at(revision, "/author"),
        age(revision, "/created_at", screen.now()),
    ))?;
    screen.line(get::yaml(&revision["document"])?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    #[tokio::test]
    async fn a_revision_is_shown_so_that_it_can_be_applied() {
        let rest = Rest::start().await;
        let document = json!({ "listeners": [], "pools": [{ "name": "p" }] });
        let revision = json!({ "number": 3, "author": "ann", "action": "apply",
            "created_at": "2026-11-01T09:00:00Z", "document": document });
        rest.answer("GET /revisions/3", 200, &revision);
        let mut captured = Captured::default();
        let show = What::Show { number: 3 };
        show.run(&rest.client(), &mut captured.screen())
            .await
            .unwrap();
        let out = captured.out();
        assert!(
            out.starts_with("# revision 3: apply, by ann, 3h ago\n"),
            "{out}"
        );
        let back: Value = serde_saphyr::from_str(&out).unwrap();
        assert_eq!(back, document);
    }

    #[tokio::test]
    async fn two_revisions_are_compared_as_asked() {
        let rest = Rest::start().await;
        let diff = json!([{ "kind": "pools", "name": "p", "change": "added" }]);
        let answer = json!({ "from": 1, "to": 3, "diff": diff });
        rest.answer("GET /revisions/3/diff", 200, &answer);
        let mut captured = Captured::default();
        let what = What::Diff {
            number: 3,
            against: Some(1),
        };
        what.run(&rest.client(), &mut captured.screen())
            .await
            .unwrap();
        assert_eq!(captured.out(), "+ pools/p\n");
        assert_eq!(captured.notes(), "from revision 1 to 3: 1 added\n");
        assert_eq!(rest.seen()[0].line, "GET /revisions/3/diff?against=1");
    }

    #[tokio::test]
    async fn going_back_is_a_new_revision() {
        let rest = Rest::start().await;
        let commit = json!({ "revision": 9, "change": 30, "changed": true,
            "diff": [{ "kind": "pools", "name": "p", "change": "removed" }] });
        rest.answer("POST /revisions/3/rollback", 200, &commit);
        let mut captured = Captured::default();
        let what = What::Rollback {
            number: 3,
            wait: Wait { wait: None },
        };
        what.run(&rest.client(), &mut captured.screen())
            .await
            .unwrap();
        assert_eq!(captured.out(), "- pools/p\nrevision 9, change 30\n");
    }
}
