//! Pools: what cannot work together in one, and with the listeners around it.

use std::collections::{BTreeMap, BTreeSet};

use super::Place;
use crate::document::index::Index;
use crate::document::read::Places;
use crate::document::{AcceptProxy, AllDown, CheckKind, Pool, Role};
use crate::pick::Balance;

pub(super) fn pool(pool: &Pool, index: &Index, places: &Places, at: &mut Place<'_>) {
    backends(pool, at);
    discovery(pool, index, places, at);
    health_check(pool, places, at);
    balance(pool, at);
    one_announcement(pool, index, at);
    first_bytes(pool, index, at);
}

fn backends(pool: &Pool, at: &mut Place<'_>) {
    match (&pool.discover, pool.backends.is_empty()) {
        (None, true) => at.wrong("", "nothing to balance to: add backends, or discover"),
        (Some(_), false) => at.wrong(
            "/discover",
            "a pool lists its backends or discovers them: take out one of the two",
        ),
        _ => {}
    }
    let mut names = BTreeSet::new();
    for (i, backend) in pool.backends.iter().enumerate() {
        let name = backend.name();
        if !names.insert(name.clone()) {
            at.wrong(
                &format!("/backends/{i}"),
                format!("{name} is there twice in this pool: give one of them another name"),
            );
        }
    }
}

fn discovery(pool: &Pool, index: &Index, places: &Places, at: &mut Place<'_>) {
    let Some(discover) = &pool.discover else {
        return;
    };
    at.refers(
        "/discover/listener",
        "listener",
        &discover.listener,
        &places.listeners,
    );
    let Some(found) = index.listener(&discover.listener) else {
        return;
    };
    if found.role != Role::Terminator {
        at.wrong(
            "/discover/listener",
            format!(
                "{} is a balancer's listener: name a terminator's",
                found.name
            ),
        );
        return;
    }
    let requires = found.accept_proxy() != AcceptProxy::None;
    match (requires, pool.proxy_protocol.version()) {
        (true, None) => at.wrong(
            "/proxy_protocol",
            format!(
                "listener {} requires a PROXY header (accept_proxy): write proxy_protocol: v2 here, \
                 or accept_proxy: none there",
                found.name
            ),
        ),
        (false, Some(_)) => at.wrong(
            "/proxy_protocol",
            format!(
                "listener {} takes no PROXY header and would read it as TLS: write accept_proxy \
                 there, or proxy_protocol: none here",
                found.name
            ),
        ),
        _ => {}
    }
}

fn health_check(pool: &Pool, places: &Places, at: &mut Place<'_>) {
    let Some(check) = &pool.health_check else {
        return;
    };
    let CheckKind::Agent(asked) = &check.kind else {
        return;
    };
    if pool.discover.is_some() {
        let below = "/health_check/agent/listener";
        at.refers(below, "listener", &asked.listener, &places.listeners);
    } else if check.port.is_none() {
        at.wrong(
            "/health_check",
            "an agent answers on its health port, which is known of discovered backends only: \
             write port: 7445, or what --health-port says there",
        );
    }
}

fn balance(pool: &Pool, at: &mut Place<'_>) {
    if pool.bounded_load.is_some() && pool.balance != Balance::SourceHash {
        at.wrong(
            "/bounded_load",
            "bounds what source_hash gives to one backend: write balance: source_hash, or take \
             this out",
        );
    }
    if pool.all_down == AllDown::Refuse && pool.backends.iter().any(|b| b.backup) {
        at.wrong(
            "/all_down",
            "with refuse no backup ever serves: write all_down: backup, or take the backups out",
        );
    }
}

/// What needs the client's first bytes before it connects.
fn first_bytes(pool: &Pool, index: &Index, at: &mut Place<'_>) {
    let fast_open = pool.fast_open == Some(true);
    if let Some(listener) = index.without_first_bytes(pool) {
        let mend = format!(
            "listener {} connects before it has any: write client_first: true there, if its \
             clients speak first, or take this out",
            listener.name
        );
        if fast_open {
            let why = format!("a client's first bytes travel in the SYN, and {mend}");
            at.wrong("/fast_open", why);
        }
        if pool.proxy_protocol.extensions().authority {
            let why = format!("the name is in a client's first bytes, and {mend}");
            at.wrong("/proxy_protocol/authority", why);
        }
    }
    let mut leading = index.leading_to(&pool.name).iter();
    if fast_open && let Some(listener) = leading.find(|l| l.role == Role::Terminator) {
        at.wrong(
            "/fast_open",
            format!(
                "terminator's listener {} leads here, to processes beside it: take this out",
                listener.name
            ),
        );
    }
}

/// A backend's port either expects a PROXY header or does not, so every
/// listener that leads there has to say the same.
fn one_announcement(pool: &Pool, index: &Index, at: &mut Place<'_>) {
    let mut said = BTreeMap::new();
    for listener in index.leading_to(&pool.name) {
        let proxy = match listener.role {
            Role::Balancer => pool.proxy_protocol.version(),
            Role::Terminator => listener.client_ip().proxy(),
        };
        let proxy = proxy.map(|v| format!("{v:?}"));
        said.entry(proxy).or_insert(&listener.name);
    }
    let mut listeners = said.values();
    if let (Some(one), Some(other)) = (listeners.next(), listeners.next()) {
        at.wrong(
            "",
            format!(
                "listeners {one} and {other} announce the client differently to the \
                 same backends: give each a pool of its own"
            ),
        );
    }
}
