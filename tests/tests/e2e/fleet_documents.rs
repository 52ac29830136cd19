//! What is written to a fleet: all mistakes at once and nothing changed, one of two
//! racing writers, numbers without gaps, and no message for what is the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use tidegate_tests::agent::Event;
use tidegate_tests::rest::{Body, Rest};
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Steered, until};

const WRITERS: usize = 8;
const COMMITS_EACH: usize = 250;

#[tokio::test]
async fn ten_mistakes_have_ten_pointers_and_change_nothing() {
    let fleet = Steered::start().await;
    let rest = &fleet.control_plane.rest;
    let before = (rest.get("/config").await, rest.get("/status").await);
    let wrong = ten_mistakes(fleet.document.clone());
    for path in ["/config", "/config?dry_run=true"] {
        let problem = rest.refused(422, Method::PUT, path, Body::Json(&wrong));
        let problem = problem.await;
        assert_eq!(problem["type"], "urn:tidegate:problem:invalid-document");
        let errors = problem["errors"].as_array().unwrap();
        let pointers = errors.iter().map(|e| e["pointer"].as_str().unwrap());
        let pointers: Vec<&str> = pointers.collect();
        let expected = [
            "/certificates/1/name",
            "/listeners/0/policy",
            "/listeners/0/pool",
            "/listeners/1/tls/certificates/0",
            "/listeners/2/bind",
            "/listeners/3/colour",
            "/policies/0/deny/0",
            "/pools/0/discover/listener",
            "/pools/1/balance",
            "/pools/2/backends/0/weight",
        ];
        assert_eq!(
            pointers.iter().copied().collect::<BTreeSet<_>>(),
            expected.into()
        );
        assert_eq!(pointers.len(), expected.len(), "{problem:#}");
    }
    let after = (rest.get("/config").await, rest.get("/status").await);
    assert_eq!(before.0, after.0);
    assert_eq!(before.1["change"], after.1["change"]);
}

/// In resources of their own where one would hide another.
fn ten_mistakes(mut document: Value) -> Value {
    document["listeners"][0]["pool"] = json!("none-such");
    document["listeners"][0]["policy"] = json!("none-such");
    document["listeners"][1]["tls"]["certificates"] = json!(["none-such"]);
    let listeners = document["listeners"].as_array_mut().unwrap();
    listeners.extend([
        json!({ "name": "third", "role": "balancer", "bind": "nowhere", "pool": "game-tls" }),
        json!({ "name": "fourth", "role": "balancer", "bind": ":9000", "pool": "game-tls",
                "colour": "blue" }),
    ]);
    document["pools"][0]["discover"]["listener"] = json!("edge");
    document["pools"][1]["balance"] = json!("by_heart");
    let pools = document["pools"].as_array_mut().unwrap();
    pools.push(json!({ "name": "extra", "backends": [{ "address": ":3002", "weight": 300 }] }));
    document["policies"][0]["deny"] = json!(["10.0.0.1/8"]);
    document["certificates"] = json!([{ "name": HOST }, { "name": "never-uploaded" }]);
    document
}

#[tokio::test]
async fn of_two_writers_that_read_the_same_one_is_told_that_it_is_late() {
    let fleet = Steered::start().await;
    let rest = &fleet.control_plane.rest;
    for (path, bodies) in [
        (
            "/config",
            ["/policies/0/deny"; 2].map(|_| fleet.document.clone()),
        ),
        (
            "/policies/clients",
            ["10.1.0.0/16", "10.2.0.0/16"].map(|net| json!({ "name": "clients", "deny": [net] })),
        ),
    ] {
        let [mut one, mut other] = bodies;
        if path == "/config" {
            one["policies"][0]["deny"] = json!(["10.3.0.0/16"]);
            other["policies"][0]["deny"] = json!(["10.4.0.0/16"]);
        }
        let etag = rest.etag(path).await;
        let (one, other) = tokio::join!(
            rest.put_if(path, &etag, &one),
            rest.put_if(path, &etag, &other),
        );
        let mut statuses = [one.0, other.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 412], "{path}: {one:?} {other:?}");
    }
}

#[tokio::test]
async fn eight_writers_on_two_control_planes_leave_no_gap_and_pollers_miss_nothing() {
    let fleet = Steered::start().await;
    let other = fleet.another_control_plane().await;
    let planes = [&fleet.control_plane.rest, &other.rest];
    let first = planes[0].get("/status").await["revision"].as_u64().unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let pollers = planes.map(|rest| tokio::spawn(poll(rest.clone(), first, Arc::clone(&done))));
    let writers = (0..WRITERS).map(async |writer| {
        let mut written = Vec::new();
        for n in 0..COMMITS_EACH {
            let path = format!("/policies/writer-{writer}");
            let policy = json!({ "deny": [format!("10.{writer}.{n}.0/24")] });
            let commit = planes[n % 2].put(&path, &policy).await;
            written.push(commit["revision"].as_u64().unwrap());
        }
        assert!(written.is_sorted(), "{written:?}");
        written
    });
    let mut written: Vec<u64> = join_all(writers).await.concat();
    done.store(true, Ordering::Release);
    written.sort_unstable();
    let last = first + u64::try_from(WRITERS * COMMITS_EACH).unwrap();
    let every: Vec<u64> = (first + 1..=last).collect();
    assert_eq!(written, every);
    for poller in pollers {
        assert_eq!(poller.await.unwrap(), every);
    }
}

