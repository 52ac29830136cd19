//! `token`: join tokens. A new one is printed alone, so that it can be piped, and
//! never again.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cli::client::{Call, Client};
use crate::cli::connection::{Given, write_private};
use crate::cli::error::Error;
use crate::cli::get::{self, Kind, Output};
use crate::cli::screen::Screen;
use crate::cli::words;

/// `tidegate token`.
#[derive(Args)]
pub(crate) struct Tokens {
    #[command(flatten)]
    given: Given,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make a token, and print it alone.
    Create(Create),
    /// All tokens that are left, without their secrets.
    List(Output),
    /// Remove a token: nobody joins with it any more; who has stays.
    Remove {
        /// Its id, the second part of the token.
        id: String,
    },
}

#[derive(Args)]
struct Create {
    /// What the agent may do; may be given twice.
    #[arg(long = "role", value_name = "ROLE", value_enum, required = true)]
    roles: Vec<Role>,

    /// A label the agent gets; may be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,

    /// How many agents may join with it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,

    /// How long it may be used.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span)]
    expires: String,

    /// Write it to a file that only its owner may read, instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Balancer,
    Terminator,
}

#[derive(Clone)]
struct Label {
    key: String,
    value: String,
}

impl FromStr for Label {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        match written.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok(Self {
                key: key.to_owned(),
                value: value.to_owned(),
            }),
            _ => Err("write KEY=VALUE, such as tier=edge".into()),
        }
    }
}

/// A time as the API reads it, looked at here so that a mistake is one of usage.
pub(crate) fn span(written: &str) -> Result<String, humantime::DurationError> {
    humantime::parse_duration(written).map(|_| written.to_owned())
}

impl Tokens {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        match self.what {
            What::Create(create) => create.run(&client, screen).await,
            What::List(output) => get::show(&client, Kind::JoinTokens, None, output, screen).await,
            What::Remove { id } => {
                client.send(Call::delete(&["join-tokens", &id])).await?;
                screen.note(format!("{id} is removed"))?;
                Ok(())
            }
        }
    }
}

impl Create {
    async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Error> {
        let role = |role: &Role| match role {
            Role::Balancer => "balancer",
            Role::Terminator => "terminator",
        };
        let labels = self.labels.iter();
        let labels: Map<String, Value> = labels
            .map(|label| (label.key.clone(), label.value.clone().into()))
            .collect();
        let body = json!({
            "roles": self.roles.iter().map(role).collect::<Vec<_>>(),
            "labels": labels,
            "uses": self.uses,
            "expires_in": self.expires,
        });
        let call = Call::post(&["join-tokens"]).json(&body);
        let made = issue(client, call, self.out.as_deref(), screen).await?;
        let mut text = format!(
            "Join token {}: for {}, within {}, as {}",
            words::at(&made, "/id"),
            words::count(self.uses as usize, "agent"),
            self.expires,
            words::at(&made, "/roles"),
        );
        if !labels.is_empty() {
            // Writing into a string has no failing case.
            let _ = write!(text, ", {}", words::at(&made, "/labels"));
        }
        screen.note(format!(
            "{text}.\nOn the new machine, with the token in FILE:\n  tidegate-agent run \
             --control-plane {}:7444 --state-dir DIR --join-token-file {}",
            client.host(),
            self.out.as_deref().unwrap_or(Path::new("FILE")).display(),
        ))?;
        Ok(())
    }
}

/// Has a token made, and gives it to its reader: a file, or standard output.
/// Answers what else is known of it.
pub(crate) async fn issue(
    client: &Client,
    call: Call<'_>,
    out: Option<&Path>,
    screen: &mut Screen<'_>,
) -> Result<Value, Error> {
    // First the file: a token that nobody can read is not to be made.
    if let Some(path) = out {
        write_private(path, "")?;
    }
    let answer = client.send(call).await?;
    let mut made: Value = answer.json()?;
    let Some(Value::String(token)) = made.get_mut("token").map(Value::take) else {
        return Err(Error::Answer {
            url: client.url().to_string(),
            why: "a token was made and not shown".into(),
        });
    };
    let token = zeroize::Zeroizing::new(format!("{}\n", words::clean(&token)));
    match out {
        Some(path) => write_private(path, &token)?,
        None => screen.raw(token.as_bytes())?,
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    fn create(out: Option<PathBuf>) -> Create {
        Create {
            roles: vec![Role::Balancer],
            labels: vec!["tier=edge".parse().unwrap()],
            uses: 2,
            expires: "1h".into(),
            out,
        }
    }

    async fn rest() -> Rest {
        let rest = Rest::start().await;
        let made = json!({ "id": "ab", "token": "tg1.ab.cd.ef", "roles": ["balancer"],
            "labels": { "tier": "edge" } });
        rest.answer("POST /join-tokens", 201, &made);
        rest
    }

    #[tokio::test]
    async fn a_token_is_printed_alone() {
        let rest = rest().await;
        let mut captured = Captured::default();
        create(None)
            .run(&rest.client(), &mut captured.screen())
            .await
            .unwrap();
        assert_eq!(captured.out(), "tg1.ab.cd.ef\n");
        let notes = captured.notes();
        assert!(
            notes.contains("for 2 agents, within 1h, as balancer, tier=edge"),
            "{notes}"
        );
        assert!(!notes.contains("tg1."), "{notes}");
        let sent: Value = serde_json::from_str(&rest.seen()[0].body).unwrap();
        let wanted = json!({ "roles": ["balancer"], "labels": { "tier": "edge" }, "uses": 2,
            "expires_in": "1h" });
        assert_eq!(sent, wanted);
    }

    #[tokio::test]
    async fn in_a_file_it_is_for_its_owner_alone() {
        let rest = rest().await;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "somebody could read this before").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let mut captured = Captured::default();
        let create = create(Some(path.clone()));
        create
            .run(&rest.client(), &mut captured.screen())
            .await
            .unwrap();
        assert_eq!(captured.out(), "");
        assert_eq!(fs::read_to_string(&path).unwrap(), "tg1.ab.cd.ef\n");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[tokio::test]
    async fn no_token_is_made_for_a_file_that_cannot_be_written() {
        let rest = rest().await;
        let create = create(Some("/nowhere/at/all".into()));
        let mut captured = Captured::default();
        let error = create
            .run(&rest.client(), &mut captured.screen())
            .await
            .unwrap_err();
        assert!(error.to_string().contains("/nowhere/at/all"), "{error}");
        assert!(rest.seen().is_empty());
    }
}
