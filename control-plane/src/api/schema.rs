//! The document's types as the OpenAPI description shows them. The types themselves
//! are core's, which knows nothing of descriptions; a test holds the two together,
//! field by field. Nothing here is ever made: only described.
#![expect(dead_code, reason = "described, never made")]

mod pool;

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

pub(super) use pool::{Backend, Pool};

/// All listeners, pools, policies and certificates: what people write and apply.
#[derive(ToSchema)]
pub(super) struct Document {
    /// What is bound, on which agents.
    #[schema(required = false)]
    listeners: Vec<Listener>,
    /// Where connections go.
    #[schema(required = false)]
    pools: Vec<Pool>,
    /// What listeners do about clients.
    #[schema(required = false)]
    policies: Vec<Policy>,
    /// Names of uploaded certificates. Those that a listener names need not be here.
    #[schema(required = false)]
    certificates: Vec<CertificateName>,
}

/// The two kinds of work an agent does.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum Role {
    Balancer,
    Terminator,
}

/// What an operator says of a backend.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum AdminState {
    Ready,
    Drain,
    Maintenance,
}

/// What an API token may do; each role may do all that the ones before it may.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(super) enum ApiRole {
    Viewer,
    Operator,
    Admin,
}

/// A bound address on the agents that the selector picks.
#[derive(ToSchema)]
pub(super) struct Listener {
    name: String,
    role: Role,
    /// Labels an agent must have; empty = every agent of the role.
    #[schema(required = false)]
    agents: BTreeMap<String, String>,
    /// Where to listen; `:port` is the agent's own address.
    #[schema(example = ":443")]
    bind: String,
    /// From whom a PROXY header is required: `none`, `balancers`, or a list of
    /// networks. `none` on balancers and `balancers` on terminators unless written.
    #[schema(required = false)]
    accept_proxy: AcceptProxy,
    /// Absent = everybody, with default timeouts.
    #[schema(required = false)]
    policy: String,
    /// On terminators, always.
    #[schema(required = false)]
    tls: Tls,
    /// Terminators only: what is inside the TLS; `tcp` unless written.
    #[schema(required = false)]
    mode: Mode,
    /// Terminators in HTTP mode only: what is taken of clients.
    #[schema(required = false)]
    http: Http,
    /// Terminators only: how the app learns the client's address; `forwarded` in HTTP
    /// mode, `none` in TCP mode unless written.
    #[schema(required = false)]
    client_ip: ClientIp,
    /// How the kernel treats its sockets.
    #[schema(required = false)]
    tcp: Tcp,
    /// Balancers only: pools by server name, as the ClientHello says it in the clear.
    #[schema(required = false)]
    routes: Vec<Route>,
    /// With routes: what becomes of a connection that does not begin with TLS;
    /// `refuse` unless written.
    #[schema(required = false)]
    plain: Plain,
    /// Balancers only: whether clients speak first. Unless written, `true` with routes
    /// or where the pool discovers terminators.
    #[schema(required = false)]
    client_first: bool,
    /// Balancers only, instead of a pool: plain HTTP is answered with a redirect to
    /// https.
    #[schema(required = false)]
    redirect: Redirect,
    /// Where its connections go; beside routes, those that match none.
    #[schema(required = false)]
    pool: String,
}

/// Server names, and where connections that ask for one of them go.
#[derive(ToSchema)]
struct Route {
    /// Names, or `*.` and a name: all those below it. Exact names count first.
    #[schema(example = json!(["play.example.com", "*.example.com"]))]
    sni: Vec<String>,
    pool: String,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Plain {
    Refuse,
    Pool,
}

/// The answer of a listener that sends plain HTTP to https.
#[derive(ToSchema)]
struct Redirect {
    /// The port in the Location; 443 unless written, and left out there.
    #[schema(required = false, minimum = 1)]
    port: u16,
    /// 301, 302, 307 or 308; 308 unless written.
    #[schema(required = false)]
    status: u16,
}

/// How the kernel treats a listener's sockets.
#[derive(ToSchema)]
struct Tcp {
    /// Connections that may wait to be accepted; 4096 unless written.
    #[schema(required = false, minimum = 1, maximum = 65535)]
    backlog: u32,
    /// After how much silence a peer is asked whether it is still there, `1s` to
    /// `345s`; `2m` unless written.
    #[schema(required = false)]
    keepalive: String,
    /// How long sent bytes may stay unacknowledged, `1s` to `24d`; as the kernel has
    /// it unless written.
    #[schema(required = false)]
    user_timeout: String,
}

/// `none`, `balancers`, or a list of networks.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum AcceptProxy {
    /// `none` or `balancers`.
    Word(String),
    /// Networks.
    From(Vec<String>),
}

