//! The balancer in bad company, in numbers: backends that trickle, break off or stay
//! silent, clients that are cut at random, documents that change all the time.
//! Afterwards nothing is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tidegate_tests::agent::write_document;
use tidegate_tests::backend::{Backend, next, reset};
use tidegate_tests::child::Signal;
use tidegate_tests::client::{End, connect, echoes, exchange, read_to_end};
use tidegate_tests::tcp::sockets;
use tidegate_tests::{Agent, Stage, proc, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Connections in all, and at a time.
const OPENED: usize = 50_000;
/// Of these, as many as it takes until memory is what such a crowd needs.
const FIRST: usize = 10_000;
const AT_ONCE: usize = 2000;
/// Connections that live at the same time: each takes two descriptors of the agent and
/// two of ours, and either has 20,000.
const CROWD: usize = 9000;
/// Connections that live through a thousand documents.
const LIVE: usize = 4000;
const DOCUMENTS: usize = 1000;

#[tokio::test]
async fn a_trickle_arrives_byte_by_byte_both_ways() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&stage.balancer(&[backend.address()])).await;
    let mut client = stage.client(0).tcp(stage.front()).await.unwrap();
    let mut server = next(&mut handed).await;
    server.set_nodelay(true).unwrap();
    for byte in 0..=255 {
        // Each is read before the next is sent: nothing may be held back.
        client.write_all(&[byte]).await.unwrap();
        assert_eq!(within("a byte", server.read_u8()).await.unwrap(), byte);
        server.write_all(&[!byte]).await.unwrap();
        assert_eq!(within("a byte", client.read_u8()).await.unwrap(), !byte);
    }
}

#[tokio::test]
async fn a_server_that_ends_at_once_or_breaks_off_does_so_for_its_client() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.balancer(&[backend.address()])).await;
    for (breaks, end, cause, connects) in [
        (false, End::Eof, "upstream_closed", 1.0),
        (true, End::Cut, "upstream_reset", 2.0),
    ] {
        let from = agent.log_len();
        let mut client = stage.client(0).tcp(stage.front()).await.unwrap();
        let server = next(&mut handed).await;
        // Before that, a reset is a connect that failed.
        until("the agent is connected", async || {
            let metrics = agent.metrics().await;
            metrics.sum("tidegate_backend_connects_total", &[("result", "ok")]) == connects
        })
        .await;
        match breaks {
            true => reset(server),
            false => drop(server),
        }
        assert_eq!(read_to_end(&mut client).await, (vec![], end), "{cause}");
        drop(client);
        let closed = agent.await_closed(from, |_| true).await;
        assert_eq!(closed.cause(), cause, "{closed:?}");
    }
}

#[tokio::test]
async fn what_was_said_before_a_half_close_arrives_whoever_ends_first() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&stage.balancer(&[backend.address()])).await;
    for client_ends_first in [true, false] {
        let client = stage.client(0).tcp(stage.front()).await.unwrap();
        let server = next(&mut handed).await;
        let (mut first, mut second) = match client_ends_first {
            true => (client, server),
            false => (server, client),
        };
        first.write_all(b"that is all").await.unwrap();
        first.shutdown().await.unwrap();
        let heard = read_to_end(&mut second).await;
        assert_eq!(heard, (b"that is all".to_vec(), End::Eof));
        second.write_all(&[7; 200_000]).await.unwrap();
        second.shutdown().await.unwrap();
        let heard = read_to_end(&mut first).await;
        assert_eq!((heard.0.len(), heard.1), (200_000, End::Eof));
    }
}

