//! Tables of documents that cannot work: each row has one mistake, and its pointer
//! and a word of its mend.

use crate::document::Document;

/// Every mistake of a document, as `pointer: message`.
fn said(text: &str) -> Vec<String> {
    let mistakes = Document::parse(text).err().unwrap_or_default();
    mistakes.iter().map(ToString::to_string).collect()
}

/// Two pools, and what a row adds to a listener.
fn with_listener(fields: &str) -> String {
    format!(
        "
listeners: [ {{ name: l, bind: ':1', {fields} }} ]
pools:
- {{ name: p, backends: [ {{ address: ':9' }} ] }}
- {{ name: q, backends: [ {{ address: ':9' }} ] }}
certificates: [ {{ name: c }} ]
"
    )
}

/// Each row: what is written, and where the one mistake is; without a place it is right.
fn each(document: fn(&str) -> String, rows: &[(&str, &str)]) {
    for (fields, mistake) in rows {
        let found = said(&document(fields));
        let (pointer, word) = mistake.split_once(' ').unwrap_or((mistake, ""));
        match found.as_slice() {
            [] => assert!(mistake.is_empty(), "{fields}: taken"),
            [one] => {
                let at = format!("{pointer}: ");
                assert!(
                    !mistake.is_empty() && one.starts_with(&at),
                    "{fields}: {one}"
                );
                assert!(one.contains(word), "{fields}: {one}");
            }
            more => panic!("{fields}: {more:#?}"),
        }
    }
}

#[test]
fn a_balancer_leads_somewhere() {
    let rows = [
        ("role: balancer, pool: p", ""),
        ("role: balancer, routes: [{ sni: [a.b], pool: q }]", ""),
        ("role: balancer, redirect: {}", ""),
        ("role: balancer", "/listeners/0 redirect: {}"),
        ("role: balancer, routes: []", "/listeners/0 leads nowhere"),
        (
            "role: balancer, pool: null, routes: []",
            "/listeners/0 leads nowhere",
        ),
        (
            "role: balancer, pool: p, routes: [{ sni: [a.b], pool: gone }]",
            "/listeners/0/routes/0/pool there is p, q",
        ),
    ];
    each(with_listener, &rows);
}

#[test]
fn routes_name_each_server_once() {
    let rows = [
        (
            "role: balancer, routes: [{ sni: [a.b, '*.a.b'], pool: p }, { sni: ['*.b'], pool: q }]",
            "",
        ),
        (
            "role: balancer, routes: [{ sni: [], pool: p }]",
            "/listeners/0/routes/0/sni empty",
        ),
        (
            "role: balancer, routes: [{ pool: p }]",
            "/listeners/0/routes/0 sni",
        ),
        (
            "role: balancer, routes: [{ sni: [a.b] }]",
            "/listeners/0/routes/0 pool",
        ),
        (
            "role: balancer, routes: [{ sni: [a.b, A.B], pool: p }]",
            "/listeners/0/routes/0/sni/1 /routes/0/sni/0",
        ),
        (
            "role: balancer, routes: [{ sni: ['*.b'], pool: p }, { sni: [a.b, '*.B'], pool: p }]",
            "/listeners/0/routes/1/sni/1 already",
        ),
        (
            "role: balancer, routes: [{ sni: ['*'], pool: p }]",
            "/listeners/0/routes/0/sni/0 server name",
        ),
        (
            "role: balancer, routes: [{ sni: [10.0.0.1], pool: p }]",
            "/listeners/0/routes/0/sni/0 address",
        ),
        (
            "role: balancer, routes: [{ sni: a.b, pool: p }]",
            "/listeners/0/routes/0/sni sequence",
        ),
        (
            "role: balancer, routes: [{ sni: [a.b], pool: p, port: 1 }]",
            "/listeners/0/routes/0/port unknown",
        ),
        (
            "role: balancer, routes: [[[a.b], p]]",
            "/listeners/0/routes/0 mapping",
        ),
    ];
    each(with_listener, &rows);
}

#[test]
fn what_is_no_tls_needs_routes_and_somewhere_to_go() {
    let rows = [
        (
            "role: balancer, pool: p, routes: [{ sni: [a.b], pool: q }], plain: pool",
            "",
        ),
        (
            "role: balancer, routes: [{ sni: [a.b], pool: q }], plain: refuse",
            "",
        ),
        (
            "role: balancer, routes: [{ sni: [a.b], pool: q }], plain: pool",
            "/listeners/0/plain pool: NAME",
        ),
        (
            "role: balancer, pool: p, plain: refuse",
            "/listeners/0/plain routes",
        ),
        (
            "role: balancer, pool: p, plain: pool",
            "/listeners/0/plain routes",
        ),
        (
            "role: balancer, pool: p, plain: drop",
            "/listeners/0/plain refuse",
        ),
    ];
    each(with_listener, &rows);
}

