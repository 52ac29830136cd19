//! Certificates: chains to read, keys to write only. A key is checked against its
//! chain, sealed, and never seen here again.

use axum::extract::State;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use tidegate_core::document::{Document, Name, SecretPem};
use tidegate_core::snapshot::Fingerprint;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Api;
use super::answer::{Committed, Items, Tagged, Written, tagged};
use super::auth::{Caller, Operator, Viewer};
use super::etag::{ETag, IfMatch, Precondition};
use super::extract::{Asked, Json, Place};
use super::pair::{self, Link, Pair};
use super::problem::{Kind, Problem};
use super::wait::{End, WriteQuery};
use super::{names, resource};
use crate::clock;
use crate::model::UploadedCertificate;
use crate::seal::{Kek, key_purpose};
use crate::store::NewCertificate;

/// A certificate in a list: its version in use.
#[derive(Serialize, ToSchema)]
pub(super) struct Certificate {
    name: String,
    /// SHA-256 of the chain as PEM: another chain is another version.
    #[schema(value_type = String)]
    fingerprint: Fingerprint,
    dns_names: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    not_before: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    uploaded_at: OffsetDateTime,
    uploaded_by: String,
    /// Listeners that name it.
    used_by: Vec<String>,
    /// Agents that were ever sent the key of this version; revoked ones too.
    held_by: Vec<Uuid>,
    /// PEM, leaf first; only of one certificate, not in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    chain: Option<String>,
    /// What the chain says, leaf first; only of one certificate, not in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<Link>>,
}

/// What came of an upload, or would.
#[derive(Serialize, ToSchema)]
pub(super) struct UploadCommit {
    #[serde(flatten)]
    commit: Committed,
    uploaded: Uploaded,
}

/// What was in an upload.
#[derive(Serialize, ToSchema)]
pub(super) struct Uploaded {
    dns_names: Vec<String>,
    #[serde(with = "time::serde::rfc3339")]
    not_before: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    not_after: OffsetDateTime,
    /// Leaf first.
    links: Vec<Link>,
}

/// A certificate to upload.
#[derive(Deserialize, ToSchema)]
#[serde(
    deny_unknown_fields,
    expecting = "a mapping with chain and private_key, both PEM"
)]
pub(super) struct Upload {
    /// PEM, leaf first, then the authorities between.
    chain: String,
    /// PEM (PKCS#8, PKCS#1 or SEC1), not encrypted. It is never answered.
    #[schema(value_type = String, write_only)]
    private_key: SecretPem,
}

/// All certificates.
#[utoipa::path(
    get,
    path = "/certificates",
    tag = "certificates",
    responses((status = 200, description = "By name", body = Items<Certificate>))
)]
pub(super) async fn list_certificates(
    _: Caller<Viewer>,
    State(api): State<Api>,
) -> Result<Tagged, Problem> {
    let certificates = all(&api).await?;
    Tagged::list(
        certificates
            .into_iter()
            .map(|(certificate, _)| Certificate {
                chain: None,
                links: None,
                ..certificate
            }),
    )
}

/// One certificate, with its chain. The ETag stands for the version in use.
#[utoipa::path(
    get,
    path = "/certificates/{name}",
    tag = "certificates",
    params(("name" = String, Path)),
    responses((status = 200, description = "Never its key", body = Certificate))
)]
pub(super) async fn read_certificate(
    _: Caller<Viewer>,
    State(api): State<Api>,
    Place(name): Place<String>,
) -> Result<Tagged, Problem> {
    let mut certificates = all(&api).await?;
    let found = certificates.iter().position(|(one, _)| one.name == name);
    let Some(found) = found else {
        let there = certificates.iter().map(|(one, _)| one.name.as_str());
        return Err(missing(&name, there));
    };
    let (certificate, tag) = certificates.swap_remove(found);
    Tagged::with(&certificate, tag)
}

