//! `api-token`: tokens of people and programs.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::cli::client::{Call, Client};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::get::{self, Kind, Output};
use crate::cli::screen::Screen;
use crate::cli::token::{issue, span};
use crate::cli::words;

/// `tidegate api-token`.
#[derive(Args)]
pub(crate) struct ApiTokens {
    #[command(flatten)]
    given: Given,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Make a token, and print it alone.
    Create(Create),
    /// All tokens, without their secrets.
    List(Output),
    /// Remove a token; it is refused from then on.
    Remove {
        /// Its id, the second part of the token.
        id: String,
    },
}

#[derive(Args)]
struct Create {
    /// viewer reads, operator changes the fleet, admin also makes tokens.
    #[arg(long, value_enum)]
    role: Role,

    /// Whose it is, for lists and the audit log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,

    /// How long it is good.
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = span)]
    expires: String,

    /// Write it to a file that only its owner may read, instead of printing it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    Viewer,
    Operator,
    Admin,
}

impl ApiTokens {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        match self.what {
            What::Create(create) => create.run(&client, screen).await,
            What::List(output) => get::show(&client, Kind::ApiTokens, None, output, screen).await,
            What::Remove { id } => {
                client.send(Call::delete(&["api-tokens", &id])).await?;
                screen.note(format!("{id} is removed"))?;
                Ok(())
            }
        }
    }
}

impl Create {
    async fn run(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Error> {
        let role = match self.role {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Admin => "admin",
        };
        let body = json!({ "role": role, "label": self.label, "expires_in": self.expires });
        let call = Call::post(&["api-tokens"]).json(&body);
        let made = issue(client, call, self.out.as_deref(), screen).await?;
        screen.note(format!(
            "API token {}: {role}, for {}. It is used with:\n  \
             tidegate login --url {} --token-file FILE",
            words::at(&made, "/id"),
            self.expires,
            client.url(),
        ))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Captured, Rest};

    #[tokio::test]
    async fn a_token_is_printed_alone_and_its_label_is_sent() {
        let rest = Rest::start().await;
        let made = json!({ "id": "ab", "token": "tga1.ab.cd" });
        rest.answer("POST /api-tokens", 201, &made);
        let create = Create {
            role: Role::Operator,
            label: "ci".into(),
            expires: "90d".into(),
            out: None,
        };
        let mut captured = Captured::default();
        create
            .run(&rest.client(), &mut captured.screen())
            .await
            .unwrap();
        assert_eq!(captured.out(), "tga1.ab.cd\n");
        assert!(
            rest.seen()[0]
                .body
                .contains(r#""label":"ci","role":"operator""#)
        );
    }

    #[tokio::test]
    async fn who_may_not_is_told_that_it_takes_an_admin() {
        let rest = Rest::start().await;
        rest.problem("POST /api-tokens", 403, "your role is operator");
        let call = Call::post(&["api-tokens"]).json(&json!({}));
        let error = rest.client().send(call).await.err().unwrap().to_string();
        assert!(error.contains("--role admin"), "{error}");
    }
}
