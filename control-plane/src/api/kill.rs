//! Closing a backend's live connections now, on all connected agents or on one.
//! What operators say of the backend stays as it is: a ready one gets new
//! connections at once. Slower ways are in `states`.

use std::time::Duration;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::auth::{Caller, Operator};
use super::extract::{Asked, Place};
use super::problem::Problem;
use super::states;
use crate::store::{CommandOutcome, Store, StoreError};

/// For agents' answers: they come within a round trip, or not at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at them.
const LOOK: Duration = Duration::from_millis(50);

/// On which agents.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct KillQuery {
    /// Only this one; all that are connected when absent.
    agent: Option<Uuid>,
}

/// What came of it.
#[derive(Serialize, ToSchema)]
pub(super) struct Killed {
    /// Agents that were told: those that are connected.
    told: usize,
    /// Connections that they closed, as far as they have answered.
    connections: u64,
    /// What each of them did.
    agents: Vec<KilledOnAgent>,
}

/// What an agent did about it.
#[derive(Serialize, ToSchema)]
pub(super) struct KilledOnAgent {
    agent: Uuid,
    /// Whether it has answered; if not, it may do it yet.
    done: bool,
    /// Connections that it closed.
    connections: u64,
    /// Why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Closes a backend's live connections now. Its state is not changed: unless it drains,
/// it gets new ones at once.
#[utoipa::path(
    post,
    path = "/pools/{name}/backends/{backend}/kill",
    tag = "fleet",
    params(("name" = String, Path), ("backend" = String, Path), KillQuery),
    responses((status = 200, description = "Within 5 s, whoever has answered by then", body = Killed))
)]
pub(super) async fn kill_backend(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place((name, backend)): Place<(String, String)>,
    Asked(asked): Asked<KillQuery>,
) -> Result<axum::Json<Killed>, Problem> {
    let (_, document) = api.store.document().await?;
    let fleet = api.store.fleet().await?;
    let (pool, backend) = states::known(&document, &fleet, &name, &backend)?;
    let agent = states::known_agent(&fleet, asked.agent)?;
    let told = api
        .store
        .cut_backend(&caller.author, &pool, &backend, agent)
        .await?;
    let outcomes = until_answered(&api.store, &told).await?;
    Ok(axum::Json(outcomes.into()))
}

/// Waits until all have answered, for a while at most.
async fn until_answered(store: &Store, told: &[i64]) -> Result<Vec<CommandOutcome>, StoreError> {
    let end = Instant::now() + PATIENCE;
    loop {
        let outcomes = store.command_outcomes(told).await?;
        if outcomes.iter().all(|outcome| outcome.done) || Instant::now() >= end {
            return Ok(outcomes);
        }
        sleep(LOOK).await;
    }
}

