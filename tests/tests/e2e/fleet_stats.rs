//! Who connects how often, over all balancers: sums are right, and nothing is counted
//! twice, also when a report is sent again or its answer is lost.

use serde_json::{Value, json};
use tidegate_proto::v1;
use tidegate_tests::stage::HOST;
use tidegate_tests::steered::sees_up;
use tidegate_tests::wire::{Identity, Joining, Link};
use tidegate_tests::{Steered, until};

const CLIENTS: u16 = 300;

#[tokio::test]
async fn connections_over_two_balancers_add_up_for_each_of_hundreds_of_clients() {
    let fleet = Steered::start().await;
    let second = fleet.stage.net.ip(5);
    let balancer = fleet.join("balancer", second).await;
    sees_up(&balancer, "game-tls", 2).await;
    let edges = [
        fleet.edge(),
        std::net::SocketAddr::new(second, fleet.edge().port()),
    ];
    for index in 0..CLIENTS {
        let client = fleet
            .stage
            .client(0)
            .from(fleet.stage.net.far_client(index));
        for edge in edges {
            for _ in 0..connections(index) {
                client.tls(edge, HOST).await.unwrap();
            }
        }
    }
    let rest = &fleet.control_plane.rest;
    // What the fleet itself did to become whole was not from these addresses.
    let path = "/ip-stats/top?by=connections&window=1h&limit=1000";
    until("every connection is counted", async || {
        let top = rest.get(path).await;
        (0..CLIENTS).all(|index| {
            let client = fleet.stage.net.far_client(index).to_string();
            count(&top, &client) == 2 * u64::from(connections(index))
        })
    })
    .await;
    let top = rest.get(path).await;
    let items = top["items"].as_array().unwrap();
    let sum: u64 = items
        .iter()
        .map(|item| item["count"].as_u64().unwrap())
        .sum();
    assert_eq!(top["total"], sum, "nobody is missing: {}", top["bound"]);
    let one = fleet.stage.net.far_client(2);
    let stats = rest.get(&format!("/ip-stats/{one}")).await;
    assert_eq!(
        stats["windows"]["1h"]["connections"]["count"], 6,
        "{stats:#}"
    );
    assert_eq!(
        stats["windows"]["24h"]["connections"]["count"], 6,
        "{stats:#}"
    );
}

#[tokio::test]
async fn a_report_that_is_repeated_counts_once() {
    let fleet = Steered::start().await;
    let rest = &fleet.control_plane.rest;
    let (link, identity) = balancer(&fleet).await;
    let mut reports = link.reports(&identity).await.unwrap();
    assert_eq!(reports.send(&report(1, 10)).await.unwrap(), 1);
    assert_eq!(
        reports.send(&report(1, 10)).await.unwrap(),
        1,
        "acknowledged again"
    );
    // The answer to this one is lost, perhaps with the report: it comes again.
    reports.send_and_leave(&report(2, 100)).await;
    let mut reports = link.reports(&identity).await.unwrap();
    assert_eq!(reports.send(&report(2, 100)).await.unwrap(), 2);
    // Out of order, as after a reconnect, and one that never comes.
    assert_eq!(reports.send(&report(4, 1000)).await.unwrap(), 4);
    assert_eq!(reports.send(&report(2, 100)).await.unwrap(), 2);

    // An acknowledged report is in the database.
    let stats = rest.get("/ip-stats/192.0.2.7").await;
    assert_eq!(
        stats["windows"]["1h"]["connections"]["count"], 1110,
        "{stats:#}"
    );
}

#[tokio::test]
async fn the_same_report_through_two_control_planes_counts_once() {
    let fleet = Steered::start().await;
    let other = fleet.another_control_plane().await;
    let (link, identity) = balancer(&fleet).await;
    let mut one = link.reports(&identity).await.unwrap();
    let mut two = other.wire().reports(&identity).await.unwrap();
    for sequence in 1..=20 {
        let report = report(sequence, 1);
        let (one, two) = tokio::join!(one.send(&report), two.send(&report));
        assert_eq!((one.unwrap(), two.unwrap()), (sequence, sequence));
    }
    let stats = fleet.control_plane.rest.get("/ip-stats/192.0.2.7").await;
    assert_eq!(
        stats["windows"]["1h"]["connections"]["count"], 20,
        "{stats:#}"
    );
}

#[tokio::test]
async fn who_is_connected_now_is_told_exactly() {
    let fleet = Steered::start().await;
    let client = fleet.stage.client(9);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(client.ws(fleet.edge(), HOST).await.unwrap());
    }
    let rest = &fleet.control_plane.rest;
    let path = format!("/ip-stats/{}", fleet.stage.net.client(9));
    let live = async || {
        let stats = rest.get(&path).await;
        let rows = stats["live"].as_array().unwrap();
        let edge = rows.iter().filter(|row| row["listener"] == "edge");
        edge.map(|row| row["live"].as_u64().unwrap()).sum::<u64>()
    };
    until("three are connected", async || live().await == 3).await;
    open.truncate(1);
    until("one is connected", async || live().await == 1).await;
}

fn connections(index: u16) -> u16 {
    index % 3 + 1
}

fn count(top: &Value, client: &str) -> u64 {
    let items = top["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["client"] == client);
    item.map_or(0, |item| item["count"].as_u64().unwrap())
}

async fn balancer(fleet: &Steered) -> (Link, Identity) {
    let link = fleet.control_plane.wire();
    let labels = json!({ "tier": "other" });
    let token = fleet
        .control_plane
        .rest
        .join_token("balancer", labels)
        .await;
    let joining = Joining::new(&token, fleet.stage.net.at(40, 7445));
    let identity = link.enroll(&joining).await.unwrap();
    (link, identity)
}

/// One client's connections in one interval.
fn report(sequence: u64, connections: u64) -> v1::StatsReport {
    let measure = v1::Measure::Connections.into();
    v1::StatsReport {
        boot_id: "018f0000-0000-7000-8000-000000000002".to_owned(),
        sequence,
        interval_ms: 1000,
        clients: vec![v1::ClientStats {
            listener: "edge".to_owned(),
            measure,
            client: vec![192, 0, 2, 7],
            count: connections,
            error: 0,
        }],
        totals: vec![v1::ClientTotals {
            listener: "edge".to_owned(),
            role: "balancer".to_owned(),
            measure,
            total: connections,
            bound: 0,
        }],
        ..v1::StatsReport::default()
    }
}
