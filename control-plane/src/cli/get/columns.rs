//! What a table says of each kind. Pure.

use serde_json::{Value, json};

use crate::cli::get::Kind;
use crate::cli::table::Column;
use crate::cli::table::Say::{Age, At, By, Until};
use crate::cli::words::{NOTHING, at, words};

/// The table of a kind.
pub(super) struct Of {
    /// Its columns.
    pub(super) columns: &'static [Column],
    /// The rows made of the items.
    pub(super) rows: fn(&[Value]) -> Vec<Value>,
}

/// The table of `kind`.
pub(super) fn of(kind: Kind) -> Of {
    let columns = match kind {
        Kind::Listeners => LISTENERS,
        Kind::Pools | Kind::Config => POOLS,
        Kind::Backends => BACKENDS,
        Kind::Policies => POLICIES,
        Kind::Certificates => CERTIFICATES,
        Kind::Agents => AGENTS,
        Kind::JoinTokens => JOIN_TOKENS,
        Kind::ApiTokens => API_TOKENS,
        Kind::TicketKeys => TICKET_KEYS,
        Kind::Revisions => REVISIONS,
        Kind::Audit => AUDIT,
    };
    let rows = match kind {
        Kind::Backends => a_row_for_each_agent,
        _ => <[Value]>::to_vec,
    };
    Of { columns, rows }
}

const LISTENERS: &[Column] = &[
    Column("NAME", At("/name")),
    Column("ROLE", At("/role")),
    Column("AGENTS", By(selector)),
    Column("BIND", At("/bind")),
    Column("MODE", At("/mode")),
    Column("CERTIFICATES", At("/tls/certificates")),
    Column("POLICY", At("/policy")),
    Column("POOL", At("/pool")),
];

const TICKET_KEYS: &[Column] = &[
    Column("LISTENER", At("/listener")),
    Column("KEY", At("/id")),
    Column("STAGE", At("/stage")),
    Column("LACKING", At("/lacking")),
    Column("AGE", Age("/made_at")),
];

const POOLS: &[Column] = &[
    Column("NAME", At("/name")),
    Column("BALANCE", At("/balance")),
    Column("PROXY", At("/proxy_protocol")),
    Column("BACKENDS", By(backends)),
];

const BACKENDS: &[Column] = &[
    Column("BACKEND", At("/name")),
    Column("AGENT", At("/seen/agent")),
    Column("ADDRESS", By(address)),
    Column("HEALTH", By(health)),
    Column("ADMIN", By(admin)),
    Column("WEIGHT", By(weight)),
    Column("LIVE", At("/seen/in_flight")),
    Column("CONNECTS", At("/seen/connects")),
    Column("FAILED", At("/seen/connects_failed")),
    Column("LAST CHECK", At("/seen/last_check/words")),
    Column("AGE", Age("/seen/last_check/at")),
];

const POLICIES: &[Column] = &[
    Column("NAME", At("/name")),
    Column("ALLOW", By(allow)),
    Column("DENY", At("/deny")),
    Column("LIMITS", At("/limits")),
    Column("TIMEOUTS", At("/timeouts")),
];

const CERTIFICATES: &[Column] = &[
    Column("NAME", At("/name")),
    Column("SERVES", At("/dns_names")),
    Column("EXPIRES", Until("/not_after")),
    Column("UPLOADED", Age("/uploaded_at")),
    Column("BY", At("/uploaded_by")),
    Column("USED BY", At("/used_by")),
    Column("HELD BY", By(|row| length(row, "/held_by", "agent"))),
];

const AGENTS: &[Column] = &[
    Column("AGENT", At("/id")),
    Column("ROLES", At("/roles")),
    Column("LABELS", At("/labels")),
    Column("ADDRESS", At("/address")),
    Column("LINK", By(link)),
    Column("STATE", By(state)),
    Column("REVISION", At("/applied/revision")),
    Column("SEEN", Age("/seen_at")),
    Column("VERSION", At("/version")),
];

const JOIN_TOKENS: &[Column] = &[
    Column("ID", At("/id")),
    Column("ROLES", At("/roles")),
    Column("LABELS", At("/labels")),
    Column(
        "USED",
        By(|row| format!("{} of {}", at(row, "/used"), at(row, "/uses"))),
    ),
    Column("EXPIRES", Until("/expires_at")),
    Column("BY", At("/created_by")),
    Column("AGE", Age("/created_at")),
];

const API_TOKENS: &[Column] = &[
    Column("ID", At("/id")),
    Column("ROLE", At("/role")),
    Column("LABEL", At("/label")),
    Column("EXPIRES", Until("/expires_at")),
    Column("BY", At("/created_by")),
    Column("AGE", Age("/created_at")),
];

const REVISIONS: &[Column] = &[
    Column("NUMBER", At("/number")),
    Column("AUTHOR", At("/author")),
    Column("ACTION", At("/action")),
    Column("AGE", Age("/created_at")),
];

const AUDIT: &[Column] = &[
    Column("NUMBER", At("/number")),
    Column("AGE", Age("/at")),
    Column("AUTHOR", At("/author")),
    Column("ACTION", At("/action")),
    Column("SUBJECT", At("/subject")),
    Column("CHANGE", At("/change")),
];

