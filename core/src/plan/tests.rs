use super::*;
use crate::document::{AllDown, Backups, Bounded, CheckKind, Http, Passive, Plain};
use crate::health::Start;
use crate::snapshot::{Inside, Work};
use proptest::prelude::*;

const CHAIN: &str = "-----BEGIN CERTIFICATE-----\n";

fn document(text: &str) -> Document {
    Document::parse(text).unwrap()
}

fn fleet_document() -> Document {
    document(
        "listeners:
- {name: edge, role: balancer, agents: {tier: edge}, bind: ':443', pool: tls}
- {name: tls, role: terminator, agents: {app: game}, bind: ':8443', mode: http,
   tls: {certificates: [play]}, pool: node}
pools:
- {name: tls, proxy_protocol: v2, discover: {listener: tls}}
- {name: node, backends: [{address: ':3000'}, {address: '127.0.0.1:3001', name: second}]}
certificates: [{name: play}]",
    )
}

fn agent(id: &str, role: Role, address: &str, label: (&str, &str)) -> Agent {
    Agent {
        id: id.parse().unwrap(),
        roles: [role].into(),
        labels: [(label.0.to_owned(), label.1.to_owned())].into(),
        address: address.parse().unwrap(),
        health_port: 7445,
    }
}

fn facts() -> Facts {
    Facts {
        agents: vec![
            agent("b1", Role::Balancer, "10.0.0.1", ("tier", "edge")),
            agent("t2", Role::Terminator, "10.0.0.3", ("app", "game")),
            agent("t1", Role::Terminator, "10.0.0.2", ("app", "game")),
            agent("t3", Role::Terminator, "10.0.0.4", ("app", "shop")),
        ],
        certificates: [("play".parse().unwrap(), Chain { pem: CHAIN.into() })].into(),
        admin: BTreeMap::new(),
        hash_key: None,
        standalone: false,
    }
}

#[test]
fn a_balancer_gets_its_listener_and_every_terminator_that_serves() {
    let facts = facts();
    let snapshot = plan(&fleet_document(), &facts, &facts.agents[0]).unwrap();
    assert_eq!(snapshot.listeners.len(), 1);
    assert_eq!(snapshot.listeners[0].bind.to_string(), "10.0.0.1:443");
    assert!(
        snapshot.certificates.is_empty(),
        "a balancer never decrypts"
    );
    let backends: Vec<_> = snapshot.pools[0]
        .backends
        .iter()
        .map(|b| {
            (
                b.name.as_str(),
                b.address.to_string(),
                b.check_address.to_string(),
                b.start,
            )
        })
        .collect();
    let down = Start::Down;
    assert_eq!(
        backends,
        [
            ("t1", "10.0.0.2:8443".into(), "10.0.0.2:7445".into(), down),
            ("t2", "10.0.0.3:8443".into(), "10.0.0.3:7445".into(), down),
        ]
    );
    let check = &snapshot.pools[0].check;
    assert_eq!(check.proxy, None, "the health port takes no PROXY header");
    assert!(matches!(&check.kind, CheckKind::Agent(a) if a.listener.as_str() == "tls"));
}

#[test]
fn a_terminator_trusts_the_balancers_at_exactly_their_addresses() {
    let facts = facts();
    let snapshot = plan(&fleet_document(), &facts, &facts.agents[2]).unwrap();
    let trusted: Vec<_> = snapshot.listeners[0]
        .accept_proxy
        .as_ref()
        .unwrap()
        .iter()
        .map(IpNet::to_string)
        .collect();
    assert_eq!(trusted, ["10.0.0.1/32"]);
    assert_eq!(snapshot.certificates.len(), 1);
    let backends: Vec<_> = snapshot.pools[0]
        .backends
        .iter()
        .map(|b| (b.name.to_string(), b.address.to_string()))
        .collect();
    assert_eq!(
        backends,
        [
            (":3000".to_owned(), "10.0.0.2:3000".to_owned()),
            ("second".to_owned(), "127.0.0.1:3001".to_owned()),
        ]
    );
}

