//! The systems that stand before our backend, each once: scenarios that compare them
//! pick theirs by id, so that a system is the same in all.

use super::{Entrant, layer};
use crate::results::Side;
use crate::systems::{
    Balancer, End, Haproxy, HaproxyTuning, Hitch, Layer, Mode, Nginx, Stack, Terminator,
};

/// Bytes, not decrypted; with and without a PROXY v2 header for who comes after.
pub(super) const BALANCERS: [&str; 15] = [
    "direct",
    "haproxy-tcp",
    "haproxy-tcp-tuned",
    "haproxy-tcp-splice",
    "haproxy-tcp-early",
    "nginx-stream",
    "nginx-stream-tuned",
    "tidegate-balancer",
    "tidegate-balancer-early",
    "haproxy-tcp-proxy",
    "haproxy-tcp-proxy-tuned",
    "haproxy-tcp-proxy-splice",
    "haproxy-tcp-proxy-early",
    "tidegate-balancer-proxy",
    "tidegate-balancer-proxy-early",
];

/// TLS in, bytes or requests out.
pub(super) const TERMINATORS: [&str; 12] = [
    "hitch",
    "haproxy-tls-tcp",
    "haproxy-tls-tcp-tuned",
    "nginx-tls-stream",
    "nginx-tls-stream-tuned",
    "tidegate-tcp",
    "haproxy-tls-http",
    "haproxy-tls-http-reuse",
    "haproxy-tls-http-tuned",
    "nginx-tls-http",
    "nginx-tls-http-tuned",
    "tidegate-http",
];

/// The entrants of those ids, in their order.
pub(super) fn pick(ids: &[&str]) -> Vec<Entrant> {
    let mut all = all();
    ids.iter()
        .filter_map(|id| {
            let place = all.iter().position(|entrant| entrant.system.id == *id)?;
            Some(all.swap_remove(place))
        })
        .collect()
}

fn all() -> Vec<Entrant> {
    let direct = Stack::before_backend(Vec::new());
    let direct = Entrant::new("direct", "direct, no proxy", Side::Baseline, "tcp", direct);
    let mut all = vec![direct];
    all.extend(haproxy());
    all.extend(nginx());
    all.push(one("hitch", "hitch", Side::Peer, "tcp", Hitch));
    all.extend(tidegate());
    all
}

fn haproxy() -> Vec<Entrant> {
    let tunings = [
        ("", "", HaproxyTuning::Default),
        ("-reuse", ", http-reuse always", HaproxyTuning::Reuse),
        ("-tuned", ", tuned", HaproxyTuning::Buffers),
        ("-splice", ", splice", HaproxyTuning::Splice),
        ("-early", ", defer-accept and tfo", HaproxyTuning::Early),
    ];
    let mut all = Vec::new();
    for (id, title, tuning) in tunings {
        let mut add = |name: &str, known: &str, group, haproxy| {
            let (id, title) = (format!("{name}{id}"), format!("{known}{title}"));
            all.push(one(&id, &title, Side::Peer, group, haproxy));
        };
        let tcp = Haproxy {
            tuning,
            ..Haproxy::TCP
        };
        let http = Haproxy {
            tuning,
            ..Haproxy::HTTP
        };
        let proxy = Haproxy {
            proxy_v2: true,
            ..tcp
        };
        add("haproxy-tcp", "HAProxy tcp", "tcp", tcp);
        add(
            "haproxy-tcp-proxy",
            "HAProxy tcp + PROXY v2",
            "tcp, PROXY v2",
            proxy,
        );
        add("haproxy-tls-tcp", "HAProxy TLS, tcp", "tcp", tcp.tls());
        add("haproxy-tls-http", "HAProxy TLS, http", "http", http.tls());
    }
    all
}

fn nginx() -> Vec<Entrant> {
    let mut all = Vec::new();
    for (id, title, tuned) in [("", "", false), ("-tuned", ", tuned", true)] {
        let mut add = |name: &str, known: &str, group, nginx| {
            let (id, title) = (format!("{name}{id}"), format!("{known}{title}"));
            all.push(one(&id, &title, Side::Peer, group, nginx));
        };
        let stream = Nginx {
            tuned,
            ..Nginx::STREAM
        };
        let http = Nginx {
            tuned,
            ..Nginx::HTTP
        };
        add("nginx-stream", "nginx stream", "tcp", stream);
        add("nginx-tls-stream", "nginx TLS, stream", "tcp", stream.tls());
        add("nginx-tls-http", "nginx TLS, http", "http", http.tls());
    }
    all
}

fn tidegate() -> Vec<Entrant> {
    let ours = Side::Tidegate;
    let bytes = Terminator {
        mode: Mode::Tcp,
        behind_balancer: false,
    };
    let requests = Terminator {
        mode: Mode::Http,
        behind_balancer: false,
    };
    let mut all = Vec::new();
    for (id, title, early) in [("", "", false), ("-early", ", client first", true)] {
        let mut add = |name: &str, known: &str, group, proxy_v2| {
            let (id, title) = (format!("{name}{id}"), format!("{known}{title}"));
            let balancer = Balancer { proxy_v2, early };
            all.push(one(&id, &title, ours, group, balancer));
        };
        let (id, title) = ("tidegate-balancer", "Tidegate balancer");
        add(id, title, "tcp", false);
        let (id, title) = ("tidegate-balancer-proxy", "Tidegate balancer + PROXY v2");
        add(id, title, "tcp, PROXY v2", true);
    }
    let (id, title) = ("tidegate-tcp", "Tidegate terminator, tcp");
    all.push(one(id, title, ours, "tcp", bytes));
    let (id, title) = ("tidegate-http", "Tidegate terminator, http");
    all.push(one(id, title, ours, "http", requests));
    all
}

/// A system of one program. Whether that one sends a PROXY header decides what the
/// backend wants.
fn one(
    id: &str,
    title: &str,
    side: Side,
    group: &'static str,
    part: impl Layer + 'static,
) -> Entrant {
    let proxied = part.sends_proxy_v2();
    let stack = Stack {
        layers: vec![layer(part)],
        end: End::Backend { proxied },
    };
    Entrant::new(id, title, side, group, stack)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_id_is_a_system_of_its_own() {
        for ids in [&BALANCERS[..], &TERMINATORS[..]] {
            let picked = pick(ids);
            let picked: Vec<&str> = picked.iter().map(|e| e.system.id.as_str()).collect();
            assert_eq!(picked, ids);
        }
        let all = all();
        let ids: BTreeSet<&str> = all.iter().map(|e| e.system.id.as_str()).collect();
        let titles: BTreeSet<&str> = all.iter().map(|e| e.system.title.as_str()).collect();
        assert_eq!((ids.len(), titles.len()), (all.len(), all.len()));
    }

    #[test]
    fn every_tuning_of_a_peer_is_met_in_the_group_of_ours() {
        let group = |id: &str| pick(&[id]).first().map(|e| e.group);
        for id in [
            "haproxy-tcp-proxy",
            "haproxy-tcp-proxy-tuned",
            "haproxy-tcp-proxy-splice",
        ] {
            assert_eq!(group(id), group("tidegate-balancer-proxy"));
        }
    }
}
