use super::*;
use proptest::prelude::*;

const CANONICAL: &str = include_str!("../../../examples/standalone/chain.yaml");

fn pointers(text: &str) -> Vec<String> {
    let mistakes = Document::parse(text).expect_err("it has mistakes");
    mistakes.into_iter().map(|m| m.pointer).collect()
}

/// A document that is right, for tests to spoil.
fn right() -> Value {
    serde_json::json!({
        "listeners": [
            { "name": "edge", "role": "balancer", "bind": ":443", "pool": "tls" },
            { "name": "tls", "role": "terminator", "bind": ":8443", "mode": "http",
              "accept_proxy": ["10.0.0.0/8"], "tls": { "certificates": ["play"] }, "pool": "node" },
        ],
        "pools": [
            { "name": "tls", "proxy_protocol": "v2", "discover": { "listener": "tls" } },
            { "name": "node", "backends": [{ "address": ":3000" }, { "address": "10.0.0.1:3000" }],
              "health_check": { "http": { "path": "/health", "expect": 200 } } },
        ],
        "policies": [{ "name": "open", "deny": ["192.0.2.0/24"] }],
        "certificates": [{ "name": "play" }],
    })
}

#[test]
fn the_demos_document_is_right() {
    let document = Document::parse(CANONICAL).unwrap();
    assert_eq!(document.listeners.len(), 2);
}

#[test]
fn the_examples_are_right() {
    for example in [
        include_str!("../../../examples/standalone/balancer.yaml"),
        include_str!("../../../examples/demo/fleet.yaml"),
        include_str!("../../../examples/compose/fleet.yaml"),
    ] {
        let tree = Document::tree(example).unwrap();
        let uploaded = ["play", "play-example-com"].map(|n| n.parse().unwrap());
        let read = Document::of_fleet(tree, &uploaded.into());
        assert!(read.is_ok(), "{:?}", read.err());
    }
}

#[test]
fn json_and_yaml_say_the_same() {
    let json = serde_json::to_string(&right()).unwrap();
    let yaml = "pools:\n- name: p\n  backends: [{address: ':1'}]\n";
    assert_eq!(Document::parse(&json).unwrap().pools.len(), 2);
    assert_eq!(Document::parse(yaml).unwrap().pools.len(), 1);
    assert!(Document::parse("").unwrap().listeners.is_empty());
}

#[test]
fn what_is_parsed_and_written_again_is_the_same() {
    let once = Document::parse(CANONICAL).unwrap();
    let mut value = serde_json::to_value(&once).unwrap();
    value["certificates"] = serde_json::json!([{ "name": "play" }]);
    let again = Document::parse(&value.to_string()).unwrap();
    assert_eq!(
        serde_json::to_value(&again).unwrap()["pools"],
        value["pools"]
    );
    assert_eq!(
        serde_json::to_value(&again).unwrap()["listeners"],
        value["listeners"]
    );
}

#[test]
fn defaults_depend_on_role_and_mode() {
    let document = Document::parse(&right().to_string()).unwrap();
    assert_eq!(document.listeners[0].accept_proxy(), AcceptProxy::None);
    assert_eq!(document.listeners[1].client_ip(), ClientIp::Forwarded);
    let timeouts = document.policies[0].timeouts;
    assert_eq!(timeouts.connect, Timeout::from_secs(5));
    assert_eq!(timeouts.first_byte, Timeout::from_secs(10));
    assert_eq!(timeouts.idle, Timeout::from_secs(3600));
    assert_eq!(timeouts.keep_alive, Timeout::from_secs(60));
    assert_eq!(timeouts.half_closed, Timeout::from_secs(30));
    assert_eq!(timeouts.max_age, None);
}

