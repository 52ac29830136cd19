//! A client that comes back resumes its TLS session, on whichever terminator, while
//! ticket keys rotate, while one terminator does not answer, and without the control
//! plane; and what a key can open ends with it.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use http::{Method, StatusCode};
use rustls::{HandshakeKind, SupportedProtocolVersion};
use serde_json::{Value, json};
use tidegate_local::postgres::Binaries;
use tidegate_proto::v1::control_message::Message as Down;
use tidegate_tests::agent::Start;
use tidegate_tests::client::Client;
use tidegate_tests::client::http::Http;
use tidegate_tests::metrics::Metrics;
use tidegate_tests::node::NodeApp;
use tidegate_tests::rest::Body;
use tidegate_tests::stage::{HOST, PORT};
use tidegate_tests::steered::{Plan, sees_up, write_secret};
use tidegate_tests::wire::{Link, Session};
use tidegate_tests::{Agent, Stage, Steered, until, within};
use tokio::io::AsyncWriteExt;

/// A listener without a PROXY header, so that clients reach each terminator directly.
const DIRECT: u16 = 9443;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

#[tokio::test]
async fn returning_clients_resume_on_any_of_three_terminators_while_keys_rotate() {
    let fleet = fleet(Plan::default(), "2s", "8s", 3).await;
    let clients: Vec<Returning> = (0..20).map(|i| Returning::new(&fleet.stage, i)).collect();
    for client in &clients {
        client.visits(at(&fleet, 0)).await;
    }
    let mut encrypting = BTreeSet::new();
    let (mut visits, mut resumed) = (0, 0);
    // Each visit is to another terminator than the one before.
    for round in 1_u32.. {
        for client in &clients {
            visits += 1;
            let kind = client
                .visits(at(&fleet, u8::try_from(round % 3).unwrap()))
                .await;
            resumed += usize::from(kind == HandshakeKind::Resumed);
        }
        encrypting.extend(ids(&keys(&fleet).await, "encrypting"));
        if encrypting.len() >= 5 {
            break;
        }
    }
    assert!(visits >= 300, "{visits} visits");
    assert!(
        resumed * 100 >= visits * 99,
        "{resumed} of {visits} resumed"
    );

    let mut previous = 0.0;
    let mut counted = 0.0;
    for agent in &fleet.terminators {
        let metrics = agent.metrics().await;
        previous += metrics.sum("tidegate_tickets_accepted_total", &[("key", "previous")]);
        counted += handshakes(&metrics, "resumed");
        assert!(metrics.sum("tidegate_tickets_issued_total", &[("listener", "direct")]) > 0.0);
        let labels: BTreeSet<&str> = metrics.label_values().collect();
        assert!(encrypting.iter().all(|id| !labels.contains(id.as_str())));
    }
    assert!(previous > 0.0, "tickets outlive the use of their key");
    assert_eq!(counted, f64::from(u32::try_from(resumed).unwrap()));
}

#[tokio::test]
async fn openssl_resumes_on_another_terminator() {
    let fleet = fleet(Plan::default(), "12h", "24h", 2).await;
    for version in ["-tls1_3", "-tls1_2"] {
        let session = fleet.stage.path(&format!("session{version}"));
        let first = s_client(&fleet.stage, at(&fleet, 0), version, "-sess_out", &session).await;
        assert!(first.contains("New, TLSv1."), "{first}");
        assert!(
            first.contains("TLS session ticket lifetime hint: 86400"),
            "{first}"
        );
        for index in [1, 0] {
            let to = at(&fleet, index);
            let again = s_client(&fleet.stage, to, version, "-sess_in", &session).await;
            assert!(again.contains("Reused, TLSv1."), "{version}: {again}");
            assert!(again.contains("200 OK"), "{again}");
        }
    }
}

