//! A document by name: what refers to what, looked up instead of searched for,
//! since a fleet's document has thousands of resources. Also the defaults that
//! depend on more than one of them. `check` and `plan` ask.

use std::collections::HashMap;

use super::{Document, Listener, Name, Policy, Pool, Role};

/// Resources by name, and listeners by the pools they lead to.
pub(crate) struct Index<'a> {
    listeners: HashMap<&'a Name, &'a Listener>,
    pools: HashMap<&'a Name, &'a Pool>,
    policies: HashMap<&'a Name, &'a Policy>,
    leading: HashMap<&'a Name, Vec<&'a Listener>>,
}

impl<'a> Index<'a> {
    /// Of two resources with one name, which only a document with mistakes has,
    /// the first.
    pub(crate) fn of(document: &'a Document) -> Self {
        let mut leading: HashMap<&Name, Vec<&Listener>> = HashMap::new();
        for listener in &document.listeners {
            for pool in listener.pools() {
                let led = leading.entry(pool).or_default();
                if !led.last().is_some_and(|l| std::ptr::eq(*l, listener)) {
                    led.push(listener);
                }
            }
        }
        Self {
            listeners: by_name(&document.listeners, |l| &l.name),
            pools: by_name(&document.pools, |p| &p.name),
            policies: by_name(&document.policies, |p| &p.name),
            leading,
        }
    }

    pub(crate) fn listener(&self, name: &Name) -> Option<&'a Listener> {
        self.listeners.get(name).copied()
    }

    pub(crate) fn pool(&self, name: &Name) -> Option<&'a Pool> {
        self.pools.get(name).copied()
    }

    pub(crate) fn policy(&self, name: &Name) -> Option<&'a Policy> {
        self.policies.get(name).copied()
    }

    /// The listeners whose connections may go to a pool, each once, in the order
    /// of the document.
    pub(crate) fn leading_to(&self, pool: &Name) -> &[&'a Listener] {
        self.leading.get(pool).map_or(&[], Vec::as_slice)
    }

    /// Whether a balancer's clients speak first, written or known: by routes and
    /// redirects, which look at what they say, and by a pool of terminators, since
    /// TLS begins with the client. A terminator's listener has no such setting.
    pub(crate) fn client_first(&self, listener: &Listener) -> bool {
        let known = || {
            let pool = listener.pool.as_ref().and_then(|name| self.pool(name));
            listener.redirect.is_some()
                || !listener.routes.is_empty()
                || pool.is_some_and(|p| p.discover.is_some())
        };
        listener.role == Role::Balancer && listener.client_first.unwrap_or_else(known)
    }

    /// A balancer's listener, if there is one, that connects to the pool before it
    /// has anything of the client.
    pub(crate) fn without_first_bytes(&self, pool: &Pool) -> Option<&'a Listener> {
        let mut leading = self.leading_to(&pool.name).iter().copied();
        leading.find(|l| l.role == Role::Balancer && !self.client_first(l))
    }

    /// Whether first bytes travel in the SYN to the pool, written or known: not every
    /// backend takes them, but terminators do.
    pub(crate) fn fast_open(&self, pool: &Pool) -> bool {
        let known = || pool.discover.is_some() && self.without_first_bytes(pool).is_none();
        pool.fast_open.unwrap_or_else(known)
    }
}

fn by_name<T>(resources: &[T], name: impl Fn(&T) -> &Name) -> HashMap<&Name, &T> {
    // Backwards, so that the first of two stays.
    resources.iter().rev().map(|r| (name(r), r)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_speak_first_where_routes_redirects_or_terminators_say_so() {
        let document = Document::parse(
            "
listeners:
- { name: terminators, role: balancer, bind: ':1', pool: found }
- { name: told-otherwise, role: balancer, bind: ':2', pool: found, client_first: false }
- { name: listed, role: balancer, bind: ':3', pool: apps }
- { name: told-so, role: balancer, bind: ':4', pool: apps, client_first: true }
- { name: routed, role: balancer, bind: ':5', routes: [{ sni: [a.b], pool: apps }] }
- { name: sent-on, role: balancer, bind: ':6', redirect: {} }
- { name: tls, role: terminator, bind: ':7', accept_proxy: none, tls: { certificates: [c] }, pool: node }
pools:
- { name: found, discover: { listener: tls } }
- { name: apps, backends: [{ address: ':9' }] }
- { name: node, backends: [{ address: ':9' }] }
certificates: [{ name: c }]
",
        )
        .unwrap();
        let index = Index::of(&document);
        let first: Vec<&str> = document
            .listeners
            .iter()
            .filter(|l| index.client_first(l))
            .map(|l| l.name.as_str())
            .collect();
        assert_eq!(first, ["terminators", "told-so", "routed", "sent-on"]);
    }

    #[test]
    fn a_pool_knows_each_listener_that_leads_to_it_once() {
        let document = Document::parse(
            "
listeners:
- { name: a, role: balancer, bind: ':1', pool: p, routes: [{ sni: [a.b], pool: p }, { sni: [c.d], pool: q }] }
- { name: b, role: balancer, bind: ':2', pool: q }
pools: [{ name: p, backends: [{ address: ':9' }] }, { name: q, backends: [{ address: ':9' }] }]
",
        )
        .unwrap();
        let index = Index::of(&document);
        let leading = |pool: &str| -> Vec<&str> {
            let listeners = index.leading_to(&pool.parse().unwrap()).iter();
            listeners.map(|l| l.name.as_str()).collect()
        };
        assert_eq!(leading("p"), ["a"]);
        assert_eq!(leading("q"), ["a", "b"]);
        assert!(leading("r").is_empty());
    }
}
