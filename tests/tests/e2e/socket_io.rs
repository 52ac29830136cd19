//! socket.io, as most of its users have it: a session begins as polling, whose requests
//! must all reach one process, and goes on as a WebSocket. Two balancers, two
//! terminators behind each of them, two processes beside each of those.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tidegate_tests::client::command::said_by;
use tidegate_tests::stage::{HOST, PORT, checked_by_http, pool};
use tidegate_tests::steered::sees_up;
use tidegate_tests::{Agent, Stage, checkout};

use super::websockets::started;

const BALANCERS: [u8; 2] = [1, 4];
const TERMINATORS: [u8; 2] = [2, 3];
const CLIENTS: u16 = 12;

#[tokio::test]
async fn sessions_of_polling_stay_at_one_process_whichever_balancer_and_become_websockets() {
    let stage = Stage::new();
    let _apps = join_all(TERMINATORS.into_iter().flat_map(|terminator| {
        let stage = &stage;
        [3000, 3001].map(|port| {
            let at = stage.net.at(terminator, port);
            started("node", "socketio-app.mjs", at)
        })
    }))
    .await;
    let mut terminators = Vec::new();
    for host in TERMINATORS {
        let document = terminator(&stage);
        terminators.push(stage.agent_at(stage.net.ip(host), &document).serve().await);
    }
    for terminator in &terminators {
        sees_up(terminator, "back", 2).await;
    }
    // The key is the operator's own, and the same on both (docs/operating.md).
    let key = stage.path("hash-key");
    std::fs::write(&key, "00112233445566778899aabbccddeeff\n").unwrap();
    let mut balancers = Vec::new();
    for host in BALANCERS {
        let start = stage.agent_at(stage.net.ip(host), &balancer(&stage, "source_hash"));
        let agent = start.with("--hash-key-file", key.display()).serve().await;
        sees_up(&agent, "back", 2).await;
        balancers.push(agent);
    }
    let said = clients(&stage).await;
    let names = said
        .strip_prefix("done ")
        .unwrap_or_else(|| panic!("{said}"));
    let names: Vec<&str> = names.split_whitespace().collect();
    assert_eq!(names.len(), usize::from(CLIENTS));
    let used: BTreeSet<_> = names.iter().collect();
    assert!(used.len() > 2, "they are spread: {names:?}");
    for agent in &balancers {
        let opened = connects(agent).await;
        assert!(opened > f64::from(CLIENTS), "{opened} over one of them");
    }

    // The same clients without it: requests of one session meet different processes.
    for agent in &balancers {
        agent.apply(&balancer(&stage, "round_robin")).await;
    }
    let said = clients(&stage).await;
    // 400 is what a process says of a session that it does not know.
    assert!(
        said.starts_with("failed") && said.contains("error 400"),
        "{said}"
    );
}

async fn connects(agent: &Agent) -> f64 {
    let metrics = agent.metrics().await;
    metrics.sum("tidegate_backend_connects_total", &[("result", "ok")])
}

/// Its processes have their clients by source as well.
fn terminator(stage: &Stage) -> Value {
    let mut document = stage.node_terminator(&[]);
    let balancers = BALANCERS.map(|host| stage.net.ip(host));
    document["listeners"][0]["accept_proxy"] = json!(balancers);
    document["pools"][0]["backends"] = json!([{ "address": ":3000" }, { "address": ":3001" }]);
    document["pools"][0]["balance"] = json!("source_hash");
    document
}

fn balancer(stage: &Stage, balance: &str) -> Value {
    let mut document = stage.balancer(&[]);
    let instances = TERMINATORS.map(|host| stage.net.at(host, PORT));
    let mut pool = checked_by_http(pool("back", &instances));
    pool["health_check"]["http"]["path"] = json!("/health/tls");
    pool["health_check"]["port"] = json!(7445);
    pool["balance"] = json!(balance);
    pool["proxy_protocol"] = json!("v2");
    document["pools"] = json!([pool]);
    document
}

/// What the clients of `socketio-client.mjs` say.
async fn clients(stage: &Stage) -> String {
    let joined = |each: Vec<String>| each.join(",");
    let authority = stage.authority();
    let fronts = BALANCERS.map(|host| stage.net.at(host, PORT).to_string());
    let sources = (0..CLIENTS).map(|n| stage.net.far_client(n));
    let arguments = [
        checkout("tests/websockets/socketio-client.mjs")
            .display()
            .to_string(),
        authority.display().to_string(),
        HOST.to_owned(),
        joined(fronts.to_vec()),
        joined(sources.map(|ip: IpAddr| ip.to_string()).collect()),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    said_by("node", &arguments).await
}