#[test]
fn routes_are_chosen_by_what_clients_say_first() {
    let rows = [
        ("role: balancer, pool: p, client_first: false", ""),
        ("role: balancer, pool: p, client_first: true", ""),
        (
            "role: balancer, routes: [{ sni: [a.b], pool: q }], client_first: true",
            "",
        ),
        (
            "role: balancer, routes: [{ sni: [a.b], pool: q }], client_first: false",
            "/listeners/0/client_first take this out",
        ),
        (
            "role: balancer, pool: p, client_first: 1",
            "/listeners/0/client_first boolean",
        ),
    ];
    each(with_listener, &rows);
}

#[test]
fn a_redirect_stands_alone() {
    let rows = [
        (
            "role: balancer, accept_proxy: [10.0.0.0/8], redirect: { port: 8443, status: 301 }",
            "",
        ),
        (
            "role: balancer, redirect: {}, pool: p",
            "/listeners/0/pool take this out",
        ),
        (
            "role: balancer, redirect: {}, routes: [{ sni: [a.b], pool: q }]",
            "/listeners/0/routes take this out",
        ),
        (
            "role: balancer, redirect: {}, plain: refuse",
            "/listeners/0/plain take this out",
        ),
        (
            "role: balancer, redirect: {}, client_first: true",
            "/listeners/0/client_first take this out",
        ),
        (
            "role: balancer, redirect: { port: 0 }",
            "/listeners/0/redirect/port nonzero",
        ),
        (
            "role: balancer, redirect: { status: 200 }",
            "/listeners/0/redirect/status 301, 302, 307 or 308",
        ),
        (
            "role: balancer, redirect: [443]",
            "/listeners/0/redirect mapping",
        ),
        (
            "role: balancer, redirect: true",
            "/listeners/0/redirect or {}",
        ),
    ];
    each(with_listener, &rows);
}

#[test]
fn terminators_lead_to_one_pool() {
    fn terminator(fields: &str) -> String {
        with_listener(&format!(
            "role: terminator, accept_proxy: none, tls: {{ certificates: [c] }}, {fields}"
        ))
    }
    let rows = [
        ("pool: p", ""),
        ("mode: http", "/listeners/0 pool: NAME"),
        (
            "pool: p, routes: [{ sni: [a.b], pool: q }]",
            "/listeners/0/routes balancer's",
        ),
        ("pool: p, plain: refuse", "/listeners/0/plain balancer's"),
        ("pool: p, mode: http, http: { versions: [h1] }", ""),
        ("pool: p, http: {}", "/listeners/0/http mode: http"),
        (
            "pool: p, mode: http, http: { versions: [] }",
            "/listeners/0/http/versions h1 and h2",
        ),
        (
            "pool: p, mode: http, http: { trusted_proxies: [here] }",
            "/listeners/0/http/trusted_proxies/0 here",
        ),
        (
            "pool: p, client_first: true",
            "/listeners/0/client_first balancer's",
        ),
        ("pool: p, redirect: {}", "/listeners/0/redirect balancer's"),
    ];
    each(terminator, &rows);
}

#[test]
fn sockets_have_bounds() {
    let rows = [
        (
            "role: balancer, pool: p, tcp: { backlog: 65535, keepalive: 345s, user_timeout: 30s }",
            "",
        ),
        (
            "role: terminator, accept_proxy: none, tls: { certificates: [c] }, pool: p, tcp: { backlog: 1 }",
            "",
        ),
        (
            "role: balancer, pool: p, tcp: { backlog: 0 }",
            "/listeners/0/tcp/backlog 1 to 65535",
        ),
        (
            "role: balancer, pool: p, tcp: { backlog: 65536 }",
            "/listeners/0/tcp/backlog 1 to 65535",
        ),
        (
            "role: balancer, pool: p, tcp: { keepalive: 350s }",
            "/listeners/0/tcp/keepalive NLB",
        ),
        (
            "role: balancer, pool: p, tcp: { keepalive: 500ms }",
            "/listeners/0/tcp/keepalive 1s",
        ),
        (
            "role: balancer, pool: p, tcp: { user_timeout: 30d }",
            "/listeners/0/tcp/user_timeout 24days",
        ),
        (
            "role: balancer, pool: p, tcp: [4096]",
            "/listeners/0/tcp mapping",
        ),
        (
            "role: balancer, pool: p, tcp: { nodelay: true }",
            "/listeners/0/tcp/nodelay unknown",
        ),
    ];
    each(with_listener, &rows);
}

