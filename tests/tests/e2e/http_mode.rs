//! Requests in HTTP mode: what the app is told, what is refused and how, how long is
//! waited, and what is kept, beside nginx where nginx is the measure.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tidegate_tests::backend::{Backend, next};
use tidegate_tests::client::http::{Answer, Http};
use tidegate_tests::client::{Client, read_to_end};
use tidegate_tests::node::NodeApp;
use tidegate_tests::peer::Nginx;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Stage, proc, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;

use super::smuggling::answering;

async fn served(stage: &Stage, http: Value) -> (Agent, NodeApp) {
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let mut document = stage.node_terminator(&[app.address()]);
    document["listeners"][0]["http"] = http;
    (stage.serve(&document).await, app)
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pair = |&(name, value)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )
    };
    pairs.iter().map(pair).collect()
}

async fn whoami(http: &mut Http, with: HeaderMap) -> Value {
    let answer = http.send(Method::GET, "/whoami", with, Bytes::new()).await;
    answer.unwrap().json()
}

#[tokio::test]
async fn every_request_has_a_name_of_its_own() {
    let stage = Stage::new();
    let (_agent, _app) = served(&stage, json!({})).await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    let mut names = Vec::new();
    for _ in 0..3 {
        let seen = whoami(&mut http, headers(&[("x-request-id", "forged")])).await;
        names.push(seen["headers"]["x-request-id"].as_str().unwrap().to_owned());
    }
    let connection = names[0].split_once('-').unwrap().0.to_owned();
    for (number, name) in names.iter().enumerate() {
        assert_eq!(*name, format!("{connection}-{number}"));
    }
}

#[tokio::test]
async fn a_page_of_ours_names_the_request_and_says_nothing_else() {
    let stage = Stage::new();
    let agent = stage.serve(&stage.http_terminator(&[stage.back(0)])).await;
    until("the backend is down", async || {
        !agent.is_up("back", &stage.back(0).to_string()).await
    })
    .await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    let answer = http.get("/").await.unwrap();
    assert_eq!(answer.status, 503);
    assert!(
        answer.headers["x-request-id"]
            .to_str()
            .unwrap()
            .ends_with("-0")
    );
    assert_eq!(answer.text(), "503 Service Unavailable: no backend is up\n");
    let names: Vec<_> = answer.headers.keys().map(HeaderName::as_str).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(
        names
            .iter()
            .all(|n| ["content-type", "content-length", "x-request-id"].contains(n))
    );
}