/// How connections ended that a client did not end.
fn unusual_ends(agent: &Agent) -> BTreeMap<String, usize> {
    let mut ends = BTreeMap::new();
    for event in agent.closed_since(0) {
        if event.cause() != "client_closed" {
            let backend = event.has("backend").then(|| event.text("backend"));
            let end = format!("{} in {} of {backend:?}", event.cause(), event.phase());
            *ends.entry(end).or_default() += 1;
        }
    }
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_that_come_and_go_fifty_times_a_second_fail_no_connection() {
    let stage = Arc::new(Stage::new());
    let mut echoes = Vec::new();
    for index in 0..4 {
        echoes.push(Backend::echo(stage.back(index)).await);
    }
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.balancer(&[stage.back(0)])).await;
    let over = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let traffic: Vec<_> = (0..8)
        .map(|client| {
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            let (source, front) = (stage.net.client(client), stage.front());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let mut stream = connect(source, front).await.unwrap();
                    let answer = exchange(&mut stream, b"?").await;
                    assert_eq!(answer.expect("an echo"), b"?");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let path = stage.path(&format!("chain-{}.yaml", stage.net.balancer()));
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for round in 0..100_u16 {
        pace.tick().await;
        // Of four any two, and no two documents in a row are the same.
        let set = [
            stage.back(round % 4),
            stage.back((round + 1 + round % 3) % 4),
        ];
        write_whole(&path, &stage.balancer(&set));
        agent.signal(Signal::HUP);
    }
    over.store(true, Ordering::Relaxed);
    for client in traffic {
        let failed = client.await.is_err();
        assert!(!failed, "{:#?}", unusual_ends(&agent));
    }
    assert!(served.load(Ordering::Relaxed) > 100);
    until("all have ended in order", async || {
        let metrics = agent.metrics().await;
        metrics.live() == 0.0
            && metrics.sum("tidegate_connections_closed_total", &[])
                == metrics.closed("client_closed")
    })
    .await;
    let metrics = agent.metrics().await;
    let applied = metrics.sum("tidegate_applies_total", &[("result", "applied")]);
    // Signals that come while one is served are one.
    assert!(applied >= 50.0, "{applied}");
    let failed = [("result", "failed")];
    assert_eq!(metrics.sum("tidegate_backend_connects_total", &failed), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_connections_cut_at_random_leave_nothing_behind() {
    let stage = Stage::new();
    let _echo = Backend::echo(stage.back(0)).await;
    let _resetting = Backend::resetting(stage.back(1)).await;
    let _silent = Backend::silent(stage.back(2)).await;
    let _checks = stage.checks_pass().await;
    let backends = [stage.back(0), stage.back(1), stage.back(2)];
    let mut document = stage.balancer(&backends);
    // Whoever is left half-closed by a silent backend is not waited for for long.
    document["policies"][0]["timeouts"] = json!({ "half_closed": "500ms" });
    let agent = stage
        .agent(&document)
        .variable("RUST_LOG", "info,access=off")
        .serve()
        .await;
    cut_at_random(&stage, FIRST, 1).await;
    all_gone(&stage, &agent, FIRST).await;
    let (descriptors, memory) = (agent.descriptors(), proc::memory_kib(agent.pid()));
    cut_at_random(&stage, OPENED - FIRST, 2).await;
    all_gone(&stage, &agent, OPENED).await;
    until("descriptors are back", async || {
        agent.descriptors() <= descriptors
    })
    .await;
    // A leak of 200 bytes for each would be 8 MiB.
    memory_is_back(&agent, memory, 8192).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nine_thousand_that_live_at_once_and_are_cut_at_once_leave_nothing_behind() {
    let stage = Stage::new();
    let backends = [0, 1, 2].map(|index| stage.back(index));
    let mut serving = Vec::new();
    for address in backends {
        serving.push(Backend::serve(address, echo_until_told).await);
    }
    let _checks = stage.checks_pass().await;
    let agent = stage
        .agent(&stage.balancer(&backends))
        .max_files(20_000)
        .variable("RUST_LOG", "info,access=off")
        .serve()
        .await;
    let mut before = None;
    for round in 1..=3 {
        let mut crowd = crowd(&stage, CROWD).await;
        all_echo(&mut crowd).await;
        assert_eq!(agent.metrics().await.live(), 9000.0, "{round}");
        let cuts = crowd.into_iter().enumerate();
        let cuts = cuts.map(|(number, stream)| tokio::spawn(cut_somehow(number, stream)));
        for cut in cuts.collect::<Vec<_>>() {
            cut.await.expect("a client's end is no error");
        }
        all_gone(&stage, &agent, round * CROWD).await;
        let now = (agent.descriptors(), proc::memory_kib(agent.pid()));
        let (descriptors, memory) = *before.get_or_insert(now);
        until("descriptors are back", async || {
            agent.descriptors() <= descriptors
        })
        .await;
        // A leak of 200 bytes for each would be 1.8 MiB a round.
        memory_is_back(&agent, memory, 3072).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_thousand_connections_live_through_a_thousand_documents() {
    let stage = Stage::new();
    let _echoes = [
        Backend::echo(stage.back(0)).await,
        Backend::echo(stage.back(1)).await,
    ];
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[stage.back(0), stage.back(1)]);
    let agent = stage.serve(&document).await;
    let mut live = crowd(&stage, LIVE).await;
    all_echo(&mut live).await;
    for round in 0..100 {
        vary(&mut document, &stage, round);
        agent.apply(&document).await;
    }
    let memory = proc::memory_kib(agent.pid());
    for round in 100..DOCUMENTS {
        vary(&mut document, &stage, round);
        agent.apply(&document).await;
    }
    let grown = proc::memory_kib(agent.pid()).saturating_sub(memory);
    assert!(grown < 2048, "{grown} KiB more than {memory}");
    all_echo(&mut live).await;
    let metrics = agent.metrics().await;
    let applied = metrics.sum("tidegate_applies_total", &[("result", "applied")]);
    assert!(applied >= 1000.0, "{applied}");
    assert_eq!(metrics.sum("tidegate_connections_closed_total", &[]), 0.0);
    assert_eq!(metrics.live(), 4000.0);
}

/// What is free is given back within a second, not at once.
async fn memory_is_back(agent: &Agent, before_kib: u64, more_kib: u64) {
    until("memory is back", async || {
        let grown = proc::memory_kib(agent.pid()).saturating_sub(before_kib);
        println!("{grown} KiB more than {before_kib}");
        grown < more_kib
    })
    .await;
}

/// A document in one piece: the agent reads it when it likes.
fn write_whole(path: &std::path::Path, document: &Value) {
    let beside = path.with_extension("new");
    write_document(&beside, document);
    fs::rename(beside, path).expect("the test's directory can be written");
}

/// A real change of everything that may change under a live connection.
fn vary(document: &mut Value, stage: &Stage, round: usize) {
    let policy = &mut document["policies"][0];
    policy["timeouts"] = json!({ "idle": format!("{}s", 600 + round) });
    policy["deny"] = json!([format!("203.0.113.{}", round % 256)]);
    let pool = &mut document["pools"][0];
    pool["balance"] = json!(["round_robin", "least_connections", "source_hash"][round % 3]);
    let mut backends = vec![stage.back(0)];
    if round.is_multiple_of(2) {
        backends.push(stage.back(1));
    }
    let backends = backends
        .iter()
        .map(|a| json!({ "address": a, "weight": 1 + round % 5 }));
    pool["backends"] = backends.collect();
}

/// Opens connections, from a hundred clients.
async fn crowd(stage: &Stage, count: usize) -> Vec<TcpStream> {
    let front = stage.front();
    let mut live = Vec::with_capacity(count);
    while live.len() < count {
        let some = (0..100).map(|i| connect(stage.net.client(i), front));
        live.extend(join_all(some).await.into_iter().map(Result::unwrap));
    }
    live
}

/// What a client says to have its backend reset it.
const RESET: u8 = b'!';

async fn echo_until_told(mut stream: TcpStream) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        let bytes = &bytes[..count];
        if bytes.contains(&RESET) {
            return reset(stream);
        }
        if stream.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Ends a connection, in one of five ways by its number.
async fn cut_somehow(number: usize, mut stream: TcpStream) {
    match number % 5 {
        0 => drop(stream),
        1 => reset(stream),
        2 => {
            stream.shutdown().await.ok();
            assert_eq!(read_to_end(&mut stream).await.0, b"", "{number}");
        }
        3 => {
            stream.write_all(b"under way").await.ok();
            drop(stream);
        }
        _ => {
            stream.write_all(&[RESET]).await.ok();
            assert_eq!(read_to_end(&mut stream).await.1, End::Cut, "{number}");
        }
    }
}

async fn all_echo(streams: &mut [TcpStream]) {
    for some in streams.chunks_mut(200) {
        let answers = join_all(some.iter_mut().map(echoes)).await;
        assert!(answers.into_iter().all(|answer| answer));
    }
}

/// Opens connections, [`AT_ONCE`] at a time, and ends each in one of five ways.
async fn cut_at_random(stage: &Stage, count: usize, seed: u64) {
    let front = stage.front();
    let clients: Vec<IpAddr> = (0..100).map(|i| stage.net.client(i)).collect();
    let left = Arc::new(AtomicUsize::new(count));
    let members = (0..AT_ONCE).map(|member| {
        let left = Arc::clone(&left);
        let source = clients[member % clients.len()];
        let mut random = seed << 32 | (member as u64 + 1);
        tokio::spawn(async move {
            let one_less = |n: usize| n.checked_sub(1);
            let order = Ordering::Relaxed;
            while left.fetch_update(order, order, one_less).is_ok() {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                cut_one(source, front, random).await;
            }
        })
    });
    for member in members.collect::<Vec<_>>() {
        member.await.expect("a client's end is no error");
    }
}

async fn cut_one(source: IpAddr, front: SocketAddr, random: u64) {
    let stream = within("a connection", connect(source, front)).await;
    // With so many at a time a queue of the kernel may be full for a moment.
    let Ok(mut stream) = stream else { return };
    let size = usize::try_from(random >> 8 & 0x1fff).expect("13 bits");
    if random & 8 != 0 {
        // The backend may be one that resets.
        stream.write_all(&vec![b'x'; size]).await.ok();
    }
    match random % 5 {
        0 => reset(stream),
        1 => drop(stream),
        2 => {
            stream.shutdown().await.ok();
            let mut bytes = Vec::new();
            within("an end", stream.read_to_end(&mut bytes)).await.ok();
        }
        3 => {
            // A byte, or nothing within a moment.
            let byte = stream.read_u8();
            let moment = Duration::from_millis(20);
            tokio::time::timeout(moment, byte).await.ok();
        }
        _ => {
            stream.shutdown().await.ok();
            drop(stream);
        }
    }
}

/// Waits until every connection is accounted for, and no socket of the agent's is
/// left in a state that only we could end.
async fn all_gone(stage: &Stage, agent: &Agent, count: usize) {
    until(format!("{count} are gone"), async || {
        let metrics = agent.metrics().await;
        let accepted = metrics.sum("tidegate_connections_accepted_total", &[]);
        let closed = metrics.sum("tidegate_connections_closed_total", &[]);
        let in_flight = metrics.sum("tidegate_backend_in_flight", &[]);
        let clients = metrics.sum("tidegate_clients_live", &[]);
        // Some were refused by the kernel, and none is lost.
        accepted > 0.9 * f64::from(u32::try_from(count).expect("thousands"))
            && (accepted - closed, metrics.live(), in_flight, clients) == (0.0, 0.0, 0.0, 0.0)
    })
    .await;
    let rows = agent.debug("/debug/connections?top=9").await;
    assert_eq!(rows["total"], 0, "{rows}");
    let ours = stage.net.balancer();
    until("no socket of ours lingers", async || lingering(ours) == 0).await;
}

/// Sockets of an address in FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT or LAST_ACK.
fn lingering(address: IpAddr) -> usize {
    let all = sockets().into_iter();
    all.filter(|s| s.local.ip() == address && matches!(s.state, 4 | 5 | 8 | 9))
        .count()
}
