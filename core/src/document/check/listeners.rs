//! Listeners: what each role may say, and what cannot be said together.

use std::collections::BTreeMap;

use super::Place;
use crate::addr::WrittenAddr;
use crate::document::index::Index;
use crate::document::read::Places;
use crate::document::{AcceptProxy, ClientIp, Listener, Mode, Plain, Pool, Role};

pub(super) fn listener(listener: &Listener, index: &Index, places: &Places, at: &mut Place<'_>) {
    names(listener, places, at);
    match listener.role {
        Role::Balancer => {
            balancer(listener, at);
            match listener.redirect {
                Some(_) => redirect(listener, at),
                None => routing(listener, at),
            }
        }
        Role::Terminator => terminator(listener, index, at),
    }
}

fn names(listener: &Listener, places: &Places, at: &mut Place<'_>) {
    if let Some(pool) = &listener.pool {
        at.refers("/pool", "pool", pool, &places.pools);
    }
    for (i, route) in listener.routes.iter().enumerate() {
        let below = format!("/routes/{i}/pool");
        at.refers(&below, "pool", &route.pool, &places.pools);
    }
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
        ("/http", listener.http.is_some()),
        ("/client_ip", listener.client_ip.is_some()),
    ];
    at.foreign(
        &foreign,
        "a balancer never decrypts: take this out, or make the listener's role terminator",
    );
    if listener.accept_proxy == Some(AcceptProxy::Balancers) {
        at.wrong(
            "/accept_proxy",
            "balancers stand in front of terminators: on a balancer write none, or the networks of \
             what stands in front of it",
        );
    }
}

/// A listener that answers by itself leads nowhere.
fn redirect(listener: &Listener, at: &mut Place<'_>) {
    let foreign = [
        ("/pool", listener.pool.is_some()),
        ("/routes", !listener.routes.is_empty()),
        ("/plain", listener.plain.is_some()),
        ("/client_first", listener.client_first.is_some()),
    ];
    at.foreign(
        &foreign,
        "a listener that redirects answers by itself and leads nowhere: take this out, or redirect",
    );
}

fn routing(listener: &Listener, at: &mut Place<'_>) {
    let has_routes = !listener.routes.is_empty();
    if listener.pool.is_none() && !has_routes {
        at.wrong(
            "",
            "leads nowhere: write pool: NAME, or routes: [{ sni: [NAME], pool: NAME }], or \
             redirect: {}",
        );
    }
    match (listener.plain, &listener.pool) {
        (Some(_), _) if !has_routes => at.wrong(
            "/plain",
            "without routes nobody looks whether it is TLS, and all goes to the pool: take this \
             out, or write routes",
        ),
        (Some(Plain::Pool), None) => at.wrong(
            "/plain",
            "there is no pool to send it to: write pool: NAME on the listener, or plain: refuse",
        ),
        _ => {}
    }
    if has_routes && listener.client_first == Some(false) {
        at.wrong(
            "/client_first",
            "routes choose by what the client says first: take this out, or the routes",
        );
    }
    server_names(listener, at);
}

fn server_names(listener: &Listener, at: &mut Place<'_>) {
    let mut said = BTreeMap::new();
    for (i, route) in listener.routes.iter().enumerate() {
        if route.sni.is_empty() {
            at.wrong(
                &format!("/routes/{i}/sni"),
                "empty: name at least one server, such as play.example.com or *.example.com",
            );
        }
        for (j, name) in route.sni.iter().enumerate() {
            let here = format!("/routes/{i}/sni/{j}");
            if let Some(first) = said.get(name) {
                at.wrong(
                    &here,
                    format!("{name} is there already, at {first}: it can go to one pool only"),
                );
            } else {
                said.insert(name, here);
            }
        }
    }
}

fn terminator(listener: &Listener, index: &Index, at: &mut Place<'_>) {
    let foreign = [
        ("/routes", !listener.routes.is_empty()),
        ("/plain", listener.plain.is_some()),
        ("/client_first", listener.client_first.is_some()),
        ("/redirect", listener.redirect.is_some()),
    ];
    at.foreign(
        &foreign,
        "terminators decrypt, and lead to one pool: take this out, or put it on a balancer's \
         listener in front",
    );
    if listener.pool.is_none() {
        at.wrong(
            "",
            "a terminator needs pool: NAME, where what it decrypts goes",
        );
    }
    match &listener.tls {
        None => at.wrong("", "a terminator needs tls: { certificates: [NAME] }"),
        Some(tls) => super::tls::tls(tls, listener.mode(), at),
    }
    if listener.mode() == Mode::Tcp && listener.http.is_some() {
        at.wrong(
            "/http",
            "bytes are not understood in TCP mode: write mode: http, or take this out",
        );
    }
    match (listener.mode(), listener.client_ip) {
        (Mode::Tcp, Some(ClientIp::Forwarded)) => at.wrong(
            "/client_ip",
            "forwarded is made of HTTP headers: write mode: http, or proxy_v1, proxy_v2, \
             transparent or none",
        ),
        (Mode::Http, Some(ClientIp::ProxyV1 | ClientIp::ProxyV2)) => at.wrong(
            "/client_ip",
            "a PROXY header goes before bytes that are not understood: write mode: tcp, or \
             forwarded, transparent or none",
        ),
        _ => {}
    }
    let pool = listener.pool.as_ref().and_then(|name| index.pool(name));
    if let Some(pool) = pool.filter(|_| listener.client_ip() == ClientIp::Transparent) {
        transparent(pool, at);
    }
    if let Some(pool) = pool.filter(|p| p.proxy_protocol.version().is_some()) {
        at.wrong(
            "/pool",
            format!(
                "pool {} has proxy_protocol, which balancers write: on a terminator write \
                 client_ip: proxy_v1 or proxy_v2 on the listener and take it off the pool",
                pool.name
            ),
        );
    }
}

/// From a client's address only this host itself can be reached: what another host
/// answers goes to the client, which knows nothing of that connection.
fn transparent(pool: &Pool, at: &mut Place<'_>) {
    let name = &pool.name;
    if pool.discover.is_some() {
        at.wrong(
            "/pool",
            format!(
                "pool {name} discovers agents, which are other hosts: with client_ip: transparent \
                 list processes on this one, such as 127.0.0.1:3000, or write another client_ip"
            ),
        );
    }
    let mut ports = BTreeMap::new();
    for backend in &pool.backends {
        let address = match backend.address {
            WrittenAddr::Full(address) if address.ip().is_loopback() => address,
            elsewhere => {
                at.wrong(
                    "/pool",
                    format!(
                        "client_ip: transparent reaches 127.0.0.0/8 and ::1 only, and pool {name} \
                         has {elsewhere}: write 127.0.0.1:PORT there and let the app listen on it, \
                         or write another client_ip"
                    ),
                );
                continue;
            }
        };
        let first = *ports.entry(address.port()).or_insert(address);
        if first != address {
            at.wrong(
                "/pool",
                format!(
                    "pool {name} has {first} and {address}: clients of the other family reach \
                     both at one address, by the port alone, so give each a port of its own"
                ),
            );
        }
    }
}
