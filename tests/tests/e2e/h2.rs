//! HTTP/2: many requests on one connection, WebSockets among them, and clients that
//! mean no good. By hyper's client, by curl and Node.js, and by frames written by hand.

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tidegate_tests::backend::Backend;
use tidegate_tests::child::{Child, Extras, Signal};
use tidegate_tests::client::http::Answer;
use tidegate_tests::client::{Client, read_to_end};
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Stage, checkout, proc, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// An HTTP/2 connection.
#[derive(Clone)]
pub(crate) struct Http2 {
    sender: SendRequest<Full<Bytes>>,
}

/// A connection from the first client to the listener.
pub(crate) async fn connect(stage: &Stage) -> Http2 {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(tls(stage).await))
        .await
        .unwrap();
    // Its error is also the requests' that wait for it.
    tokio::spawn(async { connection.await.ok() });
    Http2 { sender }
}

impl Http2 {
    pub(crate) async fn send_raw(
        &mut self,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
        closes: bool,
    ) -> io::Result<Answer> {
        let uri = format!("https://{HOST}/whoami");
        let request = Request::builder().method(method).uri(uri);
        let mut request = request.body(Full::new(body)).unwrap();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = headers;
        let answer = within("an answer", self.answer(request)).await;
        assert!(closes || answer.is_ok(), "{answer:?}");
        answer
    }

    async fn answer(&mut self, request: Request<Full<Bytes>>) -> io::Result<Answer> {
        let response = self.sender.send_request(request).await;
        let (head, body) = response.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    /// Asks for a WebSocket (RFC 8441).
    pub(crate) async fn open(&mut self, path: &str, headers: HeaderMap) -> Response<Incoming> {
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(format!("https://{HOST}{path}"))
            .body(Full::default())
            .unwrap();
        *request.headers_mut() = headers;
        let version = HeaderValue::from_static("13");
        request
            .headers_mut()
            .insert("sec-websocket-version", version);
        let protocol = Protocol::from_static("websocket");
        request.extensions_mut().insert(protocol);
        let answer = self.sender.send_request(request);
        within("an answer", answer).await.unwrap()
    }

    async fn get(&mut self) -> Answer {
        let none = HeaderMap::new();
        let answer = self.send_raw(Method::GET, none, Bytes::new(), false).await;
        answer.unwrap()
    }
}

async fn tls(stage: &Stage) -> TlsStream<TcpStream> {
    let mut config = (*stage.pki.trusting()).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let client = Client::new(stage.net.client(0), Arc::new(config));
    let stream = client.tls(stage.front(), HOST).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    stream
}

#[tokio::test]
async fn requests_of_one_connection_are_served_at_once_and_told_about_the_client() {
    let stage = Stage::new();
    let apps = [
        NodeApp::at(stage.back(0), "a").listen().await,
        NodeApp::at(stage.back(1), "b").listen().await,
    ];
    let document = stage.node_terminator(&apps.each_ref().map(NodeApp::address));
    let agent = stage.serve(&document).await;
    let http = connect(&stage).await;
    let requests = (0..50).map(|_| {
        let sender = http.sender.clone();
        async move { Http2 { sender }.get().await.json() }
    });
    let answers = join_all(requests).await;
    let client = stage.net.client(0).to_string();
    for seen in &answers {
        assert_eq!(seen["headers"]["x-forwarded-for"], client, "{seen}");
        assert_eq!(seen["headers"]["host"], HOST, "{seen}");
        assert!(seen["headers"]["connection"] != "close", "{seen}");
    }
    for name in ["a", "b"] {
        assert!(answers.iter().any(|seen| seen["name"] == name), "{name}");
    }
    let requests = agent.metrics().await.sum("tidegate_requests_total", &[]);
    assert_eq!(requests, 50.0, "each is counted");
}

#[tokio::test]
async fn a_websocket_is_a_stream_beside_requests() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = stage.node_terminator(&[app.address()]);
    let agent = stage.serve(&document).await;
    let mut http = connect(&stage).await;
    // SETTINGS_ENABLE_CONNECT_PROTOCOL has come with the first answer at the latest.
    http.get().await;
    let response = http.open("/ws", HeaderMap::new()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.headers().get("sec-websocket-accept").is_none());
    let mut ws = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let hello = frame(&mut ws).await;
    assert!(hello.contains(&stage.net.client(0).to_string()), "{hello}");
    // "hi", masked with zeros (RFC 6455 section 5.2).
    ws.write_all(b"\x81\x82\0\0\0\0hi").await.unwrap();
    let echoed = frame(&mut ws).await;
    assert!(echoed.contains("hi"), "{echoed}");
    assert_eq!(http.get().await.status, StatusCode::OK, "beside it");
    drop(ws);
    drop(http);
    let closed = agent.await_closed(0, |_| true).await;
    assert!(closed.has("backend"), "{closed:?}");
    until("nothing lives", async || {
        agent.metrics().await.live() == 0.0
    })
    .await;
}

