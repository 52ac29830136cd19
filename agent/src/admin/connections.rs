//! The page of live connections: which of them, in which order, how many. What the
//! query says is checked; a misspelt filter would show everything and look right.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::connection::Live;

/// Rows, unless the query asks for another number.
const ROWS: usize = 100;

/// A query: conditions that all have to hold, an order, and a number of rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    listener: Option<String>,
    pool: Option<String>,
    backend: Option<String>,
    phase: Option<String>,
    client: Option<IpNet>,
    order: Order,
    top: Option<usize>,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Order {
    /// The oldest.
    #[default]
    Age,
    /// What has carried most.
    Bytes,
    /// What has asked most.
    Requests,
}

impl Query {
    /// Reads `key=value&key=value`.
    ///
    /// # Errors
    /// What is wrong with it, for whoever asked.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let bad = |wanted: &str| format!("{key}={value}: {key} is {wanted}\n");
            let text = || Some(value.to_owned());
            match key {
                "listener" => query.listener = text(),
                "pool" => query.pool = text(),
                "backend" => query.backend = text(),
                "phase" => query.phase = text(),
                "client" => {
                    let net = net(value).ok_or_else(|| bad("an address or a network"))?;
                    query.client = Some(net);
                }
                "sort" => {
                    query.order = match value {
                        "age" => Order::Age,
                        "bytes" => Order::Bytes,
                        "requests" => Order::Requests,
                        _ => return Err(bad("age, bytes or requests")),
                    };
                }
                "top" => query.top = Some(value.parse().map_err(|_| bad("a number"))?),
                _ => {
                    return Err(format!(
                        "{key}: there are top, sort, listener, pool, backend, phase and client\n"
                    ));
                }
            }
        }
        Ok(query)
    }

    /// The page.
    pub(super) fn page(&self, mut live: Vec<Arc<Live>>) -> Value {
        let total = live.len();
        live.retain(|connection| self.matches(connection));
        let matching = live.len();
        match self.order {
            Order::Age => live.sort_by_key(|connection| connection.started()),
            // Counts go on while this sorts: each is looked at once.
            Order::Bytes => live.sort_by_cached_key(|connection| Reverse(connection.bytes())),
            Order::Requests => {
                live.sort_by_cached_key(|connection| Reverse(connection.requests()));
            }
        }
        live.truncate(self.top.unwrap_or(ROWS));
        let rows: Vec<_> = live.iter().map(|connection| connection.row()).collect();
        json!({ "total": total, "matching": matching, "connections": rows })
    }

    fn matches(&self, live: &Live) -> bool {
        let is = |wanted: &Option<String>, there: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| there == Some(wanted))
        };
        let backend = live.backend();
        let backend = backend.as_deref();
        let within = |net: IpNet| live.client().is_some_and(|c| net.contains(&c.ip()));
        is(&self.listener, Some(live.listener.name.as_str()))
            && is(&self.pool, backend.map(|b| b.pool.name.as_str()))
            && is(&self.backend, backend.map(|b| b.name.as_str()))
            && is(&self.phase, Some(live.phase().label()))
            && self.client.is_none_or(within)
    }
}

fn net(text: &str) -> Option<IpNet> {
    let one = || text.parse::<IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().or_else(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_what_where_and_how_many() {
        let query = Query::parse("top=5&sort=bytes&pool=a&backend=b:1&client=10.0.0.0/8");
        let expected = Query {
            pool: Some("a".into()),
            backend: Some("b:1".into()),
            client: Some("10.0.0.0/8".parse().unwrap()),
            order: Order::Bytes,
            top: Some(5),
            ..Query::default()
        };
        assert_eq!(query, Ok(expected));
        assert_eq!(Query::parse(""), Ok(Query::default()));
        let one = Query::parse("client=2001:db8::1").unwrap().client;
        assert_eq!(one, Some("2001:db8::1/128".parse().unwrap()));
    }

    #[test]
    fn what_it_does_not_understand_it_says() {
        for (text, named) in [
            ("tpo=5", "tpo"),
            ("top=many", "top=many"),
            ("sort=name", "sort=name"),
            ("client=all", "client=all"),
            ("top", "top="),
        ] {
            assert!(Query::parse(text).unwrap_err().contains(named), "{text}");
        }
    }
}
