//! What only shows between resources: references that lead nowhere, and pairs
//! of settings that cannot work together. One function per kind of resource;
//! each rule is one line of cause and mend.

use std::collections::{BTreeMap, BTreeSet};

use super::read::{Kind, Places};
use super::{
    AcceptProxy, ClientIp, Document, Listener, Material, Mistake, Mode, Name, Pool, ProxyOut, Role,
};

/// Adds the mistakes between the resources that could be read.
pub(super) fn references(document: &Document, places: &Places, mistakes: &mut Vec<Mistake>) {
    for (index, listener) in places.listeners.indexes.iter().zip(&document.listeners) {
        let mut at = Place {
            base: format!("/listeners/{index}"),
            mistakes,
        };
        listener_names(listener, places, &mut at);
        match listener.role {
            Role::Balancer => balancer(listener, &mut at),
            Role::Terminator => terminator(listener, document, &mut at),
        }
    }
    for (index, pool) in places.pools.indexes.iter().zip(&document.pools) {
        let mut at = Place {
            base: format!("/pools/{index}"),
            mistakes,
        };
        backends(pool, &mut at);
        discovery(pool, document, places, &mut at);
        one_announcement(pool, document, &mut at);
    }
}

/// In a fleet chains and keys are uploaded, and the document names them.
pub(super) fn certificates_are_uploaded(
    document: &Document,
    places: &Places,
    uploaded: &BTreeSet<Name>,
    mistakes: &mut Vec<Mistake>,
) {
    let declared = places.certificates.indexes.iter();
    for (index, certificate) in declared.zip(&document.certificates) {
        let mut at = Place {
            base: format!("/certificates/{index}"),
            mistakes,
        };
        let name = &certificate.name;
        if !matches!(certificate.material, Material::Uploaded) {
            at.wrong(
                "",
                format!(
                    "chain and key do not belong in a fleet's document: write only the name here, \
                     and `tidegate cert upload {name} --chain FILE --key FILE`"
                ),
            );
        } else if !uploaded.contains(name) {
            at.wrong(
                "/name",
                format!(
                    "{name} was never uploaded: \
                     `tidegate cert upload {name} --chain FILE --key FILE` first"
                ),
            );
        }
    }
}

/// A resource under examination.
struct Place<'a> {
    base: String,
    mistakes: &'a mut Vec<Mistake>,
}

impl Place<'_> {
    fn wrong(&mut self, below: &str, message: impl Into<String>) {
        self.mistakes
            .push(Mistake::new(format!("{}{below}", self.base), message));
    }

    fn refers(&mut self, below: &str, what: &str, name: &Name, kind: &Kind) {
        if kind.names.contains(name) {
            return;
        }
        let there: Vec<&str> = kind.names.iter().map(Name::as_str).take(10).collect();
        let mend = match there.as_slice() {
            [] => format!("the document has no {what}: add it"),
            there => format!("there is {}", there.join(", ")),
        };
        self.wrong(below, format!("no {what} is named {name}; {mend}"));
    }
}

fn listener_names(listener: &Listener, places: &Places, at: &mut Place<'_>) {
    at.refers("/pool", "pool", &listener.pool, &places.pools);
    if let Some(policy) = &listener.policy {
        at.refers("/policy", "policy", policy, &places.policies);
    }
    for (i, name) in listener
        .tls
        .iter()
        .flat_map(|tls| &tls.certificates)
        .enumerate()
    {
        let below = format!("/tls/certificates/{i}");
        at.refers(&below, "certificate", name, &places.certificates);
    }
}

fn balancer(listener: &Listener, at: &mut Place<'_>) {
    let foreign = [
        ("/tls", listener.tls.is_some()),
        ("/mode", listener.mode.is_some()),
        ("/client_ip", listener.client_ip.is_some()),
    ];
    for (below, present) in foreign {
        if present {
            at.wrong(
                below,
                "a balancer never decrypts: take this out, or make the listener's role terminator",
            );
        }
    }
    if listener.accept_proxy == Some(AcceptProxy::Balancers) {
        at.wrong(
            "/accept_proxy",
            "balancers stand in front of terminators: on a balancer write none, or the networks of \
             what stands in front of it",
        );
    }
}

fn terminator(listener: &Listener, document: &Document, at: &mut Place<'_>) {
    match &listener.tls {
        None => at.wrong("", "a terminator needs tls: { certificates: [NAME] }"),
        Some(tls) if tls.certificates.is_empty() => {
            at.wrong("/tls/certificates", "empty: name at least one certificate");
        }
        Some(_) => {}
    }
    match (listener.mode(), listener.client_ip) {
        (Mode::Tcp, Some(ClientIp::Forwarded)) => at.wrong(
            "/client_ip",
            "forwarded is made of HTTP headers: write mode: http, or proxy_v1, proxy_v2 or none",
        ),
        (Mode::Http, Some(ClientIp::ProxyV1 | ClientIp::ProxyV2)) => at.wrong(
            "/client_ip",
            "a PROXY header goes before bytes that are not understood: write mode: tcp, or \
             forwarded or none",
        ),
        _ => {}
    }
    let pool = document.pools.iter().find(|p| p.name == listener.pool);
    if pool.is_some_and(|p| p.proxy_protocol != ProxyOut::None) {
        at.wrong(
            "/pool",
            format!(
                "pool {} has proxy_protocol, which balancers write: on a terminator write \
                 client_ip: proxy_v1 or proxy_v2 on the listener and take it off the pool",
                listener.pool
            ),
        );
    }
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

fn discovery(pool: &Pool, document: &Document, places: &Places, at: &mut Place<'_>) {
    let Some(discover) = &pool.discover else {
        return;
    };
    at.refers(
        "/discover/listener",
        "listener",
        &discover.listener,
        &places.listeners,
    );
    let Some(found) = document
        .listeners
        .iter()
        .find(|l| l.name == discover.listener)
    else {
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
fn one_announcement(pool: &Pool, document: &Document, at: &mut Place<'_>) {
    let mut said = BTreeMap::new();
    for listener in &document.listeners {
        if listener.pool == pool.name {
            let proxy = match listener.role {
                Role::Balancer => pool.proxy_protocol.version(),
                Role::Terminator => listener.client_ip().proxy(),
            };
            let proxy = proxy.map(|v| format!("{v:?}"));
            said.entry(proxy).or_insert(&listener.name);
        }
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
