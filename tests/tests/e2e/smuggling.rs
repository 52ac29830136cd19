//! Requests that two servers could end in different places: refused in raw bytes, before
//! an app that would record whatever reached it. `core::framing` has every rule; here
//! they are met on the wire, and in HTTP/2.

use http::{HeaderMap, Method};
use hyper::body::Bytes;
use tidegate_tests::backend::{Backend, next};
use tidegate_tests::client::read_to_end;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Stage, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What must never reach an app.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: play.localhost\r\n\r\n";

/// Heads that are refused, each before its empty line; the smuggled request follows.
const HEADS: &[&str] = &[
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\nTransfer-Encoding: chunked\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 7\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\nContent-Length: 7\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 7, 7\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +7\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x7\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 7 \x0b\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 7\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\n Transfer-Encoding: chunked\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nX: y\rTransfer-Encoding: chunked\r\n",
    "POST / HTTP/1.1\r\nHost: h\r\nX: y\nTransfer-Encoding: chunked\r\n",
    "POST / HTTP/1.1\nHost: h\nContent-Length: 7\n",
    "POST / HTTP/1.1\r\nHost: h\r\nX: \0\r\n",
    "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n",
    "GET http://h/ HTTP/1.1\r\nHost: h\r\nHost: i\r\n",
    "GET / HTTP/1.1\r\n",
    "GET /a#b HTTP/1.1\r\nHost: h\r\n",
    "GET / HTTP/1.1 HTTP/1.1\r\nHost: h\r\n",
    "GET / HTTP/2.0\r\nHost: h\r\n",
    "GET\t/ HTTP/1.1\r\nHost: h\r\n",
    "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\nno colon\r\n",
    "GET / HTTP/1.1\r\nHost: h\r\n: nameless\r\n",
];

/// Chunked bodies that go wrong, behind a good head.
const CHUNKS: &[&str] = &[
    "0x7\r\n",
    "-1\r\n",
    " 1\r\n",
    "1 \r\n",
    "1\n",
    "1;x\ny\r\n",
    "1\r\nab\r\n",
    "1\r\na\n0\r\n\r\n",
    "10000000000000000\r\n",
    "ffffffffffffffff1\r\n",
    "\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\n folded: y\r\n\r\n",
];

#[tokio::test]
async fn a_head_with_two_readings_is_refused_and_reaches_no_app() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let document = stage.http_terminator(&[backend.address()]);
    let agent = stage.serve(&document).await;
    for head in HEADS {
        let from = agent.log_len();
        let answer = say(&stage, &format!("{head}\r\n{SMUGGLED}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{head:?}: {answer}");
        agent.await_closed(from, |_| true).await;
    }
    assert!(handed.try_recv().is_err(), "nothing has reached the app");
}

#[tokio::test]
async fn a_body_with_two_readings_breaks_off_and_smuggles_nothing() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let document = stage.http_terminator(&[backend.address()]);
    let _agent = stage.serve(&document).await;
    for chunks in CHUNKS {
        let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nfirst\r\n{chunks}{SMUGGLED}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut upstream = next(&mut handed).await;
        let mut seen = Vec::new();
        // The app's connection ends in the middle of the body: no server takes that for
        // a request's end.
        within("the end of the body", upstream.read_to_end(&mut seen))
            .await
            .ok();
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(!seen.contains("smuggled"), "{chunks:?}: {seen}");
        assert!(!seen.ends_with("0\r\n\r\n"), "{chunks:?}: {seen}");
        let (answer, _) = read_to_end(&mut stream).await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{chunks:?}");
    }
}

#[tokio::test]
async fn what_came_before_a_refused_request_is_answered() {
    let stage = Stage::new();
    let app = answering(&stage).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&stage.http_terminator(&[app.address()])).await;
    let good = format!("GET /good HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    let answers = say(&stage, &format!("{good}{good}{}\r\n", HEADS[0])).await;
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 400").count(), 1, "{answers}");
}

#[tokio::test]
async fn behind_an_upgrade_that_is_refused_nothing_is_served() {
    let stage = Stage::new();
    let app = answering(&stage).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&stage.http_terminator(&[app.address()])).await;
    for upgrade in ["websocket", "h2c", "other"] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        );
        let answers = say(&stage, &format!("{request}{SMUGGLED}")).await;
        assert_eq!(answers.matches("HTTP/1.1").count(), 1, "{answers}");
        assert!(answers.contains("connection: close"), "{answers}");
    }
}

#[tokio::test]
async fn in_http2_a_body_is_as_long_as_it_says_and_the_host_is_one() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let document = stage.http_terminator(&[backend.address()]);
    let agent = stage.serve(&document).await;
    for (name, value) in [
        ("host", "other"),
        ("connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("X-Upper", "case"),
        ("x", "y\r\nTransfer-Encoding: chunked"),
        ("x", "y\0"),
        ("x y", "z"),
        (":path", "/second"),
        (":unknown", "z"),
        ("content-length", "4, 4"),
    ] {
        let refused = super::h2::refused(&stage, name, value).await;
        assert!(refused, "{name}: {value:?}");
    }
    let mut http = super::h2::connect(&stage).await;
    let length = HeaderMap::from_iter([(http::header::CONTENT_LENGTH, "9".parse().unwrap())]);
    let short = http.send_raw(Method::POST, length, Bytes::from_static(b"short"), true);
    let (answer, upstream) = tokio::join!(short, next(&mut handed));
    assert!(answer.is_err(), "{answer:?}");
    let seen = all(upstream).await;
    // The stream may be gone before the head is written; if it is not, the app waits for
    // what never comes.
    let whole = seen.split_once("\r\n\r\n");
    assert!(
        whole.is_none_or(|(head, body)| head.contains("content-length: 9") && body.len() < 9),
        "{seen}"
    );
    assert!(handed.try_recv().is_err());
    drop(agent);
}

async fn all(mut stream: TcpStream) -> String {
    let mut seen = Vec::new();
    within("its end", stream.read_to_end(&mut seen)).await.ok();
    String::from_utf8_lossy(&seen).into_owned()
}

async fn say(stage: &Stage, bytes: &str) -> String {
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    String::from_utf8_lossy(&read_to_end(&mut stream).await.0).into_owned()
}

/// An app that says 200 to each request, and knows only those without a body.
pub(crate) async fn answering(stage: &Stage) -> Backend {
    Backend::serve(stage.back(0), |mut stream| async move {
        let mut seen = Vec::new();
        while stream
            .read_buf(&mut seen)
            .await
            .is_ok_and(|count| count > 0)
        {
            while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
                seen.drain(..end + 4);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if stream.write_all(answer).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}