/// Uploads a certificate, or a newer version of one.
#[utoipa::path(
    put,
    path = "/certificates/{name}",
    tag = "certificates",
    params(("name" = String, Path), WriteQuery, Precondition),
    request_body = Upload,
    responses((
        status = 200,
        description = "The revision stays, the change is new; `warnings` where it is expired",
        body = UploadCommit
    ))
)]
pub(super) async fn put_certificate(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(name): Place<String>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
    Json(upload): Json<Upload>,
) -> Result<Response, Problem> {
    let end = query.end()?;
    let pair = Pair::read(&upload.chain, upload.private_key.reveal());
    let pair = pair.map_err(Problem::mistakes)?;
    let (new, warnings) = (sealed(&name, &pair, &api.kek)?, pair.warnings(clock::now()));
    let mut writing = api.store.write(&caller.author).await?;
    let before = writing.certificate_in_use(&name).await?;
    if_match.check(before.map(tag_of).as_ref())?;
    writing.upload_certificate(&new).await?;
    let after = match end {
        End::DryRun => before,
        End::Commit(_) => writing.certificate_in_use(&name).await?,
    };
    let commit = resource::end(writing, end, None).await?;
    let mut written = Written::new(commit, after.map(tag_of));
    written.warnings = warnings;
    let tag = written.tag.take();
    let body = UploadCommit {
        commit: written.committed(&api.store, end.patience()).await?,
        uploaded: Uploaded {
            dns_names: pair.dns_names,
            not_before: pair.not_before,
            not_after: pair.not_after,
            links: pair.links,
        },
    };
    Ok(tagged(body, tag))
}

/// Deletes a certificate, all its versions.
#[utoipa::path(
    delete,
    path = "/certificates/{name}",
    tag = "certificates",
    params(("name" = String, Path), WriteQuery, Precondition),
    responses(
        (status = 200, description = "It is gone", body = Committed),
        (status = 409, description = "The document names it", content_type = "application/problem+json")
    )
)]
pub(super) async fn delete_certificate(
    caller: Caller<Operator>,
    State(api): State<Api>,
    Place(name): Place<String>,
    Asked(query): Asked<WriteQuery>,
    if_match: IfMatch,
) -> Result<Response, Problem> {
    let end = query.end()?;
    let mut writing = api.store.write(&caller.author).await?;
    let uploaded = writing.uploaded().await?;
    let Some(known) = uploaded.iter().find(|one| one.as_str() == name) else {
        return Err(missing(&name, uploaded.iter().map(Name::as_str)));
    };
    let before = writing.certificate_in_use(&name).await?;
    if_match.check(before.map(tag_of).as_ref())?;
    is_free(writing.document(), known)?;
    writing.delete_certificate(known).await?;
    let commit = resource::end(writing, end, None).await?;
    let is_there = before.filter(|_| end == End::DryRun);
    let written = Written::new(commit, is_there.map(tag_of));
    written.answer(&api.store, end.patience()).await
}

/// Every certificate with its tag, by name.
async fn all(api: &Api) -> Result<Vec<(Certificate, ETag)>, Problem> {
    let stored = api.store.certificates().await?;
    let holders = api.store.key_holders().await?;
    let (_, document) = api.store.document().await?;
    let shown = |stored: UploadedCertificate| {
        let held = holders.iter().filter(|(key, _)| *key == stored.fingerprint);
        let tag = tag_of((stored.fingerprint, stored.uploaded_at));
        let certificate = Certificate {
            used_by: used_by(&document, &stored.name),
            held_by: held.map(|(_, agent)| *agent).collect(),
            name: stored.name,
            fingerprint: stored.fingerprint,
            dns_names: stored.dns_names,
            not_before: stored.not_before,
            not_after: stored.not_after,
            uploaded_at: stored.uploaded_at,
            uploaded_by: stored.uploaded_by,
            links: Some(pair::links(&stored.chain)),
            chain: Some(stored.chain),
        };
        (certificate, tag)
    };
    Ok(stored.into_iter().map(shown).collect())
}

/// The tag of a version.
fn tag_of((chain, uploaded_at): (Fingerprint, OffsetDateTime)) -> ETag {
    ETag::of(&(chain, uploaded_at.unix_timestamp_nanos().to_string()))
}

/// The listeners that name a certificate.
fn used_by(document: &Document, name: &str) -> Vec<String> {
    let listeners = document.listeners.iter();
    let using = listeners.filter(|listener| {
        let mut names = listener.tls.iter().flat_map(|tls| &tls.certificates);
        names.any(|one| one.as_str() == name)
    });
    using.map(|listener| listener.name.to_string()).collect()
}

fn is_free(document: &Document, name: &Name) -> Result<(), Problem> {
    if !document.certificate_names().contains(name) {
        return Ok(());
    }
    let listeners = used_by(document, name.as_str());
    let by = match listeners.as_slice() {
        [] => "the document's certificates name it".to_owned(),
        listeners => format!("listeners name it: {}", listeners.join(", ")),
    };
    Err(Problem::new(
        Kind::Conflict,
        format!("{name} is in use, {by}: take it out there first"),
    ))
}