/// Each row spoils one place; the pointer must be exactly that place.
#[test]
fn each_mistake_has_its_place() {
    let rows: &[(&str, Value, &str)] = &[
        ("/listeners/0/name", "Edge!".into(), "/listeners/0/name"),
        ("/listeners/0/name", "tls".into(), "/listeners/1/name"),
        ("/listeners/0/role", "proxy".into(), "/listeners/0/role"),
        ("/listeners/0/bind", "443".into(), "/listeners/0/bind"),
        ("/listeners/0/pool", "nowhere".into(), "/listeners/0/pool"),
        (
            "/listeners/0/policy",
            "nothing".into(),
            "/listeners/0/policy",
        ),
        ("/listeners/0/mode", "http".into(), "/listeners/0/mode"),
        (
            "/listeners/0/client_ip",
            "forwarded".into(),
            "/listeners/0/client_ip",
        ),
        (
            "/listeners/0/accept_proxy",
            "balancers".into(),
            "/listeners/0/accept_proxy",
        ),
        ("/listeners/0/color", "red".into(), "/listeners/0/color"),
        (
            "/listeners/1/tls/certificates",
            serde_json::json!([]),
            "/listeners/1/tls/certificates",
        ),
        (
            "/listeners/1/tls/certificates/0",
            "gone".into(),
            "/listeners/1/tls/certificates/0",
        ),
        (
            "/listeners/1/client_ip",
            "proxy_v2".into(),
            "/listeners/1/client_ip",
        ),
        (
            "/listeners/1/accept_proxy/0",
            "10.0.0.1/8".into(),
            "/listeners/1/accept_proxy/0",
        ),
        (
            "/listeners/1/accept_proxy",
            "none".into(),
            "/pools/0/proxy_protocol",
        ),
        (
            "/pools/0/discover/listener",
            "edge".into(),
            "/pools/0/discover/listener",
        ),
        (
            "/pools/0/discover/listener",
            "gone".into(),
            "/pools/0/discover/listener",
        ),
        (
            "/pools/0/proxy_protocol",
            "none".into(),
            "/pools/0/proxy_protocol",
        ),
        (
            "/pools/0/backends",
            serde_json::json!([{ "address": ":1" }]),
            "/pools/0/discover",
        ),
        ("/pools/1/backends", serde_json::json!([]), "/pools/1"),
        (
            "/pools/1/backends/1/address",
            ":3000".into(),
            "/pools/1/backends/1",
        ),
        (
            "/pools/1/backends/1/address",
            "host:80".into(),
            "/pools/1/backends/1/address",
        ),
        (
            "/pools/1/backends/0/weight",
            257.into(),
            "/pools/1/backends/0/weight",
        ),
        (
            "/pools/1/backends/0/weight",
            (-1).into(),
            "/pools/1/backends/0/weight",
        ),
        ("/pools/1/balance", "random".into(), "/pools/1/balance"),
        ("/pools/1/proxy_protocol", "v2".into(), "/listeners/1/pool"),
        (
            "/pools/1/health_check/interval",
            "0s".into(),
            "/pools/1/health_check/interval",
        ),
        (
            "/pools/1/health_check/tcp",
            serde_json::json!({}),
            "/pools/1/health_check",
        ),
        (
            "/pools/1/health_check/rise",
            0.into(),
            "/pools/1/health_check/rise",
        ),
        (
            "/pools/1/health_check/http/path",
            "x".into(),
            "/pools/1/health_check/http/path",
        ),
        (
            "/pools/1/health_check/http/expect",
            99.into(),
            "/pools/1/health_check/http/expect",
        ),
        (
            "/policies/0/deny/0",
            "192.0.2.1/24".into(),
            "/policies/0/deny/0",
        ),
        (
            "/policies/0/limits",
            serde_json::json!({ "connections_per_client": 0 }),
            "/policies/0/limits/connections_per_client",
        ),
        (
            "/policies/0/timeouts",
            serde_json::json!({ "idle": "soon" }),
            "/policies/0/timeouts/idle",
        ),
        ("/certificates/0/chain", "PEM".into(), "/certificates/0"),
        (
            "/pools/0/discover",
            serde_json::json!(["tls"]),
            "/pools/0/discover",
        ),
        ("/users", serde_json::json!([]), "/users"),
        ("/pools", serde_json::json!({}), "/pools"),
    ];
    for (place, value, pointer) in rows {
        let mut document = right();
        let (parent, key) = place.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).unwrap();
        match parent {
            Value::Array(list) => list[key.parse::<usize>().unwrap()] = value.clone(),
            parent => parent[key] = value.clone(),
        }
        let found = pointers(&document.to_string());
        assert!(
            found.contains(&(*pointer).to_owned()),
            "{place} = {value}: {found:?}"
        );
    }
}

#[test]
fn all_mistakes_of_one_resource_come_at_once() {
    let found = pointers(
        "pools:\n- name: p\n  balance: best\n  backends:\n  - {address: 'x'}\n  - {address: ':1'}\n  \
         - {address: 'y', weight: 257, colour: 1}\n  health_check: {interval: 1, rise: 0}\n",
    );
    assert_eq!(
        found,
        [
            "/pools/0/backends/0/address",
            "/pools/0/backends/2/address",
            "/pools/0/backends/2/colour",
            "/pools/0/backends/2/weight",
            "/pools/0/balance",
            "/pools/0/health_check/interval",
            "/pools/0/health_check/rise",
        ]
    );
}

