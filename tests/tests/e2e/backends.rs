//! Backends that refuse, hang, reset, say nothing or end one direction early: the
//! client gets what there is to get, the log says what happened, and no descriptor
//! or count stays behind.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Method};
use hyper::body::Bytes;
use serde_json::json;
use tidegate_tests::backend::{Backend, Unaccepting, next, reset};
use tidegate_tests::client::{End, echoes, read_to_end};
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Stage, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[tokio::test]
async fn a_refusing_backend_costs_no_client_a_connection() {
    let stage = Stage::new();
    let _named = Backend::named(stage.back(1), "b").await;
    let _checks = stage.checks_pass().await;
    // Nobody listens at the first and the third; their checks pass nevertheless.
    let backends = [stage.back(0), stage.back(1), stage.back(2)];
    let agent = stage.serve(&stage.balancer(&backends)).await;
    for _ in 0..12 {
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'b');
        assert!(echoes(&mut stream).await);
    }
    let failed = agent
        .metrics()
        .await
        .sum("tidegate_backend_connects_total", &failed());
    assert!(failed >= 3.0, "{failed}: round robin does try them first");
    let ejections = agent
        .metrics()
        .await
        .sum("tidegate_backend_ejections_total", &[]);
    assert_eq!(
        ejections, 1.0,
        "of two that refuse, so that half the pool is left"
    );
    nothing_in_flight(&agent).await;
}

#[tokio::test]
async fn when_every_backend_refuses_each_is_tried_once() {
    let stage = Stage::new();
    let _checks = stage.checks_pass().await;
    let agent = stage
        .serve(&stage.balancer(&[stage.back(0), stage.back(1)]))
        .await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.0, b"");
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("connect_failed", "connect"),
        "{closed:?}"
    );
    let metrics = agent.metrics().await;
    assert_eq!(
        metrics.sum("tidegate_backend_connects_total", &failed()),
        2.0
    );
    nothing_in_flight(&agent).await;
}

#[tokio::test]
async fn without_any_backend_up_nobody_is_connected_to() {
    let stage = Stage::new();
    // Nobody answers checks.
    let agent = stage.serve(&stage.balancer(&[stage.back(0)])).await;
    let name = stage.back(0).to_string();
    until("it is down", async || !agent.is_up("back", &name).await).await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.0, b"");
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("no_backend", "connect"),
        "{closed:?}"
    );
    assert_eq!(
        agent
            .metrics()
            .await
            .sum("tidegate_backend_connects_total", &[]),
        0.0
    );
}

#[tokio::test]
async fn a_backend_that_never_accepts_is_passed_over() {
    let stage = Stage::new();
    let _full = Unaccepting::at(stage.back(0)).await;
    let _echo = Backend::echo(stage.back(1)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[stage.back(0), stage.back(1)]);
    document["policies"][0]["timeouts"] = json!({ "connect": "200ms", "first_byte": "10s" });
    let agent = stage.serve(&document).await;
    for _ in 0..4 {
        assert!(echoes(&mut stage.client(0).tcp(stage.front()).await.unwrap()).await);
    }
    let failed = agent
        .metrics()
        .await
        .sum("tidegate_backend_connects_total", &failed());
    assert!(failed >= 2.0, "{failed}");
    nothing_in_flight(&agent).await;
    let closed = agent.closed_since(0);
    let late: Vec<_> = closed
        .iter()
        .filter(|e| e.number("connect_ms") >= 200)
        .collect();
    assert!(late.len() >= 2, "{closed:?}");
    for event in &closed {
        assert!(event.number("connect_ms") <= event.number("duration_ms"));
        assert!(!event.has("queue_ms"), "nobody waited: {event:?}");
    }
}

#[tokio::test]
async fn in_http_mode_clients_are_told_that_no_backend_answers() {
    let stage = Stage::new();
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.http_terminator(&[stage.back(0)])).await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    let answer = http.get("/").await.unwrap();
    assert_eq!(answer.status, 502, "{answer:?}");
    drop(http);
    nothing_in_flight(&agent).await;
}