#[test]
fn without_balancers_a_terminator_takes_nobody_for_a_client() {
    let mut facts = facts();
    facts.agents.remove(0);
    let snapshot = plan(&fleet_document(), &facts, &facts.agents[1]).unwrap();
    assert_eq!(snapshot.listeners[0].accept_proxy, Some(Vec::new()));
}

#[test]
fn what_is_said_of_a_backend_for_one_agent_counts_before_what_is_said_for_all() {
    let mut facts = facts();
    let mut say = |pool: &str, backend: &str, agent: Option<&str>, state| {
        let key = AdminKey {
            pool: pool.parse().unwrap(),
            backend: backend.parse().unwrap(),
            agent: agent.map(|a| a.parse().unwrap()),
        };
        facts.admin.insert(key, Admin::from(state));
    };
    say("node", ":3000", None, AdminState::Drain);
    say("node", ":3000", Some("t1"), AdminState::Ready);
    say("node", "second", Some("t2"), AdminState::Maintenance);
    say("tls", "t2", None, AdminState::Drain);
    let states = |agent: usize| -> Vec<AdminState> {
        let snapshot = plan(&fleet_document(), &facts, &facts.agents[agent]).unwrap();
        let pools = snapshot.pools.iter();
        pools
            .flat_map(|p| p.backends.iter().map(|b| b.admin))
            .collect()
    };
    let [ready, drain] = [AdminState::Ready, AdminState::Drain];
    assert_eq!(states(2), [ready, ready], "t1");
    assert_eq!(states(1), [drain, AdminState::Maintenance], "t2");
    assert_eq!(states(0), [ready, drain], "the balancer sees t1 and t2");
}

#[test]
fn an_agent_that_no_selector_picks_has_nothing_to_do() {
    let facts = facts();
    assert_eq!(
        plan(&fleet_document(), &facts, &facts.agents[3]).unwrap(),
        Snapshot::default()
    );
}

#[test]
fn standalone_balancers_are_not_known() {
    let facts = Facts {
        standalone: true,
        ..facts()
    };
    let mistakes = plan(&fleet_document(), &facts, &facts.agents[2]).unwrap_err();
    assert_eq!(mistakes[0].pointer, "/listeners/1/accept_proxy");
}

#[test]
fn a_certificate_without_material_is_named() {
    let facts = Facts {
        certificates: BTreeMap::new(),
        ..facts()
    };
    let mistakes = plan(&fleet_document(), &facts, &facts.agents[2]).unwrap_err();
    assert_eq!(mistakes[0].pointer, "/listeners/1/tls/certificates/0");
}

#[test]
fn two_listeners_on_one_address_are_impossible() {
    for (agent_address, first, second, clash) in [
        ("10.0.0.1", ":80", ":80", true),
        ("10.0.0.1", ":80", "10.0.0.1:80", true),
        ("10.0.0.1", ":80", "10.0.0.2:80", false),
        ("10.0.0.1", "0.0.0.0:80", "10.0.0.2:80", true),
        ("10.0.0.1", "[::]:80", "10.0.0.2:80", true),
        ("10.0.0.1", "0.0.0.0:80", "[::1]:80", false),
        ("::", ":80", "127.0.0.1:80", true),
        ("10.0.0.1", ":80", ":81", false),
        ("10.0.0.1", ":80", ":7445", true),
    ] {
        let document = document(&format!(
            "listeners:
- {{name: a, role: balancer, bind: '{first}', pool: p}}
- {{name: b, role: balancer, bind: '{second}', pool: p}}
pools: [{{name: p, backends: [{{address: '10.0.0.9:1'}}]}}]"
        ));
        let agent = agent("one", Role::Balancer, agent_address, ("a", "b"));
        let facts = Facts {
            agents: vec![agent.clone()],
            ..Facts::default()
        };
        let planned = plan(&document, &facts, &agent);
        match planned {
            Ok(_) => assert!(!clash, "{first} {second}"),
            Err(mistakes) => {
                assert!(clash, "{first} {second}: {mistakes:?}");
                assert_eq!(mistakes[0].pointer, "/listeners/1/bind");
            }
        }
    }
}

