//! PROXY headers with HAProxy and nginx at the other end, both ways: they read who the
//! client is in ours, we read it in theirs, and a check of theirs is nobody's client.

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader};
use serde_json::{Value, json};
use tidegate_tests::agent::Event;
use tidegate_tests::backend::{Backend, next};
use tidegate_tests::client::http::get;
use tidegate_tests::client::{connect, read_to_end};
use tidegate_tests::peer::{Haproxy, Nginx};
use tidegate_tests::stage::HOST;
use tidegate_tests::{Stage, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Both ends of a connection, in words: as every peer is configured to answer.
fn ends(client: SocketAddr, destination: SocketAddr) -> String {
    let (from, to) = (client.ip(), destination.ip());
    format!("{from} {} {to} {}", client.port(), destination.port())
}

/// Where a peer of this test is: HAProxy, nginx with `http`, nginx with `stream`.
fn peer(stage: &Stage, index: u16) -> SocketAddr {
    stage.net.at(9, 8600 + index)
}

/// An address of IPv6 that only this test has.
fn v6(stage: &Stage) -> SocketAddr {
    SocketAddr::new("::1".parse().unwrap(), stage.net.shared_port())
}

/// From the family's own loopback address.
async fn client_of(stage: &Stage, front: SocketAddr) -> TcpStream {
    let source = match front.is_ipv4() {
        true => stage.net.client(0),
        false => front.ip(),
    };
    within("a connection", connect(source, front))
        .await
        .unwrap()
}

#[tokio::test]
async fn haproxy_and_nginx_read_the_client_in_our_headers() {
    let stage = Stage::new();
    let [haproxy, http, stream] = [0, 1, 2].map(|i| peer(&stage, i));
    let _haproxy = Haproxy::serve(
        stage.directory(),
        &format!(
            "frontend told
    mode http
    bind {haproxy} accept-proxy
    http-request return status 200 content-type text/plain \
    lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"
"
        ),
    )
    .await;
    let said = "$proxy_protocol_addr $proxy_protocol_port \
                $proxy_protocol_server_addr $proxy_protocol_server_port";
    let _nginx = Nginx::serve(
        stage.directory(),
        &format!(
            "http {{ access_log off; server {{ listen {http} proxy_protocol;
                location / {{ return 200 \"{said}\"; }} }} }}
            stream {{ server {{ listen {stream} proxy_protocol; return \"{said}\"; }} }}"
        ),
    )
    .await;
    let document = |to: SocketAddr, version: &str| {
        let mut document = stage.balancer(&[to]);
        let second =
            json!({ "name": "v6", "role": "balancer", "bind": v6(&stage), "pool": "back" });
        document["listeners"].as_array_mut().unwrap().push(second);
        document["pools"][0]["proxy_protocol"] = json!(version);
        document["pools"][0]["health_check"] = json!({ "tcp": {} });
        document
    };
    let agent = stage.serve(&document(haproxy, "v1")).await;
    for version in ["v1", "v2"] {
        for to in [haproxy, http, stream] {
            agent.apply(&document(to, version)).await;
            for front in [stage.front(), v6(&stage)] {
                let mut client = client_of(&stage, front).await;
                let from = client.local_addr().unwrap();
                let answer = if to == stream {
                    String::from_utf8(read_to_end(&mut client).await.0).unwrap()
                } else {
                    get(client, "told", "/").await.unwrap().text()
                };
                assert_eq!(answer, ends(from, front), "{version} to {to}");
            }
        }
    }
}

#[tokio::test]
async fn haproxy_reads_the_name_and_the_id_in_our_header_and_finds_its_checksum_right() {
    let stage = Stage::new();
    let pem = stage.path("haproxy.pem");
    let certificate = &stage.certificate;
    std::fs::write(
        &pem,
        [&*certificate.chain, &certificate.private_key].concat(),
    )
    .unwrap();
    let to = peer(&stage, 0);
    let _haproxy = Haproxy::serve(
        stage.directory(),
        &format!(
            "frontend told
    mode http
    bind {to} accept-proxy ssl crt {}
    http-request return status 200 content-type text/plain \
    lf-string \"%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority] %[fc_pp_unique_id]\"
",
            pem.display()
        ),
    )
    .await;
    let mut document = stage.balancer(&[to]);
    document["listeners"][0]["client_first"] = json!(true);
    // A checksum that is wrong has HAProxy refuse the connection.
    document["pools"][0]["proxy_protocol"] =
        json!({ "version": "v2", "authority": true, "unique_id": true, "crc32c": true });
    document["pools"][0]["health_check"] = json!({ "tcp": {} });
    let agent = stage.serve(&document).await;
    let tcp = stage.client(0).tcp(stage.front()).await.unwrap();
    let from = tcp.local_addr().unwrap();
    let tls = stage.client(0).tls_over(tcp, HOST).await.unwrap();
    let answer = get(tls, HOST, "/").await.unwrap().text();
    let closed = agent.await_closed(0, |event| event.client() == from).await;
    let told = format!("{} {HOST} {}", ends(from, stage.front()), closed.text("id"));
    assert_eq!(answer, told);
}

/// What sends to our listener, and in what way.
enum Sender {
    /// The rest of HAProxy's `server` line.
    Haproxy(&'static str),
    Nginx,
}

/// Whoever sends it.
enum Running {
    Haproxy { _here: Haproxy },
    Nginx { _here: Nginx },
}

impl Sender {
    /// Listens on both addresses and sends on to our listener.
    async fn serve(&self, stage: &Stage, fronts: [SocketAddr; 2]) -> Running {
        let [v4, v6] = fronts;
        let (us, ip) = (stage.front(), v4.ip());
        match self {
            Self::Haproxy(options) => {
                let sections = format!(
                    "listen sends
    bind {v4}
    bind {v6}
    timeout connect 20s
    unique-id-format tidegate:%ci:%cp
    source {ip}
    server us {us} {options}
"
                );
                let _here = Haproxy::serve(stage.directory(), &sections).await;
                Running::Haproxy { _here }
            }
            Self::Nginx => {
                let blocks = format!(
                    "stream {{ server {{ listen {v4}; listen {v6};
                        proxy_bind {ip}; proxy_protocol on; proxy_pass {us}; }} }}"
                );
                let _here = Nginx::serve(stage.directory(), &blocks).await;
                Running::Nginx { _here }
            }
        }
    }
}

#[tokio::test]
async fn we_read_the_client_in_the_headers_of_haproxy_and_nginx() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&required(&stage, backend.address())).await;
    let fronts = [peer(&stage, 3), v6(&stage)];
    for sender in [
        Sender::Haproxy("send-proxy"),
        Sender::Haproxy("send-proxy-v2"),
        Sender::Haproxy("send-proxy-v2 proxy-v2-options crc32c,unique-id"),
        Sender::Nginx,
    ] {
        let _running = sender.serve(&stage, fronts).await;
        let extended = matches!(sender, Sender::Haproxy(words) if words.contains("unique-id"));
        for front in fronts {
            let mut client = client_of(&stage, front).await;
            let from = client.local_addr().unwrap();
            client.write_all(b"hello").await.unwrap();
            client.shutdown().await.unwrap();
            let mut upstream = next(&mut handed).await;
            let (header, mut rest) = header(&mut upstream).await;
            rest.extend(read_to_end(&mut upstream).await.0);
            let told = header.proxied_address().unwrap();
            assert_eq!((told.source, told.destination), (from, front));
            let id = format!("tidegate:{}:{}", from.ip(), from.port());
            let id = extended.then(|| id.into_bytes());
            assert_eq!(header.unique_id().map(<[u8]>::to_vec), id);
            assert_eq!(rest, b"hello");
            drop((client, upstream));
            let closed = agent.await_closed(0, |event| event.client() == from).await;
            assert_eq!(
                closed.text("backend"),
                stage.back(0).to_string(),
                "{closed:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_name_that_a_client_asks_haproxy_for_goes_on_to_the_backend() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&required(&stage, backend.address())).await;
    let pem = stage.path("haproxy.pem");
    let certificate = &stage.certificate;
    std::fs::write(
        &pem,
        [&*certificate.chain, &certificate.private_key].concat(),
    )
    .unwrap();
    let (front, us) = (peer(&stage, 3), stage.front());
    let _haproxy = Haproxy::serve(
        stage.directory(),
        &format!(
            "listen sends
    bind {front} ssl crt {}
    timeout connect 20s
    source {}
    server us {us} send-proxy-v2 proxy-v2-options crc32c,authority,ssl
",
            pem.display(),
            front.ip()
        ),
    )
    .await;
    let tcp = client_of(&stage, front).await;
    let from = tcp.local_addr().unwrap();
    let mut client = stage.client(0).tls_over(tcp, HOST).await.unwrap();
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut upstream = next(&mut handed).await;
    let (header, mut rest) = header(&mut upstream).await;
    rest.extend(read_to_end(&mut upstream).await.0);
    let told = header.proxied_address().unwrap();
    assert_eq!((told.source, told.destination), (from, front));
    assert_eq!(header.authority(), Some(HOST));
    assert!(header.ssl().is_some(), "what HAProxy says of its TLS");
    assert_eq!(rest, b"hello");
    drop((client, upstream));
    agent.await_closed(0, |event| event.client() == from).await;
}

#[tokio::test]
async fn a_check_of_haproxy_is_nobodys_client_and_reaches_no_backend() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&required(&stage, backend.address())).await;
    let front = peer(&stage, 3);
    for sent in ["send-proxy", "send-proxy-v2"] {
        let from = agent.log_len();
        let sections = format!(
            "listen sends
    bind {front}
    timeout connect 20s
    source {}
    server us {} {sent} check check-send-proxy inter 50ms
",
            front.ip(),
            stage.front()
        );
        let haproxy = Haproxy::serve(stage.directory(), &sections).await;
        let mut seen = from;
        for _ in 0..3 {
            let is_closed = |event: &Event| event.is_closed();
            let closed = agent.await_log("the end of a check", seen, is_closed).await;
            // It comes from HAProxy itself, as the socket says; the header names nobody.
            assert_eq!(closed.client().ip(), front.ip(), "{closed:?}");
            // It breaks off as soon as it is through.
            let ends = ["client_closed", "client_reset"];
            assert!(ends.contains(&closed.cause()), "{closed:?}");
            assert_eq!(closed.phase(), "first_bytes", "{closed:?}");
            seen = agent.log_len();
        }
        let lines = haproxy.child().lines().since(0).join("\n");
        assert!(!lines.contains("DOWN"), "it passes: {lines}");
    }
    assert!(handed.try_recv().is_err(), "no backend hears of it");
}

/// A listener that requires a header from this network, and a backend that is told all
/// that came.
fn required(stage: &Stage, backend: SocketAddr) -> Value {
    let mut document = stage.balancer(&[backend]);
    document["listeners"][0]["accept_proxy"] = json!([stage.net.cidr()]);
    document["listeners"][0]["client_first"] = json!(true);
    document["pools"][0]["proxy_protocol"] = json!({ "version": "v2", "pass": true });
    document
}

/// The header that a backend reads, and what follows it.
async fn header(upstream: &mut TcpStream) -> (ProxyHeader<'static>, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let read = within("a header", upstream.read_buf(&mut bytes)).await;
        assert!(read.unwrap() > 0, "{bytes:?}");
        match ProxyHeader::parse(&bytes, ParseConfig::default()) {
            Ok((header, length)) => {
                let header = header.into_owned();
                return (header, bytes.split_off(length));
            }
            Err(Error::BufferTooShort) => {}
            Err(error) => panic!("{error}: {bytes:?}"),
        }
    }
}
