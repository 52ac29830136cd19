//! Taking a backend out of use through a fleet: a kill closes what is there on every
//! agent and nothing else, and a paced drain reaches the agents as it was said.

use serde_json::{Value, json};
use tidegate_tests::client::ws::Ws;
use tidegate_tests::stage::HOST;
use tidegate_tests::steered::Plan;
use tidegate_tests::{Agent, Steered, until};

const CROWD: u8 = 40;
const FIRST: &str = "/pools/game-node/backends/:3000";
const SECOND: &str = "/pools/game-node/backends/:3001";

#[tokio::test]
async fn a_kill_closes_the_connections_to_a_backend_and_no_others() {
    let fleet = Steered::start().await;
    let rest = &fleet.control_plane.rest;
    let crowd = crowd(&fleet).await;
    let (goes, stays): (Vec<Ws>, Vec<Ws>) = crowd
        .into_iter()
        .partition(|ws| ["a0", "b0"].contains(&ws.backend()));
    assert!(!goes.is_empty() && !stays.is_empty());

    let killed = rest.post(&format!("{FIRST}/kill"), &json!({})).await;
    assert_eq!(killed["told"], 3, "{killed:#}");
    assert_eq!(killed["connections"], goes.len(), "{killed:#}");
    for mut ws in goes {
        ws.ended().await;
    }

    // On one agent alone: the other one's connections to that backend stay.
    let agent = rest.agent_at(fleet.stage.net.terminator(0)).await;
    let one = format!("{SECOND}/kill?agent={}", agent["id"].as_str().unwrap());
    let killed = rest.post(&one, &json!({})).await;
    let (goes, stays): (Vec<Ws>, Vec<Ws>) = stays.into_iter().partition(|ws| ws.backend() == "a1");
    assert_eq!(killed["told"], 1, "{killed:#}");
    assert_eq!(killed["connections"], goes.len(), "{killed:#}");
    for mut ws in goes {
        ws.ended().await;
    }
    for mut ws in stays {
        ws.echo("still here").await.unwrap();
    }

    // No state was changed: all of them serve.
    assert_eq!(rest.get(&format!("{FIRST}/state")).await["state"], "ready");
    let mut seen = std::collections::BTreeSet::new();
    for client in 0..CROWD {
        let whoami = fleet.whoami(client).await;
        seen.insert(whoami["name"].as_str().unwrap().to_owned());
    }
    assert!(seen.contains("a0") && seen.contains("b0"), "{seen:?}");
}

#[tokio::test]
async fn a_paced_drain_reaches_agents_as_said_and_what_remains_is_told() {
    let plan = Plan::default().option("--report-interval", "1s");
    let fleet = plan.start().await;
    let rest = &fleet.control_plane.rest;
    let crowd = crowd(&fleet).await;
    let on_first = |ws: &&Ws| ["a0", "b0"].contains(&ws.backend());
    let there = crowd.iter().filter(on_first).count();
    let state = format!("{FIRST}/state");
    // So slow that nothing is closed meanwhile.
    let drain = json!({ "state": "drain", "pace": { "within": "365d" } });
    rest.put(&format!("{state}?wait=applied"), &drain).await;
    let mut paces = Vec::new();
    for terminator in &fleet.terminators {
        paces.push(pace(terminator).await);
    }
    assert_eq!(paces[0], paces[1]);
    let moment = |name: &str| paces[0]["until"][name].as_u64().unwrap();
    assert_eq!(moment("until") - moment("since"), 365 * 86_400_000);

    until("both terminators have told of it", async || {
        let remaining = rest.get(&state).await["remaining"].clone();
        remaining["connections"] == there && remaining["agents"].as_array().unwrap().len() == 2
    })
    .await;
    rest.put(
        &format!("{state}?wait=applied"),
        &json!({ "state": "ready" }),
    )
    .await;
    assert_eq!(pace(&fleet.terminators[0]).await, Value::Null);
}

/// How the first backend's connections are closed, as an agent is to run it.
async fn pace(agent: &Agent) -> Value {
    let snapshot = agent.debug("/debug/snapshot").await;
    let backend = &snapshot["snapshot"]["pools"][0]["backends"][0];
    assert_eq!(backend["name"], ":3000", "{snapshot:#}");
    backend["drain"].clone()
}

async fn crowd(fleet: &Steered) -> Vec<Ws> {
    let mut crowd = Vec::new();
    for client in 0..CROWD {
        let ws = fleet.stage.client(client).ws(fleet.edge(), HOST).await;
        crowd.push(ws.unwrap());
    }
    crowd
}