#[tokio::test]
async fn a_silent_backend_is_waited_for_until_the_idle_timer_and_no_longer() {
    let stage = Stage::new();
    let _silent = Backend::silent(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.http_terminator(&[stage.back(0)]);
    document["policies"][0]["timeouts"] =
        json!({ "idle": "500ms", "first_byte": "10s", "keep_alive": "500ms" });
    let agent = stage.serve(&document).await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    // An answer may still take its time: the app is asked to answer, not to hurry.
    match http.get("/").await {
        Ok(answer) => assert_eq!(answer.status, 504, "{answer:?}"),
        Err(closed) => println!("closed without an answer: {closed}"),
    }
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(closed.cause(), "idle_timeout", "{closed:?}");
    nothing_in_flight(&agent).await;
}

#[tokio::test]
async fn an_answer_may_take_longer_than_the_first_byte_of_a_request() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let mut document = stage.node_terminator(&[app.address()]);
    document["policies"][0]["timeouts"] = json!({ "first_byte": "400ms", "keep_alive": "400ms" });
    let _agent = stage.serve(&document).await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    for _ in 0..2 {
        let answer = http.get("/slow/1000").await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_post_after_the_app_ended_its_idle_connection_is_answered() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app")
        .keep_alive_ms(100)
        .listen()
        .await;
    let document = stage.node_terminator(&[app.address()]);
    let _agent = stage.serve(&document).await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    for _ in 0..3 {
        let body = Bytes::from_static(b"once only");
        let answer = http
            .send(Method::POST, "/echo", HeaderMap::new(), body)
            .await
            .unwrap();
        assert_eq!(
            (answer.status.as_u16(), answer.text().as_str()),
            (200, "once only")
        );
        // Node.js gives an idle connection a second more than it is told to.
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_a_silent_backend_is_forgotten_at_once() {
    let stage = Stage::new();
    let _silent = Backend::silent(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.http_terminator(&[stage.back(0)])).await;
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let name = stage.back(0).to_string();
    until("it is in flight", async || {
        agent.backend("back", &name).await["in_flight"] == 1
    })
    .await;
    let (tcp, _) = stream.into_inner();
    reset(tcp);
    assert_eq!(
        agent.await_closed(0, |_| true).await.cause(),
        "client_reset"
    );
    nothing_in_flight(&agent).await;
}

#[tokio::test]
async fn a_backends_reset_reaches_the_client_as_a_reset() {
    let stage = Stage::new();
    let _resetting = Backend::resetting(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.balancer(&[stage.back(0)])).await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    stream.write_all(b"go on").await.unwrap();
    // An end in order would pass for the end of the answer.
    assert_eq!(read_to_end(&mut stream).await, (Vec::new(), End::Cut));
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("upstream_reset", "relay"),
        "{closed:?}"
    );
    nothing_in_flight(&agent).await;
}

#[tokio::test]
async fn a_clients_reset_reaches_the_backend_as_a_reset() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.balancer(&[backend.address()])).await;
    let stream = stage.client(0).tcp(stage.front()).await.unwrap();
    let mut upstream = next(&mut handed).await;
    reset(stream);
    assert_eq!(read_to_end(&mut upstream).await, (Vec::new(), End::Cut));
    assert_eq!(
        agent.await_closed(0, |_| true).await.cause(),
        "client_reset"
    );
    nothing_in_flight(&agent).await;
}

#[tokio::test]
async fn a_reset_is_heard_of_though_the_other_side_takes_nothing() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.balancer(&[backend.address()])).await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    stream.write_all(b"first").await.unwrap();
    let mut upstream = next(&mut handed).await;
    // Until nothing moves: the agent holds bytes for a backend that does not read.
    let more = vec![0; 1 << 20];
    while let Ok(written) = timeout(Duration::from_millis(500), stream.write(&more)).await {
        written.unwrap();
    }
    reset(stream);
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(closed.cause(), "client_reset", "{closed:?}");
    assert_eq!(read_to_end(&mut upstream).await.1, End::Cut);
    nothing_in_flight(&agent).await;
}

