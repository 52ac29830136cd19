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
use super::wait::End;
use crate::model::{Author, Commit};
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
    end: End,
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
    let commit = self::end(writing, end, place).await?;
    let is_there = commit.changed && end != End::DryRun;
    Ok(Written::new(commit, if is_there { after } else { before }))
}

/// Takes one out.
pub(super) async fn delete(
    store: &Store,
    author: &Author,
    kind: Kind,
    name: &str,
    if_match: &IfMatch,
    end: End,
) -> Result<Written, Problem> {
    let mut writing = store.write(author).await?;
    let tree = whole(writing.document())?;
    let Some(rest) = tree::take(tree, kind.key(), name) else {
        return Err(kind.missing(writing.document(), name));
    };
    let before = kind.tag(writing.document(), name);
    if_match.check(before.as_ref())?;
    let document = in_fleet(&mut writing, rest, None).await?;
    writing.set_document(document, "delete", &format!("{}/{name}", kind.key()));
    let commit = self::end(writing, end, None).await?;
    Ok(Written::new(commit, before.filter(|_| end == End::DryRun)))
}

/// Ends a write, or says what it would change; mistakes as the sender of the resource
/// at `place` sees them.
pub(super) async fn end(
    writing: Writing,
    end: End,
    place: Option<&str>,
) -> Result<Commit, Problem> {
    let commit = match end {
        End::DryRun => writing.dry_run().await,
        End::Commit(_) => writing.commit().await,
    };
    commit.map_err(|error| refused(error, place))
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
fn refused(error: WriteError, place: Option<&str>) -> Problem {
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidegate_core::document::Role;

    use super::super::testing::{Fixture, delete, get, post, put};

    const DOCUMENT: &str = "
listeners:
- { name: edge, role: balancer, bind: ':443', pool: game, policy: open }
pools:
- { name: chat, backends: [{ address: '10.0.0.1:1' }] }
- { name: game, backends: [{ address: '10.0.0.1:2' }] }
policies:
- { name: open }
";

    #[tokio::test]
    async fn each_kind_is_read_written_and_deleted_by_name() {
        let api = Fixture::new().await;
        api.apply(DOCUMENT).await;
        let rows = [
            (
                "listeners",
                "edge",
                json!({ "role": "balancer", "bind": ":8443", "pool": "chat" }),
            ),
            (
                "pools",
                "new",
                json!({ "name": "new", "backends": [{ "address": ":5" }] }),
            ),
            ("policies", "open", json!({ "deny": ["192.0.2.0/24"] })),
        ];
        for (kind, name, body) in rows {
            let path = format!("/{kind}/{name}");
            let written = api.ask(put(&path).json(body.clone())).await;
            assert_eq!(written.ok()["diff"][0]["kind"], kind);
            let read = api.ask(get(&path)).await;
            assert_eq!(read.tag(), written.tag());
            for (field, value) in body.as_object().unwrap() {
                if field != "backends" {
                    assert_eq!(&read.json()[field], value, "{kind} {field}");
                }
            }
            let list = api.get(&format!("/{kind}")).await;
            assert!(list["items"].as_array().unwrap().contains(&read.json()));
        }
        for path in ["/listeners/edge", "/policies/open", "/pools/new"] {
            let gone = api.ask(delete(path)).await;
            assert_eq!(gone.ok()["diff"][0]["change"], "removed");
            assert_eq!(api.ask(get(path)).await.problem(), "not-found");
            assert_eq!(api.ask(delete(path)).await.problem(), "not-found");
        }
        let config = api.get("/config").await;
        assert_eq!(config["pools"].as_array().unwrap().len(), 2);
    }

    #[tokio::test]
    async fn mistakes_lead_into_what_was_sent_or_into_the_document() {
        let api = Fixture::new().await;
        api.agent(1, &[Role::Balancer], &[]).await;
        api.apply(DOCUMENT).await;
        let balancer = json!({ "role": "balancer", "bind": ":443", "pool": "game" });
        let rows = [
            (
                put("/pools/game")
                    .json(json!({ "balance": "best", "backends": [{ "address": "x" }] })),
                vec!["/backends/0/address", "/balance"],
            ),
            (
                put("/pools/game").json(json!({ "name": "gmae", "backends": [] })),
                vec!["/name"],
            ),
            (put("/pools/game").json(json!([])), vec![""]),
            (
                put("/pools/Game").json(json!({ "backends": [{ "address": ":1" }] })),
                vec!["/name"],
            ),
            (
                put("/pools/game").json(json!({ "discover": { "listener": "edge" } })),
                vec!["/discover/listener"],
            ),
            (
                put("/listeners/new").json(
                    json!({ "role": "balancer", "bind": ":1", "pool": "gone", "policy": "gone" }),
                ),
                vec!["/policy", "/pool"],
            ),
            // Two listeners of one agent on one port: found by planning.
            (put("/listeners/new").json(balancer), vec!["/bind"]),
            (delete("/pools/game"), vec!["/config/listeners/0/pool"]),
            (delete("/policies/open"), vec!["/config/listeners/0/policy"]),
        ];
        for (row, (asked, expected)) in rows.into_iter().enumerate() {
            let answer = api.ask(asked).await;
            assert_eq!(answer.pointers(), expected, "row {row}: {}", answer.json());
        }
        let tls = json!({ "role": "terminator", "bind": ":2", "pool": "game", "client_ip": "proxy_v2",
            "tls": { "certificates": ["c"] } });
        let answer = api.ask(put("/listeners/tls").json(tls)).await;
        // It announces the client otherwise than `edge` does, to the same pool.
        assert_eq!(
            answer.pointers(),
            ["/tls/certificates/0", "/config/pools/1"]
        );
        assert_eq!(
            api.get("/revisions").await["items"]
                .as_array()
                .unwrap()
                .len(),
            1
        );
    }

    #[tokio::test]
    async fn of_two_that_write_what_they_saw_one_is_refused() {
        let api = Fixture::new().await;
        api.apply(DOCUMENT).await;
        let seen = api.ask(get("/pools/game")).await.tag();
        let write = |port: u16| {
            let body = json!({ "backends": [{ "address": format!(":{port}") }] });
            put("/pools/game").json(body).if_match(&seen)
        };
        let (one, other) = tokio::join!(api.ask(write(1)), api.ask(write(2)));
        let mut kinds = [one.status.as_u16(), other.status.as_u16()];
        kinds.sort_unstable();
        assert_eq!(kinds, [200, 412]);
        let (done, refused) = if one.status == 200 {
            (one, other)
        } else {
            (other, one)
        };
        assert_eq!(
            (refused.problem(), refused.tag()),
            ("stale".into(), done.tag())
        );

        assert_eq!(
            api.ask(delete("/pools/game").if_match(&seen))
                .await
                .problem(),
            "stale"
        );
        // Another resource was not touched: what was seen of it still holds.
        let chat = api.ask(get("/pools/chat")).await.tag();
        assert_eq!(
            api.ask(delete("/pools/chat").if_match(&chat)).await.status,
            200
        );
    }

    #[tokio::test]
    async fn what_is_not_there_names_what_is_most_alike() {
        let api = Fixture::new().await;
        api.apply(DOCUMENT).await;
        let answer = api.ask(get("/pools/gmae")).await;
        assert_eq!(
            answer.json()["detail"],
            "no pool is named gmae; there is game, chat"
        );
    }

    #[tokio::test]
    async fn the_same_again_takes_no_number() {
        let api = Fixture::new().await;
        api.apply(DOCUMENT).await;
        let read = api.ask(get("/pools/game")).await;
        let again = api.ask(put("/pools/game").json(read.json())).await;
        assert_eq!(again.tag(), read.tag());
        assert_eq!(again.ok()["changed"], false);
        assert_eq!(api.get("/config").await, api.get("/config").await);
        assert_eq!(api.get("/status").await["change"], 1);
    }

    #[tokio::test]
    async fn a_dry_run_says_what_would_change_and_changes_nothing() {
        let api = Fixture::new().await;
        api.apply(DOCUMENT).await;
        let before = api.get("/config").await;
        let backend = json!({ "address": "10.0.0.1:9" });
        for (ask, change) in [
            (
                put("/policies/open?dry_run=true").json(json!({ "deny": ["192.0.2.0/24"] })),
                "changed",
            ),
            (
                put("/pools/new?dry_run=true").json(json!({ "backends": [backend] })),
                "added",
            ),
            (
                put("/pools/game/backends/b?dry_run=true").json(backend.clone()),
                "changed",
            ),
            (delete("/pools/chat?dry_run=true"), "removed"),
            (post("/revisions/1/rollback?dry_run=true"), ""),
        ] {
            let answer = api.ask(ask).await;
            let diff = answer.ok()["diff"].clone();
            if change.is_empty() {
                assert_eq!(diff, json!([]));
            } else {
                assert_eq!(diff[0]["change"], change);
            }
        }
        assert_eq!(api.get("/config").await, before);

        let shown = put("/policies/open?dry_run=true").json(json!({ "deny": ["192.0.2.0/24"] }));
        let tag = api.ask(shown).await.tag();
        let meant = put("/policies/open").json(json!({ "deny": ["192.0.2.0/24"] }));
        assert_eq!(api.ask(meant.if_match(&tag)).await.status, 200);
        let wrong = put("/policies/open?dry_run=true").json(json!({ "deny": ["x"] }));
        assert_eq!(api.ask(wrong).await.pointers(), ["/deny/0"]);
        let last = api
            .ask(delete("/pools/game/backends/10.0.0.1:2?dry_run=true"))
            .await;
        assert_eq!(last.problem(), "invalid-document");
    }
}