fn missing<'a>(name: &str, there: impl IntoIterator<Item = &'a str>) -> Problem {
    let there = names::there_is(name, there);
    Problem::not_found(format!("no certificate is named {name}; {there}"))
}

fn sealed(name: &str, pair: &Pair, kek: &Kek) -> Result<NewCertificate, Problem> {
    let name: Name = name
        .parse()
        .map_err(|why| Problem::malformed(format!("the path: {why}")))?;
    let purpose = key_purpose(Fingerprint::of(pair.chain.as_bytes()));
    let key_sealed = kek.seal(&purpose, pair.key.as_bytes());
    Ok(NewCertificate {
        name,
        chain: pair.chain.clone(),
        key_sealed: key_sealed.map_err(Problem::internal)?,
        dns_names: pair.dns_names.clone(),
        not_before: pair.not_before,
        not_after: pair.not_after,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tidegate_core::document::Role;

    use super::super::pair::tests::certificate;
    use super::super::testing::{Fixture, delete, get, put};
    use super::*;
    use crate::model::AgentId;

    fn upload((chain, key): &(String, String)) -> Value {
        json!({ "chain": chain, "private_key": key })
    }

    const USING: &str = "
listeners: [{ name: tls, role: terminator, bind: ':1', pool: p, tls: { certificates: [play] } }]
pools: [{ name: p, backends: [{ address: ':2' }] }]
";

    #[tokio::test]
    async fn a_certificate_is_uploaded_replaced_and_deleted() {
        let api = Fixture::new().await;
        let (first, second) = (
            certificate("play.example.com"),
            certificate("new.example.com"),
        );
        let put_play = |pair| put("/certificates/play").json(upload(pair));
        let done = api.ask(put_play(&first)).await;
        let commit = done.ok();
        assert_eq!(
            (&commit["change"], &commit["revision"]),
            (&json!(1), &json!(0))
        );
        assert_eq!(commit.get("warnings"), None);
        let read = api.ask(get("/certificates/play")).await;
        assert_eq!(read.tag(), done.tag());
        assert_eq!(read.json()["chain"], first.0);
        assert_eq!(read.json()["dns_names"], json!(["play.example.com"]));
        assert_eq!(
            read.json()["fingerprint"],
            Fingerprint::of(first.0.as_bytes()).to_string()
        );

        assert_eq!(api.ask(put_play(&first)).await.ok()["changed"], false);
        let stale = put_play(&second).if_match("\"x\"");
        assert_eq!(api.ask(stale).await.problem(), "stale");
        let newer = put_play(&second).if_match(&read.tag());
        assert_eq!(api.ask(newer).await.ok()["changed"], true);
        // The first one again is a newer version, too.
        assert_eq!(api.ask(put_play(&first)).await.ok()["changed"], true);
        assert_eq!(api.get("/certificates/play").await["chain"], first.0);
        let list = api.get("/certificates").await;
        assert_eq!(list["items"].as_array().unwrap().len(), 1);
        assert_eq!(list["items"][0].get("chain"), None);

        let gone = api
            .ask(delete("/certificates/play").if_match(&read.tag()))
            .await;
        assert_eq!(gone.problem(), "stale");
        assert_eq!(
            api.ask(delete("/certificates/play")).await.ok()["changed"],
            true
        );
        assert_eq!(
            api.ask(get("/certificates/play")).await.problem(),
            "not-found"
        );
        assert_eq!(
            api.ask(delete("/certificates/play")).await.problem(),
            "not-found"
        );
    }

    #[tokio::test]
    async fn a_dry_run_tells_what_is_in_an_upload_and_keeps_nothing() {
        let api = Fixture::new().await;
        let (first, second) = (
            certificate("one.example.com"),
            certificate("two.example.com"),
        );
        let path = "/certificates/play";
        let kept = api.ask(put(path).json(upload(&first))).await;
        assert_eq!(
            kept.ok()["uploaded"]["dns_names"],
            json!(["one.example.com"])
        );

        let shown = put("/certificates/play?dry_run=true").json(upload(&second));
        let shown = api.ask(shown).await;
        assert_eq!(shown.ok()["changed"], true);
        assert_eq!(
            shown.json()["uploaded"]["dns_names"],
            json!(["two.example.com"])
        );
        let link = &shown.json()["uploaded"]["links"][0];
        assert_eq!(link["key"], "ECDSA 256");
        assert_eq!(link["subject"], link["issuer"], "it is self-signed");
        assert!(link["serial"].as_str().unwrap().contains(':'));
        assert_eq!(shown.tag(), kept.tag());
        let read = api.ask(get(path)).await;
        assert_eq!(
            (read.json()["chain"].clone(), read.tag()),
            (json!(first.0), kept.tag())
        );
        assert_eq!(read.json()["links"].as_array().unwrap().len(), 1);

        let gone = api.ask(delete("/certificates/play?dry_run=true")).await;
        assert_eq!(gone.ok()["changed"], true);
        let meant = delete(path).if_match(&gone.tag());
        assert_eq!(api.ask(meant).await.status, 200);
    }

    #[tokio::test]
    async fn what_cannot_be_served_is_refused_with_its_place() {
        let api = Fixture::new().await;
        let (one, other) = (certificate("a"), certificate("b"));
        let mixed = (one.0.clone(), other.1);
        let rows = [
            (
                upload(&("x".into(), "y".into())),
                vec!["/chain", "/private_key"],
            ),
            (upload(&mixed), vec!["/private_key"]),
            (
                json!({ "chain": 3, "private_key": one.1, "key": 1 }),
                vec!["/chain", "/key"],
            ),
            (json!({ "chain": one.0 }), vec![""]),
        ];
        for (body, expected) in rows {
            let answer = api.ask(put("/certificates/play").json(body)).await;
            let mut found = answer.pointers();
            found.sort();
            assert_eq!(found, expected);
        }
        let answer = api.ask(put("/certificates/Play").json(upload(&one))).await;
        assert_eq!(answer.problem(), "malformed");
        assert_eq!(api.get("/certificates").await, json!({ "items": [] }));
    }

    #[tokio::test]
    async fn an_expired_one_is_taken_with_a_warning() {
        let api = Fixture::new().await;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["old.example.com".to_owned()]).unwrap();
        params.not_after = clock::now() - time::Duration::DAY;
        let chain = params.self_signed(&key).unwrap().pem();
        let done = api
            .ask(put("/certificates/old").json(upload(&(chain, key.serialize_pem()))))
            .await;
        let warning = done.ok()["warnings"][0].as_str().unwrap().to_owned();
        assert!(warning.contains("expired"), "{warning}");
        assert_eq!(done.ok()["changed"], true);
    }

    #[tokio::test]
    async fn one_in_use_is_not_deleted() {
        let api = Fixture::new().await;
        let pair = certificate("play.example.com");
        api.ask(put("/certificates/play").json(upload(&pair)))
            .await
            .ok();
        api.apply(USING).await;
        let refused = api.ask(delete("/certificates/play")).await;
        assert_eq!(refused.problem(), "conflict");
        assert!(refused.json()["detail"].as_str().unwrap().contains("tls"));
        // Another name may have the same chain, and go without touching this one.
        let other = "/certificates/other";
        api.ask(put(other).json(upload(&pair))).await.ok();
        assert_eq!(api.ask(delete(other)).await.ok()["changed"], true);
        assert_eq!(
            api.get("/certificates/play").await["used_by"],
            json!(["tls"])
        );
    }

    #[tokio::test]
    async fn who_was_sent_the_key_is_told_and_the_key_opens_for_the_link() {
        let api = Fixture::new().await;
        let pair = certificate("play.example.com");
        api.ask(put("/certificates/play").json(upload(&pair)))
            .await
            .ok();
        let agent = api.agent(1, &[Role::Terminator], &[]).await;
        let fingerprint = Fingerprint::of(pair.0.as_bytes());
        let sealed = api
            .store
            .sealed_keys(AgentId(agent), &[fingerprint])
            .await
            .unwrap();
        let opened = api
            .kek
            .open(&key_purpose(fingerprint), &sealed[0].1)
            .unwrap();
        assert_eq!(opened.as_slice(), pair.1.as_bytes());

        api.store
            .delivering_keys(AgentId(agent), &[fingerprint])
            .await
            .unwrap();
        assert_eq!(
            api.get("/certificates/play").await["held_by"],
            json!([agent])
        );
        let held = &api.get(&format!("/agents/{agent}")).await["certificates_held"][0];
        assert_eq!(held["name"], "play");
        assert_eq!(held["fingerprint"], fingerprint.to_string());
    }
}