#[tokio::test]
async fn a_trusted_proxys_word_is_kept_and_appended_to() {
    let stage = Stage::new();
    let trusted = format!("{}/32", stage.net.client(0));
    let (_agent, _app) = served(&stage, json!({ "trusted_proxies": [trusted] })).await;
    let said = || {
        headers(&[
            ("x-forwarded-for", "198.51.100.66"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "first.example.com"),
            ("forwarded", "for=198.51.100.66"),
            ("x-request-id", "theirs"),
        ])
    };
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    let seen = whoami(&mut http, said()).await;
    let client = stage.net.client(0);
    let seen = &seen["headers"];
    assert_eq!(seen["x-forwarded-for"], format!("198.51.100.66, {client}"));
    assert_eq!(seen["x-forwarded-proto"], "http");
    assert_eq!(seen["x-forwarded-host"], "first.example.com");
    assert_eq!(seen["x-request-id"], "theirs");
    let forwarded = seen["forwarded"].as_str().unwrap();
    assert!(
        forwarded.starts_with(&format!("for=198.51.100.66, for={client};")),
        "{forwarded}"
    );

    let mut http = stage.client(1).http(stage.front(), HOST).await.unwrap();
    let seen = whoami(&mut http, said()).await;
    assert_eq!(
        seen["headers"]["x-forwarded-for"],
        stage.net.client(1).to_string()
    );
    assert!(!seen.to_string().contains("198.51.100.66"), "{seen}");
    assert!(!seen.to_string().contains("theirs"), "{seen}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_status() {
    let stage = Stage::new();
    let bounds = json!({ "max_header_bytes": 8192, "max_headers": 20, "max_body_bytes": 1000 });
    let (agent, _app) = served(&stage, bounds).await;
    let host = format!("Host: {HOST}\r\n");
    let long = |size: usize| format!("X: {}\r\n", "y".repeat(size));
    let chunked = format!("POST /echo HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n");
    for (name, request, status) in [
        (
            "a head",
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", long(8192)),
            "431",
        ),
        (
            "a head without end",
            format!("GET / HTTP/1.1\r\n{}", long(20_000)),
            "431",
        ),
        (
            "a target",
            format!("GET /{} HTTP/1.1\r\n", "y".repeat(20_000)),
            "431",
        ),
        (
            "headers",
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", long(1).repeat(20)),
            "431",
        ),
        (
            "a length",
            format!("POST /echo HTTP/1.1\r\n{host}Content-Length: 1001\r\n\r\n"),
            "413",
        ),
        (
            "chunks",
            format!("{chunked}3e9\r\n{}\r\n0\r\n\r\n", "y".repeat(1001)),
            "413",
        ),
    ] {
        let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = String::from_utf8_lossy(&read_to_end(&mut stream).await.0).into_owned();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{name}: {answer}"
        );
    }
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    let body = Bytes::from(vec![b'y'; 1000]);
    let answer = http
        .send(Method::POST, "/echo", HeaderMap::new(), body)
        .await
        .unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 1000));
    drop(agent);
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_told_so() {
    let stage = Stage::new();
    let (agent, _app) = served(&stage, json!({ "header_timeout": "500ms" })).await;
    let begun = Instant::now();
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    // Also on a kept connection, after a request.
    let request = format!("GET /health HTTP/1.1\r\nHost: {HOST}\r\n\r\nGET /hea");
    stream.write_all(request.as_bytes()).await.unwrap();
    let (said, _) = read_to_end(&mut stream).await;
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(
        said.contains("HTTP/1.1 200") && said.contains("HTTP/1.1 408"),
        "{said}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(closed.cause(), "header_timeout", "{closed:?}");
}

#[tokio::test]
async fn an_app_that_says_nothing_is_given_up_and_so_is_a_body_that_stops() {
    let stage = Stage::new();
    let backend = Backend::silent(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.http_terminator(&[backend.address()]);
    document["listeners"][0]["http"] = json!({ "response_timeout": "500ms" });
    let _agent = stage.serve(&document).await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    assert_eq!(http.get("/").await.unwrap().status, 504);

    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nhalf");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = String::from_utf8_lossy(&read_to_end(&mut stream).await.0).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_body_is_asked_for_when_there_is_an_app_for_it() {
    let stage = Stage::new();
    let (_agent, mut app) = served(&stage, json!({})).await;
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\
         Connection: close\r\n\r\n"
    );
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = [0; 25];
    within("100 Continue", stream.read_exact(&mut said))
        .await
        .unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let (said, _) = read_to_end(&mut stream).await;
    assert!(said.ends_with(b"body"), "{said:?}");

    app.kill().await;
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let said = String::from_utf8_lossy(&read_to_end(&mut stream).await.0).into_owned();
    assert!(said.starts_with("HTTP/1.1 50"), "nobody wants it: {said}");
}

#[tokio::test]
async fn clients_share_connections_to_the_app_and_none_is_kept_for_long() {
    let stage = Stage::new();
    let app = answering(&stage).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.http_terminator(&[app.address()]);
    let agent = stage.serve(&document).await;
    for index in 0..20 {
        let mut http = stage.client(index).http(stage.front(), HOST).await.unwrap();
        assert_eq!(http.get("/").await.unwrap().text(), "ok");
    }
    let connects = |result: &'static str| async {
        let metrics = agent.metrics().await;
        metrics.sum("tidegate_backend_connects_total", &[("result", result)])
    };
    // One for each data thread, at most.
    assert!(connects("ok").await <= 8.0, "{}", connects("ok").await);
    assert!(open_to(app.address()) > 0, "some are kept");
    document["pools"][0]["backends"] = json!([{ "address": stage.back(1) }]);
    agent.apply(&document).await;
    until("none is kept for a backend that is gone", async || {
        open_to(app.address()) == 0
    })
    .await;
}

