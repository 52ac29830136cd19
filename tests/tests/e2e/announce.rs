//! What backends are told about clients in a PROXY header, read by a parser that is
//! not ours; and what is passed on of a header that came.

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, ProxyHeader, Tlv};
use serde_json::{Value, json};
use tidegate_tests::backend::{Backend, next};
use tidegate_tests::client::read_to_end;
use tidegate_tests::{Stage, proxy, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CLIENT: &str = "192.0.2.7:4711";
const NAME: &str = "one.localhost";

fn document(stage: &Stage, backend: SocketAddr, told: &Value) -> Value {
    let mut document = stage.balancer(&[backend]);
    document["listeners"][0]["client_first"] = json!(true);
    document["pools"][0]["proxy_protocol"] = told.clone();
    document
}

/// The header at the beginning of what a backend reads, and all bytes so far.
async fn header(upstream: &mut TcpStream) -> (ProxyHeader<'static>, usize, Vec<u8>) {
    let mut bytes = Vec::new();
    loop {
        let read = within("a header", upstream.read_buf(&mut bytes)).await;
        assert!(read.unwrap() > 0, "{bytes:?}");
        match ProxyHeader::parse(&bytes, ParseConfig::default()) {
            Ok((header, length)) => return (header.into_owned(), length, bytes),
            Err(Error::BufferTooShort) => {}
            Err(error) => panic!("{error}: {bytes:?}"),
        }
    }
}

#[tokio::test]
async fn a_backend_learns_the_name_the_id_and_a_checksum() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let told = json!({ "version": "v2", "authority": true, "unique_id": true, "crc32c": true });
    let mut document = document(&stage, backend.address(), &told);
    // With routes and without.
    for routes in [
        json!([]),
        json!([{ "sni": ["x.localhost"], "pool": "back" }]),
    ] {
        if routes != json!([]) {
            document["listeners"][0]["routes"] = routes;
        }
        let agent = stage.serve(&document).await;
        let hello = client_hello(&stage);
        let (first, rest) = hello.split_at(hello.len() / 2);
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        stream.write_all(first).await.unwrap();
        stream.write_all(rest).await.unwrap();
        let mut upstream = next(&mut handed).await;
        let (told, length, mut bytes) = header(&mut upstream).await;
        let ends = told.proxied_address().unwrap();
        assert_eq!(ends.source, stream.local_addr().unwrap());
        assert_eq!(ends.destination, stage.front());
        assert_eq!(told.authority(), Some(NAME));
        assert_eq!(told.crc32c(), Some(checksum(&bytes[..length])));
        let rows = agent.debug("/debug/connections?top=9").await;
        let id = String::from_utf8(told.unique_id().unwrap().to_vec()).unwrap();
        assert!(
            rows.to_string().contains(&format!("\"{id}\"")),
            "{id}: {rows}"
        );

        stream.shutdown().await.unwrap();
        bytes.extend(read_to_end(&mut upstream).await.0);
        assert!(bytes[length..] == hello, "what follows is the client's");
        drop(upstream);
        let closed = agent.await_closed(0, |_| true).await;
        assert_eq!(closed.text("id"), id);
    }
}

#[tokio::test]
async fn without_tls_there_is_no_name_and_the_client_is_served() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let told = json!({ "version": "v2", "authority": true });
    let agent = stage
        .serve(&document(&stage, backend.address(), &told))
        .await;
    for said in [&b"plain"[..], b"\x16\x03\x01\x00\x00 bad"] {
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        stream.write_all(said).await.unwrap();
        let mut upstream = next(&mut handed).await;
        let (told, length, bytes) = header(&mut upstream).await;
        assert_eq!(told.authority(), None);
        assert_eq!(told.tlvs().count(), 0);
        assert_eq!(&bytes[length..], said);
    }
    assert!(agent.closed_since(0).iter().all(|e| e.cause() != "not_tls"));
}

#[tokio::test]
async fn extensions_that_came_go_on_where_the_document_says_so() {
    const ENDPOINT: u8 = 0xea;
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let came = [
        // Of AWS, the VPC endpoint; a name; padding; a checksum.
        &[ENDPOINT, 0, 5, 1, b'v', b'p', b'c', b'e'][..],
        &[2, 0, 6],
        b"a.test",
        &[4, 0, 2, 0, 0],
    ]
    .concat();
    for pass in [true, false] {
        let told = json!({ "version": "v2", "authority": true, "unique_id": true, "pass": pass });
        let mut document = document(&stage, backend.address(), &told);
        document["listeners"][0]["accept_proxy"] = json!([stage.net.cidr()]);
        let agent = stage.serve(&document).await;
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        let bytes = [&with_extensions(&came), b"hello".as_slice()].concat();
        stream.write_all(&bytes).await.unwrap();
        let mut upstream = next(&mut handed).await;
        let (told, length, bytes) = header(&mut upstream).await;
        let source = told.proxied_address().unwrap().source;
        assert_eq!(source, CLIENT.parse().unwrap());
        let endpoint = told.tlvs().find_map(|tlv| match tlv {
            Ok(Tlv::Custom(ENDPOINT, value)) => Some(value.into_owned()),
            _ => None,
        });
        assert_eq!(endpoint, pass.then(|| b"\x01vpce".to_vec()));
        assert_eq!(told.authority(), pass.then_some("a.test"));
        assert_eq!(told.tlvs().count(), if pass { 3 } else { 1 });
        assert!(told.unique_id().is_some());
        assert_eq!(&bytes[length..], b"hello");
        drop((stream, upstream));
        let closed = agent.await_closed(0, |_| true).await;
        assert_eq!(closed.client().to_string(), CLIENT);
    }
}

#[tokio::test]
async fn a_header_is_required_from_whom_the_document_lists_and_from_nobody_else() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage, backend.address(), &json!("none"));
    document["listeners"][0]["accept_proxy"] = json!([stage.net.client(0)]);
    let agent = stage.serve(&document).await;
    let good = with_extensions(&[0xea, 0, 1, 7]);
    let cut = with_extensions(&[0xea, 0, 9, 7]);
    for (client, bytes, cause) in [
        (1, &good[..], "not_trusted"),
        (
            0,
            b"no header, and long enough to be none",
            "bad_proxy_header",
        ),
        (0, &cut, "bad_proxy_header"),
    ] {
        let from = agent.log_len();
        let mut stream = stage.client(client).tcp(stage.front()).await.unwrap();
        stream.write_all(bytes).await.ok();
        assert_eq!(read_to_end(&mut stream).await.0, b"");
        let closed = agent.await_closed(from, |_| true).await;
        assert_eq!(closed.cause(), cause, "{closed:?}");
    }
    assert!(handed.try_recv().is_err());
}

/// A version 2 header of an IPv4 client with these extensions.
fn with_extensions(extensions: &[u8]) -> Vec<u8> {
    let plain = proxy::v2(CLIENT.parse().unwrap(), "198.51.100.1:443".parse().unwrap());
    proxy::v2_raw(0x21, 0x11, &[&plain[16..], extensions].concat())
}

/// CRC-32C over the header with its own four bytes as zeros: they are the last.
fn checksum(header: &[u8]) -> u32 {
    let (covered, _) = header.split_at(header.len() - 4);
    let bytes = covered.iter().copied().chain([0; 4]);
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

fn client_hello(stage: &Stage) -> Vec<u8> {
    let name = NAME.try_into().unwrap();
    let mut client = rustls::ClientConnection::new(stage.pki.trusting(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
