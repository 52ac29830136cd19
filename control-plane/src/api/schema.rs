//! The document's types as the OpenAPI description shows them. The types themselves
//! are core's, which knows nothing of descriptions; a test holds the two together,
//! field by field. Nothing here is ever made: only described.
#![expect(dead_code, reason = "described, never made")]

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

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
    /// Terminators only: how the app learns the client's address; `forwarded` in HTTP
    /// mode, `none` in TCP mode unless written.
    #[schema(required = false)]
    client_ip: ClientIp,
    /// Where its connections go.
    pool: String,
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
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Mode {
    Http,
    Tcp,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum ClientIp {
    Forwarded,
    ProxyV1,
    ProxyV2,
    None,
}

/// Where connections go.
#[derive(ToSchema)]
pub(super) struct Pool {
    name: String,
    #[schema(required = false)]
    balance: Balance,
    /// What a balancer says about the client to the backends; `none` unless written.
    #[schema(required = false)]
    proxy_protocol: ProxyOut,
    /// Listed by hand ...
    #[schema(required = false)]
    backends: Vec<Backend>,
    /// ... or found: each agent that serves a listener.
    #[schema(required = false)]
    discover: Discover,
    /// Absent = `tcp` for listed backends, the agent's health port for discovered ones.
    #[schema(required = false)]
    health_check: HealthCheck,
}

/// How a backend is chosen; `least_connections` unless written.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Balance {
    LeastConnections,
    RoundRobin,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum ProxyOut {
    None,
    V1,
    V2,
}

/// One address of a pool.
#[derive(ToSchema)]
#[schema(as = ListedBackend)]
pub(super) struct Backend {
    /// Unique in its pool; the address as written unless given.
    #[schema(required = false)]
    name: String,
    /// Where it listens; `:port` is the agent's own address.
    #[schema(example = "127.0.0.1:3000")]
    address: String,
    /// Its share among the others; 1 unless written.
    #[schema(required = false, minimum = 1, maximum = 256)]
    weight: u16,
}

/// Where discovered backends come from.
#[derive(ToSchema)]
struct Discover {
    /// A terminator's listener: every agent that serves it is a backend.
    listener: String,
}

/// How and how often a backend is asked whether it can work. Either `tcp` or `http`.
#[derive(ToSchema)]
struct HealthCheck {
    /// Whether it accepts.
    #[schema(required = false)]
    tcp: TcpCheck,
    /// What it answers to a GET.
    #[schema(required = false)]
    http: HttpCheck,
    /// From one check to the next; `2s` unless written.
    #[schema(required = false, example = "2s")]
    interval: String,
    /// For the whole check; `1s` unless written.
    #[schema(required = false, example = "1s")]
    timeout: String,
    /// Passes in a row that bring it up; 2 unless written.
    #[schema(required = false, minimum = 1)]
    rise: u8,
    /// Failures in a row that take it down; 3 unless written.
    #[schema(required = false, minimum = 1)]
    fall: u8,
    /// Another port than the traffic's.
    #[schema(required = false, minimum = 1)]
    port: u16,
    /// The PROXY header in front of the check; as the traffic has it unless written.
    #[schema(required = false)]
    proxy: ProxyOut,
}

/// Without settings of its own.
#[derive(ToSchema)]
struct TcpCheck {}

/// `GET path`, and which statuses pass.
#[derive(ToSchema)]
struct HttpCheck {
    #[schema(example = "/health")]
    path: String,
    /// The Host header; the backend's address when absent.
    #[schema(required = false)]
    host: String,
    /// Statuses that pass; 2xx and 3xx when absent.
    #[schema(required = false)]
    expect: Expect,
}

/// One status, or a list.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Expect {
    One(u16),
    Some(Vec<u16>),
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

/// Bounds per client (IPv4 address or IPv6 /64).
#[derive(ToSchema)]
struct Limits {
    /// Live connections to a listener; absent = no bound.
    #[schema(required = false, minimum = 1)]
    connections_per_client: u32,
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
    /// A connection's whole life; absent = unbounded.
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
- { name: edge, role: balancer, agents: { tier: edge }, bind: ':443', accept_proxy: [10.0.0.0/8], policy: p, pool: found }
- { name: tls, role: terminator, bind: ':8443', tls: { certificates: [c] }, mode: http, client_ip: forwarded, pool: node }
pools:
- { name: found, proxy_protocol: v2, discover: { listener: tls } }
- name: node
  balance: round_robin
  backends: [{ name: a, address: ':1', weight: 2 }]
  health_check: { http: { path: /, host: h, expect: [200] }, interval: 1s, timeout: 1s, rise: 1, fall: 1, port: 1, proxy: none }
- { name: tcp, backends: [{ address: ':2' }], health_check: { tcp: {} } }
policies:
- name: p
  allow: [10.0.0.0/8]
  deny: [192.0.2.0/24]
  limits: { connections_per_client: 1 }
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
        assert!(written.len() > 40, "{}", written.len());
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