#[test]
fn routes_announce_like_every_other_way_to_the_same_pool() {
    let found = said(
        "
listeners:
- { name: edge, role: balancer, bind: ':1', routes: [{ sni: [a.b], pool: p }] }
- { name: tls, role: terminator, bind: ':2', accept_proxy: none, tls: { certificates: [c] },
    client_ip: proxy_v1, pool: p }
pools: [{ name: p, backends: [{ address: ':9' }] }]
certificates: [{ name: c }]
",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("/pools/0: listeners edge and tls"),
        "{found:?}"
    );
}

/// A pool that a balancer's listener leads to, with one backend more or less as a
/// row says.
fn with_pool(fields: &str) -> String {
    format!(
        "
listeners: [ {{ name: edge, role: balancer, bind: ':1', pool: p }} ]
pools: [ {{ name: p, {fields} }} ]
"
    )
}

#[test]
fn a_pools_numbers_have_bounds_and_defaults() {
    let rows = [
        (
            "backends: [{ address: ':9', weight: 0, max_connections: 1, backup: true }]",
            "",
        ),
        (
            "backends: [{ address: ':9' }], max_queue: 0, queue_timeout: 1s, slow_start: 30s, retries: 0",
            "",
        ),
        (
            "backends: [{ address: ':9', weight: 257 }]",
            "/pools/0/backends/0/weight 0 to 256",
        ),
        (
            "backends: [{ address: ':9', max_connections: 0 }]",
            "/pools/0/backends/0/max_connections nonzero",
        ),
        (
            "backends: [{ address: ':9', backup: 1 }]",
            "/pools/0/backends/0/backup boolean",
        ),
        (
            "backends: [{ address: ':9' }], max_queue: 100001",
            "/pools/0/max_queue 0 to 100000",
        ),
        (
            "backends: [{ address: ':9' }], queue_timeout: 0s",
            "/pools/0/queue_timeout 500ms",
        ),
        (
            "backends: [{ address: ':9' }], slow_start: slow",
            "/pools/0/slow_start 500ms",
        ),
        (
            "backends: [{ address: ':9' }], retries: 11",
            "/pools/0/retries 0 to 10",
        ),
        ("backends: [{ address: ':9' }], passive: off", ""),
        ("backends: [{ address: ':9' }], passive: 'off'", ""),
        (
            "backends: [{ address: ':9' }], passive: { failures: 1, eject: 1s, longest: 1s }",
            "",
        ),
        (
            "backends: [{ address: ':9' }], passive: on",
            "/pools/0/passive off",
        ),
        (
            "backends: [{ address: ':9' }], passive: { failures: 256 }",
            "/pools/0/passive/failures 1 to 255",
        ),
        (
            "backends: [{ address: ':9' }], passive: { longest: 5s }",
            "/pools/0/passive longest: 10s",
        ),
        (
            "backends: [{ address: ':9' }], passive: [3]",
            "/pools/0/passive mapping",
        ),
    ];
    each(with_pool, &rows);
}

#[test]
fn a_pools_settings_work_together() {
    let rows = [
        (
            "balance: source_hash, bounded_load: 101, backends: [{ address: ':9' }]",
            "",
        ),
        ("balance: random_two, backends: [{ address: ':9' }]", ""),
        (
            "balance: random_two, bounded_load: 125, backends: [{ address: ':9' }]",
            "/pools/0/bounded_load balance: source_hash",
        ),
        (
            "balance: source_hash, bounded_load: 100, backends: [{ address: ':9' }]",
            "/pools/0/bounded_load 101 to 1000",
        ),
        (
            "balance: random, backends: [{ address: ':9' }]",
            "/pools/0/balance random_two",
        ),
        (
            "backups: all, all_down: fail_open, backends: [{ address: ':9', backup: true }, { address: ':8' }]",
            "",
        ),
        ("all_down: refuse, backends: [{ address: ':9' }]", ""),
        (
            "all_down: refuse, backends: [{ address: ':9', backup: true }]",
            "/pools/0/all_down all_down: backup",
        ),
        (
            "backups: second, backends: [{ address: ':9' }]",
            "/pools/0/backups first",
        ),
        (
            "all_down: panic, backends: [{ address: ':9' }]",
            "/pools/0/all_down fail_open",
        ),
    ];
    each(with_pool, &rows);
}

