//! Health checks of every kind, at their pace; and ejection, which sees clients'
//! failed connects before a check is due.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::backend::Backend;
use tidegate_tests::client::echoes;
use tidegate_tests::{Agent, Stage, proxy, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

fn document(backends: &[SocketAddr], check: &Value) -> Value {
    let backends: Vec<Value> = backends.iter().map(|a| json!({ "address": a })).collect();
    json!({
        "listeners": [{ "name": "edge", "role": "balancer", "bind": ":8443", "pool": "back" }],
        "pools": [{
            "name": "back", "balance": "round_robin", "backends": backends,
            "health_check": check,
        }],
    })
}

async fn known(agent: &Agent, backend: SocketAddr, up: bool) -> String {
    let name = backend.to_string();
    until(format!("{name} is up: {up}"), async || {
        let row = agent.backend("back", &name).await;
        row["up"] == up && row["last_check"]["passed"] == up
    })
    .await;
    agent.backend("back", &name).await["last_check"].to_string()
}

#[tokio::test]
async fn a_tls_check_passes_where_a_handshake_ends_and_nowhere_else() {
    let stage = Stage::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let acceptor = stage.certificate.acceptor();
    let tls = Backend::serve(stage.back(0), move |stream| {
        let (acceptor, tell) = (acceptor.clone(), tell.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                let name = stream.get_ref().1.server_name();
                tell.send(name.map(str::to_owned)).ok();
            }
        }
    })
    .await;
    let plain = Backend::echo(stage.back(1)).await;
    let silent = Backend::silent(stage.back(2)).await;
    let backends = [tls.address(), plain.address(), silent.address()];
    let check = |tls| json!({ "tls": tls, "interval": "50ms", "timeout": "300ms" });
    let mut document = document(&backends, &check(json!({})));
    let agent = stage.serve(&document).await;
    let words = known(&agent, tls.address(), true).await;
    assert!(words.contains("shook hands, TLSv1_3"), "{words}");
    let words = known(&agent, plain.address(), false).await;
    assert!(words.contains("TLS: "), "{words}");
    let words = known(&agent, silent.address(), false).await;
    assert!(words.contains("no answer within 300ms"), "{words}");
    assert_eq!(within("a name", told.recv()).await.unwrap(), None);

    document["pools"][0]["health_check"] = check(json!({ "server_name": "app.example" }));
    agent.apply(&document).await;
    while within("a name", told.recv()).await.unwrap().as_deref() != Some("app.example") {}
    // Whose certificate it shows plays no part.
    known(&agent, tls.address(), true).await;
}

#[tokio::test]
async fn a_check_says_as_much_about_itself_as_the_traffic_does_unless_told_otherwise() {
    let stage = Stage::new();
    let (tell, mut told) = mpsc::unbounded_channel();
    let app = asked(stage.back(0), tell.clone()).await;
    let aside = asked(stage.net.at(50, 4500), tell).await;
    let v1 = b"PROXY UNKNOWN\r\n".to_vec();
    let v2 = proxy::v2_local();
    for (pool, port, written, announced) in [
        ("v2", None, None, &v2),
        ("v1", None, None, &v1),
        ("v2", None, Some("none"), &Vec::new()),
        ("none", None, Some("v1"), &v1),
        // Another port is taken to be for checks alone.
        ("v2", Some(aside.address().port()), None, &Vec::new()),
        ("v2", Some(aside.address().port()), Some("v2"), &v2),
    ] {
        let mut check = json!({ "http": { "path": "/up", "host": "h.example", "expect": 200 } });
        if let Some(port) = port {
            check["port"] = json!(port);
        }
        if let Some(written) = written {
            check["proxy"] = json!(written);
        }
        let mut document = document(&[app.address()], &check);
        document["pools"][0]["proxy_protocol"] = json!(pool);
        let agent = stage.serve(&document).await;
        let (at, heard) = within("a check", told.recv()).await.unwrap();
        let what = format!("{pool} {port:?} {written:?}");
        assert_eq!(at.port(), port.unwrap_or(app.address().port()), "{what}");
        let request = heard.strip_prefix(announced.as_slice());
        let request = request.unwrap_or_else(|| panic!("{what}: {heard:?}"));
        let request = String::from_utf8(request.to_vec()).expect(&what);
        assert!(
            request.starts_with("GET /up HTTP/1.1\r\n"),
            "{what}: {request}"
        );
        assert!(request.contains("host: h.example\r\n"), "{request}");
        known(&agent, app.address(), true).await;
    }
}

#[tokio::test]
async fn what_an_http_check_expects_is_what_passes() {
    let stage = Stage::new();
    let (tell, _told) = mpsc::unbounded_channel();
    let app = asked(stage.back(0), tell).await;
    for (expect, up) in [(json!([204, 200]), true), (json!(204), false)] {
        let check = json!({ "http": { "path": "/", "expect": expect }, "interval": "50ms" });
        let agent = stage.serve(&document(&[app.address()], &check)).await;
        let words = known(&agent, app.address(), up).await;
        assert!(words.contains("answered 200"), "{words}");
    }
}

#[tokio::test]
async fn an_agent_check_asks_the_agent_there_for_its_listener() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut terminator = stage.terminator(&[echo.address()]);
    terminator["listeners"][0]["bind"] = json!(":8444");
    let instance = stage.net.at(2, 8444);
    let other = stage.agent_at(instance.ip(), &terminator).serve().await;
    for (listener, up, said) in [
        ("tls", true, "answered 200, 1 up"),
        ("elsewhere", false, "answered 404"),
    ] {
        let check = json!({ "agent": { "listener": listener }, "port": 7445, "interval": "50ms" });
        let agent = stage.serve(&document(&[instance], &check)).await;
        let words = known(&agent, instance, up).await;
        assert!(words.contains(said), "{words}");
    }
    drop(other);
}