#[test]
fn checks_on_the_traffics_port_look_like_the_traffic() {
    let planned = |pool: &str| {
        let document = document(&format!(
            "listeners: [{{name: a, role: balancer, bind: ':80', pool: p}}]\npools: [{pool}]"
        ));
        let agent = agent("one", Role::Balancer, "10.0.0.1", ("a", "b"));
        plan(&document, &Facts::default(), &agent).unwrap().pools[0]
            .check
            .proxy
    };
    let v2 = Some(crate::proxy_protocol::Version::V2);
    let pool = |rest: &str| {
        planned(&format!(
            "{{name: p, backends: [{{address: ':1'}}], {rest}}}"
        ))
    };
    assert_eq!(pool("proxy_protocol: v2"), v2);
    assert_eq!(pool("proxy_protocol: none"), None);
    assert_eq!(pool("proxy_protocol: v2, health_check: {port: 9}"), None);
    assert_eq!(
        pool("proxy_protocol: v2, health_check: {proxy: none}"),
        None
    );
    assert_eq!(pool("proxy_protocol: none, health_check: {proxy: v2}"), v2);
}

proptest! {
    /// Same content, same bytes: neither the order of a document's lists nor
    /// that of the facts may show.
    #[test]
    fn order_does_not_change_the_hash(seed in any::<u64>()) {
        let (mut document, mut facts) = (fleet_document(), facts());
        let agent = facts.agents[0].clone();
        let hash = plan(&document, &facts, &agent).unwrap().hash();
        let turn = usize::try_from(seed % 4).unwrap();
        document.listeners.rotate_left(turn % 2);
        document.pools.rotate_left(turn / 2);
        facts.agents.rotate_left(turn);
        prop_assert_eq!(plan(&document, &facts, &agent).unwrap().hash(), hash);
    }

    #[test]
    fn a_snapshot_survives_its_bytes(index in 0..4_usize) {
        let facts = facts();
        let snapshot = plan(&fleet_document(), &facts, &facts.agents[index]).unwrap();
        let decoded = Snapshot::decode(&snapshot.encode()).unwrap();
        prop_assert_eq!(decoded.hash(), snapshot.hash());
        prop_assert_eq!(decoded, snapshot);
    }

    #[test]
    fn any_bytes_are_a_snapshot_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Snapshot::decode(&bytes);
    }
}

/// What agents of another version have and compare: fields that nobody uses take no
/// part in it.
#[test]
fn a_snapshot_without_new_settings_has_the_bytes_it_always_had() {
    let document = document(
        "listeners:
- {name: edge, role: balancer, bind: ':443', pool: apps}
- {name: tls, role: terminator, bind: ':8443', accept_proxy: [10.0.0.0/8], tls: {certificates: [play]}, pool: apps}
pools: [{name: apps, backends: [{address: '10.0.0.9:1'}]}]
certificates: [{name: play}]",
    );
    let mut facts = facts();
    facts.agents[0].roles = [Role::Balancer, Role::Terminator].into();
    let snapshot = plan(&document, &facts, &facts.agents[0]).unwrap();
    let policy = r#"{"allow":[],"deny":[],"limits":{},"timeouts":{"connect":"5s","first_byte":"10s","idle":"1h","keep_alive":"1m","half_closed":"30s"}}"#;
    let bytes = [
        r#"{"listeners":[{"name":"edge","bind":"10.0.0.1:443","accept_proxy":null,"policy":"#,
        policy,
        r#","pool":"apps","announce":null,"work":"balance"},"#,
        r#"{"name":"tls","bind":"10.0.0.1:8443","accept_proxy":["10.0.0.0/8"],"policy":"#,
        policy,
        r#","pool":"apps","announce":null,"work":{"terminate":{"certificates":["play"],"inside":"tcp"}}}],"#,
        r#""pools":[{"name":"apps","balance":"least_connections","#,
        r#""backends":[{"name":"10.0.0.9:1","address":"10.0.0.9:1","check_address":"10.0.0.9:1","weight":1,"start":"presumed_up"}],"#,
        r#""check":{"kind":"tcp","interval":"2s","timeout":"1s","thresholds":{"rise":2,"fall":3},"proxy":null}}],"#,
        r#""certificates":[{"name":"play","fingerprint":"b93f51c3ac1bdd90edcce2019d2452a328cbf97443f3744cc7ec63033a5b2c16","#,
        r#""chain":"-----BEGIN CERTIFICATE-----\n"}]}"#,
    ];
    assert_eq!(
        String::from_utf8(snapshot.encode()).unwrap(),
        bytes.concat()
    );
    assert_eq!(
        Snapshot::decode(bytes.concat().as_bytes()).unwrap(),
        snapshot
    );
}

