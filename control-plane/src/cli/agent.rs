//! `agent`: who is in the fleet, what each runs, and how one leaves.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use serde_json::Value;
use uuid::Uuid;

use crate::cli::client::{Call, Client};
use crate::cli::commit::{Commit, Mistake};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::get::{self, Kind, Output};
use crate::cli::nearest;
use crate::cli::screen::Screen;
use crate::cli::table::Say::{Age, At, By, Until};
use crate::cli::table::{self, Column};
use crate::cli::words::{self, at, bytes};

/// `tidegate agent`.
#[derive(Args)]
pub(crate) struct Agents {
    #[command(flatten)]
    given: Given,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// All agents.
    List(Output),
    /// One agent: what it runs, its listeners, the keys it holds.
    Show {
        /// Its id, the beginning of it, or its address.
        agent: String,
    },
    /// Turn an agent out at once: it drops its keys, takes no new connection, and cannot come back
    /// with what it has.
    Revoke {
        /// Its id, the beginning of it, or its address.
        agent: String,
    },
    /// Forget an agent; it is revoked as well.
    Remove {
        /// Its id, the beginning of it, or its address.
        agent: String,
    },
}

impl Agents {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        match self.what {
            What::List(output) => get::show(&client, Kind::Agents, None, output, screen).await,
            What::Show { agent } => {
                let id = named(&client, &agent).await?;
                let found = client.send(Call::get(&["agents", &id])).await?;
                show(&found.json()?, screen)
            }
            What::Revoke { agent } => {
                let id = named(&client, &agent).await?;
                leave(&client, &id, Call::post(&["agents", &id, "revoke"]), screen).await
            }
            What::Remove { agent } => {
                let id = named(&client, &agent).await?;
                leave(&client, &id, Call::delete(&["agents", &id]), screen).await
            }
        }
    }
}

/// The id of the agent that was named by it, its beginning or its address.
pub(crate) async fn named(client: &Client, written: &str) -> Result<String, Error> {
    if let Ok(id) = written.parse::<Uuid>() {
        return Ok(id.to_string());
    }
    let agents = client.send(Call::get(&["agents"])).await?.items()?;
    let matching = |agent: &&Value| {
        let begins = agent["id"]
            .as_str()
            .is_some_and(|id| id.starts_with(written));
        begins || agent["address"] == written
    };
    let found: Vec<&str> = agents
        .iter()
        .filter(matching)
        .filter_map(|agent| agent["id"].as_str())
        .collect();
    match found.as_slice() {
        [id] => Ok((*id).to_owned()),
        [] => Err(Error::NoSuch(format!(
            "there is no agent {written}. {} All of them: tidegate get agents",
            nearest::words(written, &nearest::names(&agents))
        ))),
        several => Err(Error::NoSuch(format!(
            "{written} may be any of {} agents: write more of the id. {}",
            several.len(),
            several.join(", ")
        ))),
    }
}

/// Revokes or removes, and says whose keys it held: they are known outside now.
async fn leave(
    client: &Client,
    id: &str,
    call: Call<'_>,
    screen: &mut Screen<'_>,
) -> Result<(), Error> {
    let before: Value = client.send(Call::get(&["agents", id])).await?.json()?;
    let done: Commit = client.send(call).await?.json()?;
    screen.line(format!("{id} is out of the fleet"))?;
    // One name may stand for several versions.
    let held: BTreeSet<String> = list(&before, "/certificates_held")
        .iter()
        .map(|certificate| at(certificate, "/name"))
        .collect();
    if !held.is_empty() {
        let held: Vec<String> = held.into_iter().collect();
        screen.note(format!(
            "It has held the keys of: {}. If somebody else has had that machine, replace them:\n  \
             tidegate cert upload NAME --chain FILE --key FILE",
            held.join(", ")
        ))?;
    }
    done.tell(screen)
}

const FACTS: &[Column] = &[
    Column("agent", At("/id")),
    Column("roles", At("/roles")),
    Column("labels", At("/labels")),
    Column("address", At("/address")),
    Column("version", At("/version")),
    Column("link", By(get::link)),
    Column("seen", Age("/seen_at")),
    Column("enrolled", Age("/enrolled_at")),
    Column("join token", At("/join_token")),
    Column("certificate ends", Until("/certificate_not_after")),
    Column("state", At("/state")),
    Column("should run", By(|agent| numbers(agent, "/desired"))),
    Column("runs", By(|agent| numbers(agent, "/applied"))),
];

const LISTENERS: &[Column] = &[
    Column("LISTENER", At("/listener")),
    Column("ROLE", At("/role")),
    Column("LIVE", At("/live")),
    Column("CLIENTS", At("/clients_live")),
    Column("NEW/S", By(|row| rate(row, "/accept_rate"))),
    Column("HANDSHAKES/S", By(|row| rate(row, "/handshake_rate"))),
    Column("FAILED", At("/handshakes_failed")),
    Column("REFUSED", At("/refused")),
    Column("IN", By(|row| volume(row, "/bytes_in"))),
    Column("OUT", By(|row| volume(row, "/bytes_out"))),
];

