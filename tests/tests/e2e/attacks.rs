//! Attacks in numbers, while others are served: echoes of a live WebSocket stay as quick
//! as on a busy machine, memory stays bounded, and whoever attacks is cut for the right
//! cause. Each test prints its figures (`--no-capture`).

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite};
use serde_json::{Value, json};
use tidegate_tests::agent::Event;
use tidegate_tests::backend::Backend;
use tidegate_tests::client::command::said_by;
use tidegate_tests::client::ws::Ws;
use tidegate_tests::client::{Client, read_to_end};
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::{HOST, checked_by_http, pool};
use tidegate_tests::steered::sees_up;
use tidegate_tests::{Agent, Stage, proc, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::hostile::client_hello;

/// How many connections a slow attack holds.
const ATTACKERS: usize = 300;
/// What the slowest echo but one in a hundred may take. Tests share two cores with what
/// they attack with: a quiet machine needs a hundredth of it, and an agent that waits
/// for an attacker takes seconds.
const BOUND: Duration = Duration::from_millis(250);
/// What an attack may cost in memory. Readers of 8 MiB each, who read nothing, want 800.
const MOST_KIB: u64 = 64 << 10;
/// The port of the listener that is attacked.
const ATTACKED: u16 = 8444;
/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(2);

/// A terminator in HTTP mode with two apps: attacks are on the other listener, so that
/// what the attacked app takes of its time is not the terminator's.
struct Scene {
    agent: Agent,
    document: Value,
    _apps: [NodeApp; 2],
    stage: Arc<Stage>,
}

async fn scene(timeouts: Value) -> Scene {
    let stage = Stage::new();
    let [live, other] = [(0, "live"), (1, "other")].map(|(at, name)| {
        let start = NodeApp::at(stage.back(at), name);
        start.listen()
    });
    let apps = [live.await, other.await];
    let mut document = stage.node_terminator(&[apps[0].address()]);
    document["policies"][0]["timeouts"] = timeouts;
    let mut attacked = document["listeners"][0].clone();
    attacked["name"] = json!("attacked");
    attacked["bind"] = json!(format!(":{ATTACKED}"));
    attacked["pool"] = json!("other");
    document["listeners"].as_array_mut().unwrap().push(attacked);
    let other = checked_by_http(pool("other", &[apps[1].address()]));
    document["pools"].as_array_mut().unwrap().push(other);
    let agent = stage.serve(&document).await;
    for pool in ["back", "other"] {
        sees_up(&agent, pool, 1).await;
    }
    Scene {
        agent,
        document,
        _apps: apps,
        stage: Arc::new(stage),
    }
}

fn attacked(stage: &Stage) -> SocketAddr {
    stage.net.at(1, ATTACKED)
}

impl Scene {
    async fn ws(&self) -> Ws {
        let client = self.stage.client(0);
        client.ws(self.stage.front(), HOST).await.unwrap()
    }

    /// Attacks, and measures meanwhile; the events of connections that ended.
    async fn endures(
        &self,
        name: &str,
        attack: impl Future<Output = ()> + Send + 'static,
    ) -> Vec<Event> {
        let mut ws = self.ws().await;
        let quiet = echoes(&mut ws, sleep(Duration::from_millis(600)), || {}).await;
        let from = self.agent.log_len();
        let pid = self.agent.pid();
        let before = proc::memory_kib(pid);
        let mut most = before;
        let look = || most = most.max(proc::memory_kib(pid));
        let during = echoes(&mut ws, attack, look).await;
        let grown = most - before;
        let closed = self.agent.closed_since(from).len();
        println!(
            "{name}: p99 {quiet} before, {during} meanwhile; {grown} KiB more; {closed} ended"
        );
        assert!(during.p99 < BOUND, "{name}: {during}, from {quiet}");
        assert!(grown < MOST_KIB, "{name}: {grown} KiB");
        let live = async || self.agent.metrics().await.live() == 1.0;
        until("only the WebSocket lives", live).await;
        assert!(ws.is_open().await);
        self.agent.closed_since(from)
    }

    /// A program that attacks through HTTPS.
    fn slowhttptest(
        &self,
        path: &str,
        many: usize,
        options: &str,
    ) -> impl Future<Output = ()> + use<> {
        let url = format!("https://{}{path}", attacked(&self.stage));
        let options = format!("-c {many} -r {many} -l 5 -p 3 {options}");
        async move {
            let options = options.split(' ').chain(["-u", &url]).collect::<Vec<_>>();
            let said = said_by("slowhttptest", &options).await;
            assert!(said.contains("Exit status"), "{said}");
        }
    }
}

/// How long echoes took.
struct Echoes {
    p99: Duration,
    count: usize,
}

impl Display for Echoes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1?} of {}", self.p99, self.count)
    }
}