#[tokio::test]
async fn a_terminator_that_does_not_answer_delays_a_key_and_is_overtaken() {
    // The patience is 10 minutes, or the rotation where that is shorter.
    let fleet = fleet(Plan::default(), "4s", "8s", 2).await;
    let client = Returning::new(&fleet.stage, 0);
    client.visits(at(&fleet, 0)).await;
    let (_silent, _link) = joined(&fleet, 40).await;
    fleet
        .control_plane
        .rest
        .post("/ticket-keys/rotate", &json!({}))
        .await;
    let waiting = keys(&fleet).await;
    let next = ids(&waiting, "next");
    until("the others hold it", async || {
        lacking(&keys(&fleet).await, &next) == Some(1)
    })
    .await;
    // Meanwhile tickets are made with the one before.
    assert_eq!(
        ids(&keys(&fleet).await, "encrypting"),
        ids(&waiting, "encrypting")
    );
    assert_eq!(client.visits(at(&fleet, 1)).await, HandshakeKind::Resumed);
    until("it is overtaken", async || {
        ids(&keys(&fleet).await, "encrypting") == next
    })
    .await;
    let overtaken = keys(&fleet).await;
    assert_eq!(
        lacking(&overtaken, &next),
        Some(1),
        "it still does not hold it"
    );
    let of = |key: &Value| ids(std::slice::from_ref(key), "encrypting") == next;
    let key = overtaken.iter().find(|key| of(key)).unwrap();
    let waited = time(key, "encrypting_at").duration_since(time(key, "made_at"));
    assert!(waited.unwrap() >= Duration::from_secs(4));
    assert_eq!(client.visits(at(&fleet, 0)).await, HandshakeKind::Resumed);
}

#[tokio::test]
async fn keys_outlive_the_control_plane_and_a_restarted_agent_gets_them_at_once() {
    let mut fleet = fleet(Plan::default(), "12h", "24h", 2).await;
    let client = Returning::new(&fleet.stage, 0);
    client.visits(at(&fleet, 0)).await;
    let before = keys(&fleet).await;
    fleet.control_plane.kill().await;
    // Agents go on with what they have.
    for index in [1, 0] {
        assert_eq!(
            client.visits(at(&fleet, index)).await,
            HandshakeKind::Resumed
        );
    }
    // One that starts meanwhile has no keys: it serves, and makes no ticket.
    let address = fleet.stage.net.terminator(0);
    fleet.terminators[0].kill().await;
    fleet.terminators[0] = fleet.again(address).serve().await;
    assert_eq!(held(&fleet.terminators[0]).await, BTreeSet::new());
    let stranger = Returning::new(&fleet.stage, 1);
    for _ in 0..2 {
        let kind = stranger.visits(at(&fleet, 0)).await;
        assert_ne!(kind, HandshakeKind::Resumed);
    }
    fleet.control_plane.restart().await;
    let wanted = ids(&before, "encrypting");
    until("the keys are there again", async || {
        held(&fleet.terminators[0]).await == wanted
    })
    .await;
    assert_eq!(ids(&keys(&fleet).await, "encrypting"), wanted);
    assert_eq!(client.visits(at(&fleet, 0)).await, HandshakeKind::Resumed);
}

#[tokio::test]
async fn terminators_of_two_control_planes_share_their_keys() {
    let mut fleet = fleet(Plan::default(), "12h", "24h", 2).await;
    let _other = fleet.another_control_plane().await;
    let address = fleet.stage.net.terminator(1);
    fleet.terminators[1].kill().await;
    let start = Start::run(&[fleet.other_link()], address, &fleet.state_of(address));
    fleet.terminators[1] = start.serve().await;
    let before = ids(&keys(&fleet).await, "encrypting");
    let rest = &fleet.control_plane.rest;
    rest.post("/ticket-keys/rotate", &json!({})).await;
    until("both use the new one", async || {
        let now = ids(&keys(&fleet).await, "encrypting");
        now.is_disjoint(&before)
            && now == used(&fleet.terminators[0]).await
            && now == used(&fleet.terminators[1]).await
    })
    .await;
    for number in 0..2 {
        let client = Returning::new(&fleet.stage, number);
        client.visits(at(&fleet, 0)).await;
        for index in [1, 0] {
            let kind = client.visits(at(&fleet, index)).await;
            assert_eq!(kind, HandshakeKind::Resumed);
        }
    }
}

#[tokio::test]
async fn dropping_all_keys_ends_every_session_everywhere_and_new_ones_resume() {
    let fleet = fleet(Plan::default(), "12h", "24h", 2).await;
    let client = Returning::new(&fleet.stage, 0);
    client.visits(at(&fleet, 0)).await;
    let old = ids(&keys(&fleet).await, "encrypting");
    let path = "/ticket-keys/rotate?listener=direct&drop_old=true";
    let rotated = fleet.control_plane.rest.post(path, &json!({})).await;
    assert_eq!(rotated["listeners"], json!(["direct"]));
    until("a new key is in use", async || {
        let now = ids(&keys(&fleet).await, "encrypting");
        let all = [
            used(&fleet.terminators[0]).await,
            used(&fleet.terminators[1]).await,
        ];
        !now.is_empty() && all.iter().all(|used| *used == now)
    })
    .await;
    assert!(ids(&keys(&fleet).await, "encrypting").is_disjoint(&old));
    assert_ne!(client.visits(at(&fleet, 1)).await, HandshakeKind::Resumed);
    assert_eq!(client.visits(at(&fleet, 0)).await, HandshakeKind::Resumed);
    let metrics = fleet.terminators[1].metrics().await;
    let why = [("listener", "direct"), ("reason", "unknown_key")];
    assert_eq!(metrics.sum("tidegate_tickets_refused_total", &why), 1.0);
}

