//! Bytes that no honest peer sends: closed in time, counted by cause, and nothing
//! kept of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::agent::Event;
use tidegate_tests::backend::Backend;
use tidegate_tests::client::{echoes, read_to_end};
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Stage, proc, proxy, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const FIRST_BYTE: Duration = Duration::from_millis(500);

/// Between two bytes of a drip: each much faster than the deadline, all of them not.
const DRIP: Duration = Duration::from_millis(30);

/// What a peer does, and what the agent should make of it.
struct Attack {
    name: &'static str,
    /// Whether it comes from the one address that `accept_proxy` names.
    trusted: bool,
    bytes: Vec<u8>,
    then: Then,
    cause: &'static str,
    phase: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Says no more and waits.
    Wait,
    /// Ends its direction.
    End,
    /// Sends that many at once, and the others one by one, slowly.
    Drip(usize),
}

#[tokio::test]
async fn bad_first_bytes_are_closed_in_time_and_counted_by_cause() {
    let stage = Stage::new();
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&strict(&stage)).await;
    for attack in attacks(&stage) {
        let before = agent.metrics().await;
        let (closed, took) = mount(&stage, &agent, &attack).await;
        let found = (closed.cause(), closed.phase());
        assert_eq!(
            found,
            (attack.cause, attack.phase),
            "{}: {closed:?}",
            attack.name
        );
        assert!(
            took < FIRST_BYTE + Duration::from_secs(2),
            "{}: {took:?}",
            attack.name
        );
        assert!(!closed.has("backend"), "{}: {closed:?}", attack.name);
        let name = attack.name;
        until(format!("{name} in the metrics"), async || {
            agent.metrics().await.closed(attack.cause) == before.closed(attack.cause) + 1.0
        })
        .await;
    }
    assert!(honest(&stage).await, "everybody else is served as before");
}

#[tokio::test]
async fn bad_bytes_in_numbers_leave_nothing_behind() {
    let stage = Stage::new();
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&strict(&stage)).await;
    // What is allocated once, on first use, is not a leak.
    assault(&stage, &agent).await;
    until("nothing lives", async || {
        agent.metrics().await.live() == 0.0
    })
    .await;
    let descriptors = agent.descriptors();
    let memory = proc::memory_kib(agent.pid());
    for _ in 0..3 {
        assault(&stage, &agent).await;
    }
    until("nothing lives", async || {
        agent.metrics().await.live() == 0.0
    })
    .await;
    until("descriptors are back", async || {
        agent.descriptors() <= descriptors
    })
    .await;
    let grown = proc::memory_kib(agent.pid()).saturating_sub(memory);
    assert!(
        grown < 4 * 1024,
        "{grown} KiB more than after the first round, of {memory}"
    );
    assert!(honest(&stage).await);
}

#[tokio::test]
async fn a_drip_of_bytes_does_not_move_the_deadline_of_a_request() {
    let stage = Stage::new();
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.http_terminator(&[stage.back(0)]);
    document["policies"][0]["timeouts"] = json!({ "first_byte": "2s" });
    let agent = stage.serve(&document).await;
    let begun = Instant::now();
    let stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let drip = async {
        for byte in format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1000)).bytes() {
            let sent = async {
                write.write_all(&[byte]).await?;
                write.flush().await
            };
            if sent.await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = drip => panic!("1000 bytes at 20 ms each were listened to"),
        _ = read_to_end(&mut read) => {}
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("first_byte_timeout", "request"),
        "{closed:?}"
    );
}

#[tokio::test]
async fn malformed_requests_are_refused_and_reach_no_backend() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage
        .serve(&stage.http_terminator(&[backend.address()]))
        .await;
    for head in [
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: +4\r\n",
        "Content-Length: 4, 5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "X : spaced\r\n",
        "X: a\0b\r\n",
        "no colon\r\n",
    ] {
        let from = agent.log_len();
        let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
        let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{head}\r\n12345");
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8_lossy(&read_to_end(&mut stream).await.0).into_owned();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400 "),
            "{head}: {answer}"
        );
        let closed = agent.await_closed(from, |_| true).await;
        assert_eq!(closed.cause(), "bad_request", "{head}: {closed:?}");
    }
    assert!(
        handed.try_recv().is_err(),
        "no backend has to make sense of them"
    );
}