/// A backend is another one for each agent that sees it.
fn a_row_for_each_agent(backends: &[Value]) -> Vec<Value> {
    let mut rows = Vec::new();
    for backend in backends {
        let seen = backend.get("agents").and_then(Value::as_array);
        match seen.map(Vec::as_slice) {
            None | Some([]) => rows.push(backend.clone()),
            Some(seen) => rows.extend(seen.iter().map(|seen| {
                json!({ "name": backend["name"], "address": backend["address"],
                        "admin": backend["admin"], "seen": seen })
            })),
        }
    }
    rows
}

fn selector(listener: &Value) -> String {
    match at(listener, "/agents").as_str() {
        NOTHING => "all".to_owned(),
        labels => labels.to_owned(),
    }
}

fn backends(pool: &Value) -> String {
    if let Some(listener) = pool.pointer("/discover/listener") {
        return format!("each agent of {}", words(listener));
    }
    let listed = pool.get("backends").and_then(Value::as_array);
    let addresses = listed.into_iter().flatten().map(|b| at(b, "/address"));
    match addresses.collect::<Vec<_>>().as_slice() {
        [] => NOTHING.to_owned(),
        few @ [_] | few @ [_, _] | few @ [_, _, _] => few.join(","),
        [first, second, rest @ ..] => format!("{first},{second} and {} more", rest.len()),
    }
}

fn address(row: &Value) -> String {
    match at(row, "/seen/address").as_str() {
        NOTHING => at(row, "/address"),
        address => address.to_owned(),
    }
}

fn health(row: &Value) -> String {
    let seen = |pointer| row.pointer(pointer).and_then(Value::as_bool);
    match (seen("/seen/up"), seen("/seen/ejected")) {
        (Some(true), Some(true)) => "ejected",
        (Some(true), _) => "up",
        (Some(false), _) => "down",
        (None, _) => NOTHING,
    }
    .to_owned()
}

/// As it counts now, to a tenth; 1.5 of 2 while it starts slowly.
fn weight(row: &Value) -> String {
    match row.pointer("/seen/weight").and_then(Value::as_f64) {
        Some(weight) if weight.fract() == 0.0 => format!("{weight:.0}"),
        Some(weight) => format!("{weight:.1}"),
        None => NOTHING.to_owned(),
    }
}

fn admin(row: &Value) -> String {
    match at(row, "/seen/admin").as_str() {
        NOTHING => at(row, "/admin"),
        admin => admin.to_owned(),
    }
}

fn allow(policy: &Value) -> String {
    match at(policy, "/allow").as_str() {
        NOTHING => "everybody".to_owned(),
        networks => networks.to_owned(),
    }
}

fn length(row: &Value, pointer: &str, what: &str) -> String {
    let list = row.pointer(pointer).and_then(Value::as_array);
    list.map_or_else(
        || NOTHING.to_owned(),
        |list| crate::cli::words::count(list.len(), what),
    )
}

/// Whether it is revoked, connected or away.
pub(crate) fn link(agent: &Value) -> String {
    if agent.get("revoked_at").is_some_and(|at| !at.is_null()) {
        return "revoked".to_owned();
    }
    match agent.get("connected").and_then(Value::as_bool) {
        Some(true) => "connected",
        Some(false) => "away",
        None => NOTHING,
    }
    .to_owned()
}

/// What it made of what it should run.
fn state(agent: &Value) -> String {
    let state = at(agent, "/state");
    let behind = agent.get("in_sync").and_then(Value::as_bool) == Some(false);
    if behind && state == "applied" {
        return "behind".to_owned();
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_told_by_what_matters_most() {
        let agent = json!({ "connected": true, "revoked_at": null });
        assert_eq!(link(&agent), "connected");
        assert_eq!(link(&json!({ "connected": false })), "away");
        let revoked = json!({ "connected": true, "revoked_at": "2026-11-01T00:00:00Z" });
        assert_eq!(link(&revoked), "revoked");
        assert_eq!(
            state(&json!({ "state": "applied", "in_sync": false })),
            "behind"
        );
        assert_eq!(
            state(&json!({ "state": "failed", "in_sync": false })),
            "failed"
        );
    }

    #[test]
    fn a_backend_that_is_up_may_be_ejected_and_count_for_less() {
        for (up, ejected, told) in [
            (true, false, "up"),
            (true, true, "ejected"),
            (false, true, "down"),
        ] {
            let row = json!({ "seen": { "up": up, "ejected": ejected } });
            assert_eq!(health(&row), told);
        }
        assert_eq!(health(&json!({})), "-");
        for (seen, told) in [
            (json!({ "weight": 2.0 }), "2"),
            (json!({ "weight": 1.51 }), "1.5"),
            (json!({}), "-"),
        ] {
            assert_eq!(weight(&json!({ "seen": seen })), told);
        }
    }

    #[test]
    fn many_backends_are_counted() {
        let listed = |count: u16| {
            let all: Vec<_> = (0..count)
                .map(|i| json!({ "address": format!(":{i}") }))
                .collect();
            backends(&json!({ "backends": all }))
        };
        assert_eq!(listed(0), "-");
        assert_eq!(listed(3), ":0,:1,:2");
        assert_eq!(listed(9), ":0,:1 and 7 more");
    }
}
