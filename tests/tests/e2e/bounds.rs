//! What a listener takes in at most: of each client, of all, and for how long; and
//! what the kernel is told about its sockets.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tidegate_tests::backend::Backend;
use tidegate_tests::client::{echoes, read_to_end};
use tidegate_tests::stage::PORT;
use tidegate_tests::{Stage, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn a_client_that_comes_too_fast_is_refused_and_nobody_else_is() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    document["policies"][0]["limits"] =
        json!({ "new_per_client": { "per_second": 1, "burst": 3 } });
    let agent = stage.agent(&document).with("--threads", 2).serve().await;
    let open = async |client| stage.client(client).tcp(stage.front()).await.unwrap();
    let begun = Instant::now();
    for _ in 0..3 {
        assert!(echoes(&mut open(0).await).await);
    }
    let mut surplus = open(0).await;
    // A second has not passed, or this is too slow a machine to tell.
    let refused = read_to_end(&mut surplus);
    if begun.elapsed() < Duration::from_millis(900) {
        assert_eq!(refused.await.0, b"");
        let its_own = stage.net.client(0);
        let is_refused =
            |e: &tidegate_tests::agent::Event| e.client().ip() == its_own && e.phase() == "accept";
        let closed = agent.await_closed(0, is_refused).await;
        assert_eq!(closed.cause(), "client_rate", "{closed:?}");
        assert_eq!(closed.text("fault"), "policy");
    }
    assert!(echoes(&mut open(1).await).await, "another client");
    until("its time has come", async || {
        echoes(&mut open(0).await).await
    })
    .await;
}

#[tokio::test]
async fn what_is_too_much_for_all_waits_and_is_served_when_one_ends() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    document["policies"][0]["limits"] = json!({ "connections": 3 });
    // Whichever thread the kernel gives a connection to.
    let agent = stage.agent(&document).with("--threads", 2).serve().await;
    let mut live = Vec::new();
    for client in 0..3 {
        live.push(stage.client(client).tcp(stage.front()).await.unwrap());
        assert!(echoes(live.last_mut().unwrap()).await);
    }
    let mut waiting = Vec::new();
    for client in 3..9 {
        let mut stream = stage.client(client).tcp(stage.front()).await.unwrap();
        stream.write_all(&[client]).await.unwrap();
        waiting.push((client, stream));
    }
    for (_, stream) in &mut waiting {
        let answer = timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(answer.is_err(), "{answer:?}");
    }
    assert_eq!(agent.metrics().await.live(), 3.0);
    drop(live);
    // Each that is answered ends, and makes room for another.
    join_all(waiting.into_iter().map(async |(client, mut stream)| {
        let answer = within("an answer after waiting", stream.read_u8()).await;
        assert_eq!(answer.unwrap(), client);
    }))
    .await;
    let all = async || {
        let metrics = agent.metrics().await;
        metrics.sum("tidegate_connections_accepted_total", &[])
    };
    assert_eq!(all().await, 9.0);

    // A document with more room lets in whoever waits.
    let mut live = Vec::new();
    for client in 0..3 {
        live.push(stage.client(client).tcp(stage.front()).await.unwrap());
        assert!(echoes(live.last_mut().unwrap()).await);
    }
    let mut late = stage.client(9).tcp(stage.front()).await.unwrap();
    late.write_all(b"?").await.unwrap();
    let answer = timeout(Duration::from_millis(100), late.read_u8()).await;
    assert!(answer.is_err(), "{answer:?}");
    document["policies"][0]["limits"] = json!({ "connections": 4 });
    agent.apply(&document).await;
    assert_eq!(within("an answer", late.read_u8()).await.unwrap(), b'?');
}

#[tokio::test]
async fn a_crowd_is_let_in_at_the_pace_of_the_document_and_nobody_is_refused() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    document["policies"][0]["limits"] =
        json!({ "new_connections": { "per_second": 20, "burst": 5 } });
    let agent = stage.agent(&document).with("--threads", 2).serve().await;
    let begun = Instant::now();
    let crowd = (0..30).map(async |client| {
        let mut stream = stage.client(client).tcp(stage.front()).await.unwrap();
        assert!(echoes(&mut stream).await);
    });
    join_all(crowd).await;
    // Five at once and 25 at 20 a second.
    let took = begun.elapsed();
    let least = Duration::from_millis(1200);
    assert!(least < took && took < Duration::from_secs(8), "{took:?}");
    until("all have ended in order", async || {
        agent.metrics().await.closed("client_closed") == 30.0
    })
    .await;
}

#[tokio::test]
async fn connections_of_one_moment_do_not_all_end_in_one_moment() {
    const MOST: u64 = 3000;
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    document["policies"][0]["timeouts"] = json!({ "max_age": format!("{MOST}ms") });
    let agent = stage.serve(&document).await;
    let opening = (0..20).map(async |client| {
        let mut stream = stage.client(client).tcp(stage.front()).await.unwrap();
        assert!(echoes(&mut stream).await);
        stream
    });
    let mut live = join_all(opening).await;
    for stream in &mut live {
        read_to_end(stream).await;
    }
    until("all are told", async || agent.closed_since(0).len() == 20).await;
    let closed = agent.closed_since(0);
    let ages: Vec<u64> = closed.iter().map(|e| e.number("duration_ms")).collect();
    assert!(closed.iter().all(|e| e.cause() == "max_age"), "{closed:?}");
    let (first, last) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
    // A tenth is 300 ms, and 20 that are apart as far as can be use most of it.
    assert!(*first >= MOST - MOST / 10 - 5, "{ages:?}");
    assert!(*last < MOST + 1000, "{ages:?}");
    assert!(last - first > 150, "{ages:?}");
}

#[tokio::test]
async fn the_kernel_asks_a_silent_client_when_the_document_says() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    let agent = stage.serve(&document).await;
    for (keepalive, seconds) in [(None, 120), (Some("77s"), 77)] {
        if let Some(keepalive) = keepalive {
            document["listeners"][0]["tcp"] = json!({ "keepalive": keepalive });
            agent.apply(&document).await;
        }
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        assert!(echoes(&mut stream).await);
        let ours = stream.local_addr().unwrap();
        // The timer of sent data is the first to be seen.
        until(format!("a timer of {seconds} s"), async || {
            keepalive_timer(stage.front(), ours)
                .is_some_and(|left| (seconds - 20..=seconds).contains(&left))
        })
        .await;
        drop::<TcpStream>(stream);
    }
    assert_eq!(stage.front().port(), PORT);
}

/// The seconds until the kernel asks the peer of an accepted connection, as
/// proc_net_tcp says: timer 2 is keepalive, and times are in hundredths.
fn keepalive_timer(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux tells its sockets");
    let mut rows = table.lines().map(|row| row.split_whitespace());
    let timer = rows.find_map(|mut row| {
        let (ours, theirs) = (row.nth(1)?, row.next()?);
        let is_it = ours == hex(local) && theirs == hex(peer);
        row.nth(2).filter(|_| is_it)
    })?;
    let left = timer.strip_prefix("02:")?;
    u64::from_str_radix(left, 16).ok().map(|left| left / 100)
}

/// As the kernel writes an IPv4 address: four bytes in the host's order, and a port.
fn hex(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        panic!("tests are on IPv4");
    };
    let ip = u32::from_ne_bytes(address.ip().octets());
    format!("{ip:08X}:{:04X}", address.port())
}
