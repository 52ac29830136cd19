//! A pool and its health check as the OpenAPI description shows them: the part of
//! `schema` about where connections go. Nothing here is ever made either.

use serde::Serialize;
use utoipa::ToSchema;

/// Where connections go.
#[derive(ToSchema)]
pub(in crate::api) struct Pool {
    name: String,
    #[schema(required = false)]
    balance: Balance,
    /// With `source_hash`: what one backend may have at most, in percent of its share;
    /// absent = no bound.
    #[schema(required = false, minimum = 101, maximum = 1000)]
    bounded_load: u32,
    /// What a balancer says about the client to the backends; `none` unless written.
    #[schema(required = false)]
    proxy_protocol: ProxyProtocol,
    /// Listed by hand ...
    #[schema(required = false)]
    backends: Vec<Backend>,
    /// ... or found: each agent that serves a listener.
    #[schema(required = false)]
    discover: Discover,
    /// Absent = `tcp` for listed backends, `agent` for discovered ones.
    #[schema(required = false)]
    health_check: HealthCheck,
    /// How many backups serve when no other backend can; `first` unless written.
    #[schema(required = false)]
    backups: Backups,
    /// What becomes of connections when all backends but backups are down; `backup`
    /// unless written.
    #[schema(required = false)]
    all_down: AllDown,
    /// Connections that may wait on one agent while every usable backend has its
    /// `max_connections`; 1024 unless written.
    #[schema(required = false, maximum = 100_000)]
    max_queue: u32,
    /// For how long they wait; the policy's `connect` unless written.
    #[schema(required = false)]
    queue_timeout: String,
    /// How long a backend that comes up takes to get its whole share; absent = none.
    #[schema(required = false)]
    slow_start: String,
    /// Other backends tried after a failed connect; 3 unless written.
    #[schema(required = false, maximum = 10)]
    retries: u32,
    /// What failed connects do to a backend.
    #[schema(required = false)]
    passive: Passive,
    /// Whether a client's first bytes travel in the SYN to the backend. Unless
    /// written, `true` for discovered backends if every listener in front has them.
    #[schema(required = false)]
    fast_open: bool,
}

/// Which backups serve: the first that is up, or all of them.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Backups {
    First,
    All,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum AllDown {
    Backup,
    FailOpen,
    Refuse,
}

/// `off`, or when a backend is ejected and for how long.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Passive {
    /// `off`.
    Word(String),
    /// Settings.
    Eject(Ejecting),
}

/// When a backend is left out, and for how long.
#[derive(Serialize, ToSchema)]
struct Ejecting {
    /// Failed connects in a row; 3 unless written.
    #[schema(required = false, minimum = 1, maximum = 255)]
    failures: u32,
    /// For how long the first time; `10s` unless written.
    #[schema(required = false)]
    eject: String,
    /// For how long at most; `5m` unless written.
    #[schema(required = false)]
    longest: String,
}

/// `none`, `v1`, `v2`, or version 2 with extensions.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum ProxyProtocol {
    /// `none`, `v1` or `v2`.
    Word(String),
    /// With extensions.
    Extended(Extended),
}

/// A PROXY header and its extensions, each left out unless written.
#[derive(Serialize, ToSchema)]
struct Extended {
    /// `v2`, where there are extensions.
    version: String,
    /// The server name that the client asks for.
    #[schema(required = false)]
    authority: bool,
    /// The id of the connection.
    #[schema(required = false)]
    unique_id: bool,
    /// A checksum of the header.
    #[schema(required = false)]
    crc32c: bool,
    /// Extensions of the header that the client's side sent.
    #[schema(required = false)]
    pass: bool,
}

/// How a backend is chosen; `least_connections` unless written.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum Balance {
    LeastConnections,
    RoundRobin,
    RandomTwo,
    SourceHash,
}

/// `inherit`, as the traffic has it, unless written.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
enum CheckProxy {
    Inherit,
    None,
    V1,
    V2,
}

/// One address of a pool.
#[derive(ToSchema)]
#[schema(as = ListedBackend)]
pub(in crate::api) struct Backend {
    /// Unique in its pool; the address as written unless given.
    #[schema(required = false)]
    name: String,
    /// Where it listens; `:port` is the agent's own address.
    #[schema(example = "127.0.0.1:3000")]
    address: String,
    /// Its share among the others; 1 unless written, and 0 takes nothing new.
    #[schema(required = false, maximum = 256)]
    weight: u16,
    /// Live connections that one agent gives it at most; absent = no bound.
    #[schema(required = false, minimum = 1)]
    max_connections: u32,
    /// Whether it serves only when the others are down; `false` unless written.
    #[schema(required = false)]
    backup: bool,
}

/// Where discovered backends come from.
#[derive(ToSchema)]
struct Discover {
    /// A terminator's listener: every agent that serves it is a backend.
    listener: String,
}

/// How and how often a backend is asked whether it can work. One of `tcp`, `tls`, `http` and
/// `agent`; `tcp` unless written.
#[derive(ToSchema)]
struct HealthCheck {
    /// Whether it accepts.
    #[schema(required = false)]
    tcp: TcpCheck,
    /// Whether it ends a handshake.
    #[schema(required = false)]
    tls: TlsCheck,
    /// What it answers to a GET.
    #[schema(required = false)]
    http: HttpCheck,
    /// What the agent there says on its health port.
    #[schema(required = false)]
    agent: AgentCheck,
    /// From one check to the next; `2s` unless written.
    #[schema(required = false, example = "2s")]
    interval: String,
    /// While results are about to change the state, and before the first one; as
    /// `interval` unless written.
    #[schema(required = false, example = "500ms")]
    fast_interval: String,
    /// While it is down; as `interval` unless written.
    #[schema(required = false, example = "10s")]
    down_interval: String,
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
    /// The PROXY header in front of the check.
    #[schema(required = false)]
    proxy: CheckProxy,
}

/// Without settings of its own.
#[derive(ToSchema)]
struct TcpCheck {}

/// A handshake. Whose certificate it shows plays no part.
#[derive(ToSchema)]
struct TlsCheck {
    /// The server name to ask for; none when absent.
    #[schema(required = false)]
    server_name: String,
}

/// `/health/<listener>` on an agent's health port.
#[derive(ToSchema)]
struct AgentCheck {
    /// The listener asked about.
    listener: String,
}

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
