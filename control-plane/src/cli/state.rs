//! `drain`, `maintenance`, `ready`: the admin state of one backend, for all agents
//! or as one of them sees it, how fast its connections are closed meanwhile, and
//! how many there still are.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::agent;
use crate::cli::client::{Call, Client};
use crate::cli::commit::{Commit, Wait};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::nearest;
use crate::cli::screen::Screen;
use crate::cli::words;

/// `tidegate drain|maintenance`.
#[derive(Args)]
pub(crate) struct Emptying {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    pace: Pace,
}

/// `tidegate ready`, and what the others have in common with it.
#[derive(Args)]
pub(crate) struct Target {
    #[command(flatten)]
    given: Given,

    #[command(flatten)]
    place: Place,

    #[command(flatten)]
    wait: Wait,
}

/// A backend, on all agents or on one.
#[derive(Args)]
pub(crate) struct Place {
    /// Which backend, by name or address: game-node/127.0.0.1:3000.
    #[arg(value_name = "POOL/BACKEND")]
    pub(crate) backend: String,

    /// Only as this agent sees it, by id or address; for all agents when absent.
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
}

/// How fast live connections are closed; by themselves when absent.
#[derive(Args, Clone, Copy, Default)]
pub(crate) struct Pace {
    /// Close its live connections, so many in each second on each agent.
    #[arg(
        long,
        value_name = "N",
        conflicts_with = "within",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    per_second: Option<u32>,

    /// Close its live connections, spread over this time from now on: 10m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    within: Option<Duration>,
}

/// A backend as the API knows it.
pub(crate) struct Found {
    pub(crate) pool: String,
    pub(crate) backend: String,
    /// Its id, where it is about one.
    pub(crate) agent: Option<String>,
}

impl Emptying {
    pub(crate) async fn run(self, state: &str, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.target.given.client()?;
        self.target.set(state, self.pace, &client, screen).await
    }
}

impl Target {
    pub(crate) async fn run(self, state: &str, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        self.set(state, Pace::default(), &client, screen).await
    }

