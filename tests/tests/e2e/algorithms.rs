//! How connections are spread, seen from outside: the same client to the same
//! backend on every balancer, the least loaded first, newcomers gently, and more to
//! whoever says that it can carry more.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use tidegate_tests::backend::Backend;
use tidegate_tests::stage::PORT;
use tidegate_tests::{Stage, until, within};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

struct Named {
    _backends: Vec<Backend>,
    addresses: Vec<SocketAddr>,
}

async fn named(stage: &Stage, count: u16) -> Named {
    let mut backends = Vec::new();
    for i in 0..count {
        backends.push(Backend::named(stage.back(i), NAMES[usize::from(i)]).await);
    }
    Named {
        addresses: backends.iter().map(Backend::address).collect(),
        _backends: backends,
    }
}

fn document(stage: &Stage, backends: &[SocketAddr], balance: &str) -> Value {
    let mut document = stage.balancer(backends);
    document["pools"][0]["balance"] = json!(balance);
    document
}

/// A connection, and the backend that has it.
async fn open(stage: &Stage, source: IpAddr, front: SocketAddr) -> (TcpStream, char) {
    let client = stage.client(0).from(source);
    let mut stream = client.tcp(front).await.unwrap();
    let name = within("a name", stream.read_u8()).await.unwrap();
    (stream, name.into())
}

fn counted(held: &[(TcpStream, char)]) -> BTreeMap<char, usize> {
    let mut counts = BTreeMap::new();
    for (_, name) in held {
        *counts.entry(*name).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn with_least_connections_the_emptiest_is_next_and_idle_ones_take_turns() {
    let stage = Stage::new();
    let named = named(&stage, 3).await;
    let _checks = stage.checks_pass().await;
    let document = document(&stage, &named.addresses, "least_connections");
    let agent = stage.agent(&document).with("--threads", 1).serve().await;
    let client = stage.net.client(0);
    let mut one_by_one = Vec::new();
    for _ in 0..6 {
        let (stream, name) = open(&stage, client, stage.front()).await;
        drop(stream);
        until("it is over", async || agent.metrics().await.live() == 0.0).await;
        one_by_one.push(name);
    }
    for turn in one_by_one.chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort_unstable();
        assert_eq!(turn, ['a', 'b', 'c'], "{one_by_one:?}");
    }
    let mut held = Vec::new();
    for _ in 0..9 {
        held.push(open(&stage, client, stage.front()).await);
    }
    assert_eq!(counted(&held), [('a', 3), ('b', 3), ('c', 3)].into());
    held.retain(|(_, name)| *name != 'b');
    until("b is empty", async || agent.metrics().await.live() == 6.0).await;
    for _ in 0..3 {
        held.push(open(&stage, client, stage.front()).await);
    }
    assert_eq!(counted(&held)[&'b'], 3);
}

#[tokio::test]
async fn with_random_two_nobody_is_left_out_and_nobody_is_overwhelmed() {
    let stage = Stage::new();
    let named = named(&stage, 4).await;
    let _checks = stage.checks_pass().await;
    let document = document(&stage, &named.addresses, "random_two");
    let _agent = stage.serve(&document).await;
    let mut held = Vec::new();
    for _ in 0..80 {
        held.push(open(&stage, stage.net.client(0), stage.front()).await);
    }
    let counts = counted(&held);
    // The less loaded of two is never far from the mean of 20.
    let near = |count: &usize| (13..=27).contains(count);
    assert!(counts.len() == 4 && counts.values().all(near), "{counts:?}");
}

#[tokio::test]
async fn with_source_hash_every_balancer_leads_a_client_to_the_same_backend() {
    const CLIENTS: u16 = 60;
    let stage = Stage::new();
    let named = named(&stage, 4).await;
    let _checks = stage.checks_pass().await;
    let mut document = document(&stage, &named.addresses, "source_hash");
    let one = stage.agent_at(stage.net.ip(1), &document).serve().await;
    let _other = stage.agent_at(stage.net.ip(2), &document).serve().await;
    let led_to = async |agent: u8| {
        let mut led = Vec::new();
        for client in 0..CLIENTS {
            let front = stage.net.at(agent, PORT);
            led.push(open(&stage, stage.net.far_client(client), front).await.1);
        }
        led
    };
    let before = led_to(1).await;
    assert_eq!(before, led_to(2).await);
    assert_eq!(before, led_to(1).await, "and again");
    let used: std::collections::BTreeSet<_> = before.iter().collect();
    assert_eq!(used.len(), 4, "{before:?}");

    // Under a key of their own they agree as well, upon something else.
    let key = stage.path("hash-key");
    std::fs::write(&key, "00112233445566778899aabbccddeeff\n").unwrap();
    let keyed = |agent| {
        let start = stage.agent_at(stage.net.ip(agent), &document);
        start.with("--hash-key-file", key.display())
    };
    let (_third, _fourth) = (keyed(3).serve().await, keyed(4).serve().await);
    let under_key = led_to(3).await;
    assert_eq!(under_key, led_to(4).await);
    assert_ne!(under_key, before);
    std::fs::write(&key, "0011").unwrap();
    let mut refused = keyed(5).spawn();
    assert_ne!(refused.child().exit_code().await, 0);
    let why = refused.log_text();
    assert!(why.contains("32 hexadecimal digits"), "{why}");

    // The last one leaves: its clients move, and few of the others.
    document["pools"][0]["backends"]
        .as_array_mut()
        .unwrap()
        .pop();
    one.apply(&document).await;
    let after = led_to(1).await;
    assert!(!after.contains(&'d'));
    let others = before.iter().zip(&after).filter(|(was, _)| **was != 'd');
    let moved = others.filter(|(was, is)| was != is).count();
    assert!(moved <= usize::from(CLIENTS) / 10, "{moved}");
}

#[tokio::test]
async fn a_backend_that_comes_back_gets_its_share_slowly() {
    let stage = Stage::new();
    let steady = Backend::named(stage.back(0), "a").await;
    let mut document = document(&stage, &[steady.address(), stage.back(1)], "round_robin");
    let pool = &mut document["pools"][0];
    pool["health_check"] = json!({ "tcp": {}, "interval": "50ms", "rise": 1 });
    pool["slow_start"] = json!("1h");
    let agent = stage.agent(&document).with("--threads", 1).serve().await;
    let name = stage.back(1).to_string();
    until("b is down", async || !agent.is_up("back", &name).await).await;
    let _back = Backend::named(stage.back(1), "b").await;
    until("b is up", async || agent.is_up("back", &name).await).await;
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(open(&stage, stage.net.client(0), stage.front()).await);
    }
    let few = counted(&held).get(&'b').copied().unwrap_or(0);
    assert!(few <= 4, "{few} of 40 within the first seconds of an hour");
    document["pools"][0]
        .as_object_mut()
        .unwrap()
        .remove("slow_start");
    agent.apply(&document).await;
    held.clear();
    for _ in 0..40 {
        held.push(open(&stage, stage.net.client(0), stage.front()).await);
    }
    assert_eq!(counted(&held), [('a', 20), ('b', 20)].into());
}

