//! `status`: the fleet in a few lines, and what needs attention.

use clap::Args;
use serde_json::Value;

use crate::cli::agent::rate;
use crate::cli::client::Call;
use crate::cli::connection::Given;
use crate::cli::error::Error;
use crate::cli::screen::Screen;
use crate::cli::words::{self, at};

/// `tidegate status`.
#[derive(Args)]
pub(crate) struct Status {
    #[command(flatten)]
    given: Given,
}

impl Status {
    pub(crate) async fn run(self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let client = self.given.client()?;
        let status: Value = client.send(Call::get(&["status"])).await?.json()?;
        show(&status, screen)?;
        let attention: Value = client.send(Call::get(&["attention"])).await?.json()?;
        show_attention(&attention, screen)
    }
}

fn show(status: &Value, screen: &mut Screen<'_>) -> Result<(), Error> {
    let now = screen.now();
    let list = |pointer| status.pointer(pointer).and_then(Value::as_array);
    let replicas = list("/replicas").into_iter().flatten().map(|replica| {
        let seen = words::age(replica, "/seen_at", now);
        format!("{} (seen {seen} ago)", at(replica, "/address"))
    });
    let replicas = replicas.collect::<Vec<_>>().join(", ");
    let lines = [
        ("cluster", at(status, "/cluster")),
        ("version", at(status, "/version")),
        (
            "document",
            format!(
                "revision {}, change {}",
                at(status, "/revision"),
                at(status, "/change")
            ),
        ),
        ("replicas", replicas),
        ("agents", counts(status, "/agents")),
        ("backends", counts(status, "/backends")),
        (
            "connections",
            format!(
                "{} live, {} new per second",
                at(status, "/connections/live"),
                rate(status, "/connections/accept_rate")
            ),
        ),
    ];
    for (title, told) in lines {
        screen.line(format!("{title:<14}{told}"))?;
    }
    for certificate in list("/certificates").into_iter().flatten() {
        let until = words::until(certificate, "/not_after", now);
        let told = match until.strip_prefix("in ") {
            Some(span) => format!("ends in {span}"),
            None => until,
        };
        screen.line(format!(
            "{:<14}{} {told}",
            "certificate",
            at(certificate, "/name")
        ))?;
    }
    Ok(())
}

/// Worst first: what is wrong, and below it what to do.
fn show_attention(attention: &Value, screen: &mut Screen<'_>) -> Result<(), Error> {
    let items = attention.pointer("/items").and_then(Value::as_array);
    for item in items.into_iter().flatten() {
        let (severity, what) = (at(item, "/severity"), at(item, "/what"));
        screen.line(format!("{severity:<14}{what}"))?;
        screen.line(format!("{:<14}{}", "", at(item, "/mend")))?;
    }
    let told = items.map_or(0, Vec::len) as u64;
    let total = attention.pointer("/total").and_then(Value::as_u64);
    match total.unwrap_or_default().saturating_sub(told) {
        0 => Ok(()),
        more => Ok(screen.line(format!("{:<14}and {more} more", ""))?),
    }
}

/// `total 3, connected 3`: the numbers of an object, the total first.
fn counts(status: &Value, pointer: &str) -> String {
    let fields = status.pointer(pointer).and_then(Value::as_object);
    let mut told: Vec<(bool, String)> = fields
        .into_iter()
        .flatten()
        .map(|(name, count)| {
            (
                name != "total",
                format!("{} {}", words::words(count), name.replace('_', " ")),
            )
        })
        .collect();
    told.sort_by_key(|(later, _)| *later);
    let told: Vec<String> = told.into_iter().map(|(_, text)| text).collect();
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::Captured;

    #[test]
    fn what_needs_attention_is_told_with_its_mend() {
        let attention = json!({ "total": 3, "items": [
            { "severity": "critical", "what": "The pool p has no backend", "mend": "Add one" },
        ] });
        let mut captured = Captured::default();
        show_attention(&attention, &mut captured.screen()).unwrap();
        assert_eq!(
            captured.out(),
            "critical      The pool p has no backend\n              Add one\n              and 2 more\n"
        );
        let mut captured = Captured::default();
        show_attention(&json!({ "total": 0, "items": [] }), &mut captured.screen()).unwrap();
        assert_eq!(captured.out(), "");
    }

    #[test]
    fn a_fleet_is_a_few_lines() {
        let status = json!({
            "cluster": "c-1", "version": "0.1.0", "revision": 7, "change": 31,
            "replicas": [{ "address": "127.0.0.1:7444", "seen_at": "2026-11-01T11:59:57Z" }],
            "agents": { "connected": 2, "in_sync": 2, "total": 3 },
            "backends": { "up": 6, "down": 0 },
            "connections": { "live": 12, "accept_rate": 0.44 },
            "certificates": [{ "name": "play", "not_after": "2026-11-03T12:00:00Z" }],
        });
        let mut captured = Captured::default();
        show(&status, &mut captured.screen()).unwrap();
        let out = captured.out();
        for line in [
            "document      revision 7, change 31",
            "replicas      127.0.0.1:7444 (seen 3s ago)",
            "agents        3 total, 2 connected, 2 in sync",
            "connections   12 live, 0.4 new per second",
            "certificate   play ends in 2d",
        ] {
            assert!(out.lines().any(|l| l == line), "{line} in {out}");
        }
    }
}
