//! Every wait on a peer ends, and the log names the timer that ended it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::agent::Event;
use tidegate_tests::backend::{Backend, Unaccepting, next};
use tidegate_tests::client::{echoes, read_to_end};
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Stage};
use tokio::io::AsyncWriteExt;

/// Every timer under test; short, and apart enough from the others' hour.
const SHORT: Duration = Duration::from_millis(1500);

#[tokio::test]
async fn an_idle_connection_is_closed_and_one_that_moves_is_not() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage
        .serve(&with_timeout(stage.balancer(&[echo.address()]), "idle"))
        .await;
    let mut moving = stage.client(1).tcp(stage.front()).await.unwrap();
    let mut idle = stage.client(0).tcp(stage.front()).await.unwrap();
    assert!(echoes(&mut idle).await);
    let begun = Instant::now();
    let moves = async {
        while begun.elapsed() < 3 * SHORT {
            assert!(echoes(&mut moving).await);
            tokio::time::sleep(SHORT / 8).await;
        }
    };
    let ends = async {
        assert_eq!(read_to_end(&mut idle).await.0, b"");
        took_about(SHORT, begun);
    };
    tokio::join!(moves, ends);
    let closed = closed_of(&stage, &agent).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("idle_timeout", "relay"),
        "{closed:?}"
    );
    assert_eq!(
        (closed.number("bytes_in"), closed.number("bytes_out")),
        (12, 12),
        "{closed:?}"
    );
}

#[tokio::test]
async fn an_idle_websocket_is_closed() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = with_timeout(stage.node_terminator(&[app.address()]), "idle");
    let agent = stage.serve(&document).await;
    let mut ws = stage.client(0).ws(stage.front(), HOST).await.unwrap();
    assert!(ws.is_open().await);
    ws.ended().await;
    let closed = closed_of(&stage, &agent).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("idle_timeout", "relay"),
        "{closed:?}"
    );
}

#[tokio::test]
async fn a_half_closed_connection_is_closed_when_nothing_more_comes() {
    let stage = Stage::new();
    let silent = Backend::silent(stage.back(0)).await;
    let (open, mut handed) = Backend::handed_over(stage.back(1)).await;
    let _checks = stage.checks_pass().await;
    let mut document = with_timeout(stage.balancer(&[open.address()]), "half_closed");
    drop(silent);
    document["policies"][0]["timeouts"]["idle"] = json!("1h");
    let agent = stage.serve(&document).await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    let kept = next(&mut handed).await;
    let begun = Instant::now();
    stream.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.0, b"");
    took_about(SHORT, begun);
    let closed = closed_of(&stage, &agent).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("half_closed_timeout", "relay"),
        "{closed:?}"
    );
    drop(kept);
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_closed_though_it_moves() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage
        .serve(&with_timeout(stage.balancer(&[echo.address()]), "max_age"))
        .await;
    let begun = Instant::now();
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    while echoes(&mut stream).await {
        tokio::time::sleep(SHORT / 8).await;
    }
    took_about(SHORT, begun);
    assert_eq!(closed_of(&stage, &agent).await.cause(), "max_age");
}

#[tokio::test]
async fn a_kept_connection_without_requests_is_closed() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = with_timeout(stage.node_terminator(&[app.address()]), "keep_alive");
    let agent = stage.serve(&document).await;
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let request = format!("GET /health HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (answer, _) = read_to_end(&mut stream).await;
    assert!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    let closed = closed_of(&stage, &agent).await;
    assert_eq!(closed.cause(), "keep_alive_timeout", "{closed:?}");
    assert_eq!(closed.number("requests"), 1);
}

#[tokio::test]
async fn a_request_that_never_comes_is_not_waited_for() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = with_timeout(stage.node_terminator(&[app.address()]), "first_byte");
    let agent = stage.serve(&document).await;
    for begun_with in ["", "GET /whoami HTTP/1.1\r\nHost: "] {
        let from = agent.log_len();
        let begun = Instant::now();
        let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
        stream.write_all(begun_with.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
        took_about(SHORT, begun);
        let closed = agent.await_closed(from, |_| true).await;
        let found = (closed.cause(), closed.phase());
        assert_eq!(
            found,
            ("first_byte_timeout", "request"),
            "{begun_with:?}: {closed:?}"
        );
    }
}

#[tokio::test]
async fn a_connect_that_hangs_is_given_up() {
    let stage = Stage::new();
    let _full = Unaccepting::at(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage
        .serve(&with_timeout(stage.balancer(&[stage.back(0)]), "connect"))
        .await;
    let begun = Instant::now();
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.0, b"");
    took_about(SHORT, begun);
    let closed = closed_of(&stage, &agent).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("connect_timeout", "connect"),
        "{closed:?}"
    );
}

/// One timer short, in the policy that the stage's documents use.
fn with_timeout(mut document: Value, timer: &str) -> Value {
    document["policies"][0]["timeouts"] = json!({ timer: format!("{}ms", SHORT.as_millis()) });
    document
}

async fn closed_of(stage: &Stage, agent: &Agent) -> Event {
    agent
        .await_closed(0, |e| e.client().ip() == stage.net.client(0))
        .await
}

/// Not before its time, and not long after on a machine with other things to do.
fn took_about(time: Duration, begun: Instant) {
    let took = begun.elapsed();
    assert!(
        took >= time - Duration::from_millis(50),
        "too early: {took:?}"
    );
    assert!(took < time + Duration::from_secs(3), "too late: {took:?}");
}