const HELD: &[Column] = &[
    Column("HOLDS THE KEY OF", At("/name")),
    Column("SINCE", Age("/first_sent_at")),
    Column("FINGERPRINT", At("/fingerprint")),
];

fn show(agent: &Value, screen: &mut Screen<'_>) -> Result<(), Error> {
    for Column(title, say) in FACTS {
        let told = match say {
            At(pointer) => at(agent, pointer),
            Age(pointer) => words::age(agent, pointer, screen.now()),
            Until(pointer) => words::until(agent, pointer, screen.now()),
            By(told) => told(agent),
        };
        screen.line(format!("{title:<18}{told}"))?;
    }
    for mistake in list(agent, "/mistakes") {
        let mistake = Mistake {
            pointer: at(mistake, "/pointer"),
            message: at(mistake, "/message"),
        };
        screen.line(format!("{:<18}{}", "cannot run", mistake.words()))?;
    }
    for (pointer, columns) in [("/listeners", LISTENERS), ("/certificates_held", HELD)] {
        let rows = list(agent, pointer);
        if !rows.is_empty() {
            let table = table::table(columns, rows, screen.now());
            screen.line(format!("\n{table}"))?;
        }
    }
    Ok(())
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

fn numbers(agent: &Value, pointer: &str) -> String {
    match agent.pointer(pointer) {
        Some(version) if !version.is_null() => format!(
            "revision {}, change {}",
            at(version, "/revision"),
            at(version, "/change")
        ),
        _ => words::NOTHING.to_owned(),
    }
}

/// Per second, to a tenth.
pub(crate) fn rate(row: &Value, pointer: &str) -> String {
    match row.pointer(pointer).and_then(Value::as_f64) {
        Some(rate) => format!("{rate:.1}"),
        None => words::NOTHING.to_owned(),
    }
}

fn volume(row: &Value, pointer: &str) -> String {
    match row.pointer(pointer).and_then(Value::as_u64) {
        Some(count) => bytes(count),
        None => words::NOTHING.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    const ID: &str = "0197c5e2-70aa-7aaa-8aaa-0123456789ab";

    fn agent() -> Value {
        json!({
            "id": ID, "roles": ["terminator"], "labels": { "app": "game" }, "address": "10.0.0.2",
            "connected": true, "seen_at": "2026-11-01T11:59:58Z", "state": "failed",
            "desired": { "change": 9, "revision": 4, "hash": "x" },
            "applied": { "epoch": "e", "change": 8, "revision": 3, "hash": "y" },
            "mistakes": [{ "pointer": "/listeners/0/bind", "message": "taken" }],
            "listeners": [{ "listener": "game-tls", "role": "terminator", "live": 12,
                "accept_rate": 0.25, "bytes_in": 2048 }],
            "certificates_held": [
                { "name": "play", "fingerprint": "ff00", "first_sent_at": "2026-10-01T12:00:00Z" },
                { "name": "play", "fingerprint": "ff01", "first_sent_at": "2026-10-02T12:00:00Z" },
            ],
        })
    }

    #[test]
    fn an_agent_is_shown_with_what_it_should_run_and_what_it_runs() {
        let mut captured = Captured::default();
        show(&agent(), &mut captured.screen()).unwrap();
        let out = captured.out();
        for line in [
            "labels            app=game",
            "seen              2s",
            "should run        revision 4, change 9",
            "runs              revision 3, change 8",
            "cannot run        /listeners/0/bind: taken",
        ] {
            assert!(out.lines().any(|l| l == line), "{line} in {out}");
        }
        assert!(out.contains("2.0 KiB") && out.contains("31d"), "{out}");
    }

    #[tokio::test]
    async fn who_leaves_is_told_with_the_keys_it_held() {
        let rest = Rest::start().await;
        rest.answer(&format!("GET /agents/{ID}"), 200, &agent());
        let commit = json!({ "revision": 4, "change": 10, "changed": true });
        rest.answer(&format!("POST /agents/{ID}/revoke"), 200, &commit);
        let mut captured = Captured::default();
        let call = Call::post(&["agents", ID, "revoke"]);
        leave(&rest.client(), ID, call, &mut captured.screen())
            .await
            .unwrap();
        assert!(captured.out().contains("is out of the fleet"));
        assert!(captured.notes().contains("keys of: play. If"));
    }

    #[tokio::test]
    async fn a_beginning_that_fits_several_is_not_guessed() {
        let rest = Rest::start().await;
        let other = ID.replace("ab", "cd");
        let agents = json!({ "items": [{ "id": ID, "address": "::1" }, { "id": other }] });
        rest.answer("GET /agents", 200, &agents);
        let client = rest.client();
        let error = named(&client, "0197").await.unwrap_err().to_string();
        assert!(error.contains(ID) && error.contains(&other), "{error}");
        assert_eq!(named(&client, "::1").await.unwrap(), ID);
        assert!(named(&client, "10.9.9.9").await.is_err());
    }
}
