//! Who may connect, how often, and who connects most.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_tests::backend::{Backend, next};
use tidegate_tests::client::{echoes, read_to_end};
use tidegate_tests::stage::HOST;
use tidegate_tests::{Fleet, Net, Stage, proxy, until};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_denied_client_is_refused_before_any_byte_however_the_rule_is_written() {
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[backend.address()]);
    let port = stage.net.shared_port();
    document["listeners"][0]["bind"] = json!(format!("[::]:{port}"));
    document["policies"][0]["deny"] = json!([
        stage.net.client(0),
        format!("::ffff:{}", stage.net.client(1)),
        format!("::ffff:{}120/125", stage.net.prefix()),
    ]);
    let agent = stage.serve(&document).await;

    // Through a `[::]` listener every one of them arrives as v4-mapped.
    for client in [0, 1, 20, 27] {
        let mut stream = stage
            .client(client)
            .tcp(stage.net.at(1, port))
            .await
            .unwrap();
        // The refusal may come before these bytes do.
        stream.write_all(b"let me in").await.ok();
        assert_eq!(read_to_end(&mut stream).await.0, b"");
        let closed = agent
            .await_closed(0, |e| e.client().ip() == stage.net.client(client))
            .await;
        assert_eq!(
            (closed.cause(), closed.phase()),
            ("denied", "accept"),
            "{closed:?}"
        );
        assert!(!closed.has("backend"), "{closed:?}");
    }
    assert!(handed.try_recv().is_err(), "no backend heard of them");
    for client in [2, 19, 28] {
        let _stream = stage
            .client(client)
            .tcp(stage.net.at(1, port))
            .await
            .unwrap();
        next(&mut handed).await;
    }
    until("all four counted", async || {
        agent.metrics().await.closed("denied") == 4.0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_not_allowed_is_refused() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    document["policies"][0]["allow"] = json!([stage.net.client(1), stage.net.client(2)]);
    document["policies"][0]["deny"] = json!([stage.net.client(2)]);
    let agent = stage.serve(&document).await;
    let front = stage.front();
    assert!(echoes(&mut stage.client(1).tcp(front).await.unwrap()).await);
    for (client, cause) in [(0, "not_allowed"), (2, "denied")] {
        let mut stream = stage.client(client).tcp(front).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await.0, b"");
        let closed = agent
            .await_closed(0, |e| e.client().ip() == stage.net.client(client))
            .await;
        assert_eq!(closed.cause(), cause);
    }
}

#[tokio::test]
async fn a_denied_client_behind_a_balancer_is_refused_before_tls() {
    let stage = Stage::new();
    let mut document = stage.terminator(&[stage.back(0)]);
    document["listeners"][0]["accept_proxy"] = json!([stage.net.client(0)]);
    document["policies"][0]["deny"] = json!(["::ffff:192.0.2.0/120"]);
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&document).await;

    let through = async |client: &str, family_6: bool| {
        let destination = if family_6 {
            "[2001:db8::1]:443"
        } else {
            "198.51.100.1:443"
        };
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        let header = proxy::v2(client.parse().unwrap(), destination.parse().unwrap());
        stream.write_all(&header).await.unwrap();
        stage.client(0).tls_over(stream, HOST).await
    };
    assert!(through("192.0.2.9:1000", false).await.is_err());
    // The same client in the other spelling, as a dual-stack balancer may send it.
    assert!(through("[::ffff:192.0.2.9]:1001", true).await.is_err());
    until("both counted", async || {
        agent.metrics().await.closed("denied") == 2.0
    })
    .await;
    let metrics = agent.metrics().await;
    assert_eq!(
        metrics.sum("tidegate_handshakes_total", &[]),
        0.0,
        "no work was done for them"
    );
    assert!(echoes(&mut through("192.0.3.9:1000", false).await.unwrap()).await);
}

#[tokio::test]
async fn denying_a_client_cuts_its_live_connections_and_nobody_elses() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    let agent = stage.serve(&document).await;
    let mut streams = Vec::new();
    for client in 0..6 {
        let mut stream = stage.client(client % 3).tcp(stage.front()).await.unwrap();
        assert!(echoes(&mut stream).await);
        streams.push(stream);
    }

    let denied = stage.net.client(1);
    document["policies"][0]["deny"] = json!([format!("::ffff:{denied}/128")]);
    agent.apply(&document).await;
    for (client, stream) in streams.iter_mut().enumerate() {
        if client % 3 == 1 {
            assert_eq!(read_to_end(stream).await.0, b"");
        } else {
            assert!(echoes(stream).await, "client {client}");
        }
    }
    until("two cut", async || {
        agent.metrics().await.closed("cut") == 2.0
    })
    .await;
    for closed in agent.closed_since(0) {
        assert_eq!(
            (closed.cause(), closed.client().ip()),
            ("cut", denied),
            "{closed:?}"
        );
    }
}

