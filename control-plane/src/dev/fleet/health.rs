//! What keeps a fleet from being healthy, read off the API's answers. Pure.

use std::collections::BTreeSet;

use serde_json::Value;
use time::OffsetDateTime;

use crate::cli::words::at;
use crate::dev::fleet::instant;

/// The agent at an address, if it is connected and was not revoked.
pub(super) fn connected<'a>(agents: &'a [Value], address: &str) -> Option<&'a Value> {
    agents.iter().find(|agent| {
        agent["address"] == address && agent["connected"] == true && agent["revoked_at"].is_null()
    })
}

/// A line for each thing that is missing. What was seen before `began` is of an
/// earlier run. An agent that is not ours may be away or see what it likes: whoever
/// added it runs it.
pub(super) fn missing(
    agents: &[Value],
    backends: &[Value],
    ours: impl Iterator<Item = (&'static str, String)>,
    began: OffsetDateTime,
) -> Vec<String> {
    let ours: Vec<_> = ours.collect();
    let known: BTreeSet<String> = ours
        .iter()
        .filter_map(|(_, address)| connected(agents, address))
        .map(|agent| at(agent, "/id"))
        .collect();
    let mut missing = Vec::new();
    let mut reporting = BTreeSet::new();
    // A discovered backend is called by its agent's id.
    let is_ours =
        |backend: &&Value| backend["discovered"] != true || known.contains(&at(backend, "/name"));
    for backend in backends.iter().filter(is_ours) {
        let name = format!("{}/{}", at(backend, "/pool"), at(backend, "/name"));
        let seen = backend["agents"].as_array().map_or(&[][..], Vec::as_slice);
        let fresh = seen
            .iter()
            .filter(|seen| instant(&seen["at"]).is_some_and(|at| at >= began));
        for seen in fresh {
            let agent = at(seen, "/agent");
            if !known.contains(&agent) {
                continue;
            }
            // Whoever drained it meant it to take no connection.
            if seen["up"] != true && at(seen, "/admin") == "ready" {
                let words = at(seen, "/last_check/words");
                missing.push(format!("{name} is down for agent {agent}: {words}"));
            }
            reporting.insert(agent);
        }
    }
    for (name, address) in ours {
        let Some(agent) = connected(agents, &address) else {
            missing.push(format!("{name} ({address}) is not connected"));
            continue;
        };
        if agent["in_sync"] != true {
            let mistakes = at(agent, "/mistakes");
            missing.push(format!(
                "{name} ({address}) does not run the document: {mistakes}"
            ));
        } else if !reporting.contains(&at(agent, "/id")) {
            missing.push(format!("{name} ({address}) has not told of its backends"));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::testing::noon;

    fn agents() -> Vec<Value> {
        vec![
            json!({ "id": "a", "address": "127.0.0.1", "connected": true, "in_sync": true }),
            json!({ "id": "b", "address": "127.0.0.2", "connected": true, "in_sync": true }),
        ]
    }

    fn ours() -> impl Iterator<Item = (&'static str, String)> {
        [
            ("balancer", "127.0.0.1".into()),
            ("terminator-a", "127.0.0.2".into()),
        ]
        .into_iter()
    }

    /// Another terminator than ours, as the printed lines add one.
    fn third() -> (Value, [Value; 2]) {
        let at = "2026-11-01T12:00:01Z";
        let seen = |agent: &str| {
            json!([{ "agent": agent, "up": false, "admin": "ready", "at": at,
                     "last_check": { "words": "cannot connect" } }])
        };
        let agent = json!({ "id": "c", "address": "127.0.0.4", "connected": false });
        let backends = [
            json!({ "pool": "game-tls", "name": "c", "discovered": true, "agents": seen("a") }),
            json!({ "pool": "game-node", "name": ":3001", "agents": seen("c") }),
        ];
        (agent, backends)
    }

    fn backends(at: &str, up: bool, admin: &str) -> Vec<Value> {
        let seen = |agent: &str, up: bool| {
            json!({ "agent": agent, "up": up, "admin": admin, "at": at,
                    "last_check": { "words": "answered 503" } })
        };
        vec![
            json!({ "pool": "game-tls", "name": "b", "discovered": true, "agents": [seen("a", up)] }),
            json!({ "pool": "game-node", "name": ":3000", "agents": [seen("b", up)] }),
        ]
    }

    #[test]
    fn all_up_and_applied_is_healthy() {
        let backends = backends("2026-11-01T12:00:01Z", true, "ready");
        assert_eq!(missing(&agents(), &backends, ours(), noon()), [""; 0]);
    }

    #[test]
    fn an_agent_of_somebody_elses_may_be_away() {
        let (agent, theirs) = third();
        let agents: Vec<Value> = agents().into_iter().chain([agent]).collect();
        let mut backends = backends("2026-11-01T12:00:01Z", true, "ready");
        backends.extend(theirs);
        assert_eq!(missing(&agents, &backends, ours(), noon()), [""; 0]);
    }

    #[test]
    fn what_is_down_is_told_in_the_checks_words() {
        let down = backends("2026-11-01T12:00:01Z", false, "ready");
        assert_eq!(
            missing(&agents(), &down, ours(), noon()),
            [
                "game-tls/b is down for agent a: answered 503",
                "game-node/:3000 is down for agent b: answered 503"
            ]
        );
        let drained = backends("2026-11-01T12:00:01Z", false, "drain");
        assert_eq!(missing(&agents(), &drained, ours(), noon()), [""; 0]);
    }

    #[test]
    fn what_an_earlier_run_saw_does_not_count() {
        let old = backends("2026-11-01T11:59:59Z", true, "ready");
        let told = missing(&agents(), &old, ours(), noon());
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].contains("has not told of its backends"), "{told:?}");
    }

    #[test]
    fn an_agent_that_is_away_or_behind_is_told() {
        let mut agents = agents();
        agents[0]["connected"] = false.into();
        agents[1]["in_sync"] = false.into();
        let backends = backends("2026-11-01T12:00:01Z", true, "ready");
        let told = missing(&agents, &backends, ours(), noon()).join("\n");
        assert!(
            told.contains("balancer (127.0.0.1) is not connected"),
            "{told}"
        );
        assert!(
            told.contains("terminator-a (127.0.0.2) does not run"),
            "{told}"
        );
    }
}
