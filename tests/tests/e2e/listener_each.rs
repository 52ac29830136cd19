//! The layout of 2013: on one instance a TLS listener for each Node.js process, as one
//! stud stood before each then. One agent has them all; each is checked, drained and
//! told about by itself.

use serde_json::{Value, json};
use tidegate_tests::client::ws::Ws;
use tidegate_tests::stage::{HOST, checked_by_http, pool};
use tidegate_tests::steered::sees_up;
use tidegate_tests::{Agent, Steered, until};

/// The listeners with their ports, and the processes behind.
const PAIRS: [(&str, u16, &str); 2] = [("first", 8451, ":3000"), ("second", 8452, ":3001")];

#[tokio::test]
async fn a_listener_for_each_process_is_checked_and_drained_by_itself() {
    let mut fleet = Steered::start().await;
    let (listeners, pools) = (PAIRS.map(listener), PAIRS.map(pool_of));
    fleet
        .apply(|document| {
            document["listeners"] = json!(listeners);
            document["pools"] = json!(pools);
        })
        .await;
    for terminator in &fleet.terminators {
        sees_up(terminator, "first", 1).await;
        sees_up(terminator, "second", 1).await;
    }
    let terminator = &fleet.terminators[0];
    health(terminator, 200, 200).await;
    // Each leads to its own process, whoever asks.
    for client in 0..10 {
        for (port, name) in [(8451, "a0"), (8452, "a1")] {
            assert_eq!(open(&fleet, port, client).await.unwrap().backend(), name);
        }
    }

    // Its check fails: this listener says so, and refuses; the other one goes on.
    let mut first = open(&fleet, 8451, 0).await.unwrap();
    let mut second = open(&fleet, 8452, 0).await.unwrap();
    fleet.apps[0].toggle_health();
    health(terminator, 503, 200).await;
    assert_eq!(status(&fleet, 8451).await, 503);
    assert_eq!(status(&fleet, 8452).await, 200);
    assert!(first.is_open().await, "a failed check cuts nobody");
    fleet.apps[0].toggle_health();
    health(terminator, 200, 200).await;

    // And so it is with a drain of the other.
    let rest = &fleet.control_plane.rest;
    let state = "/pools/second/backends/:3001/state?wait=applied";
    rest.put(state, &json!({ "state": "drain" })).await;
    health(terminator, 200, 503).await;
    assert_eq!(status(&fleet, 8451).await, 200);
    assert_eq!(status(&fleet, 8452).await, 503);
    assert!(second.is_open().await && first.is_open().await);
    rest.put(state, &json!({ "state": "ready" })).await;
    health(terminator, 200, 200).await;
    assert_eq!(status(&fleet, 8452).await, 200);
}

fn listener((name, port, _): (&str, u16, &str)) -> Value {
    json!({
        "name": name, "role": "terminator", "bind": format!(":{port}"), "accept_proxy": "none",
        "tls": { "certificates": [HOST] }, "mode": "http", "client_ip": "forwarded",
        "pool": name,
    })
}

fn pool_of((name, _, backend): (&str, u16, &str)) -> Value {
    let mut pool = checked_by_http(pool(name, &[]));
    pool["backends"] = json!([{ "address": backend }]);
    pool
}

/// What the health port says of the two.
async fn health(terminator: &Agent, first: u16, second: u16) {
    until(format!("{first} of the first, {second}"), async || {
        let found = (
            terminator.health("first").await,
            terminator.health("second").await,
        );
        found == (first, second)
    })
    .await;
}

async fn open(fleet: &Steered, port: u16, client: u8) -> std::io::Result<Ws> {
    let to = fleet.stage.net.at(2, port);
    fleet.stage.client(client).ws(to, HOST).await
}

async fn status(fleet: &Steered, port: u16) -> u16 {
    let to = fleet.stage.net.at(2, port);
    let mut http = fleet.stage.client(0).http(to, HOST).await.unwrap();
    http.get("/whoami").await.unwrap().status.as_u16()
}