/// A connection at the backend, after the head of its request.
async fn asked(handed: &mut UnboundedReceiver<TcpStream>) -> TcpStream {
    let mut stream = next(handed).await;
    let mut head = Vec::new();
    within("a head", async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    stream
}

fn open_to(address: std::net::SocketAddr) -> usize {
    let sockets = tidegate_tests::tcp::sockets().into_iter();
    sockets
        .filter(|socket| socket.peer == address && socket.state == 1)
        .count()
}

#[tokio::test]
async fn a_request_body_does_not_outlive_its_answer_on_the_apps_connection() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage
        .serve(&stage.http_terminator(&[backend.address()]))
        .await;
    let mut one = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let request = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nhalf");
    one.write_all(request.as_bytes()).await.unwrap();
    let mut first = asked(&mut handed).await;
    first
        .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 12];
    within("an answer", one.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 403");
    // Another request must not be written behind half a body.
    let mut other = stage.client(1).tls(stage.front(), HOST).await.unwrap();
    let request = format!("GET /other HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    other.write_all(request.as_bytes()).await.unwrap();
    let mut second = next(&mut handed).await;
    let mut seen = [0; 10];
    within("the other request", second.read_exact(&mut seen))
        .await
        .unwrap();
    assert_eq!(&seen, b"GET /other");
}

#[tokio::test]
async fn trailers_of_an_answer_pass_where_they_are_announced() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage
        .serve(&stage.http_terminator(&[backend.address()]))
        .await;
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let request =
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut upstream = asked(&mut handed).await;
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                  2\r\nok\r\n0\r\nX-Sum: 7\r\nX-Other: 8\r\n\r\n";
    upstream.write_all(answer.as_bytes()).await.unwrap();
    let said = String::from_utf8_lossy(&read_to_end(&mut stream).await.0).to_ascii_lowercase();
    assert!(
        said.contains("x-sum: 7") && !said.contains("x-other"),
        "{said}"
    );
}

#[tokio::test]
async fn slow_clients_hold_memory_and_not_the_others_up() {
    let stage = Stage::new();
    let (agent, _app) = served(&stage, json!({})).await;
    let mut honest = stage.client(0).http(stage.front(), HOST).await.unwrap();
    honest.get("/health").await.unwrap();
    let before = proc::memory_kib(agent.pid());
    let mut slow = Vec::new();
    for n in 0..100 {
        let mut stream = stage.client(1).tls(stage.front(), HOST).await.unwrap();
        let request = match n % 2 {
            // Half a head; and an answer of which nothing is read.
            0 => "GET / HTTP/1.1\r\nX: ".to_owned(),
            _ => format!("GET /bytes/{} HTTP/1.1\r\nHost: {HOST}\r\n\r\n", 256 << 20),
        };
        stream.write_all(request.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(honest.get("/health").await.unwrap().status, 200);
    }
    let took = begun.elapsed() / 20;
    assert!(took < Duration::from_millis(250), "{took:?} for one");
    let grown = proc::memory_kib(agent.pid()).saturating_sub(before);
    assert!(grown < 100 * 256, "{grown} KiB for 100 slow clients");
}

#[tokio::test]
async fn bodies_stream_both_ways_in_flat_memory() {
    // More than any counter of 32 bits, and than the machine could hide.
    let size: u64 = 5 << 30;
    let begun = Instant::now();
    let stage = Stage::new();
    let app = counting(&stage, size).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.http_terminator(&[app.address()])).await;
    let before = proc::memory_kib(agent.pid());
    let most = async {
        let mut most = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            most = proc::memory_kib(agent.pid()).max(most);
            if most > before + (16 << 10) {
                panic!("{most} KiB, from {before}");
            }
        }
    };
    tokio::select! {
        () = transfer(&stage, size) => {}
        () = most => {}
    }
    println!("{} GiB each way in {:.0?}", size >> 30, begun.elapsed());
}

async fn transfer(stage: &Stage, size: u64) {
    let stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
    );
    let sending = async {
        write.write_all(head.as_bytes()).await.unwrap();
        let block = vec![b'x'; 256 << 10];
        for _ in 0..size / block.len() as u64 {
            write.write_all(&block).await.unwrap();
        }
        write.flush().await.unwrap();
    };
    let receiving = async {
        let mut block = vec![0; 256 << 10];
        let mut count = 0;
        while let Ok(some @ 1..) = read.read(&mut block).await {
            count += some as u64;
        }
        count
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received >= size, "{received} of {size}");
}