/// A short text frame from the app.
async fn frame(ws: &mut (impl AsyncReadExt + Unpin)) -> String {
    within("a frame", async {
        let [_, mut length] = [ws.read_u8().await.unwrap(), ws.read_u8().await.unwrap()];
        let mut size = usize::from(length);
        if length == 126 {
            size = usize::from(ws.read_u16().await.unwrap());
            length = 0;
        }
        assert!(length < 126);
        let mut text = vec![0; size];
        ws.read_exact(&mut text).await.unwrap();
        String::from_utf8(text).unwrap()
    })
    .await
}

#[tokio::test]
async fn versions_are_offered_as_the_listener_has_them() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let mut document = stage.node_terminator(&[app.address()]);
    let agent = stage.serve(&document).await;
    assert_eq!(version(&stage, "--http2").await, "2");
    assert_eq!(version(&stage, "--http1.1").await, "1.1");
    document["listeners"][0]["http"] = json!({ "versions": ["h1"] });
    agent.apply(&document).await;
    assert_eq!(version(&stage, "--http2").await, "1.1");
}

/// What curl speaks when it is asked to.
async fn version(stage: &Stage, asked: &str) -> String {
    let said = curl(stage, &[asked, "-w", " %{http_version}"]).await;
    said.rsplit(' ').next().unwrap().to_owned()
}

async fn curl(stage: &Stage, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new("curl");
    let front = stage.front();
    command.args(["-sk", "--max-time", "20", "--resolve"]);
    command.arg(format!("{HOST}:{}:{}", front.port(), front.ip()));
    command
        .args(arguments)
        .arg(format!("https://{HOST}:{}/whoami", front.port()));
    let output = within("curl", command.output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn h2load_finds_every_request_answered() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = stage.node_terminator(&[app.address()]);
    let agent = stage.serve(&document).await;
    let mut command = Command::new("h2load");
    command
        .args(["-n2000", "-c10", "-m20"])
        .arg(format!("https://{}/health", stage.front()));
    let mut child = Child::spawn("h2load", command, Extras::default()).unwrap();
    let done = child
        .find("its summary", 0, |line| {
            line.starts_with("requests: ").then(|| line.to_owned())
        })
        .await;
    assert!(done.contains("2000 succeeded, 0 failed"), "{done}");
    assert_eq!(child.exit_code().await, 0);
    let connects = agent
        .metrics()
        .await
        .sum("tidegate_backend_connects_total", &[("result", "ok")]);
    assert!(connects <= 200.0, "{connects} connects for 2,000 requests");
}

#[tokio::test]
async fn a_drain_tells_http2_clients_and_lets_them_finish() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = stage.node_terminator(&[app.address()]);
    let mut agent = stage.serve(&document).await;
    let mut stream = tls(&stage).await;
    stream.write_all(PREFACE).await.unwrap();
    // An answer that takes its time.
    let slow = b"\x04\x0a/slow/3000";
    let block = [&[0x82, 0x87], slow.as_slice(), &authority()].concat();
    let request = written(HEADERS, END_HEADERS | END_STREAM, 1, &block);
    stream.write_all(&request).await.unwrap();
    until("the request is at the app", async || {
        agent.metrics().await.sum("tidegate_requests_total", &[]) == 1.0
    })
    .await;
    agent.signal(Signal::TERM);
    let (mut goaway, mut is_answered) = (false, false);
    within("GOAWAY, the answer, and the end", async {
        while let Some((kind, flags, payload)) = read_frame(&mut stream).await {
            goaway |= kind == GOAWAY;
            is_answered |= kind == HEADERS && payload.first() == Some(&0x88);
            if kind == PING && flags == 0 {
                stream
                    .write_all(&written(PING, 1, 0, &payload))
                    .await
                    .unwrap();
            }
        }
    })
    .await;
    assert!(goaway && is_answered);
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(closed.cause(), "drained", "{closed:?}");
    assert_eq!(agent.child().exit_code().await, 0);
}

