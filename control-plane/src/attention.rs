//! What needs somebody's attention, worst first, each with what to do about it. Pure:
//! from the document and what is known of the fleet.
//!
//! To add a kind of trouble: a function that pushes its [`Item`]s, called in [`of`],
//! and a row in the table of the tests.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use serde::Serialize;
use tidegate_core::document::{Document, Name};
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use crate::picture::{self, ListenerNode, PoolNode};
use crate::store::{AgentSight, BackendOut, LongSaid, SeenCounts, Sights, Stand};

/// A certificate that ends sooner asks for its successor.
const ENDS_SOON: Duration = Duration::days(14);
/// And sooner than this cannot wait.
const ENDS_NOW: Duration = Duration::days(1);
/// A backend that is out of use for longer may have been forgotten.
pub(crate) const LONG: Duration = Duration::days(1);
/// Characters of what others said.
const QUOTED: usize = 300;

/// What is known of the fleet.
pub(crate) struct Known {
    pub(crate) sights: Sights,
    /// Backends that get nothing new, though nobody said so.
    pub(crate) out: Vec<BackendOut>,
    /// Backends that were taken out of use longer than [`LONG`] ago.
    pub(crate) said: Vec<LongSaid>,
    /// The certificates that were uploaded, by name, and when each ends.
    pub(crate) certificates: Vec<(String, OffsetDateTime)>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Clients are turned away, or will be within a day.
    Critical,
    /// Something does not work, and others do its work.
    Warning,
    /// It works, and somebody should know.
    Notice,
}

/// What it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub(crate) struct Subject {
    /// `agent`, `backend`, `pool`, `listener` or `certificate`.
    pub(crate) kind: &'static str,
    /// An agent's is its id.
    pub(crate) name: String,
    /// Of a backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pool: Option<String>,
}

/// One thing that needs attention.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[schema(as = AttentionItem)]
pub(crate) struct Item {
    pub(crate) severity: Severity,
    /// What kind of trouble: one word for each, such as `agent_offline`.
    pub(crate) kind: &'static str,
    pub(crate) subject: Subject,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do about it.
    pub(crate) mend: String,
    /// Since when, where that is known; of a certificate until when it is valid.
    #[serde(
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    pub(crate) since: Option<OffsetDateTime>,
}

/// Everything that needs attention, worst first.
pub(crate) fn of(document: &Document, known: &Known, now: OffsetDateTime) -> Vec<Item> {
    let picture = picture::topology(document, &known.sights);
    let mut items = Vec::new();
    for agent in &known.sights.agents {
        items.extend(agent_trouble(agent));
    }
    for listener in &picture.listeners {
        items.extend(listener_trouble(listener));
    }
    for pool in &picture.pools {
        items.extend(pool_trouble(pool));
    }
    backends_out(known, &mut items);
    items.extend(known.said.iter().map(long_said));
    let used: BTreeSet<&str> = document
        .certificate_names()
        .into_iter()
        .map(Name::as_str)
        .collect();
    for (name, not_after) in &known.certificates {
        let used = used.contains(name.as_str());
        items.extend(certificate_trouble(name, *not_after, used, now));
    }
    items.sort();
    items
}

fn agent_trouble(agent: &AgentSight) -> Option<Item> {
    let (kind, what, mend) = match agent.stand {
        Stand::Serving | Stand::Behind => return None,
        Stand::Offline => (
            "agent_offline",
            format!("The agent at {} is not connected", agent.address),
            "Look whether its machine and tidegate-agent run and reach the control plane. It goes \
             on with what it runs; revoke it if it does not come back"
                .to_owned(),
        ),
        Stand::Silent => (
            "agent_silent",
            format!("The agent at {} has stopped to report", agent.address),
            "Look at its log: what is shown of it is old".to_owned(),
        ),
        Stand::Failed => {
            let first = agent.mistakes.first();
            let why = first.map_or_else(String::new, |mistake| {
                format!(": {} {}", mistake.pointer, mistake.message)
            });
            let others = agent.mistakes.len().saturating_sub(1);
            let more = match others {
                0 => String::new(),
                _ => format!(", and {others} more"),
            };
            (
                "agent_failed",
                quoted(format!(
                    "The agent at {} cannot run what is wanted{why}{more}",
                    agent.address
                )),
                "Mend that place of the document, or the machine; it goes on as before".to_owned(),
            )
        }
    };
    Some(Item {
        severity: Severity::Warning,
        kind,
        subject: subject("agent", agent.id.to_string()),
        what,
        mend,
        since: agent.seen_at.filter(|_| agent.stand == Stand::Offline),
    })
}

fn listener_trouble(listener: &ListenerNode) -> Option<Item> {
    let stands = listener.agents;
    let here = stands.serving + stands.behind + stands.failed + stands.silent;
    let (severity, kind, what, mend) = if here + stands.offline == 0 {
        (
            Severity::Warning,
            "listener_without_agents",
            format!("No agent serves the listener {}", listener.name),
            format!(
                "Add an instance with the role {} and the labels it selects",
                listener.role
            ),
        )
    } else if here == 0 {
        (
            Severity::Critical,
            "listener_offline",
            format!(
                "None of the {} agents that serve the listener {} is connected",
                stands.offline, listener.name
            ),
            "Look whether they reach the control plane; they go on with what they run".to_owned(),
        )
    } else {
        return None;
    };
    Some(Item {
        severity,
        kind,
        subject: subject("listener", listener.name.clone()),
        what,
        mend,
        since: None,
    })
}