/// What one balancer runs of this document.
fn balancer_runs(text: &str) -> Snapshot {
    let facts = facts();
    plan(&document(text), &facts, &facts.agents[0]).unwrap()
}

#[test]
fn every_pool_that_a_route_names_is_in_the_snapshot_and_says_how_it_announces() {
    let snapshot = balancer_runs(
        "listeners:
- {name: edge, role: balancer, bind: ':443', plain: pool, pool: rest, tcp: {backlog: 9},
   routes: [{sni: [Play.example.com, '*.Example.com'], pool: play}, {sni: [chat.b], pool: chat}]}
- {name: elsewhere, role: balancer, agents: {tier: other}, bind: ':80', pool: other}
pools:
- {name: rest, proxy_protocol: v1, backends: [{address: '10.0.0.9:1'}]}
- {name: play, proxy_protocol: v2, backends: [{address: '10.0.0.9:2'}]}
- {name: chat, backends: [{address: '10.0.0.9:3'}]}
- {name: other, backends: [{address: '10.0.0.9:4'}]}",
    );
    let pools: Vec<&str> = snapshot.pools.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(pools, ["chat", "play", "rest"]);
    let edge = &snapshot.listeners[0];
    let v2 = Some(crate::proxy_protocol::Version::V2);
    let routes: Vec<_> = edge
        .routes
        .iter()
        .map(|r| (r.pool.as_str(), r.announce))
        .collect();
    assert_eq!(routes, [("play", v2), ("chat", None)]);
    assert_eq!(edge.routes[0].sni, ["play.example.com", "*.example.com"]);
    assert_eq!(edge.announce, Some(crate::proxy_protocol::Version::V1));
    assert!(edge.client_first);
    assert_eq!(edge.plain, Plain::Pool);
    assert_eq!(edge.tcp.backlog.get(), 9);
    assert_eq!(Snapshot::decode(&snapshot.encode()).unwrap(), snapshot);
}

#[test]
fn a_redirect_leads_nowhere() {
    let snapshot = balancer_runs(
        "listeners: [{name: plain, role: balancer, bind: ':80', redirect: {port: 8443}}]
pools: [{name: unused, backends: [{address: '10.0.0.9:1'}]}]",
    );
    assert!(snapshot.pools.is_empty());
    let listener = &snapshot.listeners[0];
    assert_eq!((&listener.pool, listener.announce), (&None, None));
    let Work::Redirect(redirect) = listener.work else {
        panic!("{:?}", listener.work);
    };
    assert_eq!((redirect.port.get(), redirect.status.get()), (8443, 308));
    assert_eq!(Snapshot::decode(&snapshot.encode()).unwrap(), snapshot);
}