/// TLS settings of a terminator's listener.
#[derive(ToSchema)]
struct Tls {
    /// By server name; the first one answers clients that name no other.
    certificates: Vec<String>,
    /// A client that names a host which no certificate has: `default` (the first one)
    /// unless written, or `refuse`.
    #[schema(required = false)]
    unknown_name: UnknownName,
    /// `tls1.3` and `tls1.2` unless written.
    #[schema(required = false, min_items = 1)]
    versions: Vec<String>,
    /// As IANA names them; the first one that a client knows is taken.
    #[schema(required = false, min_items = 1)]
    suites: Vec<String>,
    /// Groups in which keys are exchanged, likewise.
    #[schema(required = false, min_items = 1)]
    groups: Vec<String>,
    /// TCP mode only: protocols that clients may choose.
    #[schema(required = false)]
    alpn: Vec<String>,
    /// Absent = clients have none.
    #[schema(required = false)]
    client_certificates: ClientCertificates,
    /// For the handshake alone; the policy's `first_byte` unless written.
    #[schema(required = false)]
    handshake_timeout: String,
    /// How a connection ends when the app ends: `notify` unless written.
    #[schema(required = false)]
    close: Close,
    /// Whether clients get tickets to come back with; `true` unless written.
    #[schema(required = false)]
    tickets: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum UnknownName {
    Default,
    Refuse,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Close {
    Notify,
    Fast,
}

/// Who signs the certificates of clients.
#[derive(ToSchema)]
struct ClientCertificates {
    /// Certificates in PEM.
    ca: String,
    /// Whether a client without one is refused; `true` unless written.
    #[schema(required = false)]
    required: bool,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Mode {
    Http,
    Tcp,
}

/// HTTP on one listener; `{}` is all the defaults.
#[derive(ToSchema)]
struct Http {
    /// Offered by ALPN; both unless written.
    #[schema(required = false, min_items = 1)]
    versions: Vec<HttpVersion>,
    /// The head of a request, 64 KiB unless written; more is answered with 431.
    #[schema(required = false, minimum = 8192, maximum = 1_048_576)]
    max_header_bytes: u32,
    /// Fields in it, 100 unless written; more are answered with 431.
    #[schema(required = false, minimum = 1, maximum = 1000)]
    max_headers: u32,
    /// The body of a request; more is answered with 413. Absent = no bound.
    #[schema(required = false, minimum = 1)]
    max_body_bytes: u64,
    /// For a whole head, from its first byte; `10s` unless written.
    #[schema(required = false)]
    header_timeout: String,
    /// For the app to begin its answer; `1m` unless written.
    #[schema(required = false)]
    response_timeout: String,
    /// Networks of clients that forward for others.
    #[schema(required = false)]
    trusted_proxies: Vec<String>,
    /// Whether every request gets an X-Request-Id; `true` unless written.
    #[schema(required = false)]
    request_id: bool,
    /// HTTP/2: requests of one connection at once, 100 unless written.
    #[schema(required = false, minimum = 1, maximum = 1000)]
    max_concurrent_streams: u32,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum HttpVersion {
    H1,
    H2,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum ClientIp {
    Forwarded,
    ProxyV1,
    ProxyV2,
    Transparent,
    None,
}

/// What a listener does about clients.
#[derive(ToSchema)]
pub(super) struct Policy {
    name: String,
    /// Only these networks, when not empty.
    #[schema(required = false)]
    allow: Vec<String>,
    /// Never these, whatever `allow` says.
    #[schema(required = false)]
    deny: Vec<String>,
    #[schema(required = false)]
    limits: Limits,
    #[schema(required = false)]
    timeouts: Timeouts,
}

/// How much of whom, counted by each agent on each listener. A client is an IPv4
/// address or an IPv6 /64. Absent = no bound.
#[derive(ToSchema)]
struct Limits {
    /// Live connections from one client.
    #[schema(required = false, minimum = 1)]
    connections_per_client: u32,
    /// New connections from one client; the surplus is refused.
    #[schema(required = false)]
    new_per_client: Rate,
    /// Live connections from all clients.
    #[schema(required = false, minimum = 1)]
    connections: u32,
    /// New connections from all clients; the surplus waits to be accepted.
    #[schema(required = false)]
    new_connections: Rate,
}

/// So many in each second, and so many at once after a pause.
#[derive(ToSchema)]
struct Rate {
    #[schema(minimum = 1)]
    per_second: u32,
    /// As `per_second` unless written.
    #[schema(required = false, minimum = 1)]
    burst: u32,
}

/// How long a listener waits.
#[derive(ToSchema)]
struct Timeouts {
    /// For one backend to accept; `5s` unless written.
    #[schema(required = false)]
    connect: String,
    /// For everything before the first payload byte; `10s` unless written.
    #[schema(required = false)]
    first_byte: String,
    /// Without a byte either way, on TCP and upgraded connections; `1h` unless written.
    #[schema(required = false)]
    idle: String,
    /// Between two requests of an HTTP connection; `1m` unless written.
    #[schema(required = false)]
    keep_alive: String,
    /// Without a byte after one side has ended its direction; `30s` unless written.
    #[schema(required = false)]
    half_closed: String,
    /// A connection's whole life; each draws its own from the last tenth before it.
    /// Absent = unbounded.
    #[schema(required = false)]
    max_age: String,
}

/// A certificate by name; chain and key are uploaded.
#[derive(ToSchema)]
struct CertificateName {
    name: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::openapi;

    /// Every field there is, written. What excludes another is in another resource.
    const EVERYTHING: &str = "
listeners:
- { name: edge, role: balancer, agents: { tier: edge }, bind: ':443', accept_proxy: [10.0.0.0/8], policy: p, pool: found, client_first: true,
    routes: [{ sni: [a.example.com], pool: found }], plain: pool, tcp: { backlog: 1, keepalive: 1s, user_timeout: 1s } }
- { name: plain, role: balancer, bind: ':80', redirect: { port: 8443, status: 301 } }
- { name: tls, role: terminator, bind: ':8443', tls: { certificates: [c] }, mode: http, client_ip: forwarded, pool: node,
    http: { versions: [h2], max_header_bytes: 8192, max_headers: 1, max_body_bytes: 1, header_timeout: 1s, response_timeout: 1s,
      trusted_proxies: [10.0.0.0/8], request_id: false, max_concurrent_streams: 1 } }
- { name: bytes, role: terminator, bind: ':8444', pool: node,
    tls: { certificates: [c], unknown_name: refuse, versions: [tls1.3], suites: [TLS_AES_128_GCM_SHA256], groups: [x25519], alpn: [mqtt],
      client_certificates: { ca: '-----BEGIN CERTIFICATE-----', required: false }, handshake_timeout: 1s, close: fast, tickets: false } }
pools:
- name: found
  proxy_protocol: { version: v2, authority: true, unique_id: true, crc32c: true, pass: true }
  discover: { listener: tls }
  health_check: { agent: { listener: tls } }
  fast_open: true
- name: node
  balance: source_hash
  bounded_load: 125
  backends: [{ name: a, address: ':1', weight: 2, max_connections: 1, backup: true }]
  backups: all
  all_down: fail_open
  max_queue: 1
  queue_timeout: 1s
  slow_start: 1s
  retries: 1
  passive: { failures: 1, eject: 1s, longest: 1s }
  health_check: { http: { path: /, host: h, expect: [200] }, interval: 1s, fast_interval: 1s, down_interval: 1s, timeout: 1s, rise: 1, fall: 1, port: 1, proxy: none }
- { name: tcp, backends: [{ address: ':2' }], health_check: { tcp: {} } }
- { name: other, backends: [{ address: ':3' }], health_check: { tls: { server_name: a.example.com } } }
policies:
- name: p
  allow: [10.0.0.0/8]
  deny: [192.0.2.0/24]
  limits:
    connections_per_client: 1
    new_per_client: { per_second: 1, burst: 1 }
    connections: 1
    new_connections: { per_second: 1, burst: 1 }
  timeouts: { connect: 1s, first_byte: 1s, idle: 1s, keep_alive: 1s, half_closed: 1s, max_age: 1s }
certificates: [{ name: c, chain: x, private_key: z }]
";

    /// Both ways: a field that is written is described, and one that is described is
    /// written somewhere above.
    #[test]
    fn the_document_is_described_as_it_is_read() {
        let document = tidegate_core::document::Document::parse(EVERYTHING).unwrap();
        let document = serde_json::to_value(document).unwrap();
        let description = serde_json::to_value(openapi()).unwrap();
        let schema = &description["components"]["schemas"]["Document"];
        let (mut written, mut described) = (BTreeSet::new(), BTreeSet::new());
        compare(
            &document,
            schema,
            &description,
            "",
            &mut written,
            &mut described,
        );
        assert_eq!(written, described);
        assert!(written.len() > 90, "{}", written.len());
    }

    fn compare(
        value: &Value,
        schema: &Value,
        description: &Value,
        at: &str,
        written: &mut BTreeSet<String>,
        described: &mut BTreeSet<String>,
    ) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => description.pointer(&reference[1..]).unwrap(),
            None => schema,
        };
        // A word or a mapping: a mapping here.
        let forms = schema["oneOf"].as_array().filter(|_| value.is_object());
        if let Some(mapping) = forms.and_then(|forms| forms.last()) {
            return compare(value, mapping, description, at, written, described);
        }
        match value {
            Value::Array(list) => {
                for one in list {
                    compare(one, &schema["items"], description, at, written, described);
                }
            }
            Value::Object(fields) => {
                let Some(properties) = schema["properties"].as_object() else {
                    return;
                };
                described.extend(properties.keys().map(|key| format!("{at}/{key}")));
                for (key, field) in fields {
                    let below = format!("{at}/{key}");
                    let property = properties.get(key).unwrap_or(&Value::Null);
                    written.insert(below.clone());
                    compare(field, property, description, &below, written, described);
                }
            }
            _ => {}
        }
    }
}