#[tokio::test]
async fn a_revoked_agent_has_no_keys_and_a_removed_listeners_keys_are_gone() {
    let mut fleet = fleet(Plan::default(), "12h", "24h", 2).await;
    let id = fleet
        .control_plane
        .rest
        .agent_at(fleet.stage.net.terminator(1))
        .await;
    let id = id["id"].as_str().unwrap().to_owned();
    assert!(!held(&fleet.terminators[1]).await.is_empty());
    let revoke = format!("/agents/{id}/revoke");
    fleet.control_plane.rest.post(&revoke, &json!({})).await;
    until("its keys are gone", async || {
        held(&fleet.terminators[1]).await.is_empty()
    })
    .await;
    assert!(!held(&fleet.terminators[0]).await.is_empty());
    let revoked = fleet.terminators.pop();

    fleet
        .apply(|document| {
            let listeners = document["listeners"].as_array_mut().unwrap();
            listeners.retain(|listener| listener["name"] != "direct");
        })
        .await;
    until("they are gone with their listener", async || {
        keys(&fleet).await.is_empty() && held(&fleet.terminators[0]).await.is_empty()
    })
    .await;
    drop(revoked);
}

#[tokio::test]
async fn a_listener_without_tickets_has_no_keys() {
    let mut fleet = fleet(Plan::default(), "12h", "24h", 1).await;
    fleet
        .apply(|document| document["listeners"][0]["tls"]["tickets"] = json!(false))
        .await;
    until("they are gone", async || {
        keys(&fleet).await.is_empty() && held(&fleet.terminators[0]).await.is_empty()
    })
    .await;
    let rotate = "/ticket-keys/rotate?listener=direct";
    let rest = &fleet.control_plane.rest;
    rest.refused(404, Method::POST, rotate, Body::Json(&json!({})))
        .await;
}

#[tokio::test]
async fn no_disk_log_page_or_dump_has_a_ticket_key() {
    let plan = Plan::default().variable("RUST_LOG", "trace");
    let fleet = fleet(plan, "12h", "24h", 2).await;
    let (mut session, link) = joined(&fleet, 40).await;
    let told = within("ticket keys", async {
        loop {
            if let Some(Down::TicketKeys(keys)) = session.next().await.unwrap() {
                let keys = keys
                    .listeners
                    .into_iter()
                    .flat_map(|listener| listener.keys);
                break keys.map(|key| key.key).collect::<Vec<_>>();
            }
        }
    })
    .await;
    assert!(
        told.iter()
            .all(|key| key.len() == 32 && link.has_received(key))
    );
    Returning::new(&fleet.stage, 0).visits(at(&fleet, 0)).await;
    let mut places = vec![(
        "the control plane's log".to_owned(),
        fleet.control_plane.log_text(),
    )];
    let listed = fleet.control_plane.rest.get("/ticket-keys").await;
    places.push(("GET /ticket-keys".to_owned(), listed.to_string()));
    for agent in &fleet.terminators {
        places.push((format!("the log of {}", agent.pid()), agent.log_text()));
        for page in ["/debug/tickets", "/debug/snapshot", "/metrics"] {
            places.push((page.to_owned(), agent.admin(page).await.text()));
        }
    }
    let texts = places
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()));
    let mut places: Vec<(String, Vec<u8>)> = texts.collect();
    for host in 1..4 {
        read_all(&fleet.state_of(fleet.stage.net.ip(host)), &mut places);
    }
    read_all(fleet.control_plane.state_dir(), &mut places);
    places.push(("a dump".to_owned(), dump(&fleet)));
    assert!(places.iter().any(|(name, _)| name.contains("cache")));
    for key in &told {
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let listed = format!("{key:?}");
        for needle in [
            key.as_slice(),
            hex.as_bytes(),
            listed.trim_matches(['[', ']']).as_bytes(),
        ] {
            for (name, place) in &places {
                let found = place.windows(needle.len()).any(|window| window == needle);
                assert!(!found, "a ticket key is in {name}");
            }
        }
    }
    // A balancer is told of none, nor a terminator that no listener is for.
    for (role, labels, host) in [
        ("balancer", json!({ "tier": "edge" }), 41),
        ("terminator", json!({ "app": "other" }), 42),
    ] {
        let (_, mut session, link) = fleet.joined_by_hand(role, labels, host).await;
        within("a snapshot", session.applies()).await.unwrap();
        assert!(told.iter().all(|key| !link.has_received(key)), "{role}");
    }
}