/// Echoes, one after the other, for as long as `meanwhile` lasts.
async fn echoes(
    ws: &mut Ws,
    meanwhile: impl Future<Output = ()> + Send + 'static,
    mut look: impl FnMut(),
) -> Echoes {
    let meanwhile = tokio::spawn(meanwhile);
    let mut took = Vec::new();
    while !meanwhile.is_finished() {
        let begun = Instant::now();
        ws.echo("still there?").await.unwrap();
        took.push(begun.elapsed());
        look();
        sleep(Duration::from_millis(4)).await;
    }
    meanwhile.await.unwrap();
    took.sort_unstable();
    Echoes {
        p99: took[took.len() * 99 / 100],
        count: took.len(),
    }
}

/// How many connections ended by each cause, in each phase.
fn causes(closed: &[Event]) -> BTreeMap<(&str, &str), usize> {
    let mut counts = BTreeMap::new();
    for event in closed {
        *counts.entry((event.phase(), event.cause())).or_default() += 1;
    }
    println!("    {counts:?}");
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_are_cut_and_nobody_waits_for_them() {
    let scene = scene(json!({ "first_byte": "2s" })).await;
    let attack = scene.slowhttptest("/", ATTACKERS, "-H -i 1 -x 8");
    let closed = scene.endures("slow heads", attack).await;
    let causes = causes(&closed);
    assert_eq!(causes[&("request", "first_byte_timeout")], ATTACKERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_bodies_are_cut_and_nobody_waits_for_them() {
    let scene = scene(json!({ "idle": "1s" })).await;
    let attack = scene.slowhttptest("/echo", ATTACKERS, "-B -i 3 -x 8");
    let closed = scene.endures("slow bodies", attack).await;
    let causes = causes(&closed);
    assert_eq!(causes[&("relay", "idle_timeout")], ATTACKERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_are_cut_and_nobody_waits_for_them() {
    let scene = scene(json!({ "idle": "2s" })).await;
    let attack = scene.slowhttptest("/bytes/8388608", 100, "-X -w 1 -y 64 -n 4 -z 8");
    let closed = scene.endures("slow readers", attack).await;
    let causes = causes(&closed);
    // One of them may not get as far as to ask.
    assert!(causes[&("relay", "idle_timeout")] > 90, "{causes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_handshakes_are_cut_and_nobody_waits_for_them() {
    let scene = scene(json!({ "first_byte": "2s" })).await;
    let stage = Arc::clone(&scene.stage);
    let attack = async move {
        let hello = client_hello(&stage);
        let slow = |_| async {
            let mut stream = stage.client(1).tcp(attacked(&stage)).await.unwrap();
            let (mut read, mut write) = stream.split();
            let drip = async {
                for byte in &hello {
                    write.write_all(&[*byte]).await.ok();
                    sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::select! {
                () = drip => panic!("it was listened to for minutes"),
                _ = read_to_end(&mut read) => {}
            }
        };
        join_all((0..ATTACKERS).map(slow)).await;
    };
    let closed = scene.endures("slow handshakes", attack).await;
    let causes = causes(&closed);
    assert_eq!(causes[&("handshake", "first_byte_timeout")], ATTACKERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_does_not_starve_the_live() {
    let scene = scene(json!({})).await;
    let stage = Arc::clone(&scene.stage);
    let attack = async move {
        let shaking = |_| async {
            // Each one a full one: a client of its own has no ticket.
            let client = Client::new(stage.net.client(1), stage.pki.trusting());
            client.tls(attacked(&stage), HOST).await.unwrap();
        };
        flood(64, shaking).await;
    };
    let closed = scene.endures("a flood of handshakes", attack).await;
    assert!(closed.len() > 200, "{}", closed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_empty_records_and_renegotiations_are_cut() {
    let scene = scene(json!({})).await;
    for (name, version, kind, payload) in [
        (
            "empty records",
            ProtocolVersion::TLSv1_3,
            ContentType::ApplicationData,
            &[][..],
        ),
        // A ClientHello, or what looks like the beginning of one.
        (
            "renegotiations",
            ProtocolVersion::TLSv1_2,
            ContentType::Handshake,
            &[1, 0, 0, 0],
        ),
    ] {
        let stage = Arc::clone(&scene.stage);
        let attack = async move {
            let attacker = |_| async {
                let mut hand = ByHand::shaken(&stage, version).await;
                let cut = async {
                    while {
                        let records = hand.records(100, kind, payload);
                        hand.stream.write_all(&records).await.is_ok()
                    } {}
                };
                timeout(Duration::from_secs(10), cut)
                    .await
                    .expect("it is cut");
            };
            flood(8, attacker).await;
        };
        let closed = scene.endures(name, attack).await;
        assert!(closed.len() > 100, "{}", closed.len());
        // The flood may come with the end of the handshake.
        let expected = ["client_reset", "tls_failed"];
        let causes = causes(&closed);
        let others = causes.keys().find(|(_, cause)| !expected.contains(cause));
        assert_eq!(others, None, "{causes:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_accepts_and_never_answers_takes_its_own_clients_time_alone() {
    let scene = scene(json!({})).await;
    let stage = Arc::clone(&scene.stage);
    let dead = Backend::silent(stage.back(2)).await;
    let _checks = stage.checks_pass().await;
    let mut document = scene.document.clone();
    let apps = [stage.back(1), dead.address()];
    document["pools"][1] = pool("other", &apps);
    document["listeners"][1]["http"] = json!({ "response_timeout": "2s" });
    scene.agent.apply(&document).await;
    let attack = async move {
        let asking = |_| async {
            let mut http = stage.client(1).http(attacked(&stage), HOST).await.unwrap();
            let mut answers = Vec::new();
            for _ in 0..2 {
                let begun = Instant::now();
                let status = http.get("/whoami").await.unwrap().status.as_u16();
                answers.push((status, begun.elapsed()));
            }
            answers
        };
        let mut took = join_all((0..100).map(asking)).await.concat();
        let given_up = took.iter().filter(|(status, _)| *status == 504).count();
        took.retain(|(status, _)| *status == 200);
        took.sort_unstable();
        let p99 = took[took.len() * 99 / 100].1;
        println!(
            "    {} answered, p99 {p99:.1?}; {given_up} given up",
            took.len()
        );
        assert!(given_up > 50 && took.len() > 50, "both have their share");
        assert!(p99 < Duration::from_millis(1000), "{p99:?}");
    };
    scene.endures("a half-dead app", attack).await;
}

/// So many do `work` again and again.
async fn flood<F: Future<Output = ()>>(many: usize, work: impl Fn(usize) -> F) {
    let begun = Instant::now();
    let again = |index| {
        let work = &work;
        async move {
            while begun.elapsed() < FLOOD {
                work(index).await;
            }
        }
    };
    join_all((0..many).map(again)).await;
}

/// A connection after its handshake, on which records are written by hand.
struct ByHand {
    stream: TcpStream,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl ByHand {
    async fn shaken(stage: &Stage, version: ProtocolVersion) -> Self {
        let is_new = version == ProtocolVersion::TLSv1_3;
        let mut config = if is_new {
            (*stage.pki.trusting()).clone()
        } else {
            (*stage.pki.trusting_in(&rustls::version::TLS12)).clone()
        };
        config.enable_secret_extraction = true;
        let client = Client::new(stage.net.client(1), Arc::new(config));
        let stream = client.tls(attacked(stage), HOST).await.unwrap();
        let (stream, session) = stream.into_inner();
        let suite = session.negotiated_cipher_suite().unwrap();
        let (sequence, secrets) = session.dangerous_extract_secrets().unwrap().tx;
        let (key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv }
            | ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (key, iv),
            _ => panic!("{suite:?}"),
        };
        let mut encrypter = match suite {
            SupportedCipherSuite::Tls13(suite) => suite.aead_alg.encrypter(key, iv),
            SupportedCipherSuite::Tls12(suite) => {
                // The rest of a nonce is in the record: any that counts up.
                let salt = &iv.as_ref()[..4];
                suite.aead_alg.encrypter(key, salt, &[0; 8])
            }
        };
        // It has to see the number that the client's Finished had before the next one.
        for earlier in 0..sequence {
            encrypter
                .encrypt(plain(ContentType::Handshake, &[]), earlier)
                .unwrap();
        }
        Self {
            stream,
            encrypter,
            sequence,
        }
    }

    fn records(&mut self, count: usize, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        for _ in 0..count {
            let message = plain(typ, payload);
            let record = self.encrypter.encrypt(message, self.sequence).unwrap();
            records.extend(record.encode());
            self.sequence += 1;
        }
        records
    }
}

fn plain(typ: ContentType, payload: &[u8]) -> OutboundPlainMessage<'_> {
    OutboundPlainMessage {
        typ,
        version: ProtocolVersion::TLSv1_2,
        payload: OutboundChunks::Single(payload),
    }
}