#[tokio::test]
async fn what_is_down_is_asked_at_its_own_pace_and_what_recovers_faster() {
    let stage = Stage::new();
    // By `interval` each step would take an hour, and three are needed.
    let check = json!({
        "tcp": {}, "interval": "1h", "down_interval": "100ms", "fast_interval": "50ms",
        "rise": 3, "fall": 3,
    });
    let address = stage.back(0);
    let agent = stage.serve(&document(&[address], &check)).await;
    known(&agent, address, false).await;
    let failed = async || {
        let fail = [("result", "fail")];
        agent.metrics().await.sum("tidegate_checks_total", &fail)
    };
    until("it is asked again", async || failed().await >= 3.0).await;
    let _echo = Backend::echo(address).await;
    known(&agent, address, true).await;
    // Nothing more is to be learnt, so that the next one is in an hour.
    let passed = [("result", "pass")];
    let passed = agent.metrics().await.sum("tidegate_checks_total", &passed);
    assert_eq!(passed, 3.0);
}

#[tokio::test]
async fn what_begins_to_fail_is_asked_fast_until_it_is_down() {
    let stage = Stage::new();
    // By `interval` alone it would take 5 × 2 s.
    let check = json!({
        "tcp": {}, "interval": "2s", "fast_interval": "50ms", "rise": 1, "fall": 6,
    });
    let echo = Backend::echo(stage.back(0)).await;
    let agent = stage.serve(&document(&[echo.address()], &check)).await;
    known(&agent, stage.back(0), true).await;
    let begun = Instant::now();
    drop(echo);
    known(&agent, stage.back(0), false).await;
    assert!(
        begun.elapsed() < Duration::from_secs(7),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_backend_whose_connects_fail_is_ejected_for_a_while_and_comes_back() {
    let stage = Stage::new();
    let _checks = stage.checks_pass().await;
    let _others = [
        Backend::echo(stage.back(1)).await,
        Backend::echo(stage.back(2)).await,
    ];
    let backends = [stage.back(0), stage.back(1), stage.back(2)];
    let mut document = stage.balancer(&backends);
    document["pools"][0]["passive"] = json!({ "failures": 2, "eject": "1s", "longest": "1s" });
    let agent = stage.agent(&document).with("--threads", 1).serve().await;
    let name = backends[0].to_string();
    let served = async |count| {
        for _ in 0..count {
            let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
            assert!(echoes(&mut stream).await);
        }
    };
    let gauge = async || {
        let labels = [("backend", name.as_str())];
        agent
            .metrics()
            .await
            .sum("tidegate_backend_ejected", &labels)
    };
    let connects = async |result| {
        let labels = [("backend", name.as_str()), ("result", result)];
        let metrics = agent.metrics().await;
        metrics.sum("tidegate_backend_connects_total", &labels)
    };
    served(6).await;
    let ejected = |event: &tidegate_tests::agent::Event| {
        event.message() == "backend ejected: connects failed"
    };
    let event = agent.await_log("an ejection", 0, ejected).await;
    assert_eq!(event.text("backend"), name);
    assert_eq!((event.text("level"), event.number("seconds")), ("WARN", 1));
    assert_eq!((gauge().await, connects("failed").await), (1.0, 2.0));
    served(9).await;
    assert_eq!(connects("failed").await, 2.0, "nobody else meets it");

    let _back = Backend::echo(stage.back(0)).await;
    until("it may try again", async || gauge().await == 0.0).await;
    served(6).await;
    assert_eq!(connects("ok").await, 2.0);
}

#[tokio::test]
async fn no_more_than_half_of_a_pool_is_ejected_and_nobody_where_it_is_off() {
    let stage = Stage::new();
    let _checks = stage.checks_pass().await;
    let _echo = Backend::echo(stage.back(4)).await;
    let backends: Vec<_> = (0..5).map(|i| stage.back(i)).collect();
    for (passive, most) in [
        (
            json!({ "failures": 1, "eject": "1h", "longest": "1h" }),
            2.0,
        ),
        (json!("off"), 0.0),
    ] {
        let mut document = stage.balancer(&backends);
        document["pools"][0]["passive"] = passive;
        document["pools"][0]["retries"] = json!(10);
        let agent = stage.serve(&document).await;
        for _ in 0..12 {
            let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
            assert!(echoes(&mut stream).await);
        }
        let metrics = agent.metrics().await;
        assert_eq!(metrics.sum("tidegate_backend_ejected", &[]), most);
        assert_eq!(
            metrics.sum("tidegate_backend_up", &[]),
            5.0,
            "it is no check"
        );
    }
}

/// Answers 200 to every request, and tells all that came with it.
async fn asked(address: SocketAddr, tell: mpsc::UnboundedSender<(SocketAddr, Vec<u8>)>) -> Backend {
    Backend::serve(address, move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut heard = Vec::new();
            let is_whole = |heard: &[u8]| {
                heard.ends_with(b"\r\n\r\n") && heard.windows(4).any(|word| word == b"GET ")
            };
            while !is_whole(&heard) {
                match stream.read_buf(&mut heard).await {
                    Ok(1..) => {}
                    _ => return,
                }
            }
            tell.send((address, heard)).ok();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.write_all(answer).await.ok();
        }
    })
    .await
}
