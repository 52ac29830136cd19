//! Documents that cannot be run: refused whole, with every reason, and what ran
//! before goes on.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidegate_tests::backend::Backend;
use tidegate_tests::child::Signal;
use tidegate_tests::client::echoes;
use tidegate_tests::stage::{PORT, pool};
use tidegate_tests::{Agent, Stage, until};
use tokio::net::TcpListener;

#[tokio::test]
async fn ten_mistakes_get_ten_pointers_and_nothing_starts() {
    let stage = Stage::new();
    let (document, pointers) = ten_mistakes();
    let mut agent = stage.agent(&document).spawn();
    assert_eq!(agent.child().exit_code().await, 1);
    let log = agent.log_text();
    // One per line, in words for people: `  POINTER: MESSAGE`.
    let found: Vec<&str> = log
        .lines()
        .filter_map(|line| {
            line.strip_prefix("  /")?
                .split_once(": ")
                .map(|(pointer, _)| pointer)
        })
        .collect();
    let wanted: Vec<&str> = pointers.iter().map(|p| &p[1..]).collect();
    assert_eq!(found.len(), 10, "{log}");
    assert_eq!(
        BTreeSet::from_iter(found),
        BTreeSet::from_iter(wanted),
        "{log}"
    );
}

#[tokio::test]
async fn a_bad_document_on_sighup_is_refused_with_all_reasons_and_the_old_one_goes_on() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let good = stage.balancer(&[echo.address()]);
    let agent = stage.serve(&good).await;
    let mut before = stage.client(0).tcp(stage.front()).await.unwrap();
    assert!(echoes(&mut before).await);
    let hash = agent.debug("/debug/snapshot").await["hash"].clone();

    let (bad, pointers) = ten_mistakes();
    let refused = agent.refuse(&bad).await;
    let mistakes = refused.text("mistakes");
    for pointer in pointers {
        assert!(
            mistakes.contains(&format!("{pointer}: ")),
            "{pointer} in {mistakes}"
        );
    }
    // Not even half of it is a document.
    std::fs::write(
        stage.path(&format!("chain-{}.yaml", stage.net.balancer())),
        "{ : [",
    )
    .unwrap();
    assert_eq!(agent.reload().await.message(), "refused");

    assert!(echoes(&mut before).await);
    assert!(echoes(&mut stage.client(1).tcp(stage.front()).await.unwrap()).await);
    assert_eq!(agent.debug("/debug/snapshot").await["hash"], hash);
    let refused = [("result", "refused")];
    assert_eq!(
        agent
            .metrics()
            .await
            .sum("tidegate_applies_total", &refused),
        2.0
    );
    assert_eq!(agent.apply(&good).await.message(), "unchanged");
}

#[tokio::test]
async fn two_listeners_on_one_address_are_refused_and_named() {
    let stage = Stage::new();
    let mut document = stage.balancer(&[stage.back(0)]);
    let mut second = document["listeners"][0].clone();
    second["name"] = json!("other");
    // The same address in its other spelling.
    second["bind"] = json!(stage.front());
    document["listeners"].as_array_mut().unwrap().push(second);
    let agent = refused_at_start(&stage, &document).await;
    let log = agent.log_text();
    assert!(log.contains("  /listeners/1/bind: "), "{log}");
    assert!(
        log.contains(&stage.front().to_string()) && log.contains("edge"),
        "{log}"
    );
}

#[tokio::test]
async fn two_listeners_of_different_agents_may_share_a_port() {
    let stage = Stage::new();
    let document = stage.balancer(&[stage.back(0)]);
    let _one = stage
        .agent_at(stage.net.terminator(0), &document)
        .serve()
        .await;
    let _two = stage
        .agent_at(stage.net.terminator(1), &document)
        .serve()
        .await;
}

#[tokio::test]
async fn an_address_of_another_agent_is_refused_and_named() {
    let stage = Stage::new();
    let document = stage.balancer(&[stage.back(0)]);
    let _first = stage.serve(&document).await;
    let mut document = document.clone();
    document["listeners"][0]["bind"] = json!(stage.front());
    let address = stage.net.terminator(0);
    let mut second = stage.agent_at(address, &document).spawn();
    assert_eq!(second.child().exit_code().await, 1);
    let log = second.log_text();
    assert!(
        log.contains(&stage.front().to_string()) && log.contains("/listeners/0/bind"),
        "{log}"
    );
    assert!(log.contains("another agent"), "whose it is: {log}");
}

#[tokio::test]
async fn an_address_of_another_program_is_refused_and_named() {
    let stage = Stage::new();
    let _program = TcpListener::bind(stage.front()).await.unwrap();
    let agent = refused_at_start(&stage, &stage.balancer(&[stage.back(0)])).await;
    let log = agent.log_text();
    assert!(log.contains(&stage.front().to_string()), "{log}");
    assert!(log.contains("/listeners/0/bind"), "{log}");
}

