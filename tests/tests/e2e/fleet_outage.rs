//! The control plane is gone, and its database: traffic goes on, agents start again
//! from what they have, and catch up by themselves when it is back.

use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_local::postgres::{Durability, Server};
use tidegate_tests::stage::HOST;
use tidegate_tests::steered::Plan;
use tidegate_tests::{Steered, until, within};

/// From exec to the first byte, as promised.
const SERVES_AGAIN: Duration = Duration::from_secs(1);

#[tokio::test]
async fn agents_serve_restart_and_catch_up_without_control_plane_and_postgres() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Server::start(directory.path(), Durability::Fast).await;
    let postgres = postgres.unwrap();
    let plan = Plan::default().database(&postgres.url("postgres"));
    let mut fleet = plan.start().await;
    fleet.control_plane.kill().await;
    postgres.stop().await.unwrap();
    fleet.whoami(0).await;

    for index in 0..2u8 {
        let address = fleet.stage.net.terminator(index);
        fleet.terminators[usize::from(index)].kill().await;
        let start = Instant::now();
        fleet.terminators[usize::from(index)] = fleet.again(address).spawn();
        until("a handshake with the terminator", async || {
            fleet.handshake(index, 0).await.is_ok()
        })
        .await;
        took_at_most(start, SERVES_AGAIN);
    }
    fleet.balancer.kill().await;
    let start = Instant::now();
    fleet.balancer = fleet.again(fleet.stage.net.balancer()).spawn();
    until("an answer through the balancer", async || {
        answers(&fleet).await
    })
    .await;
    took_at_most(start, SERVES_AGAIN);

    // Nobody tells the agents that they are back.
    let _postgres = Server::start(directory.path(), Durability::Fast).await;
    fleet.control_plane.restart().await;
    let rest = &fleet.control_plane.rest;
    until("every agent is back", async || {
        let status = rest.get("/status").await;
        status["agents"]["connected"] == 3 && status["agents"]["in_sync"] == 3
    })
    .await;
    let denied = fleet.stage.net.client(5).to_string();
    let change = |document: &mut serde_json::Value| {
        document["policies"][0]["deny"] = json!([denied]);
    };
    fleet.apply(change).await;
    let client = fleet.stage.client(5);
    assert!(client.http(fleet.edge(), HOST).await.is_err());
}

#[tokio::test]
async fn a_commit_during_an_agents_absence_reaches_it_when_it_is_back() {
    let mut fleet = Steered::start().await;
    fleet.balancer.kill().await;
    let denied = fleet.stage.net.client(5).to_string();
    let commit = fleet
        .apply(|document| document["policies"][0]["deny"] = json!([denied]))
        .await;
    let rest = &fleet.control_plane.rest;
    let balancer = rest.agent_at(fleet.stage.net.balancer()).await;
    assert_eq!(
        commit["applied"]["offline"],
        json!([balancer["id"]]),
        "{commit:#}"
    );

    fleet.balancer = fleet.again(fleet.stage.net.balancer()).serve().await;
    until("the balancer runs the newest revision", async || {
        let agent = rest.agent_at(fleet.stage.net.balancer()).await;
        agent["applied"]["revision"] == commit["revision"] && agent["in_sync"] == true
    })
    .await;
    let client = fleet.stage.client(5);
    assert!(client.http(fleet.edge(), HOST).await.is_err());
    fleet.whoami(0).await;
}

async fn answers(fleet: &Steered) -> bool {
    let client = fleet.stage.client(0);
    match within("an answer or none", client.http(fleet.edge(), HOST)).await {
        Ok(mut http) => http.get("/whoami").await.is_ok_and(|a| a.status == 200),
        Err(_) => false,
    }
}

fn took_at_most(start: Instant, limit: Duration) {
    let took = start.elapsed();
    assert!(took < limit, "{took:?}");
}