#[test]
fn a_pools_settings_are_in_its_snapshot() {
    let snapshot = balancer_runs(
        "listeners:
- {name: edge, role: balancer, bind: ':443', pool: p, client_first: true}
pools:
- {name: p, balance: source_hash, bounded_load: 150, backups: all, all_down: fail_open, max_queue: 7,
   queue_timeout: 2s, slow_start: 30s, retries: 1, passive: off, fast_open: true,
   proxy_protocol: {version: v2, authority: true, crc32c: true},
   backends: [{address: '10.0.0.9:1', weight: 0, max_connections: 3}, {address: '10.0.0.9:2', backup: true}],
   health_check: {tls: {server_name: a.b}, fast_interval: 1s, down_interval: 9s}}",
    );
    let pool = &snapshot.pools[0];
    assert_eq!(pool.bounded_load.map(Bounded::get), Some(150));
    assert_eq!(
        (pool.backups, pool.all_down),
        (Backups::All, AllDown::FailOpen)
    );
    assert_eq!((pool.max_queue.get(), pool.retries.get()), (7, 1));
    assert_eq!(pool.queue_timeout, Some(Timeout::from_secs(2)));
    assert_eq!(pool.slow_start, Some(Timeout::from_secs(30)));
    assert_eq!(pool.passive, Passive::Off);
    assert!(pool.fast_open && pool.extensions.authority && pool.extensions.crc32c);
    assert!(!pool.extensions.pass && !pool.extensions.unique_id);
    let [first, second] = pool.backends.as_slice() else {
        panic!("{:?}", pool.backends);
    };
    assert_eq!(first.max_connections.map(NonZeroU32::get), Some(3));
    assert!(!first.backup && second.backup);
    assert_eq!((first.weight.get(), second.weight.get()), (0, 1));
    let check = &pool.check;
    assert_eq!(check.fast_interval, Some(Timeout::from_secs(1)));
    assert_eq!(check.down_interval, Some(Timeout::from_secs(9)));
    assert_eq!(
        check.proxy,
        Some(crate::proxy_protocol::Version::V2),
        "as the traffic"
    );
    assert!(matches!(&check.kind, CheckKind::Tls(t) if t.server_name.is_some()));
    assert_eq!(Snapshot::decode(&snapshot.encode()).unwrap(), snapshot);
}

#[test]
fn first_bytes_travel_to_terminators_unless_somebody_connects_without_them() {
    let fleet = |edge: &str, found: &str| {
        format!(
            "listeners:
- {{name: edge, role: balancer, bind: ':443', pool: tls, {edge}}}
- {{name: second, role: balancer, bind: ':444', pool: tls}}
- {{name: tls, role: terminator, bind: ':8443', tls: {{certificates: [play]}}, pool: node}}
pools:
- {{name: tls, proxy_protocol: v2, discover: {{listener: tls}}, {found}}}
- {{name: node, backends: [{{address: ':3000'}}]}}
certificates: [{{name: play}}]"
        )
    };
    for (edge, found, client_first, fast_open) in [
        ("", "", true, true),
        ("", "fast_open: false", true, false),
        ("client_first: false", "", false, false),
        ("client_first: true", "fast_open: true", true, true),
    ] {
        let snapshot = balancer_runs(&fleet(edge, found));
        assert_eq!(snapshot.listeners[0].client_first, client_first, "{edge}");
        assert_eq!(snapshot.pools[0].fast_open, fast_open, "{edge} {found}");
    }
}