#[tokio::test]
async fn denying_a_client_cuts_its_websockets_at_the_terminators_too() {
    let mut fleet = Fleet::with(|document| {
        // Only the terminators know the rule: the balancer must not do their work.
        document["listeners"][0]
            .as_object_mut()
            .unwrap()
            .remove("policy");
    })
    .await;
    let mut sockets = Vec::new();
    for client in 0..8 {
        sockets.push(
            fleet
                .stage
                .client(client % 2)
                .ws(fleet.edge(), HOST)
                .await
                .unwrap(),
        );
    }
    let denied = fleet.stage.net.client(1);
    fleet
        .apply(|document| document["policies"][0]["deny"] = json!([denied]))
        .await;
    for (client, ws) in sockets.iter_mut().enumerate() {
        if client % 2 == 1 {
            ws.ended().await;
        } else {
            assert!(ws.is_open().await, "client {client}");
        }
    }
    let cut = async || {
        let mut cut = 0.0;
        for terminator in &fleet.terminators {
            cut += terminator.metrics().await.closed("cut");
        }
        cut
    };
    until("four cut", async || cut().await == 4.0).await;
}

#[tokio::test]
async fn a_client_over_its_limit_is_refused_until_one_of_its_own_ends() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[echo.address()]);
    document["policies"][0]["limits"] = json!({ "connections_per_client": 2 });
    let agent = stage.serve(&document).await;
    let open = async |client: u8| stage.client(client).tcp(stage.front()).await.unwrap();
    let (mut one, mut two) = (open(0).await, open(0).await);
    assert!(echoes(&mut one).await && echoes(&mut two).await);

    assert_eq!(read_to_end(&mut open(0).await).await.0, b"");
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(
        (closed.cause(), closed.phase()),
        ("client_limit", "accept"),
        "{closed:?}"
    );
    assert!(
        echoes(&mut open(1).await).await,
        "another client has its own count"
    );
    assert!(echoes(&mut one).await && echoes(&mut two).await);

    let from = agent.log_len();
    drop(two);
    agent
        .await_closed(from, |e| e.client().ip() == stage.net.client(0))
        .await;
    assert!(echoes(&mut open(0).await).await, "what ended is given back");
}

#[tokio::test]
async fn the_top_list_names_the_busiest_of_300_clients_within_its_bound() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.balancer(&[echo.address()])).await;
    let opened = |client: u16| match client {
        77 => 40,
        200 => 25,
        _ => 1 + u64::from(client % 2),
    };
    let mut truth = BTreeMap::new();
    for client in 0..300 {
        let address = stage.net.far_client(client);
        for _ in 0..opened(client) {
            let mut stream = stage
                .client(0)
                .from(address)
                .tcp(stage.front())
                .await
                .unwrap();
            assert!(echoes(&mut stream).await);
        }
        truth.insert(address.to_string(), opened(client));
    }
    let sum: u64 = truth.values().sum();
    let clients = agent.debug("/debug/clients").await;
    top_list_holds(&clients["connections"], &truth, sum);
    assert_eq!(
        clients["connections"]["top"][0]["client"],
        busiest(&stage.net).as_str()
    );
}

fn busiest(net: &Net) -> String {
    net.far_client(77).to_string()
}

/// What a Space-Saving summary promises: every true count is between count - error
/// and count, and who is missing has at most the bound.
fn top_list_holds(list: &Value, truth: &BTreeMap<String, u64>, sum: u64) {
    let number = |value: &Value| {
        value
            .as_u64()
            .unwrap_or_else(|| panic!("a number in {list}"))
    };
    let bound = number(&list["bound"]);
    assert_eq!(number(&list["total"]), sum);
    // With any use, it is smaller than the two that stand out.
    assert!(bound < 25, "{bound}");
    let top = list["top"].as_array().expect("a list");
    assert!(!top.is_empty());
    for row in top {
        let (count, error) = (number(&row["count"]), number(&row["error"]));
        let real = truth[row["client"].as_str().expect("a client")];
        assert!(
            count - error <= real && real <= count && error <= bound,
            "{row}, really {real}"
        );
    }
    let counts: Vec<u64> = top.iter().map(|row| number(&row["count"])).collect();
    assert!(counts.is_sorted_by(|a, b| a >= b), "{counts:?}");
}

#[tokio::test]
async fn no_client_address_is_a_metric_label() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&stage.balancer(&[echo.address()])).await;
    let client = stage.client(5);
    assert!(echoes(&mut client.tcp(stage.front()).await.unwrap()).await);
    let metrics = agent.metrics().await;
    let address = stage.net.client(5).to_string();
    assert!(
        metrics
            .label_values()
            .all(|value| !value.contains(&address))
    );
}
