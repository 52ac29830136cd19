//! Large documents: what a change costs is what it touches.

use serde_json::{Value, json};
use tidegate_tests::Stage;
use tidegate_tests::stage::CHECK_PORT;

const LISTENERS: u16 = 1000;
const BACKENDS: u16 = 10_000;
/// The first of the listeners' ports; below those of outgoing connections.
const FIRST: u16 = 10_000;

/// Each listener has a pool of its own, or all have one; the first backend of the first
/// pool has this weight.
fn document(stage: &Stage, balance: &str, pools: u16, weight: u32) -> Value {
    let pool = |index: u16| {
        let backend = |number: u16| {
            // Each its own address, as far as there are any.
            let host = stage.net.ip(60 + u8::try_from(number / 1000).unwrap());
            json!({
                "name": format!("b{number}"),
                "address": format!("{host}:{}", CHECK_PORT + 1 + number % 1000),
                "weight": if (index, number) == (0, 0) { weight } else { 1 },
            })
        };
        json!({
            "name": format!("p{index}"), "balance": balance,
            "backends": (0..BACKENDS / pools).map(backend).collect::<Vec<_>>(),
            "health_check": { "tcp": {}, "port": CHECK_PORT, "interval": "1h" },
        })
    };
    let listener = |index: u16| {
        json!({
            "name": format!("l{index}"), "role": "balancer",
            "bind": format!(":{}", FIRST + index), "pool": format!("p{}", index % pools),
        })
    };
    json!({
        "listeners": (0..LISTENERS).map(listener).collect::<Vec<_>>(),
        "pools": (0..pools).map(pool).collect::<Vec<_>>(),
    })
}

#[tokio::test]
async fn a_change_among_1_000_listeners_and_10_000_backends_takes_no_time() {
    for (balance, pools) in [
        ("least_connections", LISTENERS),
        ("least_connections", 1),
        ("source_hash", 1),
    ] {
        let stage = Stage::new();
        let document = |weight| document(&stage, balance, pools, weight);
        let agent = stage.agent(&document(1)).with("--threads", 2).serve().await;
        let mut times = Vec::new();
        for weight in 2..9 {
            let applied = agent.apply(&document(weight)).await;
            assert_eq!(applied.text("changes"), "~pool p0");
            times.push(applied.number("took_ms"));
        }
        println!("{balance}, {pools} pools: {times:?} ms");
        // This machine does other things as well: the quickest says what it costs.
        let quickest = times.iter().min().unwrap();
        assert!(*quickest < 50, "{balance}, {pools} pools: {times:?} ms");
    }
}