#[test]
fn an_agents_check_goes_to_its_health_port_unless_another_is_written() {
    for (check, address) in [
        ("", "10.0.0.2:7445"),
        (
            "health_check: {agent: {listener: tls}, interval: 1s}",
            "10.0.0.2:7445",
        ),
        (
            "health_check: {agent: {listener: tls}, port: 9}",
            "10.0.0.2:9",
        ),
        ("health_check: {tcp: {}}", "10.0.0.2:8443"),
    ] {
        let snapshot = balancer_runs(&format!(
            "listeners:
- {{name: edge, role: balancer, bind: ':443', pool: found}}
- {{name: tls, role: terminator, agents: {{app: game}}, bind: ':8443', tls: {{certificates: [play]}}, pool: node}}
pools:
- {{name: found, proxy_protocol: v2, discover: {{listener: tls}}, {check}}}
- {{name: node, backends: [{{address: ':3000'}}]}}
certificates: [{{name: play}}]"
        ));
        let pool = &snapshot.pools[0];
        assert_eq!(
            pool.backends[0].check_address.to_string(),
            address,
            "{check}"
        );
        assert_eq!(pool.check.proxy.is_some(), check.contains("tcp"), "{check}");
    }
}

/// The pace of one backend as an agent gets it, and the bytes of the whole.
fn drained(admin: Admin) -> (Option<DrainPace>, Vec<u8>) {
    let mut facts = facts();
    let key = AdminKey {
        pool: "tls".parse().unwrap(),
        backend: "t1".parse().unwrap(),
        agent: None,
    };
    facts.admin.insert(key, admin);
    let snapshot = plan(&fleet_document(), &facts, &facts.agents[0]).unwrap();
    (snapshot.pools[0].backends[0].drain, snapshot.encode())
}

#[test]
fn a_drain_has_a_pace_that_planning_again_does_not_move() {
    let rate = NonZeroU32::new(20).unwrap();
    let within = Pace::Within {
        since: 1_700_000_000_000,
        within: Timeout::from_secs(60),
    };
    let until = DrainPace::Until {
        since: 1_700_000_000_000,
        until: 1_700_000_060_000,
    };
    for state in [AdminState::Drain, AdminState::Maintenance] {
        let admin = |pace| Admin { state, pace };
        assert_eq!(drained(admin(None)).0, None);
        let by_rate = drained(admin(Some(Pace::PerSecond(rate)))).0;
        assert_eq!(by_rate, Some(DrainPace::PerSecond(rate)));
        assert_eq!(drained(admin(Some(within))).0, Some(until));
        assert_eq!(
            drained(admin(Some(within))).1,
            drained(admin(Some(within))).1
        );
        let bytes = drained(admin(Some(within))).1;
        let decoded = Snapshot::decode(&bytes).unwrap();
        assert_eq!(decoded.pools[0].backends[0].drain, Some(until));
        assert_eq!(decoded.encode(), bytes);
    }
    let ready = Admin {
        state: AdminState::Ready,
        pace: Some(within),
    };
    assert_eq!(drained(ready), drained(Admin::default()), "back to ready");
}

#[test]
fn a_pace_at_the_end_of_time_does_not_wrap() {
    let pace = Pace::Within {
        since: u64::MAX - 1,
        within: Timeout::from_secs(60),
    };
    let (since, until) = (u64::MAX - 1, u64::MAX);
    assert_eq!(pace.planned(), DrainPace::Until { since, until });
}

/// 1,000 listeners, each with a policy and two ways to pools of 10,000 backends.
fn large() -> (String, Facts) {
    use std::fmt::Write;
    let mut text = String::from("listeners:\n");
    for i in 0..1000 {
        writeln!(
            text,
            "- {{name: l{i}, role: balancer, bind: ':{}', policy: q{}, pool: p{i},
   routes: [{{sni: [a{i}.example.com], pool: p{}}}]}}",
            10_000 + i,
            i % 100,
            (i + 1) % 1000
        )
        .unwrap();
    }
    text.push_str("pools:\n");
    for i in 0..1000 {
        writeln!(text, "- name: p{i}\n  backends:").unwrap();
        for j in 0..10 {
            writeln!(text, "  - {{address: '10.{}.{}.{j}:80'}}", i / 250, i % 250).unwrap();
        }
    }
    text.push_str("policies:\n");
    for i in 0..100 {
        writeln!(text, "- {{name: q{i}, deny: [192.0.2.0/24]}}").unwrap();
    }
    let mut facts = facts();
    for i in 0..1000 {
        let key = AdminKey {
            pool: format!("p{i}").parse().unwrap(),
            backend: format!("10.{}.{}.0:80", i / 250, i % 250).parse().unwrap(),
            agent: None,
        };
        facts.admin.insert(key, AdminState::Drain.into());
    }
    (text, facts)
}