/// Takes a body of `size`, and sends one as long.
async fn counting(stage: &Stage, size: u64) -> Backend {
    Backend::serve(stage.back(0), move |stream| async move {
        let (mut read, mut write) = stream.into_split();
        let mut nowhere = tokio::io::sink();
        // All but as much as the head is long.
        let body = (&mut read).take(size);
        if tokio::io::copy_buf(&mut BufReader::with_capacity(256 << 10, body), &mut nowhere)
            .await
            .is_err()
        {
            return;
        }
        let reading = tokio::spawn(async move {
            tokio::io::copy(&mut read, &mut nowhere).await.ok();
        });
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        let block = vec![b'y'; 256 << 10];
        if write.write_all(head.as_bytes()).await.is_ok() {
            for _ in 0..size / block.len() as u64 {
                if write.write_all(&block).await.is_err() {
                    break;
                }
            }
        }
        reading.await.ok();
    })
    .await
}

#[tokio::test]
async fn the_app_gets_the_same_headers_as_behind_nginx() {
    let stage = Stage::new();
    let (_agent, app) = served(&stage, json!({ "request_id": false })).await;
    let certificate = stage.path("nginx.pem");
    let key = stage.path("nginx.key");
    std::fs::write(&certificate, &stage.certificate.chain).unwrap();
    std::fs::write(&key, &stage.certificate.private_key).unwrap();
    let beside = stage.net.at(2, 8443);
    let blocks = format!(
        "http {{ access_log off; server {{ listen {beside} ssl; ssl_certificate {}; \
         ssl_certificate_key {}; location / {{ proxy_pass http://{}; proxy_http_version 1.1; \
         proxy_set_header Host $http_host; proxy_set_header Connection \"\"; \
         proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https; \
         proxy_set_header X-Forwarded-Host $http_host; \
         proxy_set_header X-Forwarded-Port 8443; proxy_set_header Forwarded \
         \"for=$remote_addr;host=$http_host;proto=https\"; }} }} }}",
        certificate.display(),
        key.display(),
        app.address()
    );
    let _nginx = Nginx::serve(stage.directory(), &blocks).await;
    for (method, path, with) in [
        (Method::GET, "/whoami", headers(&[])),
        (
            Method::GET,
            "/whoami?a=b%20c&d",
            headers(&[("cookie", "a=b; c=d"), ("accept", "*/*")]),
        ),
        (Method::GET, "/whoami/../whoami", headers(&[])),
        (
            Method::GET,
            "/whoami",
            headers(&[("keep-alive", "timeout=5"), ("te", "gzip")]),
        ),
        (
            Method::GET,
            "/whoami",
            headers(&[("upgrade", "h2c"), ("x-forwarded-for", "6.6.6.6")]),
        ),
        (
            Method::GET,
            "/whoami",
            headers(&[("range", "bytes=0-1"), ("if-none-match", "\"x\"")]),
        ),
        (Method::HEAD, "/whoami", headers(&[])),
        (
            Method::POST,
            "/whoami",
            headers(&[("content-type", "text/plain")]),
        ),
        (
            Method::OPTIONS,
            "/nowhere",
            headers(&[("origin", "https://x")]),
        ),
    ] {
        let [ours, theirs] = [stage.front(), beside].map(|to| (to, with.clone()));
        let ours = ask(&stage.client(0), ours, &method, path).await;
        let theirs = ask(&stage.client(0), theirs, &method, path).await;
        assert_eq!(ours, theirs, "{method} {path} {with:?}");
    }
}

/// Status, headers of the answer, and what the app has seen, as far as two proxies may
/// be compared.
async fn ask(
    client: &Client,
    (to, with): (std::net::SocketAddr, HeaderMap),
    method: &Method,
    path: &str,
) -> (u16, Vec<(String, String)>, Value) {
    let mut http = client.http(to, HOST).await.unwrap();
    let sent = http.send(method.clone(), path, with, Bytes::new()).await;
    let Answer {
        status,
        headers,
        body,
    } = sent.unwrap();
    // Of the server itself, and of one connection.
    let own = ["server", "date", "connection", "keep-alive"];
    let mut shown: Vec<_> = headers
        .iter()
        .filter(|(name, _)| !own.contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        // Lengths of bodies that name other ports.
        .filter(|(name, _)| name != "content-length")
        .collect();
    shown.sort();
    let mut seen = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    if let Some(seen) = seen.as_object_mut() {
        seen.remove("remote_address");
        seen.remove("raw_headers");
    }
    (status.as_u16(), shown, seen)
}