/// Reads on from the last number it has seen, as any follower would.
async fn poll(rest: Rest, from: u64, done: Arc<AtomicBool>) -> Vec<u64> {
    let mut seen = Vec::new();
    // Often, and yet most of the machine is for the writers.
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    loop {
        pace.tick().await;
        let finished = done.load(Ordering::Acquire);
        // A number below one that was seen is never looked for again.
        let last = seen.last().copied().unwrap_or(from);
        seen.extend(younger_than(&rest, last).await);
        if finished {
            return seen;
        }
    }
}

async fn younger_than(rest: &Rest, last: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let mut page = "/revisions?limit=50".to_owned();
    loop {
        let revisions = rest.get(&page).await;
        let items = revisions["items"].as_array().unwrap();
        let numbers = items.iter().map(|item| item["number"].as_u64().unwrap());
        let new: Vec<u64> = numbers.filter(|number| *number > last).collect();
        found.extend(&new);
        if new.len() < 50 {
            found.reverse();
            return found;
        }
        page = format!("/revisions?limit=50&before={}", found[found.len() - 1]);
    }
}

#[tokio::test]
async fn what_is_the_same_is_neither_committed_nor_sent() {
    let fleet = Steered::start().await;
    let rest = &fleet.control_plane.rest;
    let before = rest.get("/status").await["change"].clone();
    let logged: Vec<usize> = fleet.agents().map(Agent::log_len).collect();
    let commit = rest.put("/config?wait=applied", &fleet.document).await;
    assert_eq!(commit["changed"], false, "{commit:#}");
    assert_eq!(commit["diff"], json!([]));
    assert_eq!(rest.get("/status").await["change"], before);

    // Changes that only concern the balancer are no message for a terminator.
    let mut changed = fleet.document.clone();
    for balance in ["round_robin", "least_connections", "round_robin"] {
        changed["pools"][0]["balance"] = json!(balance);
        rest.apply(&changed).await;
    }
    // This one is for all, and what came before it would be in the log before it.
    changed["policies"][0]["deny"] = json!(["203.0.113.9"]);
    let last = rest.apply(&changed).await["revision"].as_u64().unwrap();
    let answers = |event: &Event| ["applied", "unchanged"].contains(&event.message());
    let mut counts = Vec::new();
    for (agent, from) in fleet.agents().zip(logged) {
        let is_last = |event: &Event| answers(event) && event.number("revision") == last;
        agent.await_log("the last revision", from, is_last).await;
        let events = agent.events_since(from);
        counts.push(events.iter().filter(|event| answers(event)).count());
    }
    assert_eq!(counts, [1, 1, 4], "two terminators, then the balancer");
}

#[tokio::test]
async fn an_agent_that_cannot_run_a_revision_says_why_and_goes_on_alone() {
    let mut fleet = Steered::start().await;
    // Somebody has this address on one of the two machines: planning cannot know.
    let taken = fleet.stage.net.at(2, 9443);
    let _somebody = std::net::TcpListener::bind(taken).unwrap();
    fleet.document["listeners"]
        .as_array_mut()
        .unwrap()
        .push(json!({
            "name": "extra", "role": "terminator", "agents": { "app": "game" }, "bind": ":9443",
            "tls": { "certificates": [HOST] }, "mode": "http", "pool": "game-node",
        }));
    fleet.document["policies"][0]["deny"] = json!(["203.0.113.9"]);
    let rest = &fleet.control_plane.rest;
    let commit = rest.put("/config?wait=applied", &fleet.document).await;
    let failed = commit["applied"]["failed"].as_array().unwrap();
    let bad = rest.agent_at(fleet.stage.net.terminator(0)).await;
    assert_eq!(failed.len(), 1, "{commit:#}");
    assert_eq!(failed[0]["agent"], bad["id"]);
    let mistake = &failed[0]["mistakes"][0];
    assert_eq!(mistake["pointer"], "/listeners/extra/bind", "{mistake:#}");
    assert!(
        mistake["message"]
            .as_str()
            .unwrap()
            .contains(&taken.to_string()),
        "{mistake:#}"
    );
    assert_eq!(
        commit["applied"]["applied"].as_array().unwrap().len(),
        2,
        "{commit:#}"
    );

    assert_eq!(
        (&bad["state"], &bad["in_sync"]),
        (&json!("failed"), &json!(false)),
        "{bad:#}"
    );
    assert_ne!(bad["applied"]["revision"], commit["revision"]);
    // The old state goes on.
    until("each terminator answers", async || {
        let mut letters = BTreeSet::new();
        for client in 0..20 {
            let name = fleet.whoami(client).await["name"]
                .as_str()
                .unwrap()
                .to_owned();
            letters.insert(name.chars().next());
        }
        letters.len() == 2
    })
    .await;
    let other = rest.agent_at(fleet.stage.net.terminator(1)).await;
    assert_eq!(
        other["applied"]["revision"], commit["revision"],
        "{other:#}"
    );
}
