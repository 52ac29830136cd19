//! What differs between two documents, down to the field: what `apply` shows
//! before and after, and what a revision changed. Order among resources means
//! nothing, so it is not a difference; order inside a list of values is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::document::Document;

/// One resource that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ResourceChange {
    /// `listeners`, `pools`, `policies` or `certificates`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What happened to it.
    pub change: Kind,
    /// The fields that differ; of an added or removed resource all it has.
    pub fields: Vec<FieldChange>,
}

/// What happened to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Only in the new document.
    Added,
    /// Only in the old one.
    Removed,
    /// In both, with another content.
    Changed,
}

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldChange {
    /// JSON pointer inside the resource; a pool's backends go by their name.
    pub pointer: String,
    /// Before; absent when it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// After; absent when it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
}

/// Every resource that differs, by kind and name.
pub fn documents(old: &Document, new: &Document) -> Vec<ResourceChange> {
    let (old, new) = (resources(old), resources(new));
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut changes = Vec::new();
    for key in names {
        let (before, after) = (old.get(key), new.get(key));
        if before == after {
            continue;
        }
        let change = match (before, after) {
            (None, _) => Kind::Added,
            (_, None) => Kind::Removed,
            _ => Kind::Changed,
        };
        let mut fields = Vec::new();
        compare("", before, after, &mut fields);
        let (_, kind, name) = key;
        changes.push(ResourceChange {
            kind,
            name: name.clone(),
            change,
            fields,
        });
    }
    changes
}

type Key = (usize, &'static str, String);

fn resources(document: &Document) -> BTreeMap<Key, Value> {
    // Serialising a document into memory has no failing case.
    let mut tree = serde_json::to_value(document).unwrap_or_default();
    let kinds = ["listeners", "pools", "policies", "certificates"];
    let mut resources = BTreeMap::new();
    for (rank, kind) in kinds.into_iter().enumerate() {
        let Some(Value::Array(list)) = tree.get_mut(kind).map(Value::take) else {
            continue;
        };
        for mut resource in list {
            let name = resource.get("name").and_then(Value::as_str);
            let name = name.unwrap_or_default().to_owned();
            if let Some(fields) = resource.as_object_mut() {
                fields.remove("name");
                if let Some(Value::Array(backends)) = fields.get_mut("backends").map(Value::take) {
                    fields.insert("backends".into(), by_name(backends));
                }
            }
            resources.insert((rank, kind, name), resource);
        }
    }
    resources
}

/// A backend is the same one wherever it stands in the list.
fn by_name(backends: Vec<Value>) -> Value {
    let named = backends.into_iter().map(|backend| {
        let name = backend.get("name").or_else(|| backend.get("address"));
        let name = name.and_then(Value::as_str).unwrap_or_default().to_owned();
        (name, backend)
    });
    Value::Object(named.collect())
}

fn compare(at: &str, old: Option<&Value>, new: Option<&Value>, fields: &mut Vec<FieldChange>) {
    if old == new {
        return;
    }
    let empty = serde_json::Map::new();
    let inside = |value: Option<&Value>| value.is_none_or(Value::is_object);
    if inside(old) && inside(new) {
        let old = old.and_then(Value::as_object).unwrap_or(&empty);
        let new = new.and_then(Value::as_object).unwrap_or(&empty);
        let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for key in keys {
            let below = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
            compare(&below, old.get(key), new.get(key), fields);
        }
        return;
    }
    fields.push(FieldChange {
        pointer: at.to_owned(),
        from: old.cloned(),
        to: new.cloned(),
    });
}

impl fmt::Display for ResourceChange {
    /// As people read it: `~ pools/game  /balance: "round_robin" -> "least_connections"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.change {
            Kind::Added => '+',
            Kind::Removed => '-',
            Kind::Changed => '~',
        };
        write!(f, "{sign} {}/{}", self.kind, self.name)?;
        for FieldChange { pointer, from, to } in &self.fields {
            match (from, to) {
                (Some(from), Some(to)) => write!(f, "\n    {pointer}: {from} -> {to}")?,
                (Some(from), None) => write!(f, "\n    {pointer}: {from} removed")?,
                (_, to) => {
                    let to = to.clone().unwrap_or_default();
                    write!(f, "\n    {pointer}: {to}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Document {
        Document::parse(text).unwrap()
    }

    const POOL: &str = r#"{"pools": [{"name": "p", "backends": [
        {"address": "127.0.0.1:1"}, {"address": "127.0.0.1:2", "weight": 2}]}]}"#;

    #[test]
    fn order_of_resources_and_backends_is_no_difference() {
        let turned = r#"{"pools": [{"name": "p", "backends": [
            {"address": "127.0.0.1:2", "weight": 2}, {"address": "127.0.0.1:1"}]}]}"#;
        assert_eq!(documents(&document(POOL), &document(turned)), []);
    }

    #[test]
    fn a_changed_field_is_named_with_both_values() {
        let heavier = POOL.replace("\"weight\": 2", "\"weight\": 3");
        let changes = documents(&document(POOL), &document(&heavier));
        let text: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            ["~ pools/p\n    /backends/127.0.0.1:2/weight: 2 -> 3"]
        );
    }

    #[test]
    fn what_comes_and_goes_is_told_whole() {
        let none = Document::default();
        let added = documents(&none, &document(POOL));
        assert_eq!(added.len(), 1);
        assert_eq!(added[0].change, Kind::Added);
        assert!(added[0].fields.iter().any(|f| f.pointer == "/balance"));
        let removed = documents(&document(POOL), &none);
        assert_eq!(removed[0].change, Kind::Removed);
        assert!(removed[0].fields.iter().all(|f| f.to.is_none()));
    }
}
