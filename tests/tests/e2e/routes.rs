//! Pools by server name: names lead where the document says, nothing is decrypted,
//! and bytes that are no TLS, or bad TLS, end as documented.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegate_tests::backend::{Backend, greet_and_echo, next};
use tidegate_tests::client::{echoes, read_to_end};
use tidegate_tests::stage::pool;
use tidegate_tests::tap::Tap;
use tidegate_tests::{Agent, Stage, within};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

const NAMES: [&str; 7] = [
    "one.localhost",
    "two.localhost",
    "*.two.localhost",
    "*.deep.two.localhost",
    "*.b.deep.two.localhost",
    "elsewhere.localhost",
    "127.0.0.1",
];

/// Three pools of a server each, that says its name after the handshake.
async fn servers(stage: &Stage) -> [Backend; 3] {
    let certificate = stage.pki.issue(&NAMES);
    [
        Backend::tls(stage.back(0), &certificate, "d").await,
        Backend::tls(stage.back(1), &certificate, "1").await,
        Backend::tls(stage.back(2), &certificate, "2").await,
    ]
}

fn document(stage: &Stage) -> Value {
    let mut document = stage.balancer(&[stage.back(0)]);
    document["listeners"][0]["routes"] = json!([
        { "sni": ["one.localhost", "Exact.two.localhost"], "pool": "one" },
        { "sni": ["*.two.localhost"], "pool": "two" },
        { "sni": ["*.deep.two.localhost"], "pool": "one" },
    ]);
    let pools = document["pools"].as_array_mut().unwrap();
    pools.push(pool("one", &[stage.back(1)]));
    pools.push(pool("two", &[stage.back(2)]));
    document
}

/// The server that a client is led to who asks for `name`.
async fn led_to(stage: &Stage, name: &str) -> char {
    let mut stream = stage.client(0).tls(stage.front(), name).await.unwrap();
    let server = within("a name", stream.read_u8()).await.unwrap();
    assert!(echoes(&mut stream).await, "{name}");
    server.into()
}

#[tokio::test]
async fn a_name_leads_to_its_pool_exact_before_longer_before_shorter_patterns() {
    let stage = Stage::new();
    let _servers = servers(&stage).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&document(&stage)).await;
    for (name, server) in [
        ("one.localhost", '1'),
        ("exact.two.localhost", '1'),
        ("other.two.localhost", '2'),
        ("a.deep.two.localhost", '1'),
        ("a.b.deep.two.localhost", '1'),
        // A pattern is not for the name itself.
        ("two.localhost", 'd'),
        ("elsewhere.localhost", 'd'),
        // Asks for no name at all.
        ("127.0.0.1", 'd'),
    ] {
        assert_eq!(led_to(&stage, name).await, server, "{name}");
    }
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(closed.text("pool"), "one", "{closed:?}");
}

#[tokio::test]
async fn routes_that_change_lead_new_clients_elsewhere_and_leave_the_others() {
    let stage = Stage::new();
    let _servers = servers(&stage).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage);
    let agent = stage.serve(&document).await;
    let client = stage.client(0);
    let mut before = client.tls(stage.front(), "one.localhost").await.unwrap();
    assert_eq!(before.read_u8().await.unwrap(), b'1');
    document["listeners"][0]["routes"][0]["pool"] = json!("two");
    agent.apply(&document).await;
    assert_eq!(led_to(&stage, "one.localhost").await, '2');
    assert!(echoes(&mut before).await);
}

#[tokio::test]
async fn nothing_is_decrypted_and_every_byte_arrives_as_it_was_sent() {
    let stage = Stage::new();
    let (_backend, mut taps) = tapped_server(&stage, stage.back(1)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&document(&stage)).await;
    let whole = |hello| vec![hello];
    let (sent, received) = through_taps(&stage, &mut taps, whole).await;
    assert_eq!(sent[0], 22, "a handshake record");
    assert!(sent == received, "{} and {}", sent.len(), received.len());
}

#[tokio::test]
async fn a_hello_may_come_byte_by_byte_in_many_records() {
    let stage = Stage::new();
    let (_backend, mut taps) = tapped_server(&stage, stage.back(1)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&document(&stage)).await;
    let (sent, received) = through_taps(&stage, &mut taps, in_tiny_records).await;
    assert_eq!(sent[..5], [22, 3, 1, 0, 40], "small records");
    assert!(sent == received, "{} and {}", sent.len(), received.len());
}

#[tokio::test]
async fn a_hello_of_twelve_kilobytes_is_read_to_its_end() {
    let stage = Stage::new();
    let _servers = servers(&stage).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&document(&stage)).await;
    let mut config = rustls::ClientConfig::clone(&stage.pki.trusting());
    config.alpn_protocols = (0..60).map(|i| vec![b'a' + i % 26; 200]).collect();
    let connector = TlsConnector::from(Arc::new(config));
    let tcp = stage.client(0).tcp(stage.front()).await.unwrap();
    let name = "one.localhost".try_into().unwrap();
    let mut stream = within("a handshake", connector.connect(name, tcp))
        .await
        .unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'1');
}

#[tokio::test]
async fn without_a_pool_for_the_others_a_name_that_matches_none_is_refused() {
    let stage = Stage::new();
    let _servers = servers(&stage).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage);
    document["listeners"][0]
        .as_object_mut()
        .unwrap()
        .remove("pool");
    document["pools"].as_array_mut().unwrap().remove(0);
    let agent = stage.serve(&document).await;
    for name in ["two.localhost", "elsewhere.localhost", "127.0.0.1"] {
        let from = agent.log_len();
        assert!(stage.client(0).tls(stage.front(), name).await.is_err());
        ended_by(&agent, from, "no_route").await;
    }
    assert_eq!(led_to(&stage, "one.localhost").await, '1');
}

