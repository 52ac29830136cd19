//! Checks gate traffic: a backend that says it is ill gets nothing new and keeps
//! what it has; one that comes back is used again; the agents' health ports tell.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use tidegate_tests::child::Signal;
use tidegate_tests::client::http::get;
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Fleet, Stage, until};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_restarted_process_is_used_again_after_rise() {
    let mut fleet = Fleet::start().await;
    fleet.apps[0].kill().await;
    let (terminator, backend) = fleet.place(0);
    until("a0 is down", async || {
        !terminator.is_up("game-node", backend).await
    })
    .await;
    assert!(!answering(&fleet, 12).await.contains("a0"));

    let again = NodeApp::at(fleet.apps[0].address(), "a0").listen().await;
    until("a0 is up", async || {
        terminator.is_up("game-node", backend).await
    })
    .await;
    // Through both terminators and over both processes of each.
    until("a0 answers", async || {
        answering(&fleet, 8).await.contains("a0")
    })
    .await;
    drop(again);
}

#[tokio::test]
async fn an_ill_backend_keeps_what_it_has_and_gets_nothing_new() {
    let fleet = Fleet::start().await;
    let mut on_a0 = loop {
        let ws = fleet.stage.client(0).ws(fleet.edge(), HOST).await.unwrap();
        if ws.backend() == "a0" {
            break ws;
        }
    };
    fleet.apps[0].toggle_health();
    let (terminator, backend) = fleet.place(0);
    until("a0 is down", async || {
        !terminator.is_up("game-node", backend).await
    })
    .await;
    assert!(!answering(&fleet, 20).await.contains("a0"));
    assert!(on_a0.is_open().await);

    fleet.apps[0].toggle_health();
    until("a0 is up", async || {
        terminator.is_up("game-node", backend).await
    })
    .await;
    assert!(on_a0.is_open().await);
}

#[tokio::test]
async fn a_terminator_without_processes_leaves_the_balance() {
    let mut fleet = Fleet::start().await;
    assert_eq!(fleet.terminators[0].health("game-tls").await, 200);
    assert_eq!(fleet.terminators[0].health("no-such-listener").await, 404);
    // One of two processes down is not yet a reason.
    fleet.apps[0].kill().await;
    let (terminator, backend) = fleet.place(0);
    until("a0 is down", async || {
        !terminator.is_up("game-node", backend).await
    })
    .await;
    assert_eq!(terminator.health("game-tls").await, 200);

    fleet.apps[1].kill().await;
    let terminator = &fleet.terminators[0];
    until("503", async || terminator.health("game-tls").await == 503).await;
    until("a is down", async || {
        !fleet.balancer.is_up("game-tls", "a").await
    })
    .await;
    let others: BTreeSet<String> = ["b0", "b1"].map(str::to_owned).into();
    assert_eq!(answering(&fleet, 12).await, others);
}

#[tokio::test]
async fn a_frozen_process_is_taken_out_by_its_checks() {
    let fleet = Fleet::start().await;
    // Its kernel still accepts: only a check that asks something notices.
    fleet.apps[3].signal(Signal::STOP);
    let (terminator, backend) = fleet.place(3);
    until("b1 is down", async || {
        !terminator.is_up("game-node", backend).await
    })
    .await;
    assert!(!answering(&fleet, 12).await.contains("b1"));
    fleet.apps[3].signal(Signal::CONT);
    until("b1 is up", async || {
        terminator.is_up("game-node", backend).await
    })
    .await;
}

#[tokio::test]
async fn the_admin_pages_are_for_the_agents_own_user_or_where_they_are_asked_for() {
    let stage = Stage::new();
    let document = stage.balancer(&[stage.back(0)]);
    let _agent = stage.serve(&document).await;
    let socket = stage.path(&format!("state-{}/admin.sock", stage.net.balancer()));
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");

    let address = stage.net.at(2, 7446);
    let start = stage
        .agent_at(address.ip(), &document)
        .with("--admin", address);
    let _agent = start.serve().await;
    let stream = TcpStream::connect(address).await.unwrap();
    let answer = get(stream, "agent", "/debug/snapshot").await.unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["hash"].as_str().unwrap().len(), 64);
}

/// The processes that answer `count` new clients, all of whom get an answer.
async fn answering(fleet: &Fleet, count: u8) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for i in 0..count {
        let mut http = fleet
            .stage
            .client(i)
            .http(fleet.edge(), HOST)
            .await
            .unwrap();
        let answer = http.get("/whoami").await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        names.insert(answer.json()["name"].as_str().unwrap().to_owned());
    }
    names
}