/// `None` at the end.
async fn read_frame(stream: &mut TlsStream<TcpStream>) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]).try_into().unwrap();
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some((kind, flags, payload))
}

/// Whether a request with that header is refused: by 400, or as malformed by the end of
/// its stream or connection.
pub(crate) async fn refused(stage: &Stage, name: &str, value: &str) -> bool {
    let mut stream = tls(stage).await;
    let size = |text: &str| u8::try_from(text.len()).unwrap();
    let mut block = get();
    block.extend(
        [
            &[0, size(name)],
            name.as_bytes(),
            &[size(value)],
            value.as_bytes(),
        ]
        .concat(),
    );
    let request = written(HEADERS, END_HEADERS | END_STREAM, 1, &block);
    stream
        .write_all(&[PREFACE, &request].concat())
        .await
        .unwrap();
    within("a refusal", async {
        while let Some((kind, _, payload)) = read_frame(&mut stream).await {
            match kind {
                RST_STREAM | GOAWAY => return true,
                // :status 400 is number 12 of the static table.
                HEADERS => return payload.first() == Some(&0x8c),
                _ => {}
            }
        }
        true
    })
    .await
}

#[tokio::test]
async fn an_app_that_does_not_switch_is_not_taken_for_a_websocket() {
    let stage = Stage::new();
    let app = super::smuggling::answering(&stage).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&stage.http_terminator(&[app.address()])).await;
    let mut http = connect(&stage).await;
    assert_eq!(http.get().await.text(), "ok");
    let response = http.open("/ws", HeaderMap::new()).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(http.get().await.text(), "ok", "beside it");
}

/// The client's preface and its first SETTINGS (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// GET https://play.localhost/ in HPACK, without table and Huffman code.
fn get() -> Vec<u8> {
    [&[0x82, 0x87, 0x84], authority().as_slice()].concat()
}

fn authority() -> Vec<u8> {
    [&[0x01, u8::try_from(HOST.len()).unwrap()], HOST.as_bytes()].concat()
}

fn written(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage
        .serve(&stage.http_terminator(&[backend.address()]))
        .await;
    let get = get();
    let cases = [
        (
            "no preface",
            b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            false,
        ),
        (
            "DATA on an idle stream",
            written(DATA, END_STREAM, 1, b"x"),
            true,
        ),
        (
            "a stream of ours",
            written(HEADERS, END_HEADERS | END_STREAM, 2, &get),
            true,
        ),
        (
            "HEADERS on stream 0",
            written(HEADERS, END_HEADERS | END_STREAM, 0, &get),
            true,
        ),
        (
            "a frame too large",
            written(HEADERS, END_HEADERS, 1, &vec![0; 20_000]),
            true,
        ),
        (
            "SETTINGS of no length",
            written(SETTINGS, 0, 0, b"12345"),
            true,
        ),
        ("PING of no length", written(PING, 0, 0, b"1234567"), true),
        (
            "WINDOW_UPDATE by 0",
            written(WINDOW_UPDATE, 0, 0, &[0; 4]),
            true,
        ),
        (
            "a window too large",
            [
                written(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
                written(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            ]
            .concat(),
            true,
        ),
        (
            "CONTINUATION of nothing",
            written(CONTINUATION, END_HEADERS, 1, &get),
            true,
        ),
        (
            "a frame between HEADERS and CONTINUATION",
            [written(HEADERS, 0, 1, &get), written(PING, 0, 0, &[0; 8])].concat(),
            true,
        ),
        (
            "a header table index of nothing",
            written(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff, 0xff, 0x7f]),
            true,
        ),
    ];
    for (name, bytes, with_preface) in cases {
        let from = agent.log_len();
        let mut stream = tls(&stage).await;
        let preface = if with_preface { PREFACE } else { b"" };
        stream.write_all(&[preface, &bytes].concat()).await.unwrap();
        let (said, _) = read_to_end(&mut stream).await;
        assert!(
            !with_preface || frames(&said).any(|kind| kind == GOAWAY),
            "{name}: {said:?}"
        );
        let closed = agent.await_closed(from, |_| true).await;
        assert_eq!(closed.cause(), "bad_request", "{name}: {closed:?}");
    }
    assert!(handed.try_recv().is_err(), "nothing of it reaches an app");
}

fn frames(mut bytes: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let [a, b, c, kind] = *bytes.first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
        bytes = bytes.get(9 + length..)?;
        Some(kind)
    })
}