#[tokio::test]
async fn a_taken_address_on_sighup_leaves_everything_as_it_was() {
    let stage = Stage::new();
    let echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let good = stage.balancer(&[echo.address()]);
    let agent = stage.serve(&good).await;
    let taken = stage.net.at(1, 9001);
    let program = TcpListener::bind(taken).await.unwrap();

    let mut wider = good.clone();
    for (name, port) in [("free", 9000), ("taken", 9001), ("free-too", 9002)] {
        let listener = json!({ "name": name, "role": "balancer", "bind": format!(":{port}"),
                               "pool": "back" });
        wider["listeners"].as_array_mut().unwrap().push(listener);
    }
    let refused = agent.refuse(&wider).await;
    let mistakes = refused.text("mistakes");
    assert!(mistakes.contains("/listeners/2/bind"), "{mistakes}");
    assert!(mistakes.contains(&taken.to_string()), "{mistakes}");
    // What could have been bound was given back: somebody else gets it.
    for port in [9000, 9002] {
        TcpListener::bind(stage.net.at(1, port))
            .await
            .expect("free again");
    }
    assert!(echoes(&mut stage.client(0).tcp(stage.front()).await.unwrap()).await);

    drop(program);
    // Where all tests share one process, a child that is just being started by
    // another test may hold a copy of it for a moment.
    until("the address is free", async || {
        TcpListener::bind(taken).await.is_ok()
    })
    .await;
    agent.apply(&wider).await;
    for port in [9000, 9001, 9002] {
        let mut stream = stage.client(0).tcp(stage.net.at(1, port)).await.unwrap();
        assert!(echoes(&mut stream).await, "{port}");
    }
}

#[tokio::test]
async fn what_only_a_fleet_knows_is_refused_standalone() {
    let stage = Stage::new();
    let mut document = stage.terminator(&[stage.back(0)]);
    // The default on terminators: balancers.
    document["listeners"][0]
        .as_object_mut()
        .unwrap()
        .remove("accept_proxy");
    document["certificates"] = json!([{ "name": "play" }]);
    let agent = refused_at_start(&stage, &document).await;
    let log = agent.log_text();
    assert!(log.contains("  /listeners/0/accept_proxy: "), "{log}");
    assert!(log.contains("/certificates/0"), "{log}");
}

#[tokio::test]
async fn an_agent_that_gave_up_leaves_its_address_to_the_next() {
    let stage = Stage::new();
    let document = stage.balancer(&[stage.back(0)]);
    let mut agent = stage.serve(&document).await;
    agent.signal(Signal::KILL);
    agent.child().exit_code().await;
    let _next = stage.serve(&document).await;
    stage.client(0).tcp(stage.net.at(1, PORT)).await.unwrap();
}

async fn refused_at_start(stage: &Stage, document: &Value) -> Agent {
    let mut agent = stage.agent(document).spawn();
    assert_eq!(agent.child().exit_code().await, 1);
    agent
}

/// A document with ten mistakes of ten kinds, and where they are.
fn ten_mistakes() -> (Value, [&'static str; 10]) {
    let balancer = |name: &str| json!({ "name": name, "role": "balancer", "pool": "good" });
    let with = |name: &str, more: Value| {
        let mut listener = balancer(name);
        listener["bind"] = json!(":8443");
        listener
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        listener
    };
    let mut heavy = pool("heavy", &["192.0.2.1:1".parse().unwrap()]);
    heavy["backends"][0]["weight"] = json!(300);
    let twin = "192.0.2.1:1".parse().unwrap();
    let document = json!({
        "listeners": [
            with("no-pool", json!({ "pool": "gone" })),
            with("no-address", json!({ "bind": "localhost:8443" })),
            with("decrypts", json!({ "bind": ":8444", "tls": { "certificates": ["play"] } })),
            with("typo", json!({ "bind": ":8445", "polcy": "strict" })),
            with("headers-in-bytes", json!({
                "bind": ":8446", "role": "terminator", "accept_proxy": "none",
                "tls": { "certificates": ["play"] }, "mode": "tcp", "client_ip": "forwarded",
            })),
            with("no-certificate", json!({
                "bind": ":8447", "role": "terminator", "accept_proxy": "none",
                "tls": { "certificates": ["missing"] },
            })),
        ],
        "pools": [
            pool("good", &[twin]), heavy, { "name": "empty" }, pool("twins", &[twin, twin]),
        ],
        "policies": [{ "name": "host-bits", "deny": ["192.0.2.1/24"] }],
        "certificates": [{ "name": "play" }],
    });
    let pointers = [
        "/listeners/0/pool",
        "/listeners/1/bind",
        "/listeners/2/tls",
        "/listeners/3/polcy",
        "/listeners/4/client_ip",
        "/listeners/5/tls/certificates/0",
        "/pools/1/backends/0/weight",
        "/pools/2",
        "/pools/3/backends/1",
        "/policies/0/deny/0",
    ];
    (document, pointers)
}