fn pool_trouble(pool: &PoolNode) -> Option<Item> {
    let by = pool.serving;
    let all = by.primary + by.backup + by.fail_open + by.nobody;
    let (severity, kind, what, mend) = if pool.backends == 0 {
        (
            Severity::Warning,
            "pool_empty",
            format!("The pool {} has no backend", pool.name),
            match &pool.discover {
                Some(listener) => {
                    format!("Add an instance that serves the listener {listener}")
                }
                None => "Add one, or take the pool out of the document".to_owned(),
            },
        )
    } else if by.nobody > 0 {
        (
            Severity::Critical,
            "pool_down",
            format!(
                "The pool {} has no backend that may serve, on {} of {all} agents",
                pool.name, by.nobody
            ),
            "Look at its backends: mend what their checks say, or set one ready".to_owned(),
        )
    } else if by.fail_open > 0 {
        (
            Severity::Critical,
            "pool_fails_open",
            format!(
                "All backends of the pool {} are down, and any is tried, on {} of {all} agents",
                pool.name, by.fail_open
            ),
            "Look at its backends and mend what their checks say".to_owned(),
        )
    } else if by.backup > 0 {
        (
            Severity::Notice,
            "pool_on_backup",
            format!(
                "Backups serve the pool {}, on {} of {all} agents",
                pool.name, by.backup
            ),
            "Bring its other backends up".to_owned(),
        )
    } else {
        return None;
    };
    Some(Item {
        severity,
        kind,
        subject: subject("pool", pool.name.clone()),
        what,
        mend,
        since: None,
    })
}

/// One item for each backend, on however many agents.
fn backends_out(known: &Known, items: &mut Vec<Item>) {
    // Once for all: there may be thousands of each.
    let sums: HashMap<(&str, &str), SeenCounts> = known
        .sights
        .backends
        .iter()
        .map(|(pool, backend, counts)| ((pool.as_str(), backend.as_str()), *counts))
        .collect();
    let agents: HashMap<String, IpAddr> = known
        .sights
        .fleet
        .iter()
        .map(|agent| (agent.id.to_string(), agent.address))
        .collect();
    let mut grouped: BTreeMap<(&str, &str, bool), Vec<&BackendOut>> = BTreeMap::new();
    for row in &known.out {
        let key = (row.of.pool.as_str(), row.of.backend.as_str(), row.ejected);
        grouped.entry(key).or_default().push(row);
    }
    for ((pool, backend, ejected), rows) in grouped {
        let sum = sums.get(&(pool, backend)).copied().unwrap_or_default();
        let all = sum.up + sum.down + sum.ejected + sum.drained;
        // As people know it: a discovered one by its agent's address.
        let shown = agents.get(backend).map_or_else(
            || backend.to_owned(),
            |address| format!("The agent at {address}"),
        );
        let on = format!("on {} of {all} agents", rows.len());
        let (kind, what, mend) = match ejected {
            true => (
                "backend_ejected",
                format!("{shown} in {pool} is left out for failed connects, {on}"),
                "Look whether its process accepts connections; it is tried again by itself",
            ),
            false => {
                let words = rows.iter().find_map(|row| row.words.as_deref());
                let words = words.map_or_else(String::new, |words| format!(": {words}"));
                (
                    "backend_down",
                    format!("{shown} in {pool} is down, {on}{words}"),
                    "Look at its process and at what the check says, or put it in maintenance",
                )
            }
        };
        items.push(Item {
            severity: Severity::Warning,
            kind,
            subject: Subject {
                pool: Some(pool.to_owned()),
                ..subject("backend", backend.to_owned())
            },
            what: quoted(what),
            mend: mend.to_owned(),
            since: None,
        });
    }
}

fn long_said(said: &LongSaid) -> Item {
    let LongSaid {
        pool,
        backend,
        state,
        ..
    } = said;
    let on = match said.agent {
        Some(_) => " on one agent",
        None => "",
    };
    Item {
        severity: Severity::Notice,
        kind: "backend_out_of_use",
        subject: Subject {
            pool: Some(pool.clone()),
            ..subject("backend", backend.clone())
        },
        what: format!("{backend} in {pool} is in {state}{on}, by {}", said.set_by),
        mend: "Set it ready, or take it out of the document".to_owned(),
        since: Some(said.set_at),
    }
}

fn certificate_trouble(
    name: &str,
    not_after: OffsetDateTime,
    used: bool,
    now: OffsetDateTime,
) -> Option<Item> {
    let left = not_after - now;
    if left >= ENDS_SOON {
        return None;
    }
    let severity = match used {
        false => Severity::Notice,
        true if left < ENDS_NOW => Severity::Critical,
        true => Severity::Warning,
    };
    let what = if left <= Duration::ZERO {
        format!("The certificate {name} has ended")
    } else {
        match left.whole_days() {
            0 => format!(
                "The certificate {name} ends within {} hours",
                left.whole_hours() + 1
            ),
            1 => format!("The certificate {name} ends in 1 day"),
            days => format!("The certificate {name} ends in {days} days"),
        }
    };
    Some(Item {
        severity,
        kind: "certificate_ends",
        subject: subject("certificate", name.to_owned()),
        what,
        mend: match used {
            true => "Upload its successor under the same name".to_owned(),
            false => "No listener uses it: delete it, or upload its successor".to_owned(),
        },
        since: Some(not_after),
    })
}

fn subject(kind: &'static str, name: String) -> Subject {
    Subject {
        kind,
        name,
        pool: None,
    }
}

fn quoted(text: String) -> String {
    if text.chars().count() <= QUOTED {
        return text;
    }
    let kept: String = text.chars().take(QUOTED).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests;
