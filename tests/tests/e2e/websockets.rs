//! WebSockets through the whole chain - balancer, terminator, app - as the cases of the
//! Autobahn|Testsuite play them: each ends as it does with the app alone, and each
//! byte that the app has sent arrives. The cases' own account of what they do is in the
//! suite; `tests/websockets/conformance.py` plays them and writes down what came.
//!
//! Groups: 1 framing, 2 pings, 3 reserved bits, 4 opcodes, 5 fragmentation, 6 UTF-8,
//! 7 close handling, 9 sizes and chops, 10 auto-fragmentation, 12 and 13 compression.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tidegate_tests::backend::Backend;
use tidegate_tests::child::{Child, Extras};
use tidegate_tests::client::command::said_by;
use tidegate_tests::stage::{HOST, PORT, checked_by_http, pool};
use tidegate_tests::steered::sees_up;
use tidegate_tests::{Agent, Stage, checkout};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::h2;

/// Where the chain in TCP mode begins; the one in HTTP mode is at [`PORT`].
const TCP_PORT: u16 = 8444;

/// What came of each case, by its number.
type Account = BTreeMap<String, Value>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_of_autobahn_ends_as_it_does_with_the_app_alone() {
    let stage = Stage::new();
    let app = stage.back(0);
    let _app = started("node", "echo.mjs", app).await;
    let _chain = chain(&stage, app).await;
    let alone = play(&stage, app, false, &[]).await;
    assert_eq!(alone.len(), 517, "the suite is whole");
    for (case, seen) in &alone {
        let judged = seen["behavior"].as_str().unwrap();
        let content = ["OK", "NON-STRICT", "INFORMATIONAL"].contains(&judged);
        assert!(content, "{case}: {seen}");
    }
    let http = play(&stage, stage.front(), true, &[]).await;
    same("HTTP mode", &alone, &http);
    let tcp = play(&stage, stage.net.at(1, TCP_PORT), true, &[]).await;
    same("TCP mode", &alone, &tcp);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_every_case_of_autobahn_ends_as_it_does_with_the_app_alone() {
    let stage = Stage::new();
    let app = stage.back(0);
    let _app = started("node", "echo.mjs", app).await;
    let _chain = chain(&stage, app).await;
    let alone = play(&stage, app, false, &[]).await;
    let streams = streams(&stage).await;
    let http2 = play(&stage, streams.address(), false, &[]).await;
    same("HTTP/2", &alone, &http2);
}

/// In the groups that are left out it answers as its tasks happen to be scheduled: it
/// does not always send what it was about to when a frame breaks the protocol.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_of_pythons_websockets_is_heard_byte_for_byte_as_well() {
    let stage = Stage::new();
    let app = stage.back(0);
    let _app = started("python3", "echo.py", app).await;
    let _chain = chain(&stage, app).await;
    let groups = ["1", "2", "6", "7.3", "7.7", "7.9", "9.1", "9.7", "10", "13"];
    let alone = play(&stage, app, false, &groups).await;
    let http = play(&stage, stage.front(), true, &groups).await;
    same("HTTP mode", &alone, &http);
    let tcp = play(&stage, stage.net.at(1, TCP_PORT), true, &groups).await;
    same("TCP mode", &alone, &tcp);
}

fn same(through: &str, alone: &Account, seen: &Account) {
    assert_eq!(alone.len(), seen.len());
    let pairs = alone.iter().zip(seen);
    let differing: Vec<String> = pairs
        .filter(|(one, other)| one != other)
        .map(|((case, one), (_, other))| format!("{case}: {one}\n    {through}: {other}"))
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    println!("{through}: {} cases as with the app alone", seen.len());
}

/// An app of `tests/websockets`, told where to listen.
pub(crate) async fn started(program: &str, script: &str, at: SocketAddr) -> Child {
    let mut command = Command::new(program);
    command
        .arg(checkout("tests/websockets").join(script))
        .arg(at.ip().to_string())
        .arg(at.port().to_string())
        .env("PYTHONPATH", checkout(".tools/python"));
    let child = Child::spawn(script, command, Extras::default()).unwrap();
    let is_it = |line: &str| line.starts_with("listening ").then_some(());
    child.find("'listening': scripts/setup", 0, is_it).await;
    child
}

