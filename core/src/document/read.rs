//! Text to resources, with every mistake a resource holds by itself.
//!
//! serde stops at its first error. So each resource is parsed on its own, and
//! when a value in it is refused, the mistake is kept, the value taken out and
//! the rest parsed again: at most one pass per wrong value.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::{Document, Mistake, Name};

/// Wrong values reported of one resource. More of them help nobody, and each
/// costs a pass.
const MISTAKES_PER_RESOURCE: usize = 50;

/// What could be read.
pub(super) struct Read {
    pub(super) document: Document,
    pub(super) places: Places,
    pub(super) mistakes: Vec<Mistake>,
}

/// Where the resources that could be read stood, and which names were written.
#[derive(Default)]
pub(super) struct Places {
    pub(super) listeners: Kind,
    pub(super) pools: Kind,
    pub(super) policies: Kind,
    pub(super) certificates: Kind,
}

/// One kind of resource.
#[derive(Default)]
pub(super) struct Kind {
    /// The index in the document of each resource that could be read.
    pub(super) indexes: Vec<usize>,
    /// Names of all resources, also of those that could not be read: a
    /// reference to one of them is not a second mistake.
    pub(super) names: BTreeSet<Name>,
}

/// Reads a tree; mistakes inside resources are in the answer.
///
/// # Errors
/// When the tree is not a document at all.
pub(super) fn document(tree: Value) -> Result<Read, Vec<Mistake>> {
    let Value::Object(mut kinds) = tree else {
        return Err(vec![Mistake::new(
            "",
            "a document is a mapping with listeners, pools, policies and certificates",
        )]);
    };
    let mut mistakes = Vec::new();
    let mut places = Places::default();
    let document = Document {
        listeners: kind(
            &mut kinds,
            "listeners",
            &mut places.listeners,
            &mut mistakes,
        ),
        pools: kind(&mut kinds, "pools", &mut places.pools, &mut mistakes),
        policies: kind(&mut kinds, "policies", &mut places.policies, &mut mistakes),
        certificates: kind(
            &mut kinds,
            "certificates",
            &mut places.certificates,
            &mut mistakes,
        ),
    };
    for unknown in kinds.keys() {
        mistakes.push(Mistake::new(
            format!("/{}", escaped(unknown)),
            "unknown: a document has listeners, pools, policies and certificates",
        ));
    }
    Ok(Read {
        document,
        places,
        mistakes,
    })
}

/// YAML or JSON to a tree; nothing is said yet about what is in it.
///
/// # Errors
/// When the text is neither.
pub(super) fn tree(text: &str) -> Result<Value, Vec<Mistake>> {
    let refused = |error: String| vec![Mistake::new("", without_secrets(error))];
    if text.trim_start().starts_with('{') {
        // JSON, unless it is YAML's flow style: then the YAML error is the better one.
        if let Ok(value) = serde_json::from_str(text) {
            return Ok(value);
        }
    }
    if text.trim().is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    // Without the lines around the mistake: they may be those of a private key.
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    serde_saphyr::from_str_with_options(text, options).map_err(|e| refused(e.to_string()))
}

fn kind<T: DeserializeOwned>(
    kinds: &mut serde_json::Map<String, Value>,
    key: &str,
    places: &mut Kind,
    mistakes: &mut Vec<Mistake>,
) -> Vec<T> {
    let list = match kinds.remove(key) {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(list)) => list,
        Some(_) => {
            mistakes.push(Mistake::new(
                format!("/{key}"),
                "write a list: each with '- name: ...'",
            ));
            return Vec::new();
        }
    };
    let mut resources = Vec::new();
    for (index, value) in list.into_iter().enumerate() {
        let name = value
            .get("name")
            .and_then(Value::as_str)
            .and_then(|n| n.parse::<Name>().ok());
        let base = format!("/{key}/{index}");
        if let Some(name) = name
            && !places.names.insert(name.clone())
        {
            mistakes.push(Mistake::new(
                format!("{base}/name"),
                format!("{name} is there twice among {key}: give each a name of its own"),
            ));
        }
        if let Some(resource) = resource(value, &base, mistakes) {
            resources.push(resource);
            places.indexes.push(index);
        }
    }
    resources
}