#[tokio::test]
async fn an_instance_with_two_processes_gets_twice_as_much_as_one_with_one() {
    let stage = Stage::new();
    let named = named(&stage, 3).await;
    let _checks = stage.checks_pass().await;
    // Two terminators: `a` and `b` are behind the first, `c` behind the second.
    let mut terminators = Vec::new();
    for (index, processes) in [(2, &named.addresses[..2]), (3, &named.addresses[2..])] {
        let mut document = stage.terminator(processes);
        document["listeners"][0]["bind"] = json!(":8444");
        terminators.push(stage.agent_at(stage.net.ip(index), &document).serve().await);
    }
    let instances = [stage.net.at(2, 8444), stage.net.at(3, 8444)];
    let mut document = document(&stage, &instances, "least_connections");
    document["pools"][0]["health_check"] =
        json!({ "agent": { "listener": "tls" }, "port": 7445, "interval": "50ms" });
    let balancer = stage.agent(&document).with("--threads", 1).serve().await;
    for (instance, up) in instances.iter().zip(["2 up", "1 up"]) {
        until(format!("{instance} says {up}"), async || {
            let row = balancer.backend("back", &instance.to_string()).await;
            row["last_check"].to_string().contains(up)
        })
        .await;
    }
    let mut held = Vec::new();
    for _ in 0..30 {
        let client = stage.client(0);
        let mut stream = client
            .tls(stage.front(), tidegate_tests::stage::HOST)
            .await
            .unwrap();
        let name = within("a name", stream.read_u8()).await.unwrap();
        held.push((stream, char::from(name)));
    }
    let at = |names: &[char]| held.iter().filter(|(_, name)| names.contains(name)).count();
    let (first, second) = (at(&['a', 'b']), at(&['c']));
    assert!((19..=21).contains(&first), "{first} and {second} of 30");
    assert_eq!(first + second, 30);
}
