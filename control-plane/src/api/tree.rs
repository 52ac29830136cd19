//! One resource within the whole document, as trees: put in, taken out, and the
//! way back from the pointers of the document's mistakes to the resource that was
//! sent. Pure; `resource` and `backends` use it inside a write.

use serde_json::{Map, Value};
use tidegate_core::document::Mistake;

/// A document with one resource that was sent.
#[derive(Debug, PartialEq)]
pub(super) struct Edited {
    /// The whole document.
    pub(super) tree: Value,
    /// Where in it the resource is: a pointer.
    pub(super) place: String,
}

/// Replaces the resource of that name among `kind`, or adds it at the end.
///
/// # Errors
/// A body that has another name, or is no mapping.
pub(super) fn put(
    mut tree: Value,
    kind: &str,
    name: &str,
    body: Value,
) -> Result<Edited, Vec<Mistake>> {
    let mut body = mapping(body)?;
    same_name(&body, name)?;
    body.insert("name".into(), name.into());
    let mut resources = take_list(&mut tree, kind);
    let index = put_into(&mut resources, body.into(), |there| is_named(there, name));
    set_list(&mut tree, kind, resources);
    Ok(Edited {
        tree,
        place: format!("/{kind}/{index}"),
    })
}

/// Takes the resource of that name out; `None` when there is none.
pub(super) fn take(mut tree: Value, kind: &str, name: &str) -> Option<Value> {
    let mut resources = take_list(&mut tree, kind);
    let index = resources.iter().position(|there| is_named(there, name))?;
    resources.remove(index);
    set_list(&mut tree, kind, resources);
    Some(tree)
}

/// Replaces the backend of that name in a pool, or adds it at the end; `None`
/// when there is no such pool.
///
/// # Errors
/// As [`put`].
pub(super) fn put_backend(
    mut tree: Value,
    pool: &str,
    name: &str,
    body: Value,
) -> Result<Option<Edited>, Vec<Mistake>> {
    let mut body = mapping(body)?;
    same_name(&body, name)?;
    if body.get("address").and_then(Value::as_str) == Some(name) {
        // The address is the name by itself.
        body.remove("name");
    } else {
        body.insert("name".into(), name.into());
    }
    let edited = in_pool(&mut tree, pool, |backends| {
        put_into(backends, body.into(), |there| {
            backend_name(there) == Some(name)
        })
    });
    Ok(edited.map(|(index, at)| Edited {
        tree,
        place: format!("/pools/{index}/backends/{at}"),
    }))
}

/// Takes a backend out of its pool; `None` when there is none.
pub(super) fn take_backend(mut tree: Value, pool: &str, name: &str) -> Option<Value> {
    let (_, taken) = in_pool(&mut tree, pool, |backends| {
        let mut names = backends.iter().map(backend_name);
        let index = names.position(|there| there == Some(name))?;
        Some(backends.remove(index))
    })?;
    taken.map(|_| tree)
}

/// Mistakes of the document as the sender of the resource at `place` sees them:
/// pointers into what was sent, and `/config/...` for the rest of the document.
pub(super) fn as_seen_from(mistakes: Vec<Mistake>, place: Option<&str>) -> Vec<Mistake> {
    let seen = |mistake: Mistake| {
        let inside = place.and_then(|place| {
            let below = mistake.pointer.strip_prefix(place)?;
            (below.is_empty() || below.starts_with('/')).then(|| below.to_owned())
        });
        let pointer = inside.unwrap_or_else(|| format!("/config{}", mistake.pointer));
        Mistake { pointer, ..mistake }
    };
    mistakes.into_iter().map(seen).collect()
}

fn mapping(body: Value) -> Result<Map<String, Value>, Vec<Mistake>> {
    match body {
        Value::Object(fields) => Ok(fields),
        _ => Err(vec![Mistake::new(
            "",
            "write a mapping: the fields of the resource",
        )]),
    }
}

fn same_name(body: &Map<String, Value>, name: &str) -> Result<(), Vec<Mistake>> {
    match body.get("name") {
        None => Ok(()),
        Some(Value::String(written)) if written == name => Ok(()),
        Some(_) => Err(vec![Mistake::new(
            "/name",
            format!("the path says {name}: leave the name out, or write the same"),
        )]),
    }
}