#[test]
fn a_header_has_room_for_what_goes_into_it() {
    let rows = [
        (
            "backends: [{ address: ':9' }], proxy_protocol: { version: v2, unique_id: true, crc32c: true, pass: true }",
            "",
        ),
        (
            "backends: [{ address: ':9' }], proxy_protocol: { version: v1 }",
            "",
        ),
        (
            "backends: [{ address: ':9' }], proxy_protocol: { version: v1, crc32c: true }",
            "/pools/0/proxy_protocol version: v2",
        ),
        (
            "backends: [{ address: ':9' }], proxy_protocol: { version: none, pass: true }",
            "/pools/0/proxy_protocol version: v2",
        ),
        (
            "backends: [{ address: ':9' }], proxy_protocol: { crc32c: true }",
            "/pools/0/proxy_protocol version",
        ),
        (
            "backends: [{ address: ':9' }], proxy_protocol: { version: v2, alpn: true }",
            "/pools/0/proxy_protocol/alpn unknown",
        ),
        (
            "backends: [{ address: ':9' }], proxy_protocol: [v2]",
            "/pools/0/proxy_protocol mapping",
        ),
        (
            "backends: [{ address: ':9' }], proxy_protocol: { version: v2, authority: true }",
            "/pools/0/proxy_protocol/authority client_first: true",
        ),
    ];
    each(with_pool, &rows);
}

#[test]
fn first_bytes_travel_only_where_somebody_has_them() {
    fn both(fields: &str) -> String {
        let (listener, pool) = fields.split_once(" | ").unwrap();
        format!(
            "
listeners:
- {{ name: edge, role: balancer, bind: ':1', {listener} }}
- {{ name: tls, role: terminator, bind: ':2', accept_proxy: none, tls: {{ certificates: [c] }}, pool: node }}
pools:
- {{ name: p, {pool} }}
- {{ name: node, backends: [{{ address: ':9' }}] }}
certificates: [{{ name: c }}]
"
        )
    }
    let rows = [
        (
            "pool: p, client_first: true | fast_open: true, backends: [{ address: ':9' }]",
            "",
        ),
        (
            "routes: [{ sni: [a.b], pool: p }] | fast_open: true, proxy_protocol: { version: v2, authority: true }, backends: [{ address: ':9' }]",
            "",
        ),
        ("pool: p | fast_open: true, discover: { listener: tls }", ""),
        (
            "pool: p, client_first: false | discover: { listener: tls }",
            "",
        ),
        (
            "pool: p, client_first: false | fast_open: false, discover: { listener: tls }",
            "",
        ),
        (
            "pool: p | fast_open: true, backends: [{ address: ':9' }]",
            "/pools/0/fast_open client_first: true",
        ),
        (
            "pool: p, client_first: false | fast_open: true, discover: { listener: tls }",
            "/pools/0/fast_open listener edge",
        ),
        (
            "pool: node | fast_open: yes please, backends: [{ address: ':9' }]",
            "/pools/0/fast_open boolean",
        ),
    ];
    each(both, &rows);
    let beside = both("pool: p | discover: { listener: tls }")
        .replace("name: node,", "name: node, fast_open: true,");
    let found = said(&beside);
    assert!(
        found.len() == 1 && found[0].starts_with("/pools/1/fast_open: terminator's listener tls"),
        "{found:?}"
    );
}

#[test]
fn checks_ask_what_can_be_answered() {
    let rows = [
        (
            "backends: [{ address: ':9' }], health_check: { tls: { server_name: Play.example.com }, fast_interval: 500ms, down_interval: 10s }",
            "",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { tls: {}, proxy: inherit }",
            "",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { agent: { listener: anything }, port: 7445 }",
            "",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { agent: { listener: tls } }",
            "/pools/0/health_check port: 7445",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { agent: { listener: tls }, port: 7445, proxy: v2 }",
            "/pools/0/health_check leave proxy out",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { agent: {}, port: 7445 }",
            "/pools/0/health_check/agent listener",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { agent: [tls], port: 7445 }",
            "/pools/0/health_check/agent mapping",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { tls: { server_name: '*.example.com' } }",
            "/pools/0/health_check/tls/server_name server name",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { tls: {}, http: { path: / } }",
            "/pools/0/health_check both tls and http",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { fast_interval: 0s }",
            "/pools/0/health_check/fast_interval 500ms",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { down_interval: never }",
            "/pools/0/health_check/down_interval 500ms",
        ),
        (
            "backends: [{ address: ':9' }], health_check: { proxy: v3 }",
            "/pools/0/health_check/proxy inherit",
        ),
    ];
    each(with_pool, &rows);
}