#[test]
fn a_reference_to_a_resource_with_mistakes_is_not_a_second_mistake() {
    let mut document = right();
    document["pools"][1]["balance"] = "best".into();
    assert_eq!(pointers(&document.to_string()), ["/pools/1/balance"]);
}

#[test]
fn listeners_that_announce_differently_need_pools_of_their_own() {
    let mut document = right();
    let mut other = document["listeners"][1].clone();
    other["name"] = "tls-tcp".into();
    other["mode"] = "tcp".into();
    other["client_ip"] = "proxy_v1".into();
    document["listeners"].as_array_mut().unwrap().push(other);
    assert_eq!(pointers(&document.to_string()), ["/pools/1"]);
}

#[test]
fn a_private_key_is_neither_shown_nor_written_nor_quoted() {
    let key = "-----BEGIN PRIVATE KEY-----\nMIISECRET\n-----END PRIVATE KEY-----\n";
    let mut document = right();
    document["certificates"][0]["chain"] = "chain".into();
    document["certificates"][0]["private_key"] = key.into();
    let parsed = Document::parse(&document.to_string()).unwrap();
    assert!(!format!("{parsed:?}").contains("SECRET"));
    assert!(!serde_json::to_string(&parsed).unwrap().contains("SECRET"));

    document["listeners"][1]["tls"] = key.into();
    for mistake in Document::parse(&document.to_string()).unwrap_err() {
        assert!(!mistake.to_string().contains("SECRET"), "{mistake}");
    }
}

#[test]
fn a_yaml_mistake_beside_a_private_key_does_not_quote_it() {
    let broken = "certificates:\n- name: play\n  chain: x\n  private_key: |\n    -----BEGIN PRIVATE KEY-----\n    \
                  AAAA\n    BBBB\n    CCCC\n MIISECRET\n    MIISECRET2\n    -----END PRIVATE KEY-----\n";
    for mistake in Document::parse(broken).unwrap_err() {
        assert!(!mistake.to_string().contains("SECRET"), "{mistake}");
        assert!(!mistake.to_string().contains("CCCC"), "{mistake}");
    }
}

#[test]
fn names_in_an_agents_pointers_become_indexes() {
    let document = Document::parse(&right().to_string()).unwrap();
    let located = |pointer: &str| {
        document
            .locate(vec![Mistake::new(pointer, "")])
            .remove(0)
            .pointer
    };
    assert_eq!(located("/listeners/tls/bind"), "/listeners/1/bind");
    assert_eq!(located("/pools/node/backends/0"), "/pools/1/backends/0");
    assert_eq!(located("/certificates/play"), "/certificates/0");
    assert_eq!(located("/listeners/gone/bind"), "/listeners/gone/bind");
    assert_eq!(located(""), "");
}

proptest! {
    #[test]
    fn any_text_is_a_document_or_a_list_of_mistakes(text in "[a-z{}\\[\\]:,\"'&*!|>#\n 0-9-]{0,120}") {
        if let Err(mistakes) = Document::parse(&text) {
            prop_assert!(!mistakes.is_empty());
        }
    }

    /// Any value in any place is taken or refused there, and never panics.
    #[test]
    fn any_value_anywhere_is_taken_or_refused(
        place in 0..400_usize,
        value in prop_oneof![
            Just(Value::Null), any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into), ".{0,12}".prop_map(Into::into),
            Just(serde_json::json!([[]])), Just(serde_json::json!(["x"])), Just(serde_json::json!({ "a/b~c": 1 })),
        ],
    ) {
        let mut document = right();
        let mut places = Vec::new();
        collect(&document, String::new(), &mut places);
        let place = &places[place % places.len()];
        *document.pointer_mut(place).unwrap() = value;
        let text = document.to_string();
        if let Err(mistakes) = Document::parse(&text) {
            let tree: Value = serde_json::from_str(&text).unwrap();
            for mistake in mistakes {
                prop_assert!(tree.pointer(&mistake.pointer).is_some(), "{mistake}");
            }
        }
    }
}

fn collect(value: &Value, at: String, places: &mut Vec<String>) {
    match value {
        Value::Array(list) => {
            for (i, v) in list.iter().enumerate() {
                collect(v, format!("{at}/{i}"), places);
            }
        }
        Value::Object(map) => {
            for (k, v) in map {
                collect(v, format!("{at}/{k}"), places);
            }
        }
        _ => {}
    }
    if !at.is_empty() {
        places.push(at);
    }
}

