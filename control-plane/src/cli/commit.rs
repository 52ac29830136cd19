//! What a write answers, as people read it: the difference, line by line, the
//! numbers, and which agents run it. Used by every command that changes
//! something.

use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::error::Error;
use crate::cli::screen::{Mark, Screen};
use crate::cli::words::{self, clean};

/// For commands that change what agents run.
#[derive(Args, Clone, Copy)]
pub(crate) struct Wait {
    /// Wait until every connected agent runs it; 30s when no time is given, 5m at most.
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "30s",
        value_parser = humantime::parse_duration
    )]
    pub(crate) wait: Option<Duration>,
}

/// The answer to a write.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Commit {
    #[serde(default)]
    pub(crate) revision: u64,
    #[serde(default)]
    pub(crate) change: u64,
    #[serde(default)]
    pub(crate) changed: bool,
    #[serde(default)]
    pub(crate) diff: Vec<Resource>,
    #[serde(default)]
    pub(crate) applied: Option<Applied>,
}

/// A resource that differs.
#[derive(Debug, Deserialize)]
pub(crate) struct Resource {
    kind: String,
    name: String,
    change: Change,
    #[serde(default)]
    fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Change {
    Added,
    Removed,
    Changed,
}

#[derive(Debug, Deserialize)]
struct Field {
    pointer: String,
    // A value may be null: that is not the same as none.
    #[serde(default, deserialize_with = "some")]
    from: Option<Value>,
    #[serde(default, deserialize_with = "some")]
    to: Option<Value>,
}

fn some<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// Which agents run it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Applied {
    applied: Vec<String>,
    failed: Vec<Failed>,
    pending: Vec<String>,
    offline: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Failed {
    agent: String,
    #[serde(default)]
    mistakes: Vec<Mistake>,
}

/// What an agent could not run.
#[derive(Debug, Deserialize)]
pub(crate) struct Mistake {
    #[serde(default)]
    pub(crate) pointer: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// Shows a difference; nothing when there is none.
pub(crate) fn show_diff(diff: &[Resource], screen: &mut Screen<'_>) -> Result<(), Error> {
    for resource in diff {
        let mark = resource.change.mark();
        let head = format!(
            "{} {}/{}",
            mark.sign(),
            clean(&resource.kind),
            clean(&resource.name)
        );
        screen.line(screen.paint(mark, &head))?;
        for field in &resource.fields {
            let (mark, text) = field.words();
            let line = format!("    {} {text}", mark.sign());
            screen.line(screen.paint(mark, &line))?;
        }
    }
    Ok(())
}

/// `1 added, 2 changed`.
pub(crate) fn summary(diff: &[Resource]) -> String {
    let kinds = [
        (Change::Added, "added"),
        (Change::Changed, "changed"),
        (Change::Removed, "removed"),
    ];
    let counts = kinds.iter().filter_map(|(kind, word)| {
        let count = diff.iter().filter(|r| r.change == *kind).count();
        (count > 0).then(|| format!("{count} {word}"))
    });
    counts.collect::<Vec<_>>().join(", ")
}

impl Change {
    fn mark(self) -> Mark {
        match self {
            Self::Added => Mark::Added,
            Self::Removed => Mark::Removed,
            Self::Changed => Mark::Changed,
        }
    }
}

impl Field {
    fn words(&self) -> (Mark, String) {
        let pointer = clean(&self.pointer);
        let value = |value: &Value| clean(&value.to_string());
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => {
                let text = format!("{pointer}: {} -> {}", value(from), value(to));
                (Mark::Changed, text)
            }
            (Some(from), None) => (Mark::Removed, format!("{pointer}: {}", value(from))),
            (None, Some(to)) => (Mark::Added, format!("{pointer}: {}", value(to))),
            (None, None) => (Mark::Changed, pointer),
        }
    }
}

impl Commit {
    /// Tells the numbers, and what agents made of it; an error when one of them
    /// does not run it.
    pub(crate) fn tell(&self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let numbers = format!("revision {}, change {}", self.revision, self.change);
        if self.changed {
            screen.line(numbers)?;
        } else {
            screen.line(format!("{numbers}: it was so already"))?;
        }
        match &self.applied {
            Some(applied) => applied.tell(screen),
            None => Ok(()),
        }
    }
}

impl Applied {
    fn tell(&self, screen: &mut Screen<'_>) -> Result<(), Error> {
        let Self {
            applied,
            failed,
            pending,
            offline,
        } = self;
        screen.line(format!(
            "applied by {}",
            words::count(applied.len(), "agent")
        ))?;
        if !offline.is_empty() {
            screen.note(format!(
                "{} offline, to follow when back: {}",
                words::count(offline.len(), "agent"),
                names(offline)
            ))?;
        }
        for Failed { agent, mistakes } in failed {
            let line = format!("- {} cannot run it and goes on as before:", clean(agent));
            screen.line(screen.paint(Mark::Removed, &line))?;
            for mistake in mistakes {
                screen.line(format!("    {}", mistake.words()))?;
            }
        }
        match (failed.len(), pending.len()) {
            (0, 0) => Ok(()),
            (0, waiting) => Err(Error::NotApplied(format!(
                "in time {} did not answer: {}. The change stands. Where it is: tidegate get agents",
                words::count(waiting, "agent"),
                names(pending)
            ))),
            (failing, _) => Err(Error::NotApplied(format!(
                "{} cannot run it. The change stands; undo it with: tidegate revision rollback \
                 NUMBER",
                words::count(failing, "agent")
            ))),
        }
    }
}

impl Mistake {
    /// Its place and what is wrong there.
    pub(crate) fn words(&self) -> String {
        match self.pointer.as_str() {
            "" => clean(&self.message),
            pointer => format!("{}: {}", clean(pointer), clean(&self.message)),
        }
    }
}

/// A few names of many.
fn names(of: &[String]) -> String {
    const MOST: usize = 5;
    let few: Vec<String> = of.iter().take(MOST).map(|name| clean(name)).collect();
    match of.len().saturating_sub(MOST) {
        0 => few.join(", "),
        more => format!("{} and {more} more", few.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::Captured;

    fn commit(value: Value) -> Commit {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_difference_has_a_line_for_each_field() {
        let commit = commit(
            json!({ "revision": 8, "change": 12, "changed": true, "diff": [
            { "kind": "pools", "name": "game", "change": "changed", "fields": [
                { "pointer": "/balance", "from": "round_robin", "to": "least_connections" },
                { "pointer": "/backends/a/weight", "to": 2 },
                { "pointer": "/health_check", "from": { "tcp": {} } },
                { "pointer": "/x", "from": null, "to": 1 },
            ] },
            { "kind": "policies", "name": "new", "change": "added", "fields": [] },
            { "kind": "listeners", "name": "old", "change": "removed", "fields": [] },
        ] }),
        );
        let mut captured = Captured::default();
        show_diff(&commit.diff, &mut captured.screen()).unwrap();
        assert_eq!(
            captured.out(),
            "~ pools/game\n    \
                 ~ /balance: \"round_robin\" -> \"least_connections\"\n    \
                 + /backends/a/weight: 2\n    \
                 - /health_check: {\"tcp\":{}}\n    \
                 ~ /x: null -> 1\n\
             + policies/new\n\
             - listeners/old\n"
        );
        assert_eq!(summary(&commit.diff), "1 added, 1 changed, 1 removed");
        assert_eq!(summary(&[]), "");
    }

    #[test]
    fn an_agent_that_cannot_run_it_makes_the_command_fail() {
        let commit = commit(
            json!({ "revision": 3, "change": 5, "changed": true, "applied": {
            "applied": ["a"], "pending": [], "offline": ["o"],
            "failed": [{ "agent": "b", "mistakes": [
                { "pointer": "/listeners/edge/bind", "message": "127.0.0.1:443 is taken" }] }],
        } }),
        );
        let mut captured = Captured::default();
        let error = commit.tell(&mut captured.screen()).unwrap_err();
        assert!(
            error.to_string().contains("1 agent cannot run it"),
            "{error}"
        );
        assert_eq!(
            captured.out(),
            "revision 3, change 5\napplied by 1 agent\n\
             - b cannot run it and goes on as before:\n    \
             /listeners/edge/bind: 127.0.0.1:443 is taken\n"
        );
        assert!(captured.notes().contains("1 agent offline"));
    }

    #[test]
    fn an_agent_that_does_not_answer_in_time_makes_the_command_fail() {
        let many: Vec<String> = (0..7).map(|i| format!("agent-{i}")).collect();
        let commit = commit(json!({ "revision": 3, "change": 5, "changed": true,
            "applied": { "applied": [], "failed": [], "pending": many, "offline": [] } }));
        let error = commit.tell(&mut Captured::default().screen()).unwrap_err();
        assert!(error.to_string().contains("7 agents"), "{error}");
        assert!(error.to_string().contains("agent-4 and 2 more"), "{error}");
    }

    #[test]
    fn nothing_to_change_is_said() {
        let commit = commit(json!({ "revision": 3, "change": 5, "changed": false, "diff": [] }));
        let mut captured = Captured::default();
        commit.tell(&mut captured.screen()).unwrap();
        assert_eq!(captured.out(), "revision 3, change 5: it was so already\n");
    }
}