/// The list under a key; an empty one where there was none.
fn take_list(tree: &mut Value, key: &str) -> Vec<Value> {
    match tree.get_mut(key).map(Value::take) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

fn set_list(tree: &mut Value, key: &str, list: Vec<Value>) {
    if let Some(fields) = tree.as_object_mut() {
        fields.insert(key.into(), list.into());
    }
}

/// Changes the backends of a pool; also its index, when there is such a pool.
fn in_pool<T>(
    tree: &mut Value,
    name: &str,
    change: impl FnOnce(&mut Vec<Value>) -> T,
) -> Option<(usize, T)> {
    let pools = tree.get_mut("pools")?.as_array_mut()?;
    let mut pools = pools.iter_mut().enumerate();
    let (index, pool) = pools.find(|(_, there)| is_named(there, name))?;
    let mut backends = take_list(pool, "backends");
    let done = change(&mut backends);
    set_list(pool, "backends", backends);
    Some((index, done))
}

fn is_named(resource: &Value, name: &str) -> bool {
    resource.get("name").and_then(Value::as_str) == Some(name)
}

fn backend_name(backend: &Value) -> Option<&str> {
    let name = backend.get("name").or_else(|| backend.get("address"));
    name.and_then(Value::as_str)
}

/// The index where it is now.
fn put_into(list: &mut Vec<Value>, new: Value, is_it: impl Fn(&Value) -> bool) -> usize {
    let place = list.iter_mut().enumerate().find(|(_, there)| is_it(there));
    if let Some((index, place)) = place {
        *place = new;
        return index;
    }
    list.push(new);
    list.len() - 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "listeners": [{ "name": "edge" }],
            "pools": [
                { "name": "a", "backends": [{ "address": ":1" }, { "name": "two", "address": ":2" }] },
                { "name": "b", "discover": { "listener": "edge" } },
            ],
        })
    }

    #[test]
    fn a_resource_is_replaced_in_its_place_or_added_at_the_end() {
        let edited = put(document(), "pools", "a", json!({ "balance": "source" })).unwrap();
        assert_eq!(edited.place, "/pools/0");
        let new = json!({ "name": "a", "balance": "source" });
        assert_eq!(edited.tree.pointer("/pools/0"), Some(&new));

        let edited = put(document(), "policies", "p", json!({ "name": "p" })).unwrap();
        assert_eq!(edited.place, "/policies/0");
        assert_eq!(edited.tree["policies"], json!([{ "name": "p" }]));
    }

    #[test]
    fn the_name_in_the_path_wins_and_another_one_is_a_mistake() {
        for (body, pointer) in [
            (json!({ "name": "b" }), "/name"),
            (json!({ "name": 3 }), "/name"),
            (json!([]), ""),
            (json!("a"), ""),
            (Value::Null, ""),
        ] {
            let mistakes = put(document(), "pools", "a", body.clone()).unwrap_err();
            assert_eq!(mistakes[0].pointer, pointer, "{body}");
            let mistakes = put_backend(document(), "a", ":1", body.clone()).unwrap_err();
            assert_eq!(mistakes[0].pointer, pointer, "{body}");
        }
    }

    #[test]
    fn what_is_taken_out_was_there() {
        let rest = take(document(), "pools", "a").unwrap();
        assert_eq!(rest["pools"].as_array().unwrap().len(), 1);
        assert_eq!(take(document(), "pools", "c"), None);
        assert_eq!(take(document(), "policies", "a"), None);
        let rest = take_backend(document(), "a", "two").unwrap();
        assert_eq!(rest["pools"][0]["backends"], json!([{ "address": ":1" }]));
        for (pool, backend) in [("a", ":2"), ("b", ":1"), ("c", ":1")] {
            assert_eq!(take_backend(document(), pool, backend), None);
        }
    }

    #[test]
    fn a_backend_goes_by_its_name_or_by_its_address() {
        let rows = [
            (":1", json!({ "address": ":1", "weight": 2 }), 0, None),
            (":1", json!({ "address": ":9" }), 0, Some(":1")),
            ("two", json!({ "address": ":2" }), 1, Some("two")),
            (":3", json!({ "name": ":3", "address": ":3" }), 2, None),
        ];
        for (name, body, index, written) in rows {
            let edited = put_backend(document(), "a", name, body).unwrap().unwrap();
            assert_eq!(edited.place, format!("/pools/0/backends/{index}"));
            let backend = edited.tree.pointer(&edited.place).unwrap();
            assert_eq!(
                backend.get("name").and_then(Value::as_str),
                written,
                "{name}"
            );
        }
        assert_eq!(put_backend(document(), "c", ":1", json!({})), Ok(None));
    }

    #[test]
    fn pointers_lead_into_what_was_sent_or_into_the_document() {
        let rows = [
            (Some("/pools/1"), "/pools/1", ""),
            (Some("/pools/1"), "/pools/1/backends/0", "/backends/0"),
            (
                Some("/pools/1"),
                "/pools/10/balance",
                "/config/pools/10/balance",
            ),
            (
                Some("/pools/1"),
                "/listeners/0/pool",
                "/config/listeners/0/pool",
            ),
            (
                Some("/pools/0/backends/2"),
                "/pools/0/backends/2/weight",
                "/weight",
            ),
            (
                Some("/pools/0/backends/2"),
                "/pools/0/discover",
                "/config/pools/0/discover",
            ),
            (Some("/pools/1"), "", "/config"),
            (None, "/pools/1", "/config/pools/1"),
        ];
        for (place, pointer, expected) in rows {
            let seen = as_seen_from(vec![Mistake::new(pointer, "wrong")], place);
            assert_eq!(seen, [Mistake::new(expected, "wrong")]);
        }
    }
}
