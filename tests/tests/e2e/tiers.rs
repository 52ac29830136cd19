//! Who serves when not everybody can: weights, backups, and what happens when all
//! are down; each change is an event and a metric.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_tests::backend::Backend;
use tidegate_tests::client::read_to_end;
use tidegate_tests::{Agent, Stage, until, within};
use tokio::io::AsyncReadExt;

const NAMES: [&str; 4] = ["p", "q", "x", "y"];

/// Primaries `p` and `q`, backups `x` and `y`, each checked by what it is.
fn document(stage: &Stage, backends: u16) -> Value {
    let backends = (0..backends).map(
        |i| json!({ "name": NAMES[usize::from(i)], "address": stage.back(i), "backup": i >= 2 }),
    );
    json!({
        "listeners": [{ "name": "edge", "role": "balancer", "bind": ":8443", "pool": "back" }],
        "pools": [{
            "name": "back", "balance": "round_robin", "backends": backends.collect::<Vec<_>>(),
            "passive": "off",
            "health_check": { "tcp": {}, "interval": "50ms", "rise": 1, "fall": 1 },
        }],
    })
}

async fn start(stage: &Stage, index: u16) -> Backend {
    Backend::named(stage.back(index), NAMES[usize::from(index)]).await
}

/// Who answers so many clients; nobody is a space.
async fn answers(stage: &Stage, count: usize) -> BTreeMap<char, usize> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        let name = within("a name or the end", stream.read_u8()).await;
        *answers.entry(name.unwrap_or(b' ').into()).or_default() += 1;
    }
    answers
}

async fn known(agent: &Agent, name: &str, up: bool) {
    until(format!("{name} is up: {up}"), async || {
        let row = agent.backend("back", name).await;
        row["up"] == up && !row["last_check"].is_null()
    })
    .await;
}

/// Exactly one serves by the metric, and this is the one.
async fn served_by(agent: &Agent, by: &str) {
    let metrics = agent.metrics().await;
    let serving = |labels: &[(&str, &str)]| metrics.sum("tidegate_pool_serving", labels);
    assert_eq!(serving(&[("pool", "back"), ("by", by)]), 1.0, "{by}");
    assert_eq!(serving(&[]), 1.0);
}

async fn is_told(agent: &Agent, from: usize, by: &str) {
    let told = |event: &tidegate_tests::agent::Event| {
        event.message().starts_with("pool served") && event.text("by") == by
    };
    let event = agent.await_log("who serves", from, told).await;
    assert_eq!(event.text("pool"), "back", "{event:?}");
}

#[tokio::test]
async fn the_first_backup_that_is_up_serves_while_no_primary_is() {
    let stage = Stage::new();
    let (p, q) = (start(&stage, 0).await, start(&stage, 1).await);
    let (x, _y) = (start(&stage, 2).await, start(&stage, 3).await);
    let agent = stage.serve(&document(&stage, 4)).await;
    assert_eq!(answers(&stage, 6).await, [('p', 3), ('q', 3)].into());
    served_by(&agent, "primary").await;

    drop(p);
    known(&agent, "p", false).await;
    assert_eq!(answers(&stage, 4).await, [('q', 4)].into(), "one is enough");
    let from = agent.log_len();
    drop(q);
    is_told(&agent, from, "backup").await;
    served_by(&agent, "backup").await;
    assert_eq!(answers(&stage, 4).await, [('x', 4)].into());
    drop(x);
    known(&agent, "x", false).await;
    assert_eq!(answers(&stage, 4).await, [('y', 4)].into());

    let from = agent.log_len();
    let _p = start(&stage, 0).await;
    is_told(&agent, from, "primary").await;
    served_by(&agent, "primary").await;
    assert_eq!(answers(&stage, 4).await, [('p', 4)].into());
}

#[tokio::test]
async fn all_backups_serve_together_where_the_document_says_so() {
    let stage = Stage::new();
    let _backups = [start(&stage, 2).await, start(&stage, 3).await];
    let mut document = document(&stage, 4);
    document["pools"][0]["backups"] = json!("all");
    let agent = stage.agent(&document).with("--threads", 1).serve().await;
    known(&agent, "p", false).await;
    known(&agent, "q", false).await;
    assert_eq!(answers(&stage, 8).await, [('x', 4), ('y', 4)].into());
}

#[tokio::test]
async fn when_all_are_down_nobody_serves_unless_the_pool_fails_open() {
    let stage = Stage::new();
    let _backends = [start(&stage, 0).await, start(&stage, 1).await];
    let mut document = document(&stage, 2);
    // Everybody is there, and nobody passes.
    document["pools"][0]["health_check"]["port"] = json!(4999);
    for all_down in ["backup", "refuse"] {
        document["pools"][0]["all_down"] = json!(all_down);
        let agent = stage.serve(&document).await;
        // Before anybody has come.
        is_told(&agent, 0, "nobody").await;
        served_by(&agent, "nobody").await;
        assert_eq!(agent.health("edge").await, 503);
        let mut stream = stage.client(0).tcp(stage.front()).await.unwrap();
        assert_eq!(read_to_end(&mut stream).await.0, b"");
        let closed = agent.await_closed(0, |_| true).await;
        assert_eq!(closed.cause(), "no_backend", "{all_down}: {closed:?}");
    }
    document["pools"][0]["all_down"] = json!("fail_open");
    document["pools"][0]["backends"][1]["weight"] = json!(0);
    let agent = stage.serve(&document).await;
    is_told(&agent, 0, "fail_open").await;
    served_by(&agent, "fail_open").await;
    assert_eq!(agent.health("edge").await, 200);
    assert_eq!(
        answers(&stage, 4).await,
        [('p', 4)].into(),
        "q has no weight"
    );
}

#[tokio::test]
async fn a_weight_of_0_takes_nothing_new_and_is_still_checked() {
    let stage = Stage::new();
    let _backends = [start(&stage, 0).await, start(&stage, 1).await];
    let mut document = document(&stage, 2);
    let agent = stage.agent(&document).with("--threads", 1).serve().await;
    document["pools"][0]["backends"][0]["weight"] = json!(0);
    agent.apply(&document).await;
    assert_eq!(answers(&stage, 6).await, [('q', 6)].into());
    let passed = async || {
        let p = [("backend", "p"), ("result", "pass")];
        agent.metrics().await.sum("tidegate_checks_total", &p)
    };
    let before = passed().await;
    until("another check", async || passed().await > before).await;
    document["pools"][0]["backends"][0]["weight"] = json!(3);
    agent.apply(&document).await;
    assert_eq!(answers(&stage, 8).await, [('p', 6), ('q', 2)].into());
}
