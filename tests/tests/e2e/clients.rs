//! HTTP/1.1 by clients of other hands, and what only their like would send.

use serde_json::json;
use tidegate_tests::client::command::said_by;
use tidegate_tests::client::read_to_end;
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Stage, checkout, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn pythons_client_finds_kept_connections_chunks_and_heads() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let _agent = stage.serve(&stage.node_terminator(&[app.address()])).await;
    let authority = stage.authority();
    let script = checkout("tests/clients/http_client.py");
    let front = stage.front();
    let (ip, port) = (front.ip().to_string(), front.port().to_string());
    let arguments = [
        script.to_str().unwrap(),
        &ip,
        &port,
        authority.to_str().unwrap(),
        HOST,
    ];
    let said = said_by("python3", &arguments).await;
    assert_eq!(said, "done\n");
}

/// Where the head may be as large: else it is the head that is too large (431).
#[tokio::test]
async fn a_target_beyond_64_kib_is_answered_414() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let mut document = stage.node_terminator(&[app.address()]);
    document["listeners"][0]["http"] = json!({ "max_header_bytes": 262_144 });
    let agent = stage.serve(&document).await;
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let target = "y".repeat(70_000);
    let request = format!("GET /{target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = String::from_utf8_lossy(&read_to_end(&mut stream).await.0).into_owned();
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer}");
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(closed.cause(), "bad_request", "{closed:?}");
}

#[tokio::test]
async fn a_client_that_leaves_amid_its_body_is_no_failure_of_the_app() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let agent = stage.serve(&stage.node_terminator(&[app.address()])).await;
    let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
    let request = format!("POST /echo HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 9\r\n\r\nhalf");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    within("the answer has begun", async {
        while !said.ends_with(b"half") {
            said.push(stream.read_u8().await.unwrap());
        }
    })
    .await;
    drop(stream);
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(closed.text("fault"), "nobody", "{closed:?}");
    assert_eq!(closed.cause(), "client_closed", "{closed:?}");
}