#[tokio::test]
async fn an_agent_alone_resumes_its_own_sessions_and_with_a_file_those_of_others() {
    let stage = Stage::new();
    let _app = NodeApp::at(stage.back(0), "app").listen().await;
    let _checks = stage.checks_pass().await;
    let document = stage.http_terminator(&[stage.back(0)]);
    let file = stage.path("tickets");
    write_secret(&file, &format!("{}\n", "5a".repeat(32)));
    let start = |host: u8| stage.agent_at(stage.net.ip(host), &document);
    let mut agents = Vec::new();
    for host in [1, 2] {
        agents.push(start(host).serve().await);
    }
    for host in [3, 4] {
        agents.push(
            start(host)
                .with("--ticket-key-file", file.display())
                .serve()
                .await,
        );
    }
    for agent in &agents {
        let up = async || agent.is_up("back", &stage.back(0).to_string()).await;
        until("the app is up", up).await;
    }
    let at = |host| stage.net.at(host, PORT);
    for number in 0..2 {
        let client = Returning::new(&stage, number);
        let alone = [
            (at(1), HandshakeKind::Full),
            (at(1), HandshakeKind::Resumed),
            (at(2), HandshakeKind::Full),
            (at(3), HandshakeKind::Full),
            (at(4), HandshakeKind::Resumed),
            (at(3), HandshakeKind::Resumed),
        ];
        for (to, wanted) in alone {
            let kind = client.visits(to).await;
            let resumed = |kind| kind == HandshakeKind::Resumed;
            assert_eq!(resumed(kind), resumed(wanted), "{to}");
        }
    }
    // A second secret first: tickets of the one before it still open.
    let client = Returning::new(&stage, 0);
    client.visits(at(3)).await;
    write_secret(
        &file,
        &format!("{}\n{}\n", "77".repeat(32), "5a".repeat(32)),
    );
    agents[3].reload().await;
    assert_eq!(client.visits(at(4)).await, HandshakeKind::Resumed);
    assert_ne!(
        client.visits(at(3)).await,
        HandshakeKind::Resumed,
        "made with the new one"
    );
}

/// A steered fleet of so many terminators whose ticket keys rotate so fast, with a
/// listener for direct clients, ready to make tickets.
async fn fleet(plan: Plan, rotation: &str, lifetime: &str, terminators: u8) -> Steered {
    let plan = plan.option("--ticket-key-rotation", rotation);
    let mut fleet = plan.option("--ticket-lifetime", lifetime).start().await;
    for index in 2..terminators {
        let letter = char::from(b'a' + index).to_string();
        let apps = fleet.apps(index, &letter).await;
        fleet.apps.extend(apps);
        let agent = fleet
            .join("terminator", fleet.stage.net.terminator(index))
            .await;
        fleet.terminators.push(agent);
    }
    fleet
        .apply(|document| {
            let listeners = document["listeners"].as_array_mut().unwrap();
            listeners.retain(|listener| listener["name"] != "edge");
            listeners[0]["name"] = json!("direct");
            listeners[0]["bind"] = json!(format!(":{DIRECT}"));
            listeners[0]["accept_proxy"] = json!("none");
            let pools = document["pools"].as_array_mut().unwrap();
            pools.retain(|pool| pool["name"] == "game-node");
        })
        .await;
    for terminator in &fleet.terminators {
        sees_up(terminator, "game-node", 2).await;
    }
    until("a key is in use", async || {
        let listed = keys(&fleet).await;
        let only = |key: &Value| key["listener"] == "direct";
        let encrypting = ids(&listed, "encrypting");
        let mut all = !encrypting.is_empty() && listed.iter().all(only);
        for terminator in &fleet.terminators {
            all &= encrypting == used(terminator).await;
        }
        all
    })
    .await;
    fleet
}

fn at(fleet: &Steered, terminator: u8) -> SocketAddr {
    fleet.stage.net.at(2 + terminator, DIRECT)
}

/// What the control plane lists.
async fn keys(fleet: &Steered) -> Vec<Value> {
    let keys = fleet.control_plane.rest.get("/ticket-keys").await;
    keys["items"].as_array().unwrap().clone()
}

/// The ids of those of this stage.
fn ids(keys: &[Value], stage: &str) -> BTreeSet<String> {
    let of = keys.iter().filter(|key| key["stage"] == stage);
    of.map(|key| key["id"].as_str().unwrap().to_owned())
        .collect()
}

