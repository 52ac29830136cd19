//! Backends with `max_connections`: the bound is exact, the surplus waits in order,
//! and whoever waits is served as soon as there is room, for whatever reason.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tidegate_tests::backend::{Backend, next, reset};
use tidegate_tests::client::{echoes, exchange, read_to_end};
use tidegate_tests::stage::{CHECK_PORT, HOST};
use tidegate_tests::{Agent, Stage, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn document(stage: &Stage, backends: &[SocketAddr], most: u32) -> Value {
    let mut document = stage.balancer(backends);
    let backends = document["pools"][0]["backends"].as_array_mut().unwrap();
    for backend in backends {
        backend["max_connections"] = json!(most);
    }
    document
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_is_exact_on_all_threads_and_everybody_is_served() {
    const MOST: usize = 3;
    let stage = Stage::new();
    let counts = [Arc::new(Count::default()), Arc::default()];
    let one = counting(stage.back(0), Arc::clone(&counts[0])).await;
    let two = counting(stage.back(1), Arc::clone(&counts[1])).await;
    let _checks = stage.checks_pass().await;
    let backends = [one.address(), two.address()];
    let document = document(&stage, &backends, u32::try_from(MOST).unwrap());
    let agent = stage.agent(&document).with("--threads", 2).serve().await;
    let client = stage.client(0);
    let visits = (0..60).map(async |_| {
        for _ in 0..10 {
            let mut stream = client.tcp(stage.front()).await.unwrap();
            assert_eq!(exchange(&mut stream, b"?").await.unwrap(), b"?");
            assert_eq!(read_to_end(&mut stream).await.0, b"");
        }
    });
    join_all(visits).await;
    let visited = |count: &Arc<Count>| count.visits.load(Ordering::SeqCst);
    assert_eq!(counts.iter().map(visited).sum::<usize>(), 600);
    for count in &counts {
        assert_eq!(count.peak.load(Ordering::SeqCst), MOST);
    }
    until("nobody is left", async || {
        let metrics = agent.metrics().await;
        metrics.live() == 0.0 && metrics.sum("tidegate_backend_in_flight", &[]) == 0.0
    })
    .await;
    assert_eq!(queued(&agent).await, 0.0);
}

#[tokio::test]
async fn who_came_first_is_served_first() {
    let stage = Stage::new();
    let (one, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&document(&stage, &[one.address()], 1)).await;
    let holder = stage.client(0).tcp(stage.front()).await.unwrap();
    let held = next(&mut handed).await;
    let mut waiting = VecDeque::new();
    for number in 1..=8 {
        waiting.push_back(waits(&stage, &agent, number).await);
    }
    assert!(handed.try_recv().is_err());
    drop((holder, held));
    for number in 1..=8 {
        let mut upstream = next(&mut handed).await;
        // Ends with this turn, and so makes room for the next.
        let _ends = waiting.pop_front();
        assert_eq!(
            within("a number", upstream.read_u8()).await.unwrap(),
            number
        );
    }
    until("the queue is empty", async || queued(&agent).await == 0.0).await;
}

#[tokio::test]
async fn who_comes_to_a_full_queue_is_refused() {
    let stage = Stage::new();
    let (one, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    for most in [0, 2] {
        let mut document = document(&stage, &[one.address()], 1);
        document["pools"][0]["max_queue"] = json!(most);
        let agent = stage.serve(&document).await;
        let _holder = stage.client(0).tcp(stage.front()).await.unwrap();
        let _held = next(&mut handed).await;
        let mut waiting = Vec::new();
        for number in 1..=most {
            waiting.push(waits(&stage, &agent, number).await);
        }
        let mut refused = stage.client(9).tcp(stage.front()).await.unwrap();
        assert_eq!(read_to_end(&mut refused).await.0, b"");
        ended_by(&stage, &agent, "queue_full").await;
        assert_eq!(queued(&agent).await, f64::from(most));
    }
}

#[tokio::test]
async fn nobody_waits_longer_than_queue_timeout_or_connect_or_first_byte() {
    let stage = Stage::new();
    let (one, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    for written in ["queue_timeout", "connect", "first_byte"] {
        let mut document = document(&stage, &[one.address()], 1);
        match written {
            "queue_timeout" => document["pools"][0]["queue_timeout"] = json!("400ms"),
            timeout => document["policies"][0]["timeouts"] = json!({ timeout: "400ms" }),
        }
        let agent = stage.serve(&document).await;
        let _holder = stage.client(0).tcp(stage.front()).await.unwrap();
        let _held = next(&mut handed).await;
        let mut late = stage.client(9).tcp(stage.front()).await.unwrap();
        assert_eq!(read_to_end(&mut late).await.0, b"");
        let waited = ended_by(&stage, &agent, "queue_timeout").await;
        assert!((390..3000).contains(&waited), "{written}: {waited} ms");
        assert_eq!(queued(&agent).await, 0.0);
    }
}

#[tokio::test]
async fn in_http_mode_who_finds_no_room_is_told_so() {
    let stage = Stage::new();
    let _silent = Backend::silent(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.http_terminator(&[stage.back(0)]);
    document["pools"][0]["backends"][0]["max_connections"] = json!(1);
    document["pools"][0]["max_queue"] = json!(0);
    let agent = stage.serve(&document).await;
    let client = stage.client(0);
    let mut holder = client.tls(stage.front(), HOST).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    holder.write_all(request.as_bytes()).await.unwrap();
    until("it is in flight", async || {
        let metrics = agent.metrics().await;
        metrics.sum("tidegate_backend_in_flight", &[]) == 1.0
    })
    .await;
    let mut http = client.http(stage.front(), HOST).await.unwrap();
    let answer = http.get("/").await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
}

#[tokio::test]
async fn a_document_with_more_room_serves_whoever_waits() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage, &[echo.address()], 1);
    document["pools"][0]["queue_timeout"] = json!("1h");
    let agent = stage.serve(&document).await;
    let mut holder = stage.client(0).tcp(stage.front()).await.unwrap();
    assert!(echoes(&mut holder).await);
    let mut first = waits(&stage, &agent, 1).await;
    let mut second = waits(&stage, &agent, 2).await;
    document["pools"][0]["backends"][0]["max_connections"] = json!(2);
    agent.apply(&document).await;
    assert_eq!(within("an echo", first.read_u8()).await.unwrap(), 1);
    assert_eq!(queued(&agent).await, 1.0);
    document["pools"][0]["backends"][0]
        .as_object_mut()
        .unwrap()
        .remove("max_connections");
    agent.apply(&document).await;
    assert_eq!(within("an echo", second.read_u8()).await.unwrap(), 2);
    assert!(echoes(&mut holder).await);
}

#[tokio::test]
async fn a_backend_that_comes_up_serves_whoever_waits() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    // Each is checked on an address of its own.
    let other = SocketAddr::new(stage.net.ip(51), CHECK_PORT + 1);
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage, &[echo.address(), other], 1);
    document["pools"][0]["queue_timeout"] = json!("1h");
    let agent = stage.serve(&document).await;
    let name = other.to_string();
    until("it is down", async || !agent.is_up("back", &name).await).await;
    let mut holder = stage.client(0).tcp(stage.front()).await.unwrap();
    assert!(echoes(&mut holder).await);
    let mut waiting = waits(&stage, &agent, 7).await;
    let _other = Backend::named(other, "b").await;
    let _passes = Backend::silent(SocketAddr::new(other.ip(), CHECK_PORT)).await;
    assert_eq!(within("a name", waiting.read_u8()).await.unwrap(), b'b');
    assert_eq!(within("an echo", waiting.read_u8()).await.unwrap(), 7);
}

#[tokio::test]
async fn one_of_those_who_wait_that_has_left_takes_nobodys_place() {
    let stage = Stage::new();
    let (one, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&document(&stage, &[one.address()], 1)).await;
    let holder = stage.client(0).tcp(stage.front()).await.unwrap();
    let held = next(&mut handed).await;
    let left = waits(&stage, &agent, 1).await;
    let _stays = waits(&stage, &agent, 2).await;
    reset(left);
    drop((holder, held));
    // Whoever has left may be told apart only once it is connected.
    let number = loop {
        let mut upstream = next(&mut handed).await;
        if let Ok(number @ 2) = within("a number or an end", upstream.read_u8()).await {
            break number;
        }
    };
    assert_eq!(number, 2);
}

/// Opens a connection that says a number, and waits until it is seen to wait.
async fn waits(stage: &Stage, agent: &Agent, number: u8) -> TcpStream {
    let before = queued(agent).await;
    let client = stage.client(number);
    let mut stream = client.tcp(stage.front()).await.unwrap();
    stream.write_all(&[number]).await.unwrap();
    until(format!("{number} waits"), async || {
        queued(agent).await == before + 1.0
    })
    .await;
    stream
}

async fn queued(agent: &Agent) -> f64 {
    let pool = [("pool", "back")];
    agent.metrics().await.sum("tidegate_pool_queued", &pool)
}

/// Client 9's end; answers how long it lived in milliseconds.
async fn ended_by(stage: &Stage, agent: &Agent, cause: &str) -> u64 {
    let its_own = stage.net.client(9);
    let closed = agent.await_closed(0, |e| e.client().ip() == its_own).await;
    let found = (closed.cause(), closed.phase());
    assert_eq!(found, (cause, "queue"), "{closed:?}");
    let (queued, all) = (closed.number("queue_ms"), closed.number("duration_ms"));
    // It came to wait for a backend at once.
    assert!(queued <= all && all - queued < 500, "{closed:?}");
    all
}

#[derive(Default)]
struct Count {
    now: AtomicUsize,
    peak: AtomicUsize,
    visits: AtomicUsize,
}

/// Answers one byte and ends, and counts how many it had at a time.
async fn counting(address: SocketAddr, count: Arc<Count>) -> Backend {
    Backend::serve(address, move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            let now = 1 + count.now.fetch_add(1, Ordering::SeqCst);
            count.peak.fetch_max(now, Ordering::SeqCst);
            count.visits.fetch_add(1, Ordering::SeqCst);
            let byte = stream.read_u8().await.unwrap();
            stream.write_u8(byte).await.unwrap();
            // Before the end is seen, and with it the room.
            count.now.fetch_sub(1, Ordering::SeqCst);
        }
    })
    .await
}