fn strict(stage: &Stage) -> Value {
    let mut document = stage.terminator(&[stage.back(0)]);
    document["listeners"][0]["accept_proxy"] = json!([stage.net.client(0)]);
    let first_byte = format!("{}ms", FIRST_BYTE.as_millis());
    document["policies"][0]["timeouts"] = json!({ "first_byte": first_byte });
    document
}

fn attacks(stage: &Stage) -> Vec<Attack> {
    let header = proxy::v2(
        "192.0.2.9:1234".parse().unwrap(),
        "198.51.100.1:443".parse().unwrap(),
    );
    let hello = client_hello(stage);
    let half = [header.as_slice(), &hello[..hello.len() / 2]].concat();
    let garbage = b"\x00\xFFthis is no protocol at all\r\n\r\n".to_vec();
    let long_line = format!("PROXY TCP4 {}", "1".repeat(200)).into_bytes();
    let huge = [proxy::V2_SIGNATURE, &[0x21, 0x11, 0xFF, 0xFF], &[0; 2000]].concat();
    let cut = header[..header.len() - 3].to_vec();
    let line = b"PROXY TCP4 192.0.2.9 198.51.100.1 12";
    let http = [header.as_slice(), b"GET / HTTP/1.1\r\n\r\n"].concat();
    let unknown_version = proxy::v2_raw(0x31, 0x11, &[0; 12]);
    let short_addresses = proxy::v2_raw(0x21, 0x11, &[0; 11]);
    let bad_port = b"PROXY TCP4 192.0.2.9 198.51.100.1 1 65536\r\n".to_vec();
    let lying = b"PROXY TCP4 2001:db8::1 198.51.100.1 1 443\r\n".to_vec();
    let header_length = header.len();
    let never = "first_byte_timeout";
    let bad = "bad_proxy_header";
    let gone = "client_closed";
    let attack = |name, bytes, then, cause, phase| Attack {
        name,
        trusted: true,
        bytes,
        then,
        cause,
        phase,
    };
    let stranger = Attack {
        trusted: false,
        ..attack(
            "header of a stranger",
            header.clone(),
            Then::Wait,
            "not_trusted",
            "accept",
        )
    };
    vec![
        stranger,
        attack(
            "garbage for a header",
            garbage.clone(),
            Then::Wait,
            bad,
            "proxy_header",
        ),
        attack("no header", hello.clone(), Then::Wait, bad, "proxy_header"),
        attack("silence", Vec::new(), Then::Wait, never, "proxy_header"),
        attack(
            "half a v2 header",
            cut.clone(),
            Then::Wait,
            never,
            "proxy_header",
        ),
        attack(
            "half a v1 header",
            line.to_vec(),
            Then::Wait,
            never,
            "proxy_header",
        ),
        attack("a v2 header cut off", cut, Then::End, bad, "proxy_header"),
        attack(
            "a v1 header cut off",
            line.to_vec(),
            Then::End,
            bad,
            "proxy_header",
        ),
        attack(
            "an over-long v1 header",
            long_line,
            Then::Wait,
            bad,
            "proxy_header",
        ),
        attack(
            "an over-long v2 header",
            huge,
            Then::Wait,
            bad,
            "proxy_header",
        ),
        attack(
            "a v2 header of version 3",
            unknown_version,
            Then::Wait,
            bad,
            "proxy_header",
        ),
        attack(
            "too short for its addresses",
            short_addresses,
            Then::Wait,
            bad,
            "proxy_header",
        ),
        attack(
            "a port beyond all",
            bad_port,
            Then::Wait,
            bad,
            "proxy_header",
        ),
        attack("the wrong family", lying, Then::Wait, bad, "proxy_header"),
        attack(
            "a dripping header",
            header.clone(),
            Then::Drip(0),
            never,
            "proxy_header",
        ),
        attack("HTTP for TLS", http, Then::Wait, "tls_failed", "handshake"),
        attack(
            "garbage for a ClientHello",
            [header.clone(), garbage].concat(),
            Then::Wait,
            "tls_failed",
            "handshake",
        ),
        attack(
            "half a ClientHello",
            half.clone(),
            Then::Wait,
            never,
            "handshake",
        ),
        attack(
            "half a ClientHello, cut off",
            half,
            Then::End,
            gone,
            "handshake",
        ),
        attack(
            "a dripping ClientHello",
            [header, hello].concat(),
            Then::Drip(header_length),
            never,
            "handshake",
        ),
    ]
}

