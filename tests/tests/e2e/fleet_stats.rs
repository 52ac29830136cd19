//! Who connects how often, over all balancers: sums are right, and nothing is counted
//! twice, also when a report is sent again or its answer is lost.

use std::net::SocketAddr;
use std::ops::Range;

use serde_json::{Value, json};
use tidegate_proto::v1;
use tidegate_tests::stage::HOST;
use tidegate_tests::steered::{Plan, sees_up};
use tidegate_tests::wire::{Identity, Joining, Link};
use tidegate_tests::{Agent, Stage, Steered, until};

const CLIENTS: u16 = 300;
/// Of a control plane, while it is told of these clients.
const DEATHS: u16 = 3;
const TOP: &str = "/ip-stats/top?by=connections&window=1h&limit=1000";

#[tokio::test]
async fn connections_over_two_balancers_add_up_for_each_of_hundreds_of_clients() {
    let fleet = Steered::start().await;
    let (_balancer, edges) = two_balancers(&fleet).await;
    connect(&fleet.stage, edges, 0..CLIENTS).await;
    every_connection_is_counted(&fleet).await;
    let rest = &fleet.control_plane.rest;
    let top = rest.get(TOP).await;
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
async fn a_control_plane_that_dies_while_agents_report_loses_and_doubles_nothing() {
    // An agent keeps its last eight reports: sixteen seconds, and nobody is away so long.
    let plan = Plan::default().option("--report-interval", "2s");
    let mut fleet = plan.start().await;
    let (_balancer, edges) = two_balancers(&fleet).await;
    let each = CLIENTS / DEATHS;
    for death in 0..DEATHS {
        let Steered {
            stage,
            control_plane,
            ..
        } = &mut fleet;
        let counted = control_plane.rest.get(TOP).await["total"].clone();
        let dies = async {
            // From here on the agents report to it, and go on to.
            until("a report has come", async || {
                control_plane.rest.get(TOP).await["total"] != counted
            })
            .await;
            control_plane.kill().await;
            control_plane.restart().await;
        };
        tokio::join!(
            connect(stage, edges, death * each..(death + 1) * each),
            dies
        );
    }
    every_connection_is_counted(&fleet).await;
    // Another report of each, after which a late one would have been counted as well.
    let client = fleet.stage.client(1);
    for edge in edges {
        client.tls(edge, HOST).await.unwrap();
    }
    let rest = &fleet.control_plane.rest;
    let last = fleet.stage.net.client(1).to_string();
    until("the last two are counted", async || {
        count(&rest.get(TOP).await, &last) == 2
    })
    .await;
    every_connection_is_counted(&fleet).await;
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

/// The fleet's balancer and another one: where clients connect.
async fn two_balancers(fleet: &Steered) -> (Agent, [SocketAddr; 2]) {
    let second = fleet.stage.net.ip(5);
    let balancer = fleet.join("balancer", second).await;
    sees_up(&balancer, "game-tls", 2).await;
    let edges = [fleet.edge(), SocketAddr::new(second, fleet.edge().port())];
    (balancer, edges)
}

/// Has each of these clients connect to both as often as it should.
async fn connect(stage: &Stage, edges: [SocketAddr; 2], clients: Range<u16>) {
    for index in clients {
        let client = stage.client(0).from(stage.net.far_client(index));
        for edge in edges {
            for _ in 0..connections(index) {
                client.tls(edge, HOST).await.unwrap();
            }
        }
    }
}

/// Waits until no client's count is short, and asserts that none is too high.
async fn every_connection_is_counted(fleet: &Steered) {
    // What the fleet itself did to become whole was not from these addresses.
    let counts = async || {
        let top = fleet.control_plane.rest.get(TOP).await;
        let client = |index| fleet.stage.net.far_client(index).to_string();
        let counts = (0..CLIENTS).map(|index| count(&top, &client(index)));
        counts.collect::<Vec<u64>>()
    };
    let expected: Vec<u64> = (0..CLIENTS)
        .map(|i| 2 * u64::from(connections(i)))
        .collect();
    until("every connection is counted", async || {
        let counts = counts().await;
        counts
            .iter()
            .zip(&expected)
            .all(|(count, wanted)| count >= wanted)
    })
    .await;
    assert_eq!(counts().await, expected);
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
