//! The control plane is gone, or its database, or both: traffic goes on, agents start
//! again from what they have, and catch up by themselves when it is back.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate_local::postgres::{Durability, Server};
use tidegate_tests::client::http::get;
use tidegate_tests::crowd::Crowd;
use tidegate_tests::rest::{Body, Rest};
use tidegate_tests::stage::HOST;
use tidegate_tests::steered::Plan;
use tidegate_tests::{Steered, until, within};

/// From exec to the first byte, as promised.
const SERVES_AGAIN: Duration = Duration::from_secs(1);

const CROWD: usize = 60;

#[tokio::test]
async fn agents_serve_restart_and_catch_up_without_control_plane_and_postgres() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Server::start(directory.path(), Durability::Fast).await;
    let postgres = postgres.unwrap();
    let plan = Plan::default().database(&postgres.url("postgres"));
    let mut fleet = plan.start().await;
    let crowd = crowd(&fleet).await;
    fleet.control_plane.kill().await;
    postgres.stop().await.unwrap();
    goes_on(&fleet, &crowd).await;
    drop(crowd);

    for index in 0..2u8 {
        let address = fleet.stage.net.terminator(index);
        fleet.terminators[usize::from(index)].kill().await;
        let start = Instant::now();
        fleet.terminators[usize::from(index)] = fleet.again(address).spawn();
        until("an answer through the terminator", async || {
            terminator_answers(&fleet, index).await
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
    let change = |document: &mut Value| {
        document["policies"][0]["deny"] = json!([denied]);
    };
    fleet.apply(change).await;
    let client = fleet.stage.client(5);
    assert!(client.http(fleet.edge(), HOST).await.is_err());
}

#[tokio::test]
async fn without_postgres_traffic_goes_on_and_rest_says_unavailable_until_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let postgres = Server::start(directory.path(), Durability::Fast).await;
    let postgres = postgres.unwrap();
    let plan = Plan::default().database(&postgres.url("postgres"));
    let mut fleet = plan.start().await;
    let crowd = crowd(&fleet).await;
    postgres.stop().await.unwrap();

    let rest = &fleet.control_plane.rest;
    for (method, path, body) in [
        (Method::GET, "/status", Body::Empty),
        (Method::PUT, "/config", Body::Json(&fleet.document)),
    ] {
        let problem = rest.refused(503, method, path, body).await;
        assert_eq!(problem["type"], "urn:tidegate:problem:unavailable");
    }
    goes_on(&fleet, &crowd).await;

    // Nobody tells the control plane that it is back.
    let _postgres = Server::start(directory.path(), Durability::Fast).await;
    until("every agent is connected", async || {
        all_connected(rest).await
    })
    .await;
    let denied = fleet.stage.net.client(149).to_string();
    let commit = fleet
        .apply(|document| document["policies"][0]["deny"] = json!([denied]))
        .await;
    let applied = commit["applied"]["applied"].as_array().unwrap();
    assert_eq!(applied.len(), 3, "{commit:#}");
    let rest = &fleet.control_plane.rest;
    assert!(all_connected(rest).await);
    let agents = rest.get("/agents").await;
    for agent in agents["items"].as_array().unwrap() {
        assert_eq!(
            agent["applied"]["revision"], commit["revision"],
            "{agent:#}"
        );
    }
    let client = fleet.stage.client(149);
    assert!(client.http(fleet.edge(), HOST).await.is_err());
    goes_on(&fleet, &crowd).await;
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

/// One WebSocket of each client.
async fn crowd(fleet: &Steered) -> Crowd {
    let open = async |i| {
        let client = fleet.stage.client(u8::try_from(i).unwrap());
        client.ws(fleet.edge(), HOST).await
    };
    Crowd::open(CROWD, open).await
}

/// Whoever is connected stays so, and whoever comes is served.
async fn goes_on(fleet: &Steered, connected: &Crowd) {
    connected.round().await;
    assert_eq!(connected.ended(), [""; 0]);
    for client in 0..8 {
        fleet.whoami(client).await;
    }
    let new = crowd(fleet).await;
    new.round().await;
    assert_eq!(new.ended(), [""; 0]);
}

/// False as well while there is no answer to ask for.
async fn all_connected(rest: &Rest) -> bool {
    let answer = rest.send(Method::GET, "/agents", None, Body::Empty).await;
    let answer = answer.expect("the control plane answers");
    if answer.status != StatusCode::OK {
        return false;
    }
    let agents = answer.json();
    let agents = agents["items"].as_array().unwrap();
    agents.len() == 3 && agents.iter().all(|agent| agent["connected"] == true)
}

async fn terminator_answers(fleet: &Steered, terminator: u8) -> bool {
    match fleet.handshake(terminator, 0).await {
        Ok(stream) => {
            let answer = get(stream, HOST, "/whoami").await;
            answer.is_ok_and(|answer| answer.status == 200)
        }
        Err(_) => false,
    }
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
