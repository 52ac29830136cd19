//! `ticket-key`: keys of session tickets. They rotate by themselves; here is what
//! there is, and a rotation out of turn.

use clap::{Args, Subcommand};
use serde::Deserialize;

use crate::cli::client::{Call, Client};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::get::{self, Kind, Output};
use crate::cli::screen::Screen;
use crate::cli::words::{clean, count};

/// `tidegate ticket-key`.
#[derive(Args)]
pub(crate) struct TicketKeys {
    #[command(flatten)]
    given: Given,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// All of them by listener, without what they are.
    List(Output),
    /// Make a new one now, also of those that were made lately.
    Rotate {
        /// Of this listener; of all that end TLS when absent.
        listener: Option<String>,

        /// Delete all others at once, everywhere, as when somebody may have stolen one. Each
        /// client's next connection is a full handshake.
        #[arg(long)]
        drop_old: bool,
    },
}

#[derive(Deserialize)]
struct Rotated {
    listeners: Vec<String>,
}

impl TicketKeys {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        self.what.run(&client, screen).await
    }
}

impl What {
    async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Error> {
        match self {
            Self::List(output) => get::show(client, Kind::TicketKeys, None, output, screen).await,
            Self::Rotate { listener, drop_old } => {
                let mut call = Call::post(&["ticket-keys", "rotate"]);
                if let Some(listener) = listener {
                    call = call.query("listener", listener);
                }
                if drop_old {
                    call = call.query("drop_old", "true");
                }
                let rotated: Rotated = client.send(call).await?.json()?;
                for listener in &rotated.listeners {
                    screen.line(clean(listener))?;
                }
                screen.note(format!(
                    "{} with a new key; in use when every connected terminator holds it: tidegate \
                     ticket-key list",
                    count(rotated.listeners.len(), "listener")
                ))?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    async fn run(rest: &Rest, listener: Option<&str>, drop_old: bool) -> String {
        let mut captured = Captured::default();
        let listener = listener.map(str::to_owned);
        let rotate = What::Rotate { listener, drop_old };
        let done = rotate.run(&rest.client(), &mut captured.screen()).await;
        done.unwrap();
        captured.out()
    }

    #[tokio::test]
    async fn all_or_one_listener_rotate_and_old_keys_go_only_when_asked() {
        let rest = Rest::start().await;
        let answer = json!({ "listeners": ["a", "b"] });
        rest.answer("POST /ticket-keys/rotate", 200, &answer);
        assert_eq!(run(&rest, None, false).await, "a\nb\n");
        assert_eq!(run(&rest, Some("a"), true).await, "a\nb\n");
        let lines: Vec<_> = rest.seen().into_iter().map(|seen| seen.line).collect();
        let place = "POST /ticket-keys/rotate";
        assert_eq!(
            lines,
            [
                place.to_owned(),
                format!("{place}?listener=a&drop_old=true")
            ]
        );
    }
}