/// Connects, sends, waits for the end; the access event and how long it took.
async fn mount(stage: &Stage, agent: &Agent, attack: &Attack) -> (Event, Duration) {
    let from = agent.log_len();
    let source = if attack.trusted { 0 } else { 1 };
    let stream = stage.client(source).tcp(stage.front()).await.unwrap();
    let local = stream.local_addr().unwrap().to_string();
    let begun = Instant::now();
    send(stream, attack).await;
    let took = begun.elapsed();
    (
        agent
            .await_closed(from, |event| event.text("peer") == local)
            .await,
        took,
    )
}

async fn send(mut stream: TcpStream, attack: &Attack) {
    let (mut read, mut write) = stream.split();
    let sending = async {
        // The refusal may come before the last byte is sent.
        match attack.then {
            Then::Drip(at_once) => {
                let (first, others) = attack.bytes.split_at(at_once);
                write.write_all(first).await.ok();
                for byte in others {
                    if write.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                    tokio::time::sleep(DRIP).await;
                }
            }
            Then::Wait => write.write_all(&attack.bytes).await.unwrap_or_default(),
            Then::End => {
                write.write_all(&attack.bytes).await.ok();
                write.shutdown().await.ok();
            }
        }
    };
    tokio::join!(sending, read_to_end(&mut read));
}

async fn assault(stage: &Stage, agent: &Agent) {
    let attacks = attacks(stage);
    let many = attacks
        .iter()
        .flat_map(|attack| (0..10).map(|_| mount(stage, agent, attack)));
    futures_util::future::join_all(many).await;
}

/// Whether a client behind the trusted balancer is served.
async fn honest(stage: &Stage) -> bool {
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    let header = proxy::v2(
        "192.0.2.1:5".parse().unwrap(),
        "198.51.100.1:443".parse().unwrap(),
    );
    stream.write_all(&header).await.unwrap();
    let mut tls = stage.client(0).tls_over(stream, HOST).await.unwrap();
    echoes(&mut tls).await
}

/// The first bytes of a real client.
pub(crate) fn client_hello(stage: &Stage) -> Vec<u8> {
    let name = HOST.try_into().unwrap();
    let mut client = rustls::ClientConnection::new(stage.pki.trusting(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test]
async fn a_header_before_any_byte_of_tls_may_come_in_pieces() {
    let stage = Stage::new();
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&strict(&stage)).await;
    let (client, here) = (
        "192.0.2.7:9".parse().unwrap(),
        "198.51.100.1:443".parse().unwrap(),
    );
    for header in [
        proxy::v1(client, here),
        proxy::v2(client, here),
        proxy::v2_local(),
    ] {
        for at in [1, 7, header.len() - 1] {
            let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
            for piece in [&header[..at], &header[at..]] {
                stream.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let mut tls = stage.client(0).tls_over(stream, HOST).await.unwrap();
            assert!(echoes(&mut tls).await);
        }
    }
}

#[tokio::test]
async fn a_client_that_vanishes_during_its_handshake_is_no_error() {
    let stage = Stage::new();
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.terminator(&[stage.back(0)])).await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    let hello = client_hello(&stage);
    stream.write_all(&hello).await.unwrap();
    stream.read_u8().await.unwrap();
    tidegate_tests::backend::reset(stream);
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("client_reset", "handshake"),
        "{closed:?}"
    );
    assert!(!agent.log_text().contains("\"level\":\"ERROR\""));
}