#[tokio::test]
async fn a_client_that_has_said_all_still_gets_the_whole_answer() {
    let stage = Stage::new();
    let _late = answers_after_the_question(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    for document in [
        stage.balancer(&[stage.back(0)]),
        stage.terminator(&[stage.back(0)]),
    ] {
        let agent = stage.serve(&document).await;
        let tls = document["listeners"][0]["tls"].is_object();
        let question = vec![b'q'; 300_000];
        let answer = if tls {
            let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
            stream.write_all(&question).await.unwrap();
            // TLS's own goodbye, and TCP's.
            stream.shutdown().await.unwrap();
            read_to_end(&mut stream).await
        } else {
            let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
            stream.write_all(&question).await.unwrap();
            stream.shutdown().await.unwrap();
            read_to_end(&mut stream).await
        };
        assert_eq!(answer.0.len(), 900_000, "tls: {tls}");
        assert_eq!(answer.1, End::Eof, "tls: {tls}");
        nothing_in_flight(&agent).await;
    }
}

#[tokio::test]
async fn a_backend_that_has_said_all_still_hears_the_client_out() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    for document in [
        stage.balancer(&[stage.back(0)]),
        stage.terminator(&[stage.back(0)]),
    ] {
        let agent = stage.serve(&document).await;
        let client = async {
            if document["listeners"][0]["tls"].is_object() {
                let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
                listens_then_speaks(&mut stream).await;
            } else {
                let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
                listens_then_speaks(&mut stream).await;
            }
        };
        let server = async {
            let mut upstream = next(&mut handed).await;
            upstream.write_all(b"all I have to say").await.unwrap();
            upstream.shutdown().await.unwrap();
            read_to_end(&mut upstream).await
        };
        let ((), heard) = tokio::join!(client, server);
        assert_eq!(
            (heard.0.len(), heard.1),
            (300_000, End::Eof),
            "{document:#}"
        );
        nothing_in_flight(&agent).await;
    }
    drop(backend);
}

#[tokio::test]
async fn a_thousand_bad_endings_leave_no_descriptor_and_no_count() {
    let stage = Stage::new();
    let _resetting = Backend::resetting(stage.back(0)).await;
    let _echo = Backend::echo(stage.back(1)).await;
    let _checks = stage.checks_pass().await;
    // The third refuses.
    let backends = [stage.back(0), stage.back(1), stage.back(2)];
    let agent = stage.serve(&stage.balancer(&backends)).await;
    bad_endings(&stage, 100).await;
    all_accounted_for(&agent, 100.0).await;
    let descriptors = agent.descriptors();
    bad_endings(&stage, 1000).await;
    all_accounted_for(&agent, 1100.0).await;
    until("descriptors are back", async || {
        agent.descriptors() <= descriptors
    })
    .await;
    until("one access event each", async || {
        agent.closed_since(0).len() == 1100
    })
    .await;
}

async fn bad_endings(stage: &Stage, count: u32) {
    for i in 0..count {
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        match i % 4 {
            0 => reset(stream),
            1 => stream.shutdown().await.unwrap_or_default(),
            2 => drop(read_some(&mut stream).await),
            _ => drop(stream),
        }
    }
}

/// A byte, or the end: whichever the backend gives.
async fn read_some(stream: &mut tokio::net::TcpStream) -> std::io::Result<usize> {
    tidegate_tests::within("a byte or an end", stream.read(&mut [0; 1])).await
}

async fn answers_after_the_question(address: SocketAddr) -> Backend {
    Backend::serve(address, |mut stream| async move {
        let (question, _) = read_to_end(&mut stream).await;
        let answer = vec![b'a'; question.len() * 3];
        stream
            .write_all(&answer)
            .await
            .expect("the client still listens");
        stream.shutdown().await.expect("the client still listens");
    })
    .await
}

async fn listens_then_speaks(
    stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin),
) {
    let (heard, end) = read_to_end(stream).await;
    assert_eq!(
        (heard.as_slice(), end),
        (b"all I have to say".as_slice(), End::Eof)
    );
    stream.write_all(&vec![b's'; 300_000]).await.unwrap();
    stream.shutdown().await.unwrap();
}

async fn nothing_in_flight(agent: &Agent) {
    until("nothing lives and nothing is in flight", async || {
        let metrics = agent.metrics().await;
        let rows = agent.debug("/debug/connections").await;
        let in_flight = metrics.sum("tidegate_backend_in_flight", &[]);
        metrics.live() == 0.0 && in_flight == 0.0 && rows["total"] == 0
    })
    .await;
}

/// Waits until that many connections were accepted, and each is accounted for.
async fn all_accounted_for(agent: &Agent, count: f64) {
    until(format!("{count} accepted and closed"), async || {
        let metrics = agent.metrics().await;
        let accepted = metrics.sum("tidegate_connections_accepted_total", &[]);
        let closed = metrics.sum("tidegate_connections_closed_total", &[]);
        (accepted, closed) == (count, count)
    })
    .await;
    nothing_in_flight(agent).await;
}

fn failed() -> [(&'static str, &'static str); 1] {
    [("result", "failed")]
}
