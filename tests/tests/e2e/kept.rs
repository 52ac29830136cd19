//! Kept HTTP connections: they outlive changes of the document, carry a request
//! to another process only once, and let nothing pass behind the body.

use std::time::Duration;

use serde_json::json;
use tidegate_tests::Stage;
use tidegate_tests::backend::{Backend, next};
use tidegate_tests::client::echoes;
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::{HOST, checked_by_http, pool};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

#[tokio::test]
async fn a_kept_connection_follows_its_pool() {
    let stage = Stage::new();
    let mut old = NodeApp::at(stage.back(0), "old").listen().await;
    let new = NodeApp::at(stage.back(1), "new").listen().await;
    let mut document = stage.node_terminator(&[old.address()]);
    let agent = stage.serve(&document).await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    assert_eq!(http.get("/whoami").await.unwrap().json()["name"], "old");

    document["pools"][0] = checked_by_http(pool("back", &[new.address()]));
    agent.apply(&document).await;
    old.kill().await;
    assert_eq!(http.get("/whoami").await.unwrap().json()["name"], "new");
    assert!(
        agent.closed_since(0).is_empty(),
        "the client noticed nothing"
    );
}

#[tokio::test]
async fn a_request_that_breaks_the_app_is_repeated_once_and_no_more() {
    let stage = Stage::new();
    let mut backends = Vec::new();
    for index in 0..4 {
        backends.push(Backend::resetting(stage.back(index)).await);
    }
    let _checks = stage.checks_pass().await;
    let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
    let agent = stage.serve(&stage.http_terminator(&addresses)).await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    assert_eq!(http.get("/").await.unwrap().status.as_u16(), 502);
    let connects = agent
        .metrics()
        .await
        .sum("tidegate_backend_connects_total", &[("result", "ok")]);
    assert_eq!(connects, 2.0);
}

#[tokio::test]
async fn a_forged_header_does_not_pass_as_a_trailer() {
    let stage = Stage::new();
    let (open, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&stage.http_terminator(&[open.address()])).await;
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-For\r\n\r\n\
         4\r\nbody\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut upstream = next(&mut handed).await;
    let mut seen = String::new();
    while !seen.ends_with("0\r\n\r\n") {
        let mut some = [0; 4096];
        let count = timeout(Duration::from_secs(10), upstream.read(&mut some))
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0, "{seen}");
        seen.push_str(&String::from_utf8_lossy(&some[..count]));
    }
    assert!(seen.contains("body") && !seen.contains("6.6.6.6"), "{seen}");
}

#[tokio::test]
async fn a_listener_moves_between_every_address_and_one() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    let agent = stage.serve(&document).await;
    // A port that no other test uses on any address.
    let port = stage.net.wildcard_port();
    let one = stage.net.at(1, port);
    for bind in [
        format!("0.0.0.0:{port}"),
        one.to_string(),
        format!("0.0.0.0:{port}"),
    ] {
        document["listeners"][0]["bind"] = json!(bind);
        agent.apply(&document).await;
        let mut stream = stage.client(0).tcp(one).await.unwrap();
        assert!(echoes(&mut stream).await, "{bind}");
    }
}
