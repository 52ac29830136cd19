//! Out of descriptors: the agent waits, uses no processor meanwhile, loses nobody it
//! serves, and goes on by itself when descriptors are free again.

use std::pin::pin;
use std::time::Duration;

use serde_json::json;
use tidegate_tests::agent::Event;
use tidegate_tests::backend::Backend;
use tidegate_tests::client::echoes;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Stage, proc, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How TLS begins: a record of the handshake.
const HANDSHAKE: u8 = 22;
/// Enough for an agent with one thread, some connections, and no more.
const DESCRIPTORS: u64 = 64;

#[tokio::test]
async fn without_descriptors_it_waits_without_spinning_and_recovers_by_itself() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.terminator(&[echo.address()]);
    document["policies"][0]["timeouts"] = json!({ "first_byte": "1h" });
    // More connections than descriptors: permits must not be what holds it back.
    let start = stage
        .agent(&document)
        .with("--threads", 1)
        .with("--max-connections", 1000);
    let agent = start.max_files(DESCRIPTORS).serve().await;

    let client = stage.client(0);
    let mut served = client.tls(stage.front(), HOST).await.unwrap();
    assert!(echoes(&mut served).await);
    // One descriptor each, for ever in the handshake: the last ones find none.
    let mut silent = Vec::new();
    for _ in 0..60 {
        let mut begun = client.tcp(stage.front()).await.unwrap();
        // Without a byte it would stay with the kernel, and take none.
        begun.write_all(&[HANDSHAKE]).await.unwrap();
        silent.push(begun);
    }
    let failed = |event: &Event| event.message() == "accept failed";
    agent.await_log("a failed accept", 0, failed).await;

    let mut waiting = pin!(client.tls(stage.front(), HOST));
    let before = proc::cpu(agent.pid());
    // Time itself is what is measured.
    assert!(timeout(Duration::from_secs(2), &mut waiting).await.is_err());
    let used = proc::cpu(agent.pid()) - before;
    assert!(
        used < Duration::from_millis(200),
        "{used:?} of 2 s spent on accepting nothing"
    );
    assert!(echoes(&mut served).await, "whoever is served is served on");

    drop(silent);
    let mut waited = waiting.await.expect("its turn has come");
    assert!(
        echoes(&mut waited).await,
        "its own need is no fault of the backend's"
    );
    let errors = agent
        .metrics()
        .await
        .sum("tidegate_accept_errors_total", &[]);
    assert!(errors >= 1.0, "{errors}");
    // A check that we could not make says nothing about the backend.
    assert!(!agent.log_text().contains("backend down"));
    // Backing off is also not writing a line for each try.
    let text = agent.log_text();
    let complaints = text
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"));
    assert!(complaints.count() <= 100);

    drop((served, waited));
    until("nothing lives", async || {
        agent.metrics().await.live() == 0.0
    })
    .await;
    until("all 62 are accounted for", async || {
        agent.closed_since(0).len() == 62
    })
    .await;
}

#[tokio::test]
async fn a_client_for_whom_there_is_no_second_descriptor_is_our_fault_not_the_backends() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    document["listeners"][0]["routes"] = json!([{ "sni": ["a.localhost"], "pool": "back" }]);
    document["listeners"][0]["plain"] = json!("pool");
    let start = stage
        .agent(&document)
        .with("--threads", 1)
        .with("--max-connections", 1000);
    let agent = start.max_files(DESCRIPTORS).serve().await;
    // What may become TLS is waited for, with one descriptor each.
    let mut waiting = Vec::new();
    for _ in 0..80 {
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        stream.write_all(&[22]).await.unwrap();
        waiting.push(stream);
    }
    let failed = |event: &Event| event.message() == "accept failed";
    agent.await_log("a failed accept", 0, failed).await;
    // And now it is none, and goes to a backend.
    for stream in &mut waiting {
        stream.write_all(b"no TLS").await.ok();
    }
    let closed = agent.await_closed(0, |e| e.cause() == "internal").await;
    let found = (closed.phase(), closed.text("fault"));
    assert_eq!(found, ("connect", "tidegate"), "{closed:?}");
    // So that it can answer.
    drop(waiting);
    let name = echo.address().to_string();
    let row = agent.backend("back", &name).await;
    assert_eq!((&row["up"], &row["ejected"]), (&json!(true), &json!(false)));
}

#[tokio::test]
async fn a_connection_beyond_max_connections_waits_its_turn() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let start = stage.agent(&stage.balancer(&[echo.address()]));
    let _agent = start
        .with("--threads", 1)
        .with("--max-connections", 2)
        .serve()
        .await;
    let open = async || stage.client(0).tcp(stage.front()).await.unwrap();
    let (mut one, mut two, mut three) = (open().await, open().await, open().await);
    assert!(echoes(&mut one).await && echoes(&mut two).await);
    silent_for(Duration::from_millis(300), &mut three).await;
    drop(one);
    let answer = tidegate_tests::within("an answer after waiting", three.read_u8()).await;
    assert_eq!(answer.unwrap(), b'?');
    assert!(echoes(&mut two).await);
}

/// Asks something and is not answered for a while.
async fn silent_for(time: Duration, stream: &mut TcpStream) {
    stream.write_all(b"?").await.unwrap();
    let answer = timeout(time, stream.read_u8()).await;
    assert!(answer.is_err(), "{answer:?}");
}
