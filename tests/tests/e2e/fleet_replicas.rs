//! Two control planes on one database: a commit on either reaches every agent, and
//! when one dies its agents move.

use serde_json::json;
use tidegate_tests::agent::{Event, Start};
use tidegate_tests::crowd::Crowd;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Steered};

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
    // Agents that know both, and at first can only follow the one.
    let both = [fleet.control_plane.link(), fleet.other_link()];
    for address in [1, 2, 3].map(|host| fleet.stage.net.ip(host)) {
        let start = Start::run(&both, address, &fleet.state_of(address));
        let agent = fleet.agent_mut(address);
        agent.kill().await;
        *agent = start.serve().await;
        follows(agent, 0).await;
    }
    fleet.is_whole().await;
    let other = fleet.another_control_plane().await;
    let crowd = Crowd::open(60, async |i| {
        let client = u8::try_from(i).unwrap();
        fleet.stage.client(client).ws(fleet.edge(), HOST).await
    })
    .await;
    let logged: Vec<usize> = fleet.agents().map(Agent::log_len).collect();
    fleet.control_plane.kill().await;
    fleet.whoami(0).await;
    for (agent, from) in fleet.agents().zip(logged) {
        follows(agent, from).await;
    }
    fleet.document["policies"][0]["deny"] = json!(["203.0.113.1"]);
    let commit = other.rest.apply(&fleet.document).await;
    let applied = commit["applied"]["applied"].as_array().unwrap();
    assert_eq!(applied.len(), 3, "{commit:#}");
    let agents = other.rest.get("/agents").await;
    let mut agents = agents["items"].as_array().unwrap().iter();
    assert!(agents.all(|agent| agent["in_sync"] == true));
    crowd.round().await;
    assert_eq!(crowd.ended(), [""; 0]);
}

async fn follows(agent: &Agent, from: usize) {
    let said = |event: &Event| event.message() == "following the control plane";
    agent.await_log("that it follows", from, said).await;
}