#[test]
fn a_discovered_backends_agent_is_asked_about_a_listener_of_the_document() {
    fn asked(listener: &str) -> String {
        format!(
            "
listeners:
- {{ name: tls, role: terminator, bind: ':2', accept_proxy: none, tls: {{ certificates: [c] }}, pool: node }}
pools:
- {{ name: node, backends: [{{ address: ':9' }}] }}
- {{ name: found, discover: {{ listener: tls }}, health_check: {{ agent: {{ listener: {listener} }} }} }}
certificates: [{{ name: c }}]
"
        )
    }
    let rows = [
        ("tls", ""),
        ("gone", "/pools/1/health_check/agent/listener there is tls"),
    ];
    each(asked, &rows);
}

#[test]
fn rates_and_limits_are_at_least_one() {
    fn policy(limits: &str) -> String {
        format!("policies: [ {{ name: p, limits: {{ {limits} }} }} ]")
    }
    let rows = [
        (
            "connections: 1, new_per_client: { per_second: 5 }, new_connections: { per_second: 1000, burst: 10 }",
            "",
        ),
        ("connections: 0", "/policies/0/limits/connections nonzero"),
        (
            "new_per_client: { per_second: 0 }",
            "/policies/0/limits/new_per_client/per_second nonzero",
        ),
        (
            "new_per_client: { burst: 5 }",
            "/policies/0/limits/new_per_client per_second",
        ),
        (
            "new_per_client: 5",
            "/policies/0/limits/new_per_client { per_second: 10",
        ),
        (
            "new_connections: { per_second: 1, burst: 0 }",
            "/policies/0/limits/new_connections/burst nonzero",
        ),
        (
            "new_connections: [1, 2]",
            "/policies/0/limits/new_connections mapping",
        ),
        (
            "new_connections: { per_second: 1, per_minute: 2 }",
            "/policies/0/limits/new_connections/per_minute unknown",
        ),
    ];
    each(policy, &rows);
}

/// Every new setting, each with another value than its default.
const EVERY: &str = "
listeners:
- name: edge
  role: balancer
  bind: ':1'
  pool: p
  routes: [{ sni: [a.b, '*.c.d'], pool: p }]
  plain: pool
  client_first: true
  tcp: { backlog: 5, keepalive: 1m, user_timeout: 30s }
- { name: plain, role: balancer, bind: ':2', redirect: { port: 8443, status: 301 } }
pools:
- name: p
  balance: source_hash
  bounded_load: 150
  proxy_protocol: { version: v2, authority: true }
  backends: [{ address: ':9', weight: 0, max_connections: 3 }, { address: ':8', backup: true }]
  backups: all
  all_down: fail_open
  max_queue: 7
  queue_timeout: 2s
  slow_start: 30s
  retries: 1
  passive: off
  fast_open: true
  health_check: { tls: { server_name: a.b }, fast_interval: 1s, down_interval: 9s, proxy: none }
policies:
- name: l
  limits: { new_per_client: { per_second: 5 }, connections: 9, new_connections: { per_second: 7, burst: 1 } }
";

#[test]
fn every_setting_is_written_again_as_it_was_read() {
    let once = serde_json::to_value(Document::parse(EVERY).unwrap()).unwrap();
    let again = Document::parse(&once.to_string()).unwrap();
    assert_eq!(serde_json::to_value(again).unwrap(), once);
    for written in [
        "/listeners/0/routes/0/sni/1",
        "/listeners/0/plain",
        "/listeners/0/client_first",
        "/listeners/0/tcp/user_timeout",
        "/listeners/1/redirect/status",
        "/pools/0/bounded_load",
        "/pools/0/proxy_protocol/authority",
        "/pools/0/backends/0/max_connections",
        "/pools/0/backends/1/backup",
        "/pools/0/backups",
        "/pools/0/all_down",
        "/pools/0/max_queue",
        "/pools/0/queue_timeout",
        "/pools/0/slow_start",
        "/pools/0/retries",
        "/pools/0/passive",
        "/pools/0/fast_open",
        "/pools/0/health_check/tls/server_name",
        "/pools/0/health_check/fast_interval",
        "/pools/0/health_check/down_interval",
        "/policies/0/limits/new_per_client/burst",
        "/policies/0/limits/connections",
    ] {
        assert!(once.pointer(written).is_some(), "{written}: {once:#}");
    }
}

