//! Who speaks first: clients whose first bytes are waited for, kept until a backend
//! has taken them and sent in the SYN where the host allows it; and servers that
//! greet. The tests hold with and without TCP Fast Open.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::backend::{Backend, Unaccepting, next};
use tidegate_tests::client::{End, echoes, exchange, read_to_end};
use tidegate_tests::{Stage, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A listener that waits for the client, and backends that take bytes in the SYN.
fn document(stage: &Stage, backends: &[SocketAddr]) -> Value {
    let mut document = stage.balancer(backends);
    document["listeners"][0]["client_first"] = json!(true);
    document["pools"][0]["fast_open"] = json!(true);
    document["pools"][0]["passive"] = json!("off");
    document
}

#[tokio::test]
async fn the_next_backend_gets_the_first_bytes_that_a_refusing_one_did_not_take() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(1)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage
        .serve(&document(&stage, &[stage.back(0), echo.address()]))
        .await;
    // The first one that is refused teaches no cookie, later ones may have one.
    for i in 0..20 {
        let first = format!("first bytes of client {i}").repeat(1 + i);
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        let answer = exchange(&mut stream, first.as_bytes()).await.unwrap();
        assert!(answer == first.as_bytes(), "{i}");
        assert!(echoes(&mut stream).await, "{i}");
    }
    let failed = [("result", "failed")];
    let failed = agent
        .metrics()
        .await
        .sum("tidegate_backend_connects_total", &failed);
    assert!(failed >= 5.0, "{failed}");
}

#[tokio::test]
async fn the_next_backend_gets_the_first_bytes_that_a_hanging_one_did_not_take() {
    let stage = Stage::new();
    let _full = Unaccepting::at(stage.back(0)).await;
    let echo = Backend::echo(stage.back(1)).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage, &[stage.back(0), echo.address()]);
    document["policies"][0]["timeouts"] = json!({ "connect": "150ms" });
    let agent = stage.serve(&document).await;
    for i in 0..6 {
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        let first = vec![b'a' + i; 3000];
        assert!(exchange(&mut stream, &first).await.unwrap() == first, "{i}");
    }
    let failed = [("result", "failed")];
    let failed = agent
        .metrics()
        .await
        .sum("tidegate_backend_connects_total", &failed);
    assert!(failed >= 2.0, "{failed}");
}

#[tokio::test]
async fn a_backend_that_is_slow_to_answer_has_accepted_and_is_not_left() {
    let stage = Stage::new();
    let (slow, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage, &[slow.address()]);
    document["policies"][0]["timeouts"] = json!({ "connect": "100ms" });
    let agent = stage.serve(&document).await;
    for round in 0..3 {
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        stream.write_all(b"once").await.unwrap();
        let mut upstream = next(&mut handed).await;
        let mut heard = [0; 4];
        upstream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"once", "{round}");
        // Longer than a connect may take.
        let more = timeout(Duration::from_millis(400), upstream.read_u8()).await;
        assert!(more.is_err(), "{more:?}: nothing comes twice");
        upstream.write_all(b"!").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'!', "{round}");
        assert!(handed.try_recv().is_err(), "and nothing is tried twice");
    }
    let failed = [("result", "failed")];
    let metrics = agent.metrics().await;
    assert_eq!(metrics.sum("tidegate_backend_connects_total", &failed), 0.0);
}

#[tokio::test]
async fn what_a_client_says_while_its_backend_is_silent_goes_on_as_it_comes() {
    let stage = Stage::new();
    let (slow, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&document(&stage, &[slow.address()])).await;
    for round in 0..3 {
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        stream.write_all(b"question").await.unwrap();
        let mut upstream = next(&mut handed).await;
        let mut heard = [0; 8];
        within("the first bytes", upstream.read_exact(&mut heard))
            .await
            .unwrap();
        // The backend has not said a word by which a connect in the SYN would end.
        stream.write_all(b", and more").await.unwrap();
        stream.shutdown().await.unwrap();
        let rest = read_to_end(&mut upstream).await;
        assert_eq!(rest, (b", and more".to_vec(), End::Eof), "{round}");
        upstream.write_all(b"answer").await.unwrap();
        drop(upstream);
        assert_eq!(read_to_end(&mut stream).await.0, b"answer", "{round}");
    }
}

#[tokio::test]
async fn a_listener_that_learns_who_speaks_first_does_as_it_is_told() {
    let stage = Stage::new();
    let _greets = Backend::named(stage.back(0), "g").await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[stage.back(0)]);
    let agent = stage.serve(&document).await;
    let client = stage.client(0);
    for _ in 0..2 {
        // The server speaks first.
        let mut stream = client.tcp(stage.front()).await.unwrap();
        assert_eq!(within("hello", stream.read_u8()).await.unwrap(), b'g');

        document["listeners"][0]["client_first"] = json!(true);
        agent.apply(&document).await;
        let mut stream = client.tcp(stage.front()).await.unwrap();
        let greeted = timeout(Duration::from_millis(300), stream.read_u8()).await;
        assert!(greeted.is_err(), "{greeted:?}: the client has said nothing");
        stream.write_all(b"?").await.unwrap();
        assert_eq!(within("hello", stream.read_u8()).await.unwrap(), b'g');
        assert_eq!(within("an echo", stream.read_u8()).await.unwrap(), b'?');

        document["listeners"][0]["client_first"] = json!(false);
        agent.apply(&document).await;
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_costs_no_backend_a_connection() {
    let stage = Stage::new();
    let (_backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage, &[stage.back(0)]);
    document["policies"][0]["timeouts"] = json!({ "first_byte": "1s" });
    let agent = stage.serve(&document).await;
    let mut silent = stage.client(0).tcp(stage.front()).await.unwrap();
    let accepted = async || {
        let metrics = agent.metrics().await;
        metrics.sum("tidegate_connections_accepted_total", &[])
    };
    // The kernel keeps it to itself.
    let ended = timeout(Duration::from_millis(300), silent.read_u8()).await;
    assert!(ended.is_err(), "{ended:?}");
    assert_eq!(accepted().await, 0.0);
    // It hands it over in the end, and then there is the deadline.
    assert_eq!(read_to_end(&mut silent).await.0, b"");
    let closed = agent.await_closed(0, |_| true).await;
    let found = (closed.cause(), closed.phase());
    assert_eq!(found, ("first_byte_timeout", "first_bytes"), "{closed:?}");
    assert!(handed.try_recv().is_err());
}

#[tokio::test]
async fn a_client_that_leaves_before_it_speaks_is_no_error() {
    let stage = Stage::new();
    let (_backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&document(&stage, &[stage.back(0)])).await;
    drop(stage.client(0).tcp(stage.front()).await.unwrap());
    let closed = agent.await_closed(0, |_| true).await;
    let found = (closed.cause(), closed.phase());
    assert_eq!(found, ("client_closed", "first_bytes"), "{closed:?}");
    assert!(handed.try_recv().is_err());
}