#[test]
fn a_fleets_document_names_certificates_that_were_uploaded() {
    let tree = |text: &str| Document::tree(text).unwrap();
    let of_fleet = |document: &Value, uploaded: &[&str]| {
        let uploaded = uploaded.iter().map(|n| n.parse().unwrap()).collect();
        Document::of_fleet(document.clone(), &uploaded)
    };
    let mut document = tree(
        "listeners:
- { name: tls, role: terminator, bind: ':8443', pool: p, tls: { certificates: [play] } }
pools: [{ name: p, backends: [{ address: ':3000' }] }]",
    );
    // Referred to by a listener: declaring it as well is not needed.
    assert!(of_fleet(&document, &["play"]).is_ok());
    let pointers = |result: Result<Document, Vec<Mistake>>| -> Vec<String> {
        let mistakes = result.err().unwrap_or_default();
        mistakes.into_iter().map(|m| m.pointer).collect()
    };
    let unknown = pointers(of_fleet(&document, &[]));
    assert_eq!(unknown, ["/listeners/0/tls/certificates/0"]);

    document["certificates"] = serde_json::json!([{ "name": "play" }, { "name": "other" }]);
    let undeclared = pointers(of_fleet(&document, &["play"]));
    assert_eq!(undeclared, ["/certificates/1/name"]);
    document["certificates"][1] =
        serde_json::json!({ "name": "other", "chain_file": "a", "private_key_file": "b" });
    let material = pointers(of_fleet(&document, &["play", "other"]));
    assert_eq!(material, ["/certificates/1"]);
}

#[test]
fn a_part_is_read_like_a_resource_with_every_mistake_at_once() {
    let part = serde_json::json!({ "connect": "soon", "idle": "1s", "colour": 1 });
    let mistakes = Document::part::<Timeouts>(part).unwrap_err();
    let places: Vec<&str> = mistakes.iter().map(|m| m.pointer.as_str()).collect();
    assert_eq!(places, ["/colour", "/connect"]);
    let part = serde_json::json!({ "idle": "1s" });
    let read = Document::part::<Timeouts>(part).unwrap();
    assert_eq!(read.idle, Timeout::from_secs(1));
}

/// The mistakes of a document whose listener has this in its `tls`, as pointers below it.
fn spoiled_tls(tls: Value) -> Vec<String> {
    let mut document = right();
    for (field, value) in tls.as_object().unwrap() {
        document["listeners"][1]["tls"][field] = value.clone();
    }
    let pointers = pointers(&document.to_string()).into_iter();
    let below = pointers.map(|at| at.strip_prefix("/listeners/1/tls").unwrap().to_owned());
    below.collect()
}

#[test]
fn tls_that_could_refuse_every_client_is_refused() {
    use serde_json::json;
    for (tls, wanted) in [
        (json!({ "versions": ["tls1.1"] }), vec!["/versions"]),
        (json!({ "versions": [] }), vec!["/versions"]),
        (json!({ "groups": ["X25519MLKEM768"] }), vec!["/groups"]),
        (json!({ "groups": ["x25519", "x25519"] }), vec!["/groups"]),
        (json!({ "suites": ["AES"] }), vec!["/suites"]),
        (
            json!({ "suites": ["TLS_AES_128_GCM_SHA256"] }),
            vec!["/suites"],
        ),
        (
            json!({ "versions": ["tls1.2"], "suites": ["TLS_AES_128_GCM_SHA256"] }),
            vec!["/suites", "/suites/0"],
        ),
        (json!({ "alpn": ["mqtt"] }), vec!["/alpn"]),
        (json!({ "alpn": ["m q"] }), vec!["/alpn/0"]),
        (
            json!({ "client_certificates": { "ca": "x" } }),
            vec!["/client_certificates/ca"],
        ),
        (
            json!({ "client_certificates": { "ca": "-----BEGIN PRIVATE KEY-----" } }),
            vec!["/client_certificates/ca"],
        ),
        (json!({ "unknown_name": "drop" }), vec!["/unknown_name"]),
        (json!({ "certificates": [] }), vec!["/certificates"]),
    ] {
        assert_eq!(spoiled_tls(tls.clone()), wanted, "{tls}");
    }
}

#[test]
fn tls_of_one_version_needs_only_its_suites_and_groups() {
    let mut document = right();
    document["listeners"][1]["tls"] = serde_json::json!({
        "certificates": ["play"], "versions": ["tls1.3"], "groups": ["X25519MLKEM768"],
        "suites": ["TLS_AES_256_GCM_SHA384"], "unknown_name": "refuse", "close": "fast",
        "handshake_timeout": "2s", "tickets": false,
    });
    let read = Document::parse(&document.to_string()).unwrap();
    let written = serde_json::to_value(&read.listeners[1].tls).unwrap();
    assert_eq!(written, document["listeners"][1]["tls"]);
}
