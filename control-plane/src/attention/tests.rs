use std::collections::BTreeSet;
use std::net::IpAddr;

use tidegate_core::document::Role;
use tidegate_core::plan;
use uuid::Uuid;

use super::*;
use crate::journal::BackendEvent;
use crate::store::{AgentMistake, Serving};

const NOW: OffsetDateTime = time::macros::datetime!(2026-11-29 12:00 UTC);
const DOCUMENT: &str = r#"
    listeners:
    - { name: edge, role: balancer, bind: ":443", pool: node, policy: open }
    - { name: tls, role: terminator, bind: ":8443", accept_proxy: none, pool: node, tls: { certificates: [used] } }
    pools: [{ name: node, backends: [{ address: ":3000" }] }]
    policies: [{ name: open }]
    certificates: [{ name: used, chain: x, private_key: z }]
"#;

fn id(number: u8) -> Uuid {
    Uuid::from_u128(number.into())
}

/// A fleet in which all is well: a balancer and a terminator.
fn well() -> Known {
    let agent = |number: u8, role| plan::Agent {
        id: id(number).to_string().parse().unwrap(),
        roles: BTreeSet::from([role]),
        labels: Default::default(),
        address: IpAddr::from([10, 0, 0, number]),
        health_port: 7445,
    };
    let sight = |number: u8| AgentSight {
        id: id(number),
        address: IpAddr::from([10, 0, 0, number]),
        stand: Stand::Serving,
        seen_at: Some(NOW - Duration::HOUR),
        mistakes: Vec::new(),
    };
    let seen = SeenCounts {
        up: 2,
        ..SeenCounts::default()
    };
    Known {
        sights: Sights {
            fleet: vec![agent(1, Role::Balancer), agent(2, Role::Terminator)],
            agents: vec![sight(1), sight(2)],
            listeners: Vec::new(),
            backends: vec![("node".into(), ":3000".into(), seen)],
            serving: vec![served("primary", 2)],
        },
        out: Vec::new(),
        said: Vec::new(),
        certificates: vec![("used".into(), NOW + Duration::days(60))],
    }
}

fn served(serving: &str, agents: u64) -> Serving {
    Serving {
        pool: "node".into(),
        serving: serving.into(),
        agents,
        queued: 0,
    }
}

fn out(agent: u8, ejected: bool, words: Option<&str>) -> BackendOut {
    BackendOut {
        of: BackendEvent {
            pool: "node".into(),
            backend: ":3000".into(),
            agent: id(agent),
        },
        ejected,
        words: words.map(Into::into),
    }
}

fn found(change: impl FnOnce(&mut Known)) -> Vec<Item> {
    let mut known = well();
    change(&mut known);
    of(&Document::parse(DOCUMENT).unwrap(), &known, NOW)
}