/// How many terminators lack the one key of `ids`.
fn lacking(keys: &[Value], ids: &BTreeSet<String>) -> Option<u64> {
    let key = keys
        .iter()
        .find(|key| ids.contains(key["id"].as_str().unwrap()))?;
    key["lacking"].as_u64()
}

fn time(key: &Value, field: &str) -> SystemTime {
    humantime::parse_rfc3339(key[field].as_str().unwrap()).unwrap()
}

/// The ids of the keys that an agent holds.
async fn held(agent: &Agent) -> BTreeSet<String> {
    let keys = keys_of(agent).await;
    keys.iter().map(|key| text(key, "id")).collect()
}

/// With which keys an agent makes tickets: it hears of that after it holds them.
async fn used(agent: &Agent) -> BTreeSet<String> {
    ids(&keys_of(agent).await, "encrypting")
}

async fn keys_of(agent: &Agent) -> Vec<Value> {
    let listeners = agent.debug("/debug/tickets").await;
    let listeners = listeners.as_array().unwrap().iter();
    let keys = listeners.flat_map(|listener| listener["keys"].as_array().unwrap());
    keys.cloned().collect()
}

fn text(key: &Value, field: &str) -> String {
    key[field].as_str().unwrap().to_owned()
}

fn handshakes(metrics: &Metrics, result: &str) -> f64 {
    metrics.sum("tidegate_handshakes_total", &[("result", result)])
}

/// A terminator that joined by hand: it runs what it was told first, and after that
/// answers nothing.
async fn joined(fleet: &Steered, host: u8) -> (Session, Link) {
    let labels = json!({ "app": "game" });
    let (_, session, link) = fleet.joined_by_hand("terminator", labels, host).await;
    (session, link)
}

/// A client that keeps its sessions: TLS 1.3 where its number is even, 1.2 where odd.
struct Returning(Client);

impl Returning {
    fn new(stage: &Stage, number: u8) -> Self {
        let version = VERSIONS[usize::from(number % 2)];
        let mut tls = (*stage.pki.trusting_in(version)).clone();
        tls.resumption = rustls::client::Resumption::in_memory_sessions(8);
        Self(Client::new(stage.net.client(number), tls.into()))
    }

    /// One request over a new connection, which also brings the next ticket.
    async fn visits(&self, to: SocketAddr) -> HandshakeKind {
        let (kind, status) = self.visit(to).await.expect("the terminator serves");
        assert_eq!(status, StatusCode::OK);
        kind
    }

    async fn visit(&self, to: SocketAddr) -> std::io::Result<(HandshakeKind, StatusCode)> {
        let stream = self.0.tls(to, HOST).await?;
        let kind = stream.get_ref().1.handshake_kind().expect("it is done");
        let mut http = Http::over(stream, HOST).await?;
        let answer = http.get("/whoami").await?;
        Ok((kind, answer.status))
    }
}

/// Asks as a browser would, with `openssl s_client`; all that it prints.
async fn s_client(
    stage: &Stage,
    to: SocketAddr,
    version: &str,
    session: &str,
    file: &Path,
) -> String {
    let ca = stage.path("ca.pem");
    fs::write(&ca, stage.pki.ca_pem()).unwrap();
    let mut command = tokio::process::Command::new("openssl");
    command.args([
        "s_client",
        "-connect",
        &to.to_string(),
        "-servername",
        HOST,
        version,
    ]);
    command.args(["-verify_return_error", "-ign_eof", "-CAfile"]);
    command.arg(ca).arg(session).arg(file);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .kill_on_drop(true)
        .spawn()
        .expect("openssl is installed");
    let request = format!("GET /whoami HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(request.as_bytes()).await.unwrap();
    let done = within("openssl s_client", child.wait_with_output()).await;
    drop(stdin);
    let Output { stdout, stderr, .. } = done.unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    )
}

fn dump(fleet: &Steered) -> Vec<u8> {
    let program = Binaries::find().unwrap().program("pg_dump");
    let database = fleet.database.as_ref().unwrap();
    let output = std::process::Command::new(program)
        .arg(database.url())
        .output();
    let output = output.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("COPY public.ticket_keys"),
        "keys are there, sealed"
    );
    output.stdout
}

fn read_all(folder: &Path, places: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (kind, path) = (entry.file_type().unwrap(), entry.path());
        if kind.is_dir() {
            read_all(&path, places);
        } else if kind.is_file() {
            places.push((path.display().to_string(), fs::read(&path).unwrap()));
        }
    }
}