/// A balancer before a terminator before the app, in both modes.
async fn chain(stage: &Stage, app: SocketAddr) -> [Agent; 2] {
    let mut document = stage.node_terminator(&[app]);
    let mut tcp = document["listeners"][0].clone();
    tcp["name"] = json!("tcp");
    tcp["bind"] = json!(format!(":{TCP_PORT}"));
    tcp["mode"] = json!("tcp");
    tcp["client_ip"] = json!("none");
    let listeners = document["listeners"].as_array_mut().unwrap();
    listeners.push(tcp);
    for listener in listeners {
        listener["accept_proxy"] = json!([stage.net.ip(1)]);
    }
    let instance = stage.net.ip(2);
    let terminator = stage.agent_at(instance, &document).serve().await;

    let mut document = stage.balancer(&[]);
    let mut listeners = Vec::new();
    let mut pools = Vec::new();
    for (name, port) in [("tls", PORT), ("tcp", TCP_PORT)] {
        listeners.push(json!({
            "name": name, "role": "balancer", "bind": format!(":{port}"), "pool": name,
        }));
        let mut pool = checked_by_http(pool(name, &[SocketAddr::new(instance, port)]));
        pool["proxy_protocol"] = json!("v2");
        pool["health_check"]["http"]["path"] = json!(format!("/health/{name}"));
        pool["health_check"]["port"] = json!(7445);
        pools.push(pool);
    }
    document["listeners"] = json!(listeners);
    document["pools"] = json!(pools);
    let balancer = stage.serve(&document).await;
    for pool in ["tls", "tcp"] {
        sees_up(&balancer, pool, 1).await;
    }
    [balancer, terminator]
}

/// Plays the cases of these groups, all when there is none, over TLS or not.
async fn play(stage: &Stage, to: SocketAddr, tls: bool, groups: &[&str]) -> Account {
    let script = checkout("tests/websockets/conformance.py");
    let suite = checkout(".tools/python/autobahntestsuite");
    let authority = stage.authority();
    let to = to.to_string();
    let mut arguments = vec![script.to_str().unwrap(), "--suite", suite.to_str().unwrap()];
    arguments.extend(["--to", &to]);
    if tls {
        arguments.extend(["--tls", authority.to_str().unwrap(), "--name", HOST]);
    }
    arguments.extend(groups);
    let said = said_by("python3", &arguments).await;
    let line = |line: &str| {
        let seen: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}"));
        (seen["case"].as_str().unwrap().to_owned(), seen)
    };
    said.lines().map(line).collect()
}

/// WebSockets over HTTP/1.1 without TLS, each as a stream of one HTTP/2 connection to
/// the chain: the program that plays the cases knows no HTTP/2.
async fn streams(stage: &Stage) -> Backend {
    let connection = h2::connect(stage).await;
    Backend::serve(stage.back(1), move |stream| {
        carried(connection.clone(), stream)
    })
    .await
}

async fn carried(mut connection: h2::Http2, stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    let (mut path, mut headers) = (String::new(), HeaderMap::new());
    let mut line = String::new();
    while stream.read_line(&mut line).await.unwrap() > 2 {
        if let Some((name, value)) = line.trim().split_once(": ") {
            let name = HeaderName::try_from(name).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        } else {
            line.split(' ').nth(1).unwrap().clone_into(&mut path);
        }
        line.clear();
    }
    // What HTTP/2 has no place for (RFC 8441 section 5).
    for name in ["host", "connection", "upgrade", "sec-websocket-key"] {
        headers.remove(name);
    }
    let response = connection.open(&path, headers).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        .to_owned();
    for (name, value) in response.headers() {
        head += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"\r\n").await.unwrap();
    let mut websocket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    // Cases also end by cutting their connection.
    tokio::io::copy_bidirectional(&mut stream, &mut websocket)
        .await
        .ok();
}
