//! `drain`, `maintenance`, `ready`: the admin state of one backend, for all agents
//! or as one of them sees it.

use std::net::{IpAddr, SocketAddr};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::agent;
use crate::cli::client::{Call, Client};
use crate::cli::commit::{Commit, Wait};
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::nearest;
use crate::cli::screen::Screen;

/// `tidegate drain|maintenance|ready`.
#[derive(Args)]
pub(crate) struct Target {
    #[command(flatten)]
    given: Given,

    /// Which backend, by name or address: game-node/127.0.0.1:3000.
    #[arg(value_name = "POOL/BACKEND")]
    backend: String,

    /// Only as this agent sees it, by id or address; for all agents when absent.
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,

    #[command(flatten)]
    wait: Wait,
}

impl Target {
    pub(crate) async fn run(self, state: &str, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        self.set(state, &client, screen).await
    }

    async fn set(self, state: &str, client: &Client, screen: &mut Screen<'_>) -> Result<(), Error> {
        let Some((pool, backend)) = self.backend.split_once('/') else {
            return Err(Error::Usage(format!(
                "{:?} is no POOL/BACKEND. The backends of a pool: tidegate get backends POOL",
                self.backend
            )));
        };
        let backend = named(client, pool, backend).await?;
        let mut body = json!({ "state": state });
        if let (Some(agent), Some(fields)) = (&self.agent, body.as_object_mut()) {
            fields.insert("agent".into(), agent::named(client, agent).await?.into());
        }
        let call = Call::put(&["pools", pool, "backends", &backend, "state"]).json(&body);
        let done: Commit = client
            .send(call.wait_applied(self.wait.wait))
            .await?
            .json()?;
        let seen = match &self.agent {
            Some(agent) => format!(" as {agent} sees it"),
            None => String::new(),
        };
        screen.line(format!("{pool}/{backend}{seen}: {state}"))?;
        done.tell(screen)
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
            backend: backend.into(),
            agent: agent.map(str::to_owned),
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
            .set("drain", &rest.client(), &mut captured.screen())
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