impl From<Vec<CommandOutcome>> for Killed {
    fn from(outcomes: Vec<CommandOutcome>) -> Self {
        let connections = outcomes.iter().map(|outcome| outcome.connections);
        Self {
            told: outcomes.len(),
            connections: connections.fold(0, u64::saturating_add),
            agents: outcomes
                .into_iter()
                .map(|outcome| KilledOnAgent {
                    agent: outcome.agent,
                    done: outcome.done,
                    connections: outcome.connections,
                    error: outcome.error,
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::document::Role;
    use tidegate_proto::convert::CutBackend;

    use super::super::testing::{Fixture, post, put};
    use super::*;
    use crate::model::AgentId;

    const KILL: &str = "/pools/node/backends/:3000/kill";

    async fn api() -> Fixture {
        let api = Fixture::new().await;
        api.apply("pools: [{ name: node, backends: [{ address: ':3000' }] }]")
            .await;
        api
    }

    /// Plays the control plane that some agents are connected to: takes what is for
    /// them, `count` of it, and answers with what `answer` says.
    async fn agents(
        api: &Fixture,
        connected: &[Uuid],
        count: usize,
        answer: impl Fn(Uuid) -> Result<u64, &'static str>,
    ) -> Vec<(Uuid, CutBackend)> {
        let mut taken = Vec::new();
        while taken.len() < count {
            let ours = || connected.iter().copied().map(AgentId).collect();
            for (agent, command) in api.store.take_commands(ours).await.unwrap() {
                let outcome = answer(agent.0);
                let done = api.store.command_done(agent, command.number, outcome);
                done.await.unwrap();
                taken.push((agent.0, command.cut));
            }
            tokio::task::yield_now().await;
        }
        taken
    }

    #[tokio::test]
    async fn every_connected_agent_is_told_once_and_nothing_else_changes() {
        let api = api().await;
        let mut ids = Vec::new();
        for number in 1..=4 {
            ids.push(api.agent(number, &[Role::Balancer], &[]).await);
        }
        for number in 1..=3 {
            api.connect(ids[usize::from(number) - 1], number).await;
        }
        api.ask(post(&format!("/agents/{}/revoke", ids[2])))
            .await
            .ok();
        let before = api.store.numbers().await.unwrap();
        let answer = |agent| {
            if agent == ids[0] {
                Ok(7)
            } else {
                Err("it cannot")
            }
        };
        // On two control planes: neither says what the other has taken.
        let (killed, one, two) = tokio::join!(
            api.ask(post(KILL)),
            agents(&api, &ids[..1], 1, answer),
            agents(&api, &ids[1..], 1, answer)
        );
        assert_eq!(
            killed.ok(),
            json!({ "told": 2, "connections": 7, "agents": [
                { "agent": ids[0], "done": true, "connections": 7 },
                { "agent": ids[1], "done": true, "connections": 0, "error": "it cannot" },
            ] })
        );
        assert_eq!((one[0].0, two[0].0), (ids[0], ids[1]));
        assert_eq!(one[0].1.backend.as_str(), ":3000");
        let all = || ids.iter().copied().map(AgentId).collect();
        assert!(api.store.take_commands(all).await.unwrap().is_empty());

        assert_eq!(api.store.numbers().await.unwrap(), before);
        let state = api.get("/pools/node/backends/:3000/state").await;
        assert_eq!(state["state"], "ready");
        let audit = api.get("/audit?limit=1").await;
        assert_eq!(audit["items"][0]["action"], "kill");
        assert_eq!(audit["items"][0]["subject"], "pools/node/backends/:3000");
        assert_eq!(audit["items"][0].get("change"), None);
    }

    #[tokio::test]
    async fn one_agent_alone_is_told_and_nobody_when_none_is_connected() {
        let api = api().await;
        let (one, two) = (
            api.agent(1, &[Role::Balancer], &[]).await,
            api.agent(2, &[Role::Balancer], &[]).await,
        );
        let nobody = json!({ "told": 0, "connections": 0, "agents": [] });
        assert_eq!(api.ask(post(KILL)).await.ok(), nobody);
        api.connect(one, 1).await;
        api.connect(two, 2).await;
        let only = format!("{KILL}?agent={two}");
        let both = [one, two];
        let (killed, told) = tokio::join!(api.ask(post(&only)), agents(&api, &both, 1, |_| Ok(1)));
        assert_eq!(killed.ok()["told"], 1);
        assert_eq!(told[0].0, two);
    }

    #[tokio::test]
    async fn what_was_meant_for_a_moment_is_not_said_later() {
        let api = api().await;
        let agent = api.agent(1, &[Role::Balancer], &[]).await;
        let old = format!(
            "insert into commands (agent, pool, backend, at)
             values ('{agent}', 'node', ':3000', now() - interval '11 seconds')"
        );
        api.store.execute(&old).await;
        let ours = || vec![AgentId(agent)];
        assert!(api.store.take_commands(ours).await.unwrap().is_empty());
        api.store
            .execute("update commands set at = now() - interval '9 seconds'")
            .await;
        assert_eq!(api.store.take_commands(ours).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_is_not_there_cannot_be_killed() {
        let api = api().await;
        let gone = post("/pools/node/backends/gone/kill");
        assert_eq!(api.ask(gone).await.problem(), "not-found");
        let stranger = format!("{KILL}?agent={}", Uuid::from_u128(1));
        assert_eq!(api.ask(post(&stranger)).await.problem(), "not-found");
        let unclear = post(&format!("{KILL}?agents=all"));
        assert_eq!(api.ask(unclear).await.problem(), "malformed");
        assert_eq!(
            api.ask(put(KILL).json(json!({}))).await.problem(),
            "method-not-allowed"
        );
        let audit = api.get("/audit?limit=1").await;
        assert_eq!(audit["items"][0]["action"], "apply");
    }
}
