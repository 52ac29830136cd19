//! A private key goes to the terminators that need it and nowhere else: not to a
//! balancer, an answer, a log, a page, a dump, or a disk in the clear.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tidegate_local::postgres::Binaries;
use tidegate_tests::stage::HOST;
use tidegate_tests::steered::Plan;
use tidegate_tests::wire::Link;
use tidegate_tests::{Steered, within};
use tokio::task::JoinHandle;

#[tokio::test]
async fn a_balancer_never_receives_a_key_and_a_terminator_does() {
    let fleet = Steered::start().await;
    let key = Needles::of(&fleet.stage.certificate.private_key);
    let (link, snapshot) = follow(&fleet, "balancer", json!({ "tier": "edge" }), 40).await;
    assert!(link.received_bytes() > 0);
    assert!(!key.any(|needle| link.has_received(needle)));
    assert_eq!(key.found_in(&snapshot), None);

    // The same eyes do see it where it belongs.
    let (link, snapshot) = follow(&fleet, "terminator", json!({ "app": "game" }), 41).await;
    assert!(key.any(|needle| link.has_received(needle)));
    assert_eq!(key.found_in(&snapshot), None, "keys travel apart");

    // A terminator that no listener with this certificate is for.
    let (link, _) = follow(&fleet, "terminator", json!({ "app": "other" }), 42).await;
    assert!(!key.any(|needle| link.has_received(needle)));
}

#[tokio::test]
async fn an_open_stream_brings_a_balancer_no_key_however_things_change() {
    let mut fleet = Steered::start().await;
    let first = Needles::of(&fleet.stage.certificate.private_key);
    let balancer = Following::start(&fleet, "balancer", json!({ "tier": "edge" }), 40).await;
    let terminator = Following::start(&fleet, "terminator", json!({ "app": "game" }), 41).await;

    let new = fleet.stage.pki.issue(&[HOST]);
    let second = Needles::of(&new.private_key);
    fleet.control_plane.rest.upload(HOST, &new).await;
    let commit = fleet
        .apply(|document| document["policies"][0]["deny"] = json!(["203.0.113.9"]))
        .await;

    // Both run what was sent to them on the stream they had.
    let applied = commit["applied"]["applied"].as_array().unwrap();
    for (name, following) in [("balancer", &balancer), ("terminator", &terminator)] {
        assert!(applied.contains(&json!(following.id)), "{name}: {commit:#}");
    }
    assert!(second.any(|needle| terminator.link.has_received(needle)));
    for key in [first, second] {
        assert!(!key.any(|needle| balancer.link.has_received(needle)));
    }
}

#[tokio::test]
async fn no_answer_log_page_dump_or_disk_has_a_key_or_a_token() {
    let fleet = Plan::default().variable("RUST_LOG", "trace").start().await;
    let rest = &fleet.control_plane.rest;
    let new = fleet.stage.pki.issue(&[HOST]);
    rest.upload(HOST, &new).await;
    fleet.whoami(0).await;
    // Open while agents are asked for their connections.
    let mut ws = fleet.stage.client(0).ws(fleet.edge(), HOST).await.unwrap();
    let joined = fs::read_to_string(fleet.stage.path(&format!("join-{}", fleet.stage.net.ip(1))));
    let secrets = [
        (
            "the first key",
            Needles::of(&fleet.stage.certificate.private_key),
        ),
        ("the second key", Needles::of(&new.private_key)),
        (
            "the admin's token",
            Needles::token(fleet.control_plane.token()),
        ),
        ("a join token", Needles::token(&joined.unwrap())),
    ];
    let mut places = Vec::new();
    for path in everything_to_get(&fleet).await {
        places.push((
            format!("GET {path}"),
            rest.get(&path).await.to_string().into_bytes(),
        ));
    }
    places.push((
        "the log of the control plane".to_owned(),
        fleet.control_plane.log_text().into(),
    ));
    for (index, agent) in fleet.agents().enumerate() {
        places.push((format!("the log of agent {index}"), agent.log_text().into()));
        for page in [
            "/debug/snapshot",
            "/debug/connections",
            "/debug/backends",
            "/debug/clients",
            "/metrics",
        ] {
            let page_text = agent.admin(page).await.text();
            places.push((format!("{page} of agent {index}"), page_text.into()));
        }
    }
    places.push(("a dump".to_owned(), dump(&fleet)));
    for host in [1, 2, 3] {
        for file in files(&fleet.state_of(fleet.stage.net.ip(host))) {
            places.push((file.display().to_string(), fs::read(&file).unwrap()));
        }
    }
    for (name, place) in &places {
        for (secret, needles) in &secrets {
            assert_eq!(needles.found_in(place), None, "{secret} is in {name}");
        }
    }
    assert!(ws.is_open().await);
    // It was looked for in what is really there.
    let log = fleet.control_plane.log_text();
    assert!(
        log.contains("\"level\":\"TRACE\""),
        "the log is at trace level"
    );
    assert!(places.iter().any(|(name, _)| name.contains("cache")));
}