/// One resource, if nothing in it is wrong.
pub(super) fn resource<T: DeserializeOwned>(
    mut value: Value,
    base: &str,
    mistakes: &mut Vec<Mistake>,
) -> Option<T> {
    let mut lists = Vec::new();
    lists_for_mappings(&value, base.to_owned(), true, &mut lists);
    if !lists.is_empty() {
        let wrong = |at| Mistake::new(at, "a list: write a mapping, with the fields by name");
        mistakes.extend(lists.into_iter().map(wrong));
        return None;
    }
    let mut removed: Vec<Vec<String>> = Vec::new();
    for _ in 0..MISTAKES_PER_RESOURCE {
        let error = match serde_path_to_error::deserialize::<_, T>(&value) {
            Ok(resource) if removed.is_empty() => return Some(resource),
            Ok(_) => return None,
            Err(error) => error,
        };
        let path = keys(error.path());
        let written = as_written(&path, &removed);
        let message = error.into_inner().to_string();
        let is_echo = missing_field(&message)
            .is_some_and(|field| removed.iter().any(|r| is_child(r, &written, field)));
        if !is_echo {
            let at = format!("{base}{}", pointer(&written));
            mistakes.push(Mistake::new(at, without_secrets(message)));
        }
        if !take_out(&mut value, &path) {
            return None;
        }
        removed.push(written);
    }
    None
}

/// Fields that hold a mapping. serde would also take a list there, and read the
/// fields by their place.
const MAPPINGS: [&str; 13] = [
    "tls",
    "redirect",
    "proxy_protocol",
    "passive",
    "discover",
    "health_check",
    "http",
    "tcp",
    "agent",
    "limits",
    "new_per_client",
    "new_connections",
    "timeouts",
];

/// Adds the pointers of lists that stand where a mapping belongs.
fn lists_for_mappings(value: &Value, at: String, is_mapping: bool, lists: &mut Vec<String>) {
    match value {
        Value::Array(_) if is_mapping => lists.push(at),
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                // Elements are resources (backends) or plain values.
                lists_for_mappings(element, format!("{at}/{index}"), true, lists);
            }
        }
        Value::Object(fields) => {
            for (key, field) in fields {
                let is_mapping = MAPPINGS.contains(&key.as_str());
                lists_for_mappings(field, format!("{at}/{}", escaped(key)), is_mapping, lists);
            }
        }
        _ => {}
    }
}

fn keys(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// A path in the value as it is now, in the numbers of the value as written:
/// elements taken out of a list have moved the later ones forward.
fn as_written(path: &[String], removed: &[Vec<String>]) -> Vec<String> {
    let mut written: Vec<String> = Vec::new();
    for key in path {
        let Ok(mut index) = key.parse::<usize>() else {
            written.push(key.clone());
            continue;
        };
        let mut gone: Vec<usize> = removed
            .iter()
            .filter_map(|r| r.split_last())
            .filter(|(_, parent)| *parent == written.as_slice())
            .filter_map(|(last, _)| last.parse().ok())
            .collect();
        gone.sort_unstable();
        for earlier in gone {
            index += usize::from(earlier <= index);
        }
        written.push(index.to_string());
    }
    written
}

fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.split('`').next()
}

fn is_child(removed: &[String], parent: &[String], field: &str) -> bool {
    removed
        .split_last()
        .is_some_and(|(last, above)| last == field && above == parent)
}

fn take_out(value: &mut Value, path: &[String]) -> bool {
    let Some((last, above)) = path.split_last() else {
        return false;
    };
    match value.pointer_mut(&pointer(above)) {
        Some(Value::Object(map)) => map.remove(last).is_some(),
        Some(Value::Array(list)) => {
            let index = last.parse().ok().filter(|i| *i < list.len());
            index.map(|i| list.remove(i)).is_some()
        }
        _ => false,
    }
}

fn pointer(keys: &[String]) -> String {
    keys.iter()
        .map(|key| format!("/{}", escaped(key)))
        .collect()
}

/// RFC 6901 section 3.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// serde quotes the value it refuses, and that value may be a private key in
/// the wrong place.
fn without_secrets(message: String) -> String {
    if message.contains("PRIVATE KEY") {
        return "not expected here (the value looks like a private key and is not shown)".into();
    }
    message
}
