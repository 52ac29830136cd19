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