#[test]
fn nothing_needs_attention_where_all_is_well() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn every_trouble_is_named_with_its_weight() {
    use Severity::{Critical, Notice, Warning};
    type Change = fn(&mut Known);
    let table: [(&str, Severity, Change, &str); 16] = [
        (
            "agent_silent",
            Warning,
            |k| k.sights.agents[0].stand = Stand::Silent,
            "10.0.0.1",
        ),
        (
            "agent_failed",
            Warning,
            |k| {
                k.sights.agents[1].stand = Stand::Failed;
                let mistake = |pointer: &str| AgentMistake {
                    pointer: pointer.into(),
                    message: "the address is taken".into(),
                };
                k.sights.agents[1].mistakes = vec![mistake("/listeners/tls/bind"), mistake("/x")];
            },
            "/listeners/tls/bind the address is taken, and 1 more",
        ),
        (
            "listener_without_agents",
            Warning,
            |k| k.sights.fleet.truncate(1),
            "No agent serves the listener tls",
        ),
        (
            "listener_offline",
            Critical,
            |k| k.sights.agents[0].stand = Stand::Offline,
            "None of the 1 agents",
        ),
        (
            "pool_down",
            Critical,
            |k| k.sights.serving = vec![served("nobody", 1), served("primary", 1)],
            "on 1 of 2 agents",
        ),
        (
            "pool_fails_open",
            Critical,
            |k| k.sights.serving = vec![served("fail_open", 2)],
            "on 2 of 2 agents",
        ),
        (
            "pool_on_backup",
            Notice,
            |k| k.sights.serving = vec![served("backup", 2)],
            "Backups serve the pool node",
        ),
        (
            "backend_down",
            Warning,
            |k| {
                k.out = vec![
                    out(1, false, None),
                    out(2, false, Some("connection refused")),
                ];
            },
            ":3000 in node is down, on 2 of 2 agents: connection refused",
        ),
        (
            "backend_ejected",
            Warning,
            |k| k.out = vec![out(1, true, None)],
            "on 1 of 2 agents",
        ),
        (
            "backend_out_of_use",
            Notice,
            |k| {
                k.said = vec![LongSaid {
                    pool: "node".into(),
                    backend: ":3000".into(),
                    agent: None,
                    state: "maintenance".into(),
                    set_by: "token ops".into(),
                    set_at: NOW - Duration::days(3),
                }];
            },
            ":3000 in node is in maintenance, by token ops",
        ),
        (
            "certificate_ends",
            Warning,
            |k| k.certificates[0].1 = NOW + Duration::days(13),
            "used ends in 13 days",
        ),
        (
            "certificate_ends",
            Critical,
            |k| k.certificates[0].1 = NOW + Duration::minutes(90),
            "used ends within 2 hours",
        ),
        (
            "certificate_ends",
            Critical,
            |k| k.certificates[0].1 = NOW - Duration::SECOND,
            "used has ended",
        ),
        (
            "certificate_ends",
            Notice,
            |k| k.certificates.push(("spare".into(), NOW + Duration::DAY)),
            "spare ends in 1 day",
        ),
        (
            "agent_offline",
            Warning,
            |k| {
                k.sights.agents[0].stand = Stand::Offline;
                let other = plan::Agent {
                    id: id(3).to_string().parse().unwrap(),
                    ..k.sights.fleet[0].clone()
                };
                k.sights.fleet.push(other);
                let sight = AgentSight {
                    id: id(3),
                    stand: Stand::Serving,
                    ..k.sights.agents[0].clone()
                };
                k.sights.agents.push(sight);
            },
            "The agent at 10.0.0.1 is not connected",
        ),
        (
            "backend_down",
            Warning,
            |k| {
                let mut row = out(1, false, None);
                row.of.backend = id(2).to_string();
                k.out = vec![row];
            },
            "The agent at 10.0.0.2 in node is down",
        ),
    ];
    for (kind, severity, change, words) in table {
        let items = found(change);
        let item = items.iter().find(|item| item.kind == kind);
        let item = item.unwrap_or_else(|| panic!("{kind}: {items:?}"));
        assert_eq!(item.severity, severity, "{kind}");
        assert!(item.what.contains(words), "{kind}: {}", item.what);
        assert!(!item.mend.is_empty(), "{kind}");
        let others = items.iter().filter(|item| item.kind != kind).count();
        // An offline listener has an offline agent.
        assert_eq!(others, usize::from(kind == "listener_offline"), "{items:?}");
    }
}

#[test]
fn a_pool_without_backends_says_how_to_get_one() {
    let document = r#"
        listeners: [{ name: tls, role: terminator, bind: ":1", pool: p, tls: { certificates: [c] } }]
        pools: [{ name: p, backends: [{ address: ":2" }] }, { name: found, proxy_protocol: v2, discover: { listener: tls } }]
        certificates: [{ name: c, chain: x, private_key: z }]
    "#;
    let mut known = well();
    known.sights.fleet.truncate(1);
    let items = of(&Document::parse(document).unwrap(), &known, NOW);
    let empty = items.iter().find(|item| item.kind == "pool_empty").unwrap();
    assert!(
        empty
            .mend
            .contains("an instance that serves the listener tls"),
        "{}",
        empty.mend
    );
}

#[test]
fn the_worst_comes_first_and_what_others_said_is_cut() {
    let items = found(|k| {
        k.out = vec![out(1, false, Some(&"x".repeat(5000)))];
        k.sights.serving = vec![served("nobody", 2)];
        k.certificates.push(("spare".into(), NOW));
    });
    let kinds: Vec<_> = items.iter().map(|item| item.kind).collect();
    assert_eq!(kinds, ["pool_down", "backend_down", "certificate_ends"]);
    assert!(items[1].what.chars().count() <= 301);
}
