//! `get`: lists and single things, as a table, as JSON exactly as REST answered, or
//! as YAML.
//!
//! To add a kind: a variant of [`Kind`], its place in [`Kind::list`] and its columns
//! in [`columns`].

mod columns;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::client::{Answer, Call, Client};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::nearest;
use crate::cli::screen::Screen;
use crate::cli::table;
use crate::cli::words::clean_lines;

pub(crate) use columns::link;

/// `tidegate get`.
#[derive(Args)]
pub(crate) struct Get {
    #[command(flatten)]
    given: Given,

    /// What to show.
    #[arg(value_enum)]
    kind: Kind,

    /// Which one; all when absent. Backends: of which pool.
    name: Option<String>,

    #[command(flatten)]
    output: Output,
}

/// How a result is written.
#[derive(Args, Clone, Copy)]
pub(crate) struct Output {
    /// How to write it. json: exactly what the API answers.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Yaml,
}

/// What there is to get.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    Listeners,
    Pools,
    Backends,
    Policies,
    Certificates,
    Agents,
    JoinTokens,
    ApiTokens,
    TicketKeys,
    Revisions,
    Config,
    Audit,
}

impl Kind {
    fn list(self) -> &'static str {
        match self {
            Self::Listeners => "listeners",
            Self::Pools | Self::Backends => "pools",
            Self::Policies => "policies",
            Self::Certificates => "certificates",
            Self::Agents => "agents",
            Self::JoinTokens => "join-tokens",
            Self::ApiTokens => "api-tokens",
            Self::TicketKeys => "ticket-keys",
            Self::Revisions => "revisions",
            Self::Config => "config",
            Self::Audit => "audit",
        }
    }
}

impl Get {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let name = self.name.as_deref();
        show(&self.given.client()?, self.kind, name, self.output, screen).await
    }
}

/// Shows a list, or one of it.
pub(crate) async fn show(
    client: &Client,
    kind: Kind,
    name: Option<&str>,
    Output { output }: Output,
    screen: &mut Screen<'_>,
) -> Result<(), Error> {
    let list = kind.list();
    let call = match (kind, name) {
        (Kind::Backends, None) => {
            return Err(Error::Usage(
                "of which pool? tidegate get backends POOL; the pools: tidegate get pools".into(),
            ));
        }
        (Kind::Backends, Some(pool)) => Call::get(&[list, pool, "backends"]),
        (Kind::Config | Kind::Audit, Some(_)) => {
            return Err(Error::Usage(format!(
                "there is one {list}: leave the name out"
            )));
        }
        // A document is for people as YAML, also where a table was not refused.
        (Kind::Config, None) if output != Format::Json => Call::get(&[list]).yaml(),
        // These have no address of their own: found in their list.
        (Kind::JoinTokens | Kind::ApiTokens, Some(id)) => {
            let found = one_of(client, list, id).await?;
            return write_value(&found, columns::of(kind), output, screen);
        }
        (_, None) => Call::get(&[list]),
        (_, Some(name)) => Call::get(&[list, name]),
    };
    let answer = client.send(call).await?;
    write(&answer, kind, output, screen)
}

async fn one_of(client: &Client, list: &str, id: &str) -> Result<Value, Error> {
    let items = client.send(Call::get(&[list])).await?.items()?;
    let found = items.iter().find(|item| item["id"] == id).cloned();
    found.ok_or_else(|| {
        let others = nearest::words(id, &nearest::names(&items));
        Error::NoSuch(format!("{list} has no {id}. {others}"))
    })
}

fn write(
    answer: &Answer,
    kind: Kind,
    output: Format,
    screen: &mut Screen<'_>,
) -> Result<(), Error> {
    match output {
        Format::Json => {
            screen.raw(answer.bytes())?;
            if !answer.bytes().ends_with(b"\n") {
                screen.raw(b"\n")?;
            }
            Ok(())
        }
        _ if kind == Kind::Config => {
            let text = String::from_utf8_lossy(answer.bytes());
            Ok(screen.line(clean_lines(&text))?)
        }
        _ => write_value(&answer.json()?, columns::of(kind), output, screen),
    }
}

fn write_value(
    value: &Value,
    columns: columns::Of,
    output: Format,
    screen: &mut Screen<'_>,
) -> Result<(), Error> {
    match output {
        Format::Json => screen.line(value.to_string())?,
        Format::Yaml => screen.line(yaml(value)?)?,
        Format::Table => {
            let rows = match value.get("items").and_then(Value::as_array) {
                Some(items) => (columns.rows)(items),
                None => (columns.rows)(std::slice::from_ref(value)),
            };
            if rows.is_empty() {
                screen.note("there is none")?;
                return Ok(());
            }
            screen.line(table::table(columns.columns, &rows, screen.now()))?;
        }
    }
    Ok(())
}

