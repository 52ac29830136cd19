//! First bytes in the SYN (TCP Fast Open, RFC 7413), seen on the wire: what a client
//! says first rides in the packet that opens the connection to its backend, and nothing
//! is opened before. Each test has a network namespace, whose kernel it may tune.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tidegate_tests::backend::Backend;
use tidegate_tests::client::{echoes, exchange, read_to_end};
use tidegate_tests::namespace::entered;
use tidegate_tests::stage::{CHECK_PORT, HOST};
use tidegate_tests::wiretap::{Segment, Wiretap};
use tidegate_tests::{Agent, Stage, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Both sides may (3), and every socket that listens takes it (0x400): backends of tests
/// do not ask for it themselves.
const ALLOWED: &[(&str, &str)] = &[("net.ipv4.tcp_fastopen", "1027")];
/// As the manual says.
const AS_ADVISED: &[(&str, &str)] = &[("net.ipv4.tcp_fastopen", "3")];
const FORBIDDEN: &[(&str, &str)] = &[("net.ipv4.tcp_fastopen", "0")];

fn document(stage: &Stage, backend: SocketAddr, client_first: bool) -> Value {
    let mut document = stage.balancer(&[backend]);
    document["listeners"][0]["client_first"] = json!(client_first);
    if client_first {
        document["pools"][0]["fast_open"] = json!(true);
    }
    document
}

/// The packet that opens the next connection to a backend.
async fn opening(tap: &mut Wiretap, backend: SocketAddr) -> Segment {
    let is_it = |segment: &Segment| segment.opens && segment.to == backend;
    tap.next("a SYN to the backend", is_it).await
}

/// Time for an agent to do what it would do wrongly.
async fn busy(agent: &Agent) {
    for _ in 0..20 {
        agent.metrics().await;
    }
}

#[tokio::test]
async fn what_a_client_says_first_rides_in_the_syn_and_nothing_is_opened_before() {
    let name = "early::what_a_client_says_first_rides_in_the_syn_and_nothing_is_opened_before";
    if !entered(name, ALLOWED).await {
        return;
    }
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&document(&stage, echo.address(), true)).await;
    for round in 0..4 {
        let mut tap = Wiretap::open();
        let mut client = stage.client(0).tcp(stage.front()).await.unwrap();
        busy(&agent).await;
        let first = format!("first bytes of round {round}").into_bytes();
        let answer = exchange(&mut client, &first).await.unwrap();
        assert_eq!(answer, first);
        // In the order of the wire: the client speaks, and then somebody is called.
        let mut spoken = false;
        let syn = tap.next("the SYN to the backend", |segment| {
            spoken |= segment.to == stage.front() && segment.payload == first;
            segment.opens && segment.to == echo.address()
        });
        let syn = syn.await;
        assert!(spoken, "opened before the client spoke: {syn:?}");
        // The first one asks for the cookie that the later ones show.
        let carried = if round == 0 { &[][..] } else { &first };
        assert_eq!(syn.payload, carried, "{round}");
        assert!(echoes(&mut client).await);
    }
}

#[tokio::test]
async fn a_balancers_header_and_the_clients_hello_reach_a_terminator_in_the_syn() {
    let name = "early::a_balancers_header_and_the_clients_hello_reach_a_terminator_in_the_syn";
    if !entered(name, AS_ADVISED).await {
        return;
    }
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut terminator = stage.terminator(&[echo.address()]);
    terminator["listeners"][0]["accept_proxy"] = json!([stage.net.balancer()]);
    let behind = stage.net.at(2, 8443);
    let _passes = Backend::silent(stage.net.at(2, CHECK_PORT)).await;
    let _terminator = stage.agent_at(behind.ip(), &terminator).serve().await;
    let mut document = document(&stage, behind, true);
    document["pools"][0]["proxy_protocol"] = json!("v2");
    let _balancer = stage.serve(&document).await;
    for round in 0..3 {
        let mut tap = Wiretap::open();
        let client = stage.client(0).tls(stage.front(), HOST).await;
        assert!(echoes(&mut client.unwrap()).await, "{round}");
        let syn = opening(&mut tap, behind).await;
        if round > 0 {
            let (header, rest) = syn.payload.split_at(28);
            assert!(header.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{syn:?}");
            // A TLS record with a handshake message.
            assert_eq!(rest[0], 0x16, "{syn:?}");
        }
    }
}

#[tokio::test]
async fn where_the_host_forbids_it_the_first_bytes_follow_the_handshake() {
    let name = "early::where_the_host_forbids_it_the_first_bytes_follow_the_handshake";
    if !entered(name, FORBIDDEN).await {
        return;
    }
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&document(&stage, echo.address(), true)).await;
    for _ in 0..3 {
        let mut tap = Wiretap::open();
        let mut client = stage.client(0).tcp(stage.front()).await.unwrap();
        assert_eq!(exchange(&mut client, b"first").await.unwrap(), b"first");
        let syn = opening(&mut tap, echo.address()).await;
        assert_eq!(syn.payload, b"");
    }
    let said = agent.log_text();
    assert!(said.contains("sysctl -w net.ipv4.tcp_fastopen=3"), "{said}");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_called_before_the_client_has_said_a_word() {
    let name = "early::a_server_that_speaks_first_is_called_before_the_client_has_said_a_word";
    if !entered(name, ALLOWED).await {
        return;
    }
    let stage = Stage::new();
    let greets = Backend::named(stage.back(0), "g").await;
    let _checks = stage.checks_pass().await;
    let _agent = stage
        .serve(&document(&stage, greets.address(), false))
        .await;
    for _ in 0..3 {
        let mut tap = Wiretap::open();
        let mut client = stage.client(0).tcp(stage.front()).await.unwrap();
        assert_eq!(within("a greeting", client.read_u8()).await.unwrap(), b'g');
        let syn = opening(&mut tap, greets.address()).await;
        assert_eq!(syn.payload, b"");
        client.write_all(b"bye").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut client).await.0, b"bye");
    }
}