#[tokio::test]
async fn a_client_that_takes_back_what_it_asks_is_sent_away() {
    let stage = Stage::new();
    let backend = Backend::silent(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage
        .serve(&stage.http_terminator(&[backend.address()]))
        .await;
    for together in [true, false] {
        let from = agent.log_len();
        let mut stream = tls(&stage).await;
        stream.write_all(PREFACE).await.unwrap();
        let (mut read, write) = tokio::io::split(stream);
        within("the end", async {
            tokio::join!(cancel(write, together), read_to_end(&mut read))
        })
        .await;
        let closed = agent.await_closed(from, |_| true).await;
        assert_eq!(closed.cause(), "reset_flood", "{together}: {closed:?}");
    }
    let requests = agent.metrics().await.sum("tidegate_requests_total", &[]);
    assert!(requests < 2000.0, "{requests} of 20,000 were begun");
}

/// Asks 10,000 times and takes it back, in one segment or as soon as it may have begun.
async fn cancel(mut write: WriteHalf<TlsStream<TcpStream>>, together: bool) {
    for stream in (1..20_001).step_by(2) {
        let request = written(HEADERS, END_HEADERS | END_STREAM, stream, &get());
        let reset = written(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
        let parts = match together {
            true => vec![[request, reset].concat()],
            false => vec![request, reset],
        };
        for part in parts {
            if write.write_all(&part).await.is_err() || write.flush().await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn endless_headers_and_floods_of_control_frames_cost_no_memory() {
    let stage = Stage::new();
    let backend = Backend::silent(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage
        .serve(&stage.http_terminator(&[backend.address()]))
        .await;
    let before = proc::memory_kib(agent.pid());
    let part = vec![0_u8; 16_000];
    let headers = [PREFACE, &written(HEADERS, 0, 1, &get())].concat();
    for (first, next, is_ended) in [
        (headers, written(CONTINUATION, 0, 1, &part), true),
        (
            PREFACE.to_vec(),
            written(PING, 0, 0, &[0; 8]).repeat(1000),
            false,
        ),
        (
            PREFACE.to_vec(),
            written(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100]).repeat(1000),
            false,
        ),
    ] {
        let mut stream = tls(&stage).await;
        stream.write_all(&first).await.unwrap();
        // Nothing of what it answers is read.
        let flood = async {
            for _ in 0..1000 {
                if stream.write_all(&next).await.is_err() || stream.flush().await.is_err() {
                    return true;
                }
            }
            false
        };
        let ended = tokio::time::timeout(Duration::from_secs(5), flood).await;
        assert!(!is_ended || ended == Ok(true), "it may go on: {ended:?}");
        let grown = proc::memory_kib(agent.pid()).saturating_sub(before);
        assert!(grown < 8 << 10, "{grown} KiB");
    }
}

#[tokio::test]
async fn node_finds_requests_trailers_and_websockets_in_http2() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let document = stage.node_terminator(&[app.address()]);
    let _agent = stage.serve(&document).await;
    let mut command = Command::new("node");
    command.arg(checkout("tests/clients/h2.mjs"));
    command.arg(format!("https://{}", stage.front())).arg(HOST);
    let mut node = Child::spawn("h2.mjs", command, Extras::default()).unwrap();
    let done = |line: &str| line.starts_with("done ").then(|| line.to_owned());
    let report = node.find("its report", 0, done).await;
    assert_eq!(node.exit_code().await, 0, "{report}");
}
