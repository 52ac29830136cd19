//! Much data, both ways at once, unharmed; and little data, without delay.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use hyper::body::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use tidegate_tests::backend::Backend;
use tidegate_tests::client::echoes;
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Fleet, Stage, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const MIB: usize = 1 << 20;
const SIZE: usize = 48 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_a_balancer_both_ways_unharmed() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.balancer(&[echo.address()])).await;
    let stream = stage.client(0).tcp(stage.front()).await.unwrap();
    comes_back_whole(stream).await;
    let closed = agent.await_closed(0, |_| true).await;
    let size = u64::try_from(SIZE).unwrap();
    assert_eq!(
        (closed.number("bytes_in"), closed.number("bytes_out")),
        (size, size)
    );
    assert_eq!(closed.cause(), "client_closed", "{closed:?}");
    let metrics = agent.metrics().await;
    for direction in ["in", "out"] {
        let bytes = metrics.sum("tidegate_bytes_total", &[("direction", direction)]);
        assert_eq!(bytes, 48.0 * 1_048_576.0, "{direction}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_tls_both_ways_unharmed() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&stage.terminator(&[echo.address()])).await;
    comes_back_whole(stage.client(0).tls(stage.front(), HOST).await.unwrap()).await;
}

#[tokio::test]
async fn a_client_with_nagles_algorithm_does_not_wait_for_an_acknowledgement() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&stage.terminator(&[echo.address()])).await;
    let mut quickest = Duration::MAX;
    for _ in 0..10 {
        let tcp = stage.client(0).tcp(stage.front()).await.unwrap();
        tcp.set_nodelay(false).unwrap();
        let mut tls = stage.client(0).tls_over(tcp, HOST).await.unwrap();
        let said = Instant::now();
        assert!(echoes(&mut tls).await);
        quickest = quickest.min(said.elapsed());
    }
    // The kernel holds an acknowledgement back for 40 ms (TCP_DELACK_MIN), each time.
    assert!(quickest < Duration::from_millis(35), "{quickest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_passes_the_whole_chain_both_ways_unharmed() {
    let fleet = Fleet::start().await;
    let mut http = fleet
        .stage
        .client(0)
        .http(fleet.edge(), HOST)
        .await
        .unwrap();
    let sent = Bytes::from(noise(SIZE));
    let answer = http
        .send(Method::POST, "/echo", HeaderMap::new(), sent.clone())
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(Sha256::digest(&answer.body), Sha256::digest(&sent));
    let answer = http.get(&format!("/bytes/{SIZE}")).await.unwrap();
    assert_eq!(answer.body.len(), SIZE);
    // The app repeats one block, which begins and ends anywhere in this line.
    let block = b"tidegate\n".repeat(64 * 1024 / 9 + 1);
    assert!(
        answer
            .body
            .chunks(64 * 1024)
            .all(|chunk| block.starts_with(chunk))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_websocket_messages_come_back_whole() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = stage.node_terminator(&[app.address()]);
    let _agent = stage.serve(&document).await;
    let mut ws = stage.client(0).ws(stage.front(), HOST).await.unwrap();
    for size in [1, 125, 126, 65_535, 65_536, 4 * MIB] {
        ws.echo(&"x".repeat(size)).await.unwrap();
    }
}

#[tokio::test]
async fn a_slow_reader_holds_back_its_writer_and_not_the_agents_memory() {
    let stage = Stage::new();
    let source = endless(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.terminator(&[source.address()]);
    document["policies"][0]["timeouts"] = json!({ "idle": "1h" });
    let agent = stage.serve(&document).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
        stream.read_u8().await.unwrap();
        streams.push(stream);
    }
    all_still(&agent).await;
    let kib = tidegate_tests::proc::memory_kib(agent.pid());
    assert!(kib < 40 * 1024, "{kib} KiB for 8 connections nobody reads");
}

/// Nobody reads on: once the socket buffers are full, nothing moves any more.
async fn all_still(agent: &Agent) {
    let mut moved = -1.0;
    tidegate_tests::until("backpressure", async || {
        let metrics = agent.metrics().await;
        let now = metrics.sum("tidegate_bytes_total", &[("direction", "out")]);
        let still = now == moved && now > 0.0;
        moved = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
        still
    })
    .await;
}

/// A backend that never stops sending.
async fn endless(address: SocketAddr) -> Backend {
    Backend::serve(address, |mut stream| async move {
        let chunk = vec![7; 64 * 1024];
        while stream.write_all(&chunk).await.is_ok() {}
    })
    .await
}

async fn comes_back_whole(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let sent = noise(SIZE);
    let (mut read, mut write) = tokio::io::split(stream);
    let send = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let receive = async {
        let mut received = Vec::with_capacity(SIZE);
        read.read_to_end(&mut received).await.unwrap();
        received
    };
    let ((), received) = within("a large echo", async { tokio::join!(send, receive) }).await;
    assert_eq!(received.len(), SIZE);
    assert_eq!(Sha256::digest(&received), Sha256::digest(&sent));
}

/// Bytes that no two blocks of share: a lost, doubled or swapped one shows.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}