/// Joins by hand and runs whatever it is told; all that came, and the snapshot.
async fn follow(fleet: &Steered, role: &str, labels: Value, host: u8) -> (Link, Vec<u8>) {
    let (_, mut session, link) = fleet.joined_by_hand(role, labels, host).await;
    let (_, snapshot) = within("a snapshot", session.applies()).await.unwrap();
    (link, snapshot)
}

/// Joined by hand, and runs all it is told until it is dropped.
struct Following {
    id: String,
    link: Link,
    task: JoinHandle<()>,
}

impl Following {
    async fn start(fleet: &Steered, role: &str, labels: Value, host: u8) -> Self {
        let (id, mut session, link) = fleet.joined_by_hand(role, labels, host).await;
        within("a snapshot", session.applies()).await.unwrap();
        let task = tokio::spawn(async move { while session.applies().await.is_ok() {} });
        Self { id, link, task }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Everything that can be read, each thing in the singular too.
async fn everything_to_get(fleet: &Steered) -> Vec<String> {
    let mut paths: Vec<String> = [
        "/config",
        "/listeners",
        "/pools",
        "/policies",
        "/certificates",
        "/agents",
        "/revisions",
        "/join-tokens",
        "/api-tokens",
        "/status",
        "/audit",
        "/ip-stats/top?by=connections&window=1h",
        "/pools/game-node/backends",
        "/pools/game-tls/backends",
        "/openapi.json",
    ]
    .map(str::to_owned)
    .into();
    for (list, key) in [
        ("/listeners", "name"),
        ("/pools", "name"),
        ("/policies", "name"),
        ("/certificates", "name"),
        ("/agents", "id"),
        ("/revisions", "number"),
    ] {
        let items = fleet.control_plane.rest.get(list).await;
        for item in items["items"].as_array().unwrap() {
            let id = item[key]
                .as_str()
                .map_or(item[key].to_string(), str::to_owned);
            paths.push(format!("{list}/{id}"));
            if list == "/revisions" {
                paths.push(format!("{list}/{id}/diff"));
            }
        }
    }
    for backend in [":3000", ":3001"] {
        let path = format!("/pools/game-node/backends/{backend}");
        paths.extend([format!("{path}/state"), path]);
    }
    paths.push(format!("/ip-stats/{}", fleet.stage.net.client(0)));
    paths
}

fn dump(fleet: &Steered) -> Vec<u8> {
    let program = Binaries::find().unwrap().program("pg_dump");
    let database = fleet.database.as_ref().unwrap();
    let output = Command::new(program).arg(database.url()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(output.stdout.len() > 10_000, "a dump has everything");
    output.stdout
}

fn files(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.insert(entry.path());
        }
    }
    found
}

/// A secret in the forms in which it could be found.
struct Needles(Vec<Vec<u8>>);

impl Needles {
    fn of(key: &str) -> Self {
        let der = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let der = der.secret_der();
        // The scalar of a P-256 key stands in the middle of its PKCS#8 form.
        let middle = &der[der.len() / 4..der.len() / 4 + 24];
        let hex: String = middle.iter().map(|byte| format!("{byte:02x}")).collect();
        let listed = format!("{middle:?}");
        let listed = listed.trim_matches(['[', ']']).to_owned();
        let mut needles = vec![middle.to_vec(), hex.into(), listed.into()];
        let lines = key.lines().filter(|line| !line.starts_with("-----"));
        needles.extend(
            lines
                .filter(|line| line.len() > 24)
                .map(|line| line.as_bytes().to_vec()),
        );
        Self(needles)
    }

    /// Its secret part alone: the rest may be shown.
    fn token(token: &str) -> Self {
        let secret = token.trim().split('.').nth(2).unwrap();
        Self(vec![secret.as_bytes().to_vec()])
    }

    fn any(&self, found: impl Fn(&[u8]) -> bool) -> bool {
        self.0.iter().any(|needle| found(needle))
    }

    fn found_in(&self, place: &[u8]) -> Option<&[u8]> {
        let is_in =
            |needle: &&Vec<u8>| place.windows(needle.len()).any(|window| window == **needle);
        self.0.iter().find(is_in).map(Vec::as_slice)
    }
}
