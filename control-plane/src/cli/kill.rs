//! `kill`: closes the live connections to a backend now. What it would do is said
//! in numbers first; it is done with `--yes` alone.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::client::{Call, Client};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::screen::Screen;
use crate::cli::state::{Found, Place, Remaining};
use crate::cli::words::{clean, count};

/// `tidegate kill`.
#[derive(Args)]
pub(crate) struct Kill {
    #[command(flatten)]
    given: Given,

    #[command(flatten)]
    place: Place,

    /// Do it; without, it is only said how many connections that would be.
    #[arg(long)]
    yes: bool,
}

/// What came of it.
#[derive(Deserialize)]
struct Killed {
    told: usize,
    connections: usize,
    #[serde(default)]
    agents: Vec<OnAgent>,
}

#[derive(Deserialize)]
struct OnAgent {
    agent: String,
    done: bool,
    error: Option<String>,
}

impl Kill {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        self.kill(&client, screen).await
    }

    async fn kill(self, client: &Client, screen: &mut Screen<'_>) -> Result<(), Error> {
        let found = self.place.find(client).await?;
        if self.yes {
            return now(&found, client, screen).await;
        }
        let Found {
            pool,
            backend,
            agent,
        } = &found;
        let state = Call::get(&["pools", pool, "backends", backend, "state"]);
        let state: Value = client.send(state).await?.json()?;
        let remaining = state.get("remaining").cloned().unwrap_or_default();
        let remaining: Remaining = serde_json::from_value(remaining).unwrap_or_default();
        let remaining = match agent {
            Some(agent) => remaining.on(agent),
            None => remaining,
        };
        screen.line(format!(
            "{pool}/{backend}: {}",
            remaining.words("would be closed", screen)
        ))?;
        Err(Error::Usage(
            "nothing was closed. To close them now: the same with --yes. Slower: tidegate drain \
             --within 10m"
                .to_owned(),
        ))
    }
}

async fn now(found: &Found, client: &Client, screen: &mut Screen<'_>) -> Result<(), Error> {
    let Found {
        pool,
        backend,
        agent,
    } = found;
    let mut call = Call::post(&["pools", pool, "backends", backend, "kill"]);
    if let Some(agent) = agent {
        call = call.query("agent", agent.as_str());
    }
    let killed: Killed = client.send(call).await?.json()?;
    screen.line(format!(
        "{pool}/{backend}: {} closed; {} told",
        count(killed.connections, "connection"),
        count(killed.told, "agent")
    ))?;
    let mut left = 0_usize;
    for OnAgent { agent, done, error } in &killed.agents {
        let why = match (done, error) {
            (_, Some(error)) => clean(error),
            (false, None) => "has not answered, and may do it yet".to_owned(),
            (true, None) => continue,
        };
        left = left.saturating_add(1);
        screen.line(format!("- {}: {why}", clean(agent)))?;
    }
    if left > 0 {
        return Err(Error::NotApplied(format!(
            "{} did not say that it is done. How many are left: tidegate get backends {pool}",
            count(left, "agent")
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::{Captured, Rest};

    const AGENT: &str = "0197c5e2-70aa-7aaa-8aaa-0123456789ab";

    async fn rest(killed: &Value) -> Rest {
        let rest = Rest::start().await;
        let backends = json!({ "items": [{ "name": "hand", "address": "10.0.0.1:80" }] });
        rest.answer("GET /pools/game/backends", 200, &backends);
        let agents = json!({ "items": [{ "id": AGENT, "address": "127.0.0.2" }] });
        rest.answer("GET /agents", 200, &agents);
        let at = |at: &str| format!("2026-11-01T11:59:{at}Z");
        let state = json!({ "state": "ready", "agents": [], "remaining": {
            "connections": 12, "oldest_at": at("44"), "agents": [
                { "agent": AGENT, "connections": 5, "at": at("58"), "stale": false },
                { "agent": "other", "connections": 7, "at": at("44"), "stale": false },
            ],
        } });
        rest.answer("GET /pools/game/backends/hand/state", 200, &state);
        rest.answer("POST /pools/game/backends/hand/kill", 200, killed);
        rest
    }

    async fn kill(rest: &Rest, agent: Option<&str>, yes: bool) -> (Result<(), Error>, String) {
        let mut captured = Captured::default();
        let kill = Kill {
            given: Given::default(),
            place: Place {
                backend: "game/10.0.0.1:80".into(),
                agent: agent.map(str::to_owned),
            },
            yes,
        };
        let done = kill.kill(&rest.client(), &mut captured.screen()).await;
        (done, captured.out())
    }

    #[tokio::test]
    async fn it_is_said_in_numbers_and_not_done_until_it_is_wanted() {
        let rest = rest(&json!({})).await;
        for (agent, told) in [
            (
                None,
                "12 connections would be closed on 2 agents; the oldest report is 16s old",
            ),
            (
                Some("127.0.0.2"),
                "5 connections would be closed on 1 agent; the oldest report is 2s old",
            ),
        ] {
            let (done, out) = kill(&rest, agent, false).await;
            assert_eq!(out, format!("game/hand: {told}\n"));
            let error = done.unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("--yes"), "{error}");
        }
        assert!(rest.seen().iter().all(|seen| seen.line.starts_with("GET ")));
    }

    #[tokio::test]
    async fn it_is_done_on_all_agents_or_on_one() {
        let killed = json!({ "told": 1, "connections": 5, "agents": [
            { "agent": AGENT, "done": true, "connections": 5 },
        ] });
        let rest = rest(&killed).await;
        let place = "POST /pools/game/backends/hand/kill";
        for (agent, line) in [
            (None, place.to_owned()),
            (Some("0197c5e2"), format!("{place}?agent={AGENT}")),
        ] {
            let (done, out) = kill(&rest, agent, true).await;
            done.unwrap();
            assert_eq!(out, "game/hand: 5 connections closed; 1 agent told\n");
            assert_eq!(rest.seen().pop().unwrap().line, line);
        }
    }

    #[tokio::test]
    async fn an_agent_that_did_not_do_it_makes_the_command_fail() {
        let killed = json!({ "told": 3, "connections": 5, "agents": [
            { "agent": "a", "done": true, "connections": 5 },
            { "agent": "b", "done": true, "connections": 0, "error": "too old" },
            { "agent": "c", "done": false, "connections": 0 },
        ] });
        let (done, out) = kill(&rest(&killed).await, None, true).await;
        let error = done.unwrap_err();
        assert_eq!(error.exit_code(), 1);
        assert!(error.to_string().contains("2 agents"), "{error}");
        assert!(out.contains("- b: too old\n- c: has not answered"), "{out}");
    }
}