#[test]
fn what_is_not_written_is_not_written_again() {
    let plain = "
listeners: [ { name: l, role: balancer, bind: ':1', pool: p } ]
pools: [ { name: p, backends: [ { address: ':9' } ], health_check: { tcp: {}, proxy: inherit } } ]
policies: [ { name: q } ]
";
    let written = serde_json::to_value(Document::parse(plain).unwrap()).unwrap();
    let keys = |at: &str| -> Vec<String> {
        let fields = written.pointer(at).unwrap().as_object().unwrap();
        fields.keys().cloned().collect()
    };
    assert_eq!(keys("/listeners/0"), ["bind", "name", "pool", "role"]);
    assert_eq!(
        keys("/pools/0"),
        [
            "backends",
            "balance",
            "health_check",
            "name",
            "proxy_protocol"
        ]
    );
    assert_eq!(keys("/pools/0/backends/0"), ["address", "weight"]);
    assert_eq!(
        keys("/pools/0/health_check"),
        ["fall", "interval", "rise", "tcp", "timeout"]
    );
    assert!(keys("/policies/0/limits").is_empty());
}

/// A terminator that connects from the clients' addresses to a pool as a row says.
fn transparent(pool: &str) -> String {
    format!(
        "
listeners:
- {{ name: l, role: terminator, bind: ':1', accept_proxy: none, mode: http, pool: p,
    tls: {{ certificates: [c] }}, client_ip: transparent }}
- {{ name: other, role: terminator, bind: ':2', tls: {{ certificates: [c] }}, pool: other }}
pools: [ {{ name: p, {pool} }}, {{ name: other, backends: [{{ address: ':9' }}] }} ]
certificates: [ {{ name: c }} ]
"
    )
}

#[test]
fn a_clients_address_reaches_processes_on_this_host_only() {
    let rows = [
        ("backends: [{ address: '127.0.0.1:9' }]", ""),
        (
            "backends: [{ address: '127.8.9.10:9' }, { address: '[::1]:10' }]",
            "",
        ),
        // Checks come from the agent itself.
        (
            "backends: [{ address: '127.0.0.1:9' }], health_check: { tcp: {}, port: 10 }",
            "",
        ),
        (
            "backends: [{ address: ':9' }]",
            "/listeners/0/pool 127.0.0.1:PORT",
        ),
        (
            "backends: [{ address: '192.0.2.7:9' }]",
            "/listeners/0/pool 192.0.2.7:9",
        ),
        (
            "backends: [{ address: '127.0.0.1:9' }, { address: '[2001:db8::7]:10' }]",
            "/listeners/0/pool [2001:db8::7]:10",
        ),
        (
            "backends: [{ address: '127.0.0.1:9' }, { address: '127.0.0.2:9' }]",
            "/listeners/0/pool port of its own",
        ),
        (
            "backends: [{ address: '[::1]:9' }, { address: '127.0.0.1:9' }]",
            "/listeners/0/pool port of its own",
        ),
        (
            "discover: { listener: other }, proxy_protocol: v2",
            "/listeners/0/pool discovers",
        ),
        (
            "backends: [{ address: '127.0.0.1:9' }], proxy_protocol: v2",
            "/listeners/0/pool client_ip: proxy_v1",
        ),
    ];
    for (pool, mistake) in rows {
        let found = said(&transparent(pool));
        let (pointer, word) = mistake.split_once(' ').unwrap_or((mistake, ""));
        assert_eq!(found.is_empty(), mistake.is_empty(), "{pool}: {found:?}");
        let at = |said: &String| said.starts_with(pointer) && said.contains(word);
        assert!(
            found.is_empty() || found.iter().any(at),
            "{pool}: {found:?}"
        );
        // It is this that is wrong with it.
        let without = transparent(pool).replace("transparent", "none");
        let left = said(&without);
        assert!(
            left.is_empty() || pool.contains("proxy_protocol"),
            "{left:?}"
        );
    }
}