/// The limits are far above what it takes, so that a slow machine does not matter;
/// `--nocapture` shows what it takes.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures how long it takes")]
fn a_large_document_is_planned_in_no_time() {
    let (text, facts) = large();
    let clock = std::time::Instant::now;
    let parsing = clock();
    let tree = Document::tree(&text).unwrap();
    let reading = clock();
    let document = Document::of_fleet(tree, &BTreeSet::new()).unwrap();
    let planning = clock();
    let snapshot = plan(&document, &facts, &facts.agents[0]).unwrap();
    let encoding = clock();
    let bytes = snapshot.encode();
    let comparing = clock();
    let mut other = snapshot.clone();
    other.pools[500].backends[5].backup = true;
    let diff = crate::diff::Diff::between(&snapshot, &other);
    let end = clock();
    assert_eq!(
        (snapshot.listeners.len(), snapshot.pools.len()),
        (1000, 1000)
    );
    assert_eq!(diff.pools.changed.len(), 1);
    println!(
        "YAML {:?}, reading and checking {:?}, planning {:?}, {} bytes in {:?}, comparing {:?}",
        reading - parsing,
        planning - reading,
        encoding - planning,
        bytes.len(),
        comparing - encoding,
        end - comparing,
    );
    let limit = std::time::Duration::from_secs(1);
    assert!(encoding - planning < limit, "{:?}", encoding - planning);
    assert!(end - comparing < limit, "{:?}", end - comparing);
}

/// Planning for each of many agents is about what that agent runs: who the balancers
/// are, and who serves what, is found out once.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures how long it takes")]
fn planning_for_many_agents_looks_at_the_fleet_once() {
    let document = fleet_document();
    let mut facts = facts();
    facts.agents.extend((0..5000).map(|i| {
        let address = format!("10.1.{}.{}", i / 250, i % 250);
        agent(
            &format!("x{i}"),
            Role::Terminator,
            &address,
            ("app", "game"),
        )
    }));
    let planner = Planner::new(&document, &facts);
    let start = std::time::Instant::now();
    for agent in &facts.agents[4..] {
        let planned = planner.plan(agent).unwrap();
        assert_eq!(planned.pools.len(), 1);
    }
    let took = start.elapsed();
    println!("5,000 plans in {took:?}");
    assert!(took < std::time::Duration::from_secs(2), "{took:?}");
    let seen = planner.plan(&facts.agents[0]).unwrap();
    assert_eq!(seen.pools[0].backends.len(), 5002);
}

#[test]
fn a_transparent_listener_says_so_in_its_snapshot_and_announces_nothing() {
    let facts = facts();
    let mut document = fleet_document();
    let snapshot = |document: &Document| plan(document, &facts, &facts.agents[2]).unwrap();
    assert!(!snapshot(&document).listeners[0].work.is_transparent());
    document.listeners[1].client_ip = Some(crate::document::ClientIp::Transparent);
    let http = Http {
        request_id: false,
        ..Http::default()
    };
    document.listeners[1].http = Some(http.clone());
    let planned = snapshot(&document);
    let listener = &planned.listeners[0];
    assert!(listener.work.is_transparent());
    assert_eq!(listener.announce, None);
    let Work::Terminate(terminate) = &listener.work else {
        panic!("{:?}", listener.work);
    };
    // What a client says about itself is taken out all the same.
    let forwarded = false;
    assert_eq!(terminate.inside, Inside::Http { forwarded, http });
    assert_eq!(Snapshot::decode(&planned.encode()).unwrap(), planned);
}