#[tokio::test]
async fn what_is_not_tls_is_refused_unless_the_document_sends_it_to_the_pool() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage);
    let agent = stage.serve(&document).await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x02", b"\x00"] {
        let from = agent.log_len();
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await.0, b"");
        ended_by(&agent, from, "not_tls").await;
    }
    document["listeners"][0]["plain"] = json!("pool");
    agent.apply(&document).await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    assert!(echoes(&mut stream).await);
    drop(echo);
}

#[tokio::test]
async fn what_begins_as_tls_and_is_no_hello_reaches_no_backend() {
    let stage = Stage::new();
    let (_backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage);
    document["listeners"][0]["plain"] = json!("pool");
    let agent = stage.serve(&document).await;
    let too_long = [&[22, 3, 1, 0x40, 0, 1, 1, 0, 0][..], &[0; 17_000]].concat();
    for bytes in [
        // An empty record, another message, lengths that do not add up.
        &[22, 3, 1, 0, 0][..],
        &[22, 3, 1, 0, 4, 2, 0, 0, 0],
        &[22, 3, 1, 0, 5, 1, 0, 0, 1, 3],
        &too_long,
    ] {
        let from = agent.log_len();
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        // The refusal may come before the last of them.
        stream.write_all(bytes).await.ok();
        assert_eq!(read_to_end(&mut stream).await.0, b"");
        ended_by(&agent, from, "bad_client_hello").await;
    }
    assert!(handed.try_recv().is_err());
}

#[tokio::test]
async fn a_hello_that_does_not_end_is_waited_for_until_first_byte_and_no_longer() {
    let stage = Stage::new();
    let (_backend, mut handed) = Backend::handed_over(stage.back(1)).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage);
    document["policies"][0]["timeouts"] = json!({ "first_byte": "1s" });
    let agent = stage.serve(&document).await;
    let hello = hello(&stage);
    let (last, all_but_one) = hello.split_last().unwrap();
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    stream.write_all(all_but_one).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.0, b"");
    ended_by(&agent, 0, "first_byte_timeout").await;
    assert!(handed.try_recv().is_err());
    // With its last byte it would have gone on.
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    stream.write_all(all_but_one).await.unwrap();
    stream.write_all(&[*last]).await.unwrap();
    let mut upstream = next(&mut handed).await;
    let mut heard = vec![0; hello.len()];
    upstream.read_exact(&mut heard).await.unwrap();
    assert!(heard == hello);
}

#[tokio::test]
async fn a_client_that_leaves_within_its_hello_has_left() {
    let stage = Stage::new();
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&document(&stage)).await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    stream.write_all(&hello(&stage)[..40]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut stream).await.0, b"");
    ended_by(&agent, 0, "client_closed").await;
}

async fn ended_by(agent: &Agent, from: usize, cause: &str) {
    let closed = agent.await_closed(from, |_| true).await;
    let found = (closed.cause(), closed.phase());
    assert_eq!(found, (cause, "first_bytes"), "{closed:?}");
    assert!(!closed.has("backend"), "{closed:?}");
}

/// The first bytes of a real client that asks for `one.localhost`.
fn hello(stage: &Stage) -> Vec<u8> {
    let name = "one.localhost".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(stage.pki.trusting(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// The same handshake message in records of 40 bytes, and these byte by byte. What is
/// signed in TLS is messages, so the server does not mind.
fn in_tiny_records(hello: Vec<u8>) -> Vec<Vec<u8>> {
    let records = hello[5..].chunks(40).map(|part| {
        let length = u8::try_from(part.len()).unwrap();
        [&[22, 3, 1, 0, length], part].concat()
    });
    let bytes = records.collect::<Vec<_>>().concat();
    bytes.into_iter().map(|byte| vec![byte]).collect()
}

/// A server with a tap on each connection that has sent anything.
async fn tapped_server(
    stage: &Stage,
    address: SocketAddr,
) -> (Backend, mpsc::UnboundedReceiver<Tap>) {
    let acceptor = stage.pki.issue(&NAMES).acceptor();
    let (tell, told) = mpsc::unbounded_channel();
    let backend = Backend::serve(address, move |stream| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            let (stream, tap) = Tap::on(stream, |bytes| vec![bytes]);
            if let Ok(stream) = acceptor.accept(stream).await {
                tell.send(tap).ok();
                greet_and_echo(stream, "1").await;
            }
        }
    });
    (backend.await, told)
}

/// One client; what it sent, and what the server received.
async fn through_taps(
    stage: &Stage,
    taps: &mut mpsc::UnboundedReceiver<Tap>,
    cut: impl FnOnce(Vec<u8>) -> Vec<Vec<u8>> + Send + 'static,
) -> (Vec<u8>, Vec<u8>) {
    let client = stage.client(0);
    let (stream, at_client) = Tap::on(client.tcp(stage.front()).await.unwrap(), cut);
    let mut stream = client.tls_over(stream, "one.localhost").await.unwrap();
    spoken(&mut stream).await;
    let at_server = within("a served client", taps.recv()).await.unwrap();
    assert_eq!(at_server.sent(), at_client.received());
    (at_client.sent(), at_server.received())
}

async fn spoken(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    assert_eq!(within("a name", stream.read_u8()).await.unwrap(), b'1');
    assert!(echoes(stream).await);
}
