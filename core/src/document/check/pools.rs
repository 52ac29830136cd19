//! Pools: what cannot work together in one, and with the listeners around it.

use std::collections::{BTreeMap, BTreeSet};

use super::Place;
use crate::document::index::Index;
use crate::document::read::Places;
use crate::document::{AcceptProxy, Pool, ProxyOut, Role};

pub(super) fn pool(pool: &Pool, index: &Index, places: &Places, at: &mut Place<'_>) {
    backends(pool, at);
    discovery(pool, index, places, at);
    one_announcement(pool, index, at);
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
    match (requires, pool.proxy_protocol) {
        (true, ProxyOut::None) => at.wrong(
            "/proxy_protocol",
            format!(
                "listener {} requires a PROXY header (accept_proxy): write proxy_protocol: v2 here, \
                 or accept_proxy: none there",
                found.name
            ),
        ),
        (false, ProxyOut::V1 | ProxyOut::V2) => at.wrong(
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
