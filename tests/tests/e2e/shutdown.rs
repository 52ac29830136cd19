//! SIGTERM: the health port says so first, new clients are served until balancers
//! have noticed, then only old ones, until they end or the time is up.

use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_tests::backend::Backend;
use tidegate_tests::child::Signal;
use tidegate_tests::client::echoes;
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Fleet, Stage, until};

#[tokio::test]
async fn sigterm_tells_then_refuses_then_drains_then_exits() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = stage.node_terminator(&[app.address()]);
    let start = stage.agent(&document);
    let mut agent = start
        .with("--drain-delay", "1s")
        .with("--drain-timeout", "2s")
        .serve()
        .await;
    assert_eq!(agent.health("tls").await, 200);
    let mut ws = stage.client(0).ws(stage.front(), HOST).await.unwrap();

    let begun = Instant::now();
    agent.signal(Signal::TERM);
    until("the health port says 503", async || {
        agent.health("tls").await == 503
    })
    .await;
    let mut late = stage
        .client(1)
        .ws(stage.front(), HOST)
        .await
        .expect("still accepts");
    assert!(late.is_open().await);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "the machine is too slow to tell"
    );
    late.close().await;

    until("new clients are refused", async || {
        stage.client(1).tcp(stage.front()).await.is_err()
    })
    .await;
    assert!(
        begun.elapsed() >= Duration::from_millis(950),
        "{:?}",
        begun.elapsed()
    );
    assert!(
        ws.is_open().await,
        "who was there is served until the time is up"
    );

    ws.ended().await;
    let lived = begun.elapsed();
    assert!(
        lived >= Duration::from_millis(2900),
        "cut before its time: {lived:?}"
    );
    assert_eq!(agent.child().exit_code().await, 0);
    let closed = agent.closed_since(0);
    let of_ws = closed
        .iter()
        .find(|e| e.client().ip() == stage.net.client(0));
    assert_eq!(
        of_ws.expect("its end is logged").cause(),
        "shutdown",
        "{of_ws:?}"
    );
}

#[tokio::test]
async fn a_drain_ends_when_the_last_connection_does() {
    let stage = Stage::new();
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut agent = draining(&stage, "100ms", "1h").await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    assert!(echoes(&mut stream).await);
    agent.signal(Signal::TERM);
    until("new clients are refused", async || {
        stage.client(1).tcp(stage.front()).await.is_err()
    })
    .await;
    assert!(echoes(&mut stream).await);
    drop(stream);
    assert_eq!(agent.child().exit_code().await, 0);
}

#[tokio::test]
async fn a_second_signal_exits_at_once() {
    let stage = Stage::new();
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    for second in [Signal::TERM, Signal::INT] {
        let mut agent = draining(&stage, "1h", "1h").await;
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        assert!(echoes(&mut stream).await);
        agent.signal(Signal::TERM);
        until("the health port says 503", async || {
            agent.health("edge").await == 503
        })
        .await;
        assert!(echoes(&mut stream).await);
        agent.signal(second);
        agent.child().exit_code().await;
        assert!(!echoes(&mut stream).await);
    }
}

#[tokio::test]
async fn kept_connections_at_rest_end_when_draining_begins_and_requests_finish_first() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = stage.node_terminator(&[app.address()]);
    let start = stage.agent(&document);
    let mut agent = start
        .with("--drain-delay", "1ms")
        .with("--drain-timeout", "1h")
        .serve()
        .await;
    let mut at_rest = stage.client(0).http(stage.front(), HOST).await.unwrap();
    assert_eq!(at_rest.get("/health").await.unwrap().status, 200);
    let mut busy = stage.client(1).http(stage.front(), HOST).await.unwrap();
    assert_eq!(busy.get("/health").await.unwrap().status, 200);

    let name = app.address().to_string();
    let slow = busy.get("/slow/1500");
    let term = async {
        until("the request is with the app", async || {
            agent.backend("back", &name).await["in_flight"].as_u64() >= Some(1)
        })
        .await;
        agent.signal(Signal::TERM);
    };
    let (slow, ()) = tokio::join!(slow, term);
    assert_eq!(
        slow.unwrap().status,
        200,
        "a request that was taken is answered"
    );
    // Both connections could be kept for an hour; neither holds up the end.
    assert_eq!(agent.child().exit_code().await, 0);
    let causes: Vec<String> = agent
        .closed_since(0)
        .iter()
        .map(|event| event.cause().to_owned())
        .collect();
    assert!(causes.contains(&"drained".to_owned()), "{causes:?}");
}

#[tokio::test]
async fn no_request_fails_while_a_terminator_is_replaced() {
    let mut fleet = Fleet::with(|document| {
        document["policies"][0]["timeouts"] = json!({ "first_byte": "5s" });
    })
    .await;
    fleet.terminators[0].signal(Signal::TERM);
    let mut served = 0;
    // Through the delay, the refusal and the end of one of the two.
    while fleet.balancer.is_up("game-tls", "a").await || served < 40 {
        let mut http = fleet
            .stage
            .client(0)
            .http(fleet.edge(), HOST)
            .await
            .unwrap();
        assert_eq!(http.get("/whoami").await.unwrap().status, 200);
        served += 1;
    }
    assert_eq!(fleet.terminators[0].child().exit_code().await, 0);
    for _ in 0..10 {
        let mut http = fleet
            .stage
            .client(0)
            .http(fleet.edge(), HOST)
            .await
            .unwrap();
        assert_eq!(http.get("/whoami").await.unwrap().status, 200);
    }
}

async fn draining(stage: &Stage, delay: &str, timeout: &str) -> Agent {
    let start = stage.agent(&stage.balancer(&[stage.back(0)]));
    start
        .with("--drain-delay", delay)
        .with("--drain-timeout", timeout)
        .serve()
        .await
}
