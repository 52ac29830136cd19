//! Two control planes on one database: a commit on either reaches every agent, and
//! when one dies its agents move.

use serde_json::{Value, json};
use tidegate_tests::agent::Start;
use tidegate_tests::{Steered, until};

#[tokio::test]
async fn a_commit_on_one_control_plane_reaches_the_agents_of_the_other() {
    let mut fleet = Steered::start().await;
    let other = fleet.another_control_plane().await;
    for n in 0..20 {
        fleet.document["policies"][0]["deny"] = json!([format!("203.0.113.{n}")]);
        // All agents are with the first; both are asked in turn.
        let rest = [&fleet.control_plane.rest, &other.rest][n % 2];
        let commit = rest.apply(&fleet.document).await;
        let applied = commit["applied"]["applied"].as_array().unwrap();
        assert_eq!(applied.len(), 3, "{commit:#}");
    }
    let [one, two] = [
        fleet.control_plane.rest.get("/config").await,
        other.rest.get("/config").await,
    ];
    assert_eq!(one, two);
}

#[tokio::test]
async fn the_agents_of_a_control_plane_that_dies_move_to_the_other() {
    let mut fleet = Steered::start().await;
    let other = fleet.another_control_plane().await;
    // From now on agents know both.
    for address in [1, 2, 3].map(|host| fleet.stage.net.ip(host)) {
        let both = [fleet.control_plane.link(), other.link()];
        let start = Start::run(&both, address, &fleet.state_of(address));
        let agent = fleet.agent_mut(address);
        agent.kill().await;
        *agent = start.serve().await;
    }
    until("all are connected", async || {
        connected(&other.rest.get("/status").await) == 3
    })
    .await;
    fleet.is_whole().await;
    fleet.control_plane.kill().await;
    fleet.whoami(0).await;
    until("all are connected to the other", async || {
        let agents = other.rest.get("/agents").await;
        let status = other.rest.get("/status").await;
        connected(&status) == 3
            && status["replicas"].as_array().unwrap().len() == 1
            && agents["items"]
                .as_array()
                .unwrap()
                .iter()
                .all(|a| a["in_sync"] == true)
    })
    .await;
    fleet.document["policies"][0]["deny"] = json!(["203.0.113.1"]);
    let commit = other.rest.apply(&fleet.document).await;
    let applied = commit["applied"]["applied"].as_array().unwrap();
    assert_eq!(applied.len(), 3, "{commit:#}");
}

fn connected(status: &Value) -> u64 {
    status["agents"]["connected"].as_u64().unwrap()
}
