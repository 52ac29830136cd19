//! Listeners that send plain HTTP to https by themselves.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::client::{End, read_to_end};
use tidegate_tests::stage::PORT;
use tidegate_tests::{Stage, proxy};
use tokio::io::AsyncWriteExt;

fn document(redirect: &Value) -> Value {
    json!({
        "listeners": [
            { "name": "plain", "role": "balancer", "bind": format!(":{PORT}"),
              "policy": "clients", "redirect": redirect },
        ],
        "pools": [],
        "policies": [{ "name": "clients" }],
    })
}

/// What a listener answers to these bytes.
async fn answer(stage: &Stage, request: &str) -> String {
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    // The answer may come before the last of a long request.
    stream.write_all(request.as_bytes()).await.ok();
    let (answer, _) = read_to_end(&mut stream).await;
    String::from_utf8(answer).unwrap()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn location(answer: &str) -> Option<&str> {
    let mut lines = answer.split("\r\n");
    lines.find_map(|line| line.strip_prefix("location: "))
}

#[tokio::test]
async fn a_request_is_sent_to_the_same_place_by_https() {
    let stage = Stage::new();
    let agent = stage.serve(&document(&json!({}))).await;
    for (request, to) in [
        ("GET / HTTP/1.1\r\nHost: a.example", "https://a.example/"),
        (
            "GET /x/y?q=1&r=%20 HTTP/1.1\r\nHost: a.example:8080",
            "https://a.example/x/y?q=1&r=%20",
        ),
        (
            "HEAD /h HTTP/1.1\r\nHost: [2001:db8::1]:80",
            "https://[2001:db8::1]/h",
        ),
        (
            "GET /old HTTP/1.0\r\nHost: a.example",
            "https://a.example/old",
        ),
        (
            "POST /form HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0",
            "https://a.example/form",
        ),
        (
            "GET http://b.example/abs HTTP/1.1\r\nHost: b.example",
            "https://b.example/abs",
        ),
        // Nobody has told it of a challenge.
        (
            "GET /.well-known/acme-challenge/abc HTTP/1.1\r\nHost: a.example",
            "https://a.example/.well-known/acme-challenge/abc",
        ),
    ] {
        let from = agent.log_len();
        let answer = answer(&stage, &format!("{request}\r\n\r\n")).await;
        assert_eq!(
            (status(&answer), location(&answer)),
            ("308", Some(to)),
            "{request}: {answer}"
        );
        let closed = agent.await_closed(from, |_| true).await;
        let found = (closed.cause(), closed.phase(), closed.number("requests"));
        assert_eq!(found, ("answered", "request", 1), "{closed:?}");
    }
}

#[tokio::test]
async fn port_and_status_are_the_documents() {
    let stage = Stage::new();
    let redirect = json!({ "port": 8443, "status": 302 });
    let _agent = stage.serve(&document(&redirect)).await;
    let answer = answer(&stage, "GET /a HTTP/1.1\r\nHost: a.example:80\r\n\r\n").await;
    assert_eq!(status(&answer), "302", "{answer}");
    assert_eq!(location(&answer), Some("https://a.example:8443/a"));
}

#[tokio::test]
async fn a_request_without_one_good_host_leads_nowhere() {
    let stage = Stage::new();
    let _agent = stage.serve(&document(&json!({}))).await;
    for hosts in [
        "",
        "Host:\r\n",
        "Host: a.example\r\nHost: b.example\r\n",
        "Host: user@a.example\r\n",
        "Host: a.example/evil\r\n",
        "Host: a b\r\n",
    ] {
        let answer = answer(&stage, &format!("GET / HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!(
            (status(&answer), location(&answer)),
            ("400", None),
            "{hosts:?}: {answer}"
        );
    }
    let old = answer(&stage, "GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(status(&old), "400", "{old}");
}

#[tokio::test]
async fn one_connection_is_one_answer() {
    let stage = Stage::new();
    let agent = stage.serve(&document(&json!({}))).await;
    let twice = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n".repeat(2);
    let answer = answer(&stage, &twice).await;
    assert_eq!(answer.matches("HTTP/1.1 308").count(), 1, "{answer}");
    assert_eq!(agent.await_closed(0, |_| true).await.number("requests"), 1);
}

#[tokio::test]
async fn a_body_that_nobody_wants_does_not_cost_the_client_its_answer() {
    let stage = Stage::new();
    let agent = stage.serve(&document(&json!({}))).await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 40000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // The answer is there before the body is.
    stream.peek(&mut [0]).await.unwrap();
    // Had it been closed, all but the first of these would fail: reset, and with that
    // many a client throws the answer away.
    for _ in 0..8 {
        stream.write_all(&[b'x'; 5_000]).await.unwrap();
        agent.metrics().await;
    }
    stream.shutdown().await.unwrap();
    let (answer, end) = read_to_end(&mut stream).await;
    assert!(answer.starts_with(b"HTTP/1.1 308 "));
    assert_eq!(end, End::Eof);
    assert_eq!(agent.await_closed(0, |_| true).await.cause(), "answered");
}

#[tokio::test]
async fn what_is_no_http_or_too_much_of_it_is_refused() {
    let stage = Stage::new();
    let agent = stage.serve(&document(&json!({}))).await;
    let long = format!(
        "GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "a".repeat(9000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "b".repeat(9000)
    );
    for request in ["\x16\x03\x01\x02\x00\x01\r\n\r\n", &long, &many] {
        let from = agent.log_len();
        let answer = answer(&stage, request).await;
        assert!(
            ["", "400", "414", "431"].contains(&status(&answer)),
            "{answer}"
        );
        assert_eq!(location(&answer), None, "{answer}");
        let closed = agent.await_closed(from, |_| true).await;
        let found = (closed.cause(), closed.phase());
        assert_eq!(found, ("bad_request", "request"), "{closed:?}");
    }
}

#[tokio::test]
async fn a_request_that_does_not_end_is_waited_for_until_first_byte() {
    let stage = Stage::new();
    let mut document = document(&json!({}));
    document["policies"][0]["timeouts"] = json!({ "first_byte": "700ms" });
    let agent = stage.serve(&document).await;
    let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
    // A byte now and then moves no deadline.
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nHost: a.example" {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let closed = async { agent.await_closed(0, |_| true).await };
    let (closed, ()) = tokio::join!(closed, drip);
    let found = (closed.cause(), closed.phase());
    assert_eq!(found, ("first_byte_timeout", "request"), "{closed:?}");
    assert!(closed.number("duration_ms") < 1400, "{closed:?}");
}

#[tokio::test]
async fn its_policy_holds_and_a_header_may_say_who_the_client_is() {
    let stage = Stage::new();
    let mut document = document(&json!({}));
    document["listeners"][0]["accept_proxy"] = json!([stage.net.client(0)]);
    document["policies"][0]["deny"] = json!(["192.0.2.9"]);
    let agent = stage.serve(&document).await;
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for (client, cause) in [("192.0.2.8:1", "answered"), ("192.0.2.9:1", "denied")] {
        let from = agent.log_len();
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        let header = proxy::v2(client.parse().unwrap(), stage.front());
        let bytes = [&header, request.as_bytes()].concat();
        stream.write_all(&bytes).await.unwrap();
        read_to_end(&mut stream).await;
        let closed = agent.await_closed(from, |_| true).await;
        assert_eq!(closed.cause(), cause, "{closed:?}");
        assert_eq!(closed.client().to_string(), client);
    }
}

#[tokio::test]
async fn a_listener_that_needs_nobody_is_healthy() {
    let stage = Stage::new();
    let agent = stage.serve(&document(&json!({}))).await;
    assert_eq!(agent.health("plain").await, 200);
}
