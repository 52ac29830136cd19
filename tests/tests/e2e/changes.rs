//! Two hundred open WebSockets, and whatever is done to others leaves them alone: a
//! process dies, a certificate is replaced, listeners and pools come and go, the
//! document is applied again and again.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_tests::client::{echoes, shown_certificate};
use tidegate_tests::crowd::Crowd;
use tidegate_tests::fleet::APPS;
use tidegate_tests::stage::{HOST, pool};
use tidegate_tests::{Agent, Fleet, until};

const CROWD: usize = 200;

#[tokio::test]
async fn a_killed_process_takes_only_its_own_websockets_and_fails_no_request() {
    let mut fleet = Fleet::start().await;
    let crowd = crowd(&fleet).await;
    let its_own = crowd.at("a0");
    assert!(its_own > 0);
    let mut kept = Vec::new();
    for i in 0..8 {
        let mut http = fleet
            .stage
            .client(i)
            .http(fleet.edge(), HOST)
            .await
            .unwrap();
        assert_eq!(http.get("/whoami").await.unwrap().status, 200);
        kept.push(http);
    }

    fleet.apps[0].kill().await;
    for http in &mut kept {
        let answer = http.get("/whoami").await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let (terminator, backend) = fleet.place(0);
    // Before the checks have noticed, and after: no client ever does.
    for_each_new_request(&fleet, 30).await;
    until("a0 is down", async || {
        !terminator.is_up("game-node", backend).await
    })
    .await;
    let before = connects_failed(terminator, backend).await;
    for_each_new_request(&fleet, 60).await;
    let after = connects_failed(terminator, backend).await;
    assert_eq!(after, before, "a backend that is down is not connected to");

    crowd.round().await;
    assert_eq!(crowd.ended(), vec!["a0"; its_own]);
}

#[tokio::test]
async fn a_replaced_certificate_meets_new_handshakes_only() {
    let mut fleet = Fleet::with(|document| {
        document["certificates"][0] =
            json!({ "name": HOST, "chain_file": "play.pem", "private_key_file": "play.key" });
    })
    .await;
    let client = fleet.stage.client(0);
    let old = client.tls(fleet.edge(), HOST).await.unwrap();
    assert_eq!(shown_certificate(&old), fleet.stage.certificate.leaf);
    let crowd = crowd(&fleet).await;

    let new = fleet.stage.pki.issue(&[HOST]);
    new.write(fleet.stage.directory(), "play").unwrap();
    fleet.apply(|_| {}).await;
    for _ in 0..8 {
        let stream = client.tls(fleet.edge(), HOST).await.unwrap();
        assert_eq!(shown_certificate(&stream), new.leaf);
    }
    crowd.round().await;
    assert_eq!(crowd.ended(), [""; 0]);
}

#[tokio::test]
async fn a_listener_and_a_pool_come_and_go_and_nobody_else_notices() {
    let mut fleet = Fleet::start().await;
    let crowd = crowd(&fleet).await;
    let extra = fleet.stage.net.at(1, 9000);
    let client = fleet.stage.client(0);
    assert!(client.tcp(extra).await.is_err(), "nothing is there yet");

    let before = fleet.document.clone();
    let echo = tidegate_tests::backend::Backend::echo(fleet.stage.back(0)).await;
    let checks = fleet.stage.checks_pass().await;
    fleet
        .apply(|document| add_listener(document, extra, echo.address()))
        .await;
    let mut stream = client.tcp(extra).await.unwrap();
    assert!(echoes(&mut stream).await);

    fleet.apply(|document| *document = before).await;
    assert!(client.tcp(extra).await.is_err(), "the listener is gone");
    assert!(
        echoes(&mut stream).await,
        "what it had accepted lives until it ends"
    );
    crowd.round().await;
    assert_eq!(crowd.ended(), [""; 0]);
    drop(checks);
}

#[tokio::test]
async fn two_hundred_applied_documents_close_no_connection() {
    let mut fleet = Fleet::start().await;
    let crowd = crowd(&fleet).await;
    for n in 0..200 {
        fleet.apply(|document| change(document, n)).await;
        if n % 20 == 0 {
            for_each_new_request(&fleet, 1).await;
        }
    }
    crowd.round().await;
    assert_eq!(crowd.ended(), [""; 0]);
    for agent in fleet.agents() {
        let metrics = agent.metrics().await;
        let applies = |result| metrics.sum("tidegate_applies_total", &[("result", result)]);
        // Which ones concern an agent differs by role; each had many that do.
        assert!(applies("applied") >= 100.0, "{}", applies("applied"));
        assert_eq!(applies("refused"), 0.0);
    }
}

#[tokio::test]
async fn the_same_document_again_is_unchanged() {
    let fleet = Fleet::start().await;
    for agent in fleet.agents() {
        assert_eq!(agent.reload().await.message(), "unchanged");
    }
}

async fn crowd(fleet: &Fleet) -> Crowd {
    let crowd = Crowd::open(CROWD, async |i| {
        let client = u8::try_from(i % 100).expect("below 100");
        fleet.stage.client(client).ws(fleet.edge(), HOST).await
    })
    .await;
    crowd.round().await;
    assert_eq!(APPS.map(|app| crowd.at(app)).iter().sum::<usize>(), CROWD);
    crowd
}

async fn for_each_new_request(fleet: &Fleet, count: u8) {
    for i in 0..count {
        let mut http = fleet
            .stage
            .client(i)
            .http(fleet.edge(), HOST)
            .await
            .unwrap();
        let answer = http.get("/whoami").await.unwrap();
        assert_eq!(answer.status, 200, "request {i}: {answer:?}");
    }
}

async fn connects_failed(agent: &Agent, backend: &str) -> f64 {
    let failed = [
        ("pool", "game-node"),
        ("backend", backend),
        ("result", "failed"),
    ];
    agent
        .metrics()
        .await
        .sum("tidegate_backend_connects_total", &failed)
}

fn add_listener(document: &mut Value, bind: SocketAddr, backend: SocketAddr) {
    document["listeners"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "extra", "role": "balancer", "bind": bind, "pool": "extra" }));
    document["pools"]
        .as_array_mut()
        .unwrap()
        .push(pool("extra", &[backend]));
}

/// A real change for balancer and terminators that allows all that is there.
fn change(document: &mut Value, n: usize) {
    let pools = [json!("least_connections"), json!("round_robin")];
    document["pools"][0]["balance"] = pools[n % 2].clone();
    document["pools"][1]["balance"] = pools[(n + 1) % 2].clone();
    let policy = &mut document["policies"][0];
    policy["deny"] = json!([format!("203.0.113.{}", n % 256)]);
    policy["timeouts"] = json!({ "idle": format!("{}s", 600 + n) });
    // A backend that comes and goes beside those in use.
    let backends = document["pools"][1]["backends"].as_array_mut().unwrap();
    if n.is_multiple_of(2) {
        backends.push(json!({ "address": ":3999" }));
    } else {
        backends.pop();
    }
}