/// A value as YAML, without its last line end.
pub(crate) fn yaml(value: &Value) -> Result<String, Error> {
    let text = serde_saphyr::to_string(value).map_err(|error| Error::Answer {
        url: "what the control plane".into(),
        why: format!("no YAML can be made of it: {error}"),
    })?;
    Ok(clean_lines(text.trim_end()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    async fn shown(rest: &Rest, kind: Kind, name: Option<&str>, output: Format) -> String {
        let mut captured = Captured::default();
        let output = Output { output };
        show(&rest.client(), kind, name, output, &mut captured.screen())
            .await
            .unwrap();
        captured.out()
    }

    #[tokio::test]
    async fn json_is_exactly_what_rest_answered() {
        let rest = Rest::start().await;
        let odd = "{\"items\":  [ ],\n \"later\": 1.50}";
        rest.say("GET /pools", 200, "application/json", odd.to_owned());
        let out = shown(&rest, Kind::Pools, None, Format::Json).await;
        assert_eq!(out, format!("{odd}\n"));
    }

    #[tokio::test]
    async fn a_list_and_one_of_it_have_the_same_columns() {
        let rest = Rest::start().await;
        let pool = json!({ "name": "game", "balance": "least_connections", "proxy_protocol": "v2",
            "discover": { "listener": "game-tls" } });
        rest.answer("GET /pools/game", 200, &pool);
        rest.answer("GET /pools", 200, &json!({ "items": [pool] }));
        let list = shown(&rest, Kind::Pools, None, Format::Table).await;
        assert_eq!(
            list,
            "NAME  BALANCE            PROXY  BACKENDS\n\
             game  least_connections  v2     each agent of game-tls\n"
        );
        assert_eq!(
            shown(&rest, Kind::Pools, Some("game"), Format::Table).await,
            list
        );
    }

    #[tokio::test]
    async fn backends_have_a_row_for_each_agent_that_sees_them() {
        let rest = Rest::start().await;
        let backend = json!({ "name": ":3000", "pool": "game", "address": ":3000", "admin": "drain",
            "agents": [
                { "agent": "a-1", "address": "10.0.0.1:3000", "up": true, "admin": "drain",
                  "ejected": true, "weight": 1.5, "in_flight": 7, "connects": 90, "connects_failed": 1, "connect_rate": 0.5,
                  "last_check": { "passed": true, "words": "answered 200", "at": "2026-11-01T11:59:58Z" } },
                { "agent": "a-2", "address": "10.0.0.2:3000", "up": false, "admin": "drain" },
            ] });
        let lonely = json!({ "name": ":3001", "pool": "game", "admin": "ready", "agents": [] });
        rest.answer(
            "GET /pools/game/backends",
            200,
            &json!({ "items": [backend, lonely] }),
        );
        let out = shown(&rest, Kind::Backends, Some("game"), Format::Table).await;
        let lines: Vec<Vec<&str>> = out
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines.len(), 4, "{out}");
        assert_eq!(
            lines[1][..8],
            [
                ":3000",
                "a-1",
                "10.0.0.1:3000",
                "ejected",
                "drain",
                "1.5",
                "7",
                "90"
            ]
        );
        assert!(out.contains("answered 200"), "{out}");
        assert_eq!(lines[2][3], "down");
        assert_eq!(lines[3][..5], [":3001", "-", "-", "-", "ready"]);
    }

    #[tokio::test]
    async fn a_document_is_yaml_for_people() {
        let rest = Rest::start().await;
        rest.say(
            "GET /config",
            200,
            "application/yaml",
            "pools: []\n".to_owned(),
        );
        let out = shown(&rest, Kind::Config, None, Format::Table).await;
        assert_eq!(out, "pools: []\n");
    }

    #[tokio::test]
    async fn yaml_says_what_json_says() {
        let rest = Rest::start().await;
        let policy = json!({ "name": "p", "deny": ["10.0.0.0/8"], "limits": { "n": 3 } });
        rest.answer("GET /policies/p", 200, &policy);
        let out = shown(&rest, Kind::Policies, Some("p"), Format::Yaml).await;
        let back: Value = serde_saphyr::from_str(&out).unwrap();
        assert_eq!(back, policy);
    }

    #[tokio::test]
    async fn what_was_written_wrongly_is_a_usage_error() {
        let rest = Rest::start().await;
        let mut captured = Captured::default();
        let output = Output {
            output: Format::Table,
        };
        let client = rest.client();
        for (kind, name) in [(Kind::Backends, None), (Kind::Config, Some("x"))] {
            let error = show(&client, kind, name, output, &mut captured.screen())
                .await
                .unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
        }
        assert!(rest.seen().is_empty());
    }

    #[tokio::test]
    async fn a_token_is_found_in_its_list() {
        let rest = Rest::start().await;
        let tokens = json!({ "items": [{ "id": "ab12", "roles": ["balancer"], "labels": {},
            "uses": 2, "used": 1, "expires_at": "2026-11-01T13:00:00Z" }] });
        rest.answer("GET /join-tokens", 200, &tokens);
        let out = shown(&rest, Kind::JoinTokens, Some("ab12"), Format::Table).await;
        assert!(out.contains("1 of 2") && out.contains("in 60m"), "{out}");
        let mut captured = Captured::default();
        let output = Output {
            output: Format::Table,
        };
        let client = rest.client();
        let mut screen = captured.screen();
        let missing = show(&client, Kind::JoinTokens, Some("ab21"), output, &mut screen).await;
        assert!(missing.unwrap_err().to_string().contains("ab12"));
    }
}
