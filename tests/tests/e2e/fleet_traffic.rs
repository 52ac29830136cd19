//! Through a fleet that a control plane steers: the app sees the client, and nothing
//! that is committed closes a connection it still allows.

use serde_json::{Value, json};
use tidegate_tests::client::shown_certificate;
use tidegate_tests::crowd::Crowd;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Steered, until};

const CROWD: usize = 200;
const REVISIONS: usize = 200;

#[tokio::test]
async fn the_app_sees_its_client_by_https_and_wss() {
    let fleet = Steered::start().await;
    let client = fleet.stage.net.client(7).to_string();
    let whoami = fleet.whoami(7).await;
    assert_eq!(whoami["client_ip"], client.as_str(), "{whoami}");
    let ws = fleet.stage.client(7).ws(fleet.edge(), HOST).await;
    let mut ws = ws.unwrap();
    assert_eq!(ws.client_ip(), client);
    ws.echo("hello").await.unwrap();
}

#[tokio::test]
async fn two_hundred_revisions_close_no_websocket() {
    let mut fleet = Steered::start().await;
    let crowd = crowd(&fleet).await;
    let first = revision(&fleet).await;
    for n in 0..REVISIONS {
        let commit = fleet.apply(|document| change(document, n)).await;
        assert_eq!(commit["revision"], first + 1 + n as u64, "{commit:#}");
    }
    // Going back is one more revision, with the content of an old one.
    let path = format!("/revisions/{first}/rollback?wait=applied");
    let commit = fleet.control_plane.rest.post(&path, &json!({})).await;
    let last = first + REVISIONS as u64 + 1;
    assert_eq!(commit["revision"], last, "{commit:#}");
    crowd.round().await;
    assert_eq!(crowd.ended(), [""; 0]);
    let agents = fleet.control_plane.rest.get("/agents").await;
    for agent in agents["items"].as_array().unwrap() {
        assert_eq!(agent["in_sync"], true, "{agent:#}");
    }
}

#[tokio::test]
async fn drains_and_a_replaced_certificate_close_no_websocket() {
    let fleet = Steered::start().await;
    let crowd = crowd(&fleet).await;
    let rest = &fleet.control_plane.rest;
    let state = "/pools/game-node/backends/:3000/state?wait=applied";
    rest.put(state, &json!({ "state": "drain" })).await;
    // Whoever comes now goes to the other process of each terminator.
    for client in 0..20 {
        let name = fleet.whoami(client).await["name"].clone();
        assert!(["a1", "b1"].contains(&name.as_str().unwrap()), "{name}");
    }
    rest.put(state, &json!({ "state": "ready" })).await;

    let client = fleet.stage.client(0);
    let shown = async || {
        let stream = client.tls(fleet.edge(), HOST).await.unwrap();
        shown_certificate(&stream)
    };
    assert_eq!(shown().await, fleet.stage.certificate.leaf);
    let new = fleet.stage.pki.issue(&[HOST]);
    rest.upload(HOST, &new).await;
    for _ in 0..8 {
        assert_eq!(shown().await, new.leaf);
    }
    crowd.round().await;
    assert_eq!(crowd.ended(), [""; 0]);
}

#[tokio::test]
async fn a_backend_drained_on_one_agent_serves_on_the_others() {
    let fleet = Steered::start().await;
    let rest = &fleet.control_plane.rest;
    let agent = rest.agent_at(fleet.stage.net.terminator(0)).await;
    let state = "/pools/game-node/backends/:3000/state?wait=applied";
    let drain = json!({ "state": "drain", "agent": agent["id"] });
    let commit = rest.put(state, &drain).await;
    assert_eq!(commit["diff"], json!([]), "no document has changed");
    let mut seen = std::collections::BTreeSet::new();
    for client in 0..40 {
        let whoami = fleet.whoami(client).await;
        seen.insert(whoami["name"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["a1", "b0", "b1"]);
}

#[tokio::test]
async fn a_process_that_dies_is_told_with_what_its_last_check_said() {
    let mut fleet = Steered::start().await;
    fleet.apps[0].kill().await;
    let rest = &fleet.control_plane.rest;
    let terminator = rest.agent_at(fleet.stage.net.terminator(0)).await;
    until("the control plane tells of it", async || {
        let backends = rest.get("/pools/game-node/backends").await;
        let items = backends["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["name"] == ":3000").unwrap();
        let seen = item["agents"].as_array().unwrap();
        let is_ours = |row: &&Value| row["agent"] == terminator["id"];
        let (ours, other) = (
            seen.iter().find(is_ours),
            seen.iter().find(|row| !is_ours(row)),
        );
        let (Some(ours), Some(other)) = (ours, other) else {
            return false;
        };
        let check = &ours["last_check"];
        ours["up"] == false
            && check["passed"] == false
            && check["words"]
                .as_str()
                .is_some_and(|words| words.contains("refused"))
            && other["up"] == true
    })
    .await;
}

async fn revision(fleet: &Steered) -> u64 {
    let status = fleet.control_plane.rest.get("/status").await;
    status["revision"].as_u64().unwrap()
}

async fn crowd(fleet: &Steered) -> Crowd {
    let crowd = Crowd::open(CROWD, async |i| {
        let client = u8::try_from(i % 100).unwrap();
        fleet.stage.client(client).ws(fleet.edge(), HOST).await
    })
    .await;
    crowd.round().await;
    crowd
}

/// A real change for balancer and terminators that allows all that is there.
fn change(document: &mut Value, n: usize) {
    let pools = [json!("least_connections"), json!("round_robin")];
    document["pools"][0]["balance"] = pools[n % 2].clone();
    document["pools"][1]["balance"] = pools[(n + 1) % 2].clone();
    let policy = &mut document["policies"][0];
    policy["deny"] = json!([format!("203.0.113.{}", n % 256)]);
    policy["timeouts"] = json!({ "idle": format!("{}s", 600 + n) });
    // A backend that comes and goes beside those in use.
    let backends = document["pools"][1]["backends"].as_array_mut().unwrap();
    if n.is_multiple_of(2) {
        backends.push(json!({ "address": ":3999" }));
    } else {
        backends.pop();
    }
}