    async fn set(
        self,
        state: &str,
        pace: Pace,
        client: &Client,
        screen: &mut Screen<'_>,
    ) -> Result<(), Error> {
        let found = self.place.find(client).await?;
        let mut body = json!({ "state": state });
        if let Some(fields) = body.as_object_mut() {
            fields.extend(pace.body().map(|pace| ("pace".into(), pace)));
            let agent = found.agent.as_deref();
            fields.extend(agent.map(|agent| ("agent".into(), agent.into())));
        }
        let call = Call::put(&["pools", &found.pool, "backends", &found.backend, "state"]);
        let call = call.json(&body).wait_applied(self.wait.wait);
        let done: Done = client.send(call).await?.json()?;
        let seen = self.place.seen();
        screen.line(format!(
            "{}/{}{seen}: {state}{}",
            found.pool,
            found.backend,
            pace.words()
        ))?;
        done.commit.tell(screen)?;
        match done.remaining {
            Some(remaining) if state != "ready" => {
                screen.line(remaining.words("remain", screen))?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Place {
    /// Which one it is.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub(crate) async fn find(&self, client: &Client) -> Result<Found, Error> {
        let Some((pool, backend)) = self.backend.split_once('/') else {
            return Err(Error::Usage(format!(
                "{:?} is no POOL/BACKEND. The backends of a pool: tidegate get backends POOL",
                self.backend
            )));
        };
        let agent = match &self.agent {
            Some(agent) => Some(agent::named(client, agent).await?),
            None => None,
        };
        Ok(Found {
            backend: named(client, pool, backend).await?,
            pool: pool.to_owned(),
            agent,
        })
    }

    /// On which agents, in words.
    fn seen(&self) -> String {
        match &self.agent {
            Some(agent) => format!(" as {agent} sees it"),
            None => String::new(),
        }
    }
}

impl Pace {
    fn body(self) -> Option<Value> {
        if let Some(rate) = self.per_second {
            return Some(json!({ "per_second": rate }));
        }
        let within = self.within?;
        let within = humantime::format_duration(within).to_string();
        Some(json!({ "within": within }))
    }

    fn words(self) -> String {
        match (self.per_second, self.within) {
            (Some(rate), _) => format!(", {rate} a second on each agent"),
            (None, Some(time)) => format!(" within {}", humantime::format_duration(time)),
            (None, None) => String::new(),
        }
    }
}

/// What came of it.
#[derive(Deserialize)]
struct Done {
    #[serde(flatten)]
    commit: Commit,
    remaining: Option<Remaining>,
}

/// How many connections to a backend there still are, as agents said last.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Remaining {
    agents: Vec<Value>,
    oldest_at: Value,
    connections: u64,
}

impl Remaining {
    /// The same on one agent alone.
    pub(crate) fn on(self, agent: &str) -> Self {
        let mut agents = self.agents;
        agents.retain(|seen| seen["agent"] == agent);
        let only = |field| agents.first().and_then(|seen| seen.get(field));
        Self {
            oldest_at: only("at").cloned().unwrap_or_default(),
            connections: only("connections").and_then(Value::as_u64).unwrap_or(0),
            agents,
        }
    }

    /// `12 connections remain on 2 agents; the oldest report is 16s old`.
    pub(crate) fn words(&self, remain: &str, screen: &Screen<'_>) -> String {
        if self.agents.is_empty() {
            return "no agent has said yet how many connections it has".to_owned();
        }
        format!(
            "{} {remain} on {}; the oldest report is {} old",
            words::count(
                usize::try_from(self.connections).unwrap_or(usize::MAX),
                "connection"
            ),
            words::count(self.agents.len(), "agent"),
            words::age(&self.oldest_at, "", screen.now())
        )
    }
}

/// The name of a backend that was named so, or by the address only it has.
async fn named(client: &Client, pool: &str, written: &str) -> Result<String, Error> {
    let backends = client
        .send(Call::get(&["pools", pool, "backends"]))
        .await?
        .items()?;
    let names = nearest::names(&backends);
    if names.iter().any(|name| name == written) {
        return Ok(written.to_owned());
    }
    let same: Vec<&Value> = backends
        .iter()
        .filter(|backend| is_at(backend, written))
        .collect();
    match same.as_slice() {
        [one] => Ok(one["name"].as_str().unwrap_or(written).to_owned()),
        [] => Err(Error::NoSuch(format!(
            "{pool} has no backend {written}. {}",
            nearest::words(written, &names)
        ))),
        several => Err(Error::NoSuch(format!(
            "{written} is the address of {} backends of {pool}: name one of {}",
            several.len(),
            names.join(", ")
        ))),
    }
}

fn is_at(backend: &Value, written: &str) -> bool {
    let Some(address) = backend["address"].as_str() else {
        return false;
    };
    let ip = address.parse().map(|address: SocketAddr| address.ip());
    address == written || written.parse().is_ok_and(|wanted: IpAddr| ip == Ok(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::testing::{Captured, Rest};

    fn target(backend: &str, agent: Option<&str>) -> Target {
        Target {
            given: Given::default(),
            place: Place {
                backend: backend.into(),
                agent: agent.map(str::to_owned),
            },
            wait: Wait { wait: None },
        }
    }

    async fn rest() -> Rest {
        let rest = Rest::start().await;
        let id = "0197c5e2-70aa-7aaa-8aaa-0123456789ab";
        let backends = json!({ "items": [
            { "name": id, "address": "127.0.0.2:8443", "discovered": true },
            { "name": "hand", "address": "10.0.0.1:80" },
        ] });
        rest.answer("GET /pools/game/backends", 200, &backends);
        let agents = json!({ "items": [{ "id": id, "address": "127.0.0.2" }] });
        rest.answer("GET /agents", 200, &agents);
        let commit = json!({ "revision": 2, "change": 3, "changed": true, "diff": [] });
        let place = format!("PUT /pools/game/backends/{id}/state");
        rest.answer(&place, 200, &commit);
        rest.answer("PUT /pools/game/backends/hand/state", 200, &commit);
        rest
    }

    async fn set(rest: &Rest, backend: &str, agent: Option<&str>) -> Result<String, Error> {
        let mut captured = Captured::default();
        let target = target(backend, agent);
        target
            .set(
                "drain",
                Pace::default(),
                &rest.client(),
                &mut captured.screen(),
            )
            .await?;
        Ok(captured.out())
    }

    #[tokio::test]
    async fn a_backend_goes_by_its_name_or_its_address() {
        let rest = rest().await;
        let out = set(&rest, "game/hand", None).await.unwrap();
        assert_eq!(out, "game/hand: drain\nrevision 2, change 3\n");
        for address in ["game/127.0.0.2", "game/127.0.0.2:8443"] {
            let out = set(&rest, address, None).await.unwrap();
            assert!(out.starts_with("game/0197c5e2-"), "{out}");
        }
        let last = rest.seen().pop().unwrap();
        assert_eq!(last.body, r#"{"state":"drain"}"#);
    }

    #[tokio::test]
    async fn a_pace_is_sent_and_what_remains_is_told() {
        let rest = rest().await;
        let answer = json!({ "revision": 2, "change": 3, "changed": true, "diff": [], "remaining": {
            "connections": 12, "oldest_at": "2026-11-01T11:59:44Z", "agents": [{}, {}],
        } });
        rest.answer("PUT /pools/game/backends/hand/state", 200, &answer);
        let (per_second, within) = (Some(5), Some(Duration::from_secs(600)));
        for (state, per_second, within, sent, told) in [
            (
                "drain",
                per_second,
                None,
                json!({ "per_second": 5 }),
                "drain, 5 a second on each agent",
            ),
            (
                "maintenance",
                None,
                within,
                json!({ "within": "10m" }),
                "maintenance within 10m",
            ),
        ] {
            let mut captured = Captured::default();
            let pace = Pace { per_second, within };
            target("game/hand", None)
                .set(state, pace, &rest.client(), &mut captured.screen())
                .await
                .unwrap();
            assert_eq!(
                captured.out(),
                format!(
                    "game/hand: {told}\nrevision 2, change 3\n\
                     12 connections remain on 2 agents; the oldest report is 16s old\n"
                )
            );
            let body: Value = serde_json::from_str(&rest.seen().pop().unwrap().body).unwrap();
            assert_eq!(body, json!({ "state": state, "pace": sent }));
        }
    }

    #[tokio::test]
    async fn an_agent_goes_by_its_id_or_its_address() {
        let rest = rest().await;
        let id = "0197c5e2-70aa-7aaa-8aaa-0123456789ab";
        for agent in ["127.0.0.2", "0197c5e2", id] {
            set(&rest, "game/hand", Some(agent)).await.unwrap();
            let sent: Value = serde_json::from_str(&rest.seen().pop().unwrap().body).unwrap();
            assert_eq!(sent, json!({ "state": "drain", "agent": id }));
        }
    }

    #[tokio::test]
    async fn a_backend_that_is_not_there_is_told_with_what_is() {
        let rest = rest().await;
        let error = set(&rest, "game/hnad", None).await.unwrap_err();
        assert!(error.to_string().contains("Did you mean hand?"), "{error}");
        let error = set(&rest, "hand", None).await.unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
    }
}
