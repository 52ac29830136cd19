//! Documents from people: refused with reasons or planned, and a plan is read back
//! from its JSON as itself, with the same hash.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use tidegate_core::document::{Document, Role};
use tidegate_core::plan::{Agent, Facts, plan};
use tidegate_core::snapshot::Snapshot;

fuzz_target!(|text: &str| {
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "refused for nothing");
            return;
        }
    };
    let agent = Agent {
        id: "standalone".parse().unwrap(),
        roles: [Role::Balancer, Role::Terminator].into(),
        labels: BTreeMap::new(),
        address: [127, 0, 0, 1].into(),
        health_port: 7445,
    };
    let facts = Facts {
        agents: vec![agent.clone()],
        standalone: true,
        ..Facts::default()
    };
    if let Ok(snapshot) = plan(&document, &facts, &agent) {
        let written = serde_json::to_string(&snapshot).unwrap();
        let read: Snapshot = serde_json::from_str(&written).unwrap();
        assert_eq!(read.hash(), snapshot.hash());
        assert!(read == snapshot);
    }
});
