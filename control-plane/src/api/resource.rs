//! One resource of the document, whichever kind: read, and written inside the
//! whole. A write holds the cluster's lock from before it looks until it has
//! committed, so what If-Match was compared with is what is replaced.

use serde::Serialize;
use serde_json::Value;
use tidegate_core::document::{Document, Mistake, Name};

use super::answer::{Tagged, Written};
use super::etag::{ETag, IfMatch};
use super::names;
use super::problem::Problem;
use super::tree;
use crate::model::Author;
use crate::store::{Store, WriteError, Writing};

/// The kinds that are written one by one.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Listeners,
    Pools,
    Policies,
}

impl Kind {
    fn key(self) -> &'static str {
        match self {
            Self::Listeners => "listeners",
            Self::Pools => "pools",
            Self::Policies => "policies",
        }
    }

    fn one(self) -> &'static str {
        match self {
            Self::Listeners => "listener",
            Self::Pools => "pool",
            Self::Policies => "policy",
        }
    }

    /// The JSON of one, as it is sent and as it is tagged.
    fn json(self, document: &Document, name: &str) -> Option<Vec<u8>> {
        match self {
            Self::Listeners => json_of(&document.listeners, |l| &l.name, name),
            Self::Pools => json_of(&document.pools, |p| &p.name, name),
            Self::Policies => json_of(&document.policies, |p| &p.name, name),
        }
    }

    fn names(self, document: &Document) -> Vec<&str> {
        match self {
            Self::Listeners => document.listeners.iter().map(|l| l.name.as_str()).collect(),
            Self::Pools => document.pools.iter().map(|p| p.name.as_str()).collect(),
            Self::Policies => document.policies.iter().map(|p| p.name.as_str()).collect(),
        }
    }

    fn tag(self, document: &Document, name: &str) -> Option<ETag> {
        self.json(document, name).map(|json| ETag::of_bytes(&json))
    }

    /// The problem that there is none of that name.
    pub(super) fn missing(self, document: &Document, name: &str) -> Problem {
        Problem::not_found(format!(
            "no {} is named {name}; {}",
            self.one(),
            names::there_is(name, self.names(document))
        ))
    }
}

/// Reads one.
pub(super) async fn read(store: &Store, kind: Kind, name: &str) -> Result<Tagged, Problem> {
    let (_, document) = store.document().await?;
    let json = kind.json(&document, name);
    json.map(Tagged::of_json)
        .ok_or_else(|| kind.missing(&document, name))
}

/// Replaces one, or adds it.
pub(super) async fn put(
    store: &Store,
    author: &Author,
    kind: Kind,
    name: &str,
    if_match: &IfMatch,
    body: Value,
) -> Result<Written, Problem> {
    let mut writing = store.write(author).await?;
    let before = kind.tag(writing.document(), name);
    if_match.check(before.as_ref())?;
    let tree = whole(writing.document())?;
    let edited = tree::put(tree, kind.key(), name, body).map_err(Problem::mistakes)?;
    let place = Some(edited.place.as_str());
    let document = in_fleet(&mut writing, edited.tree, place).await?;
    let after = kind.tag(&document, name);
    writing.set_document(document, "put", &format!("{}/{name}", kind.key()));
    let commit = writing.commit().await;
    let commit = commit.map_err(|error| refused(error, place))?;
    let tag = if commit.changed { after } else { before };
    Ok(Written::new(commit, tag))
}

/// Takes one out.
pub(super) async fn delete(
    store: &Store,
    author: &Author,
    kind: Kind,
    name: &str,
    if_match: &IfMatch,
) -> Result<Written, Problem> {
    let mut writing = store.write(author).await?;
    let tree = whole(writing.document())?;
    let Some(rest) = tree::take(tree, kind.key(), name) else {
        return Err(kind.missing(writing.document(), name));
    };
    if_match.check(kind.tag(writing.document(), name).as_ref())?;
    let document = in_fleet(&mut writing, rest, None).await?;
    writing.set_document(document, "delete", &format!("{}/{name}", kind.key()));
    Ok(Written::new(writing.commit().await?, None))
}

/// The document as a tree.
pub(super) fn whole(document: &Document) -> Result<Value, Problem> {
    serde_json::to_value(document).map_err(Problem::internal)
}

/// Reads a tree as the fleet's document; mistakes as the sender of the resource at
/// `place` sees them.
pub(super) async fn in_fleet(
    writing: &mut Writing,
    tree: Value,
    place: Option<&str>,
) -> Result<Document, Problem> {
    let uploaded = writing.uploaded().await?;
    Document::of_fleet(tree, &uploaded).map_err(|mistakes| seen(mistakes, place))
}

/// A write that changed nothing, as the sender of the resource at `place` sees it.
pub(super) fn refused(error: WriteError, place: Option<&str>) -> Problem {
    match error {
        WriteError::Mistakes(mistakes) => seen(mistakes, place),
        WriteError::Store(error) => error.into(),
    }
}

fn seen(mistakes: Vec<Mistake>, place: Option<&str>) -> Problem {
    Problem::mistakes(tree::as_seen_from(mistakes, place))
}

fn json_of<T: Serialize>(list: &[T], name: impl Fn(&T) -> &Name, wanted: &str) -> Option<Vec<u8>> {
    let found = list.iter().find(|one| name(one).as_str() == wanted)?;
    // Plain structs into memory: there is no failing case.
    serde_json::to_vec(found).ok()
}
