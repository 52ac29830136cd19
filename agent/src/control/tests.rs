//! The link against a control plane that does what a test says (`fake`), with a
//! data plane of its own and a state directory that outlives it.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use rustix::process::{Signal, getpid, kill_process};
use rustls::server::ProducesTickets;
use tempfile::TempDir;
use tidegate_core::document::{AdminState, Name, Redirect};
use tidegate_core::health::Start;
use tidegate_core::snapshot::{Certificate, DrainPace, Fingerprint, Snapshot, Work};
use tidegate_proto::v1::agent_message::Message as Said;
use tidegate_proto::v1::command::Command as Ordered;
use tidegate_proto::v1::control_message::Message as Told;
use tidegate_proto::v1::{self, snapshot_status};
use tidegate_proto::{REASON, reason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::signal::unix::SignalKind;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::fake::{Fake, Session, message};
use super::fleet::{Ending, Fleet};
use crate::app::follow_fleet;
use crate::cause::Cause;
use crate::plane::Plane;
use crate::settings::{AdminAddr, Command, Run, Settings};
use crate::shutdown::Signals;
use crate::state::State;
use crate::state::tests::{two_backends, with_a_in};

const APPLIED: i32 = snapshot_status::State::Applied as i32;
const FAILED: i32 = snapshot_status::State::Failed as i32;

/// A control plane, and an agent's state directory.
struct Stage {
    fake: Fake,
    root: TempDir,
}

impl Stage {
    async fn new() -> Self {
        Self::with(Fake::start().await)
    }

    fn with(fake: Fake) -> Self {
        let root = tempfile::tempdir().unwrap();
        let token = fake.ca.token().reveal();
        fs::write(root.path().join("token"), token).unwrap();
        Self { fake, root }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    fn settings(&self) -> Run {
        let path = |name| self.path(name).display().to_string();
        let (state, token) = (path("state"), path("token"));
        let words = [
            "tidegate-agent",
            "run",
            "--control-plane",
            &self.fake.at,
            "--state-dir",
            &state,
            "--join-token-file",
            &token,
            "--health-port",
            "0",
            "--threads",
            "1",
            "--max-connections",
            "100",
            "--drain-delay",
            "0s",
        ];
        match Settings::parse_from(words).command {
            Command::Run(run) => run,
            Command::Standalone(_) | Command::SetupTransparent(_) => panic!("another command"),
        }
    }

    /// Runs an agent as the program does, for as long as `script` takes.
    async fn run<T>(&mut self, script: impl AsyncFnOnce(&mut Fake, &State) -> T) -> T {
        let settings = self.settings();
        let agent = started(&settings);
        tokio::pin!(agent);
        let (fleet, plane) = tokio::select! {
            agent = &mut agent => agent,
            request = self.fake.enrolled() => {
                assert_eq!(request.address, "127.0.0.1");
                agent.await
            }
        };
        drive(fleet, plane, script, &mut self.fake).await
    }
}

async fn started(settings: &Run) -> (Fleet, Plane) {
    let mut fleet = loop {
        match Fleet::join(settings).await {
            // The agent before this one has been told to go, and goes.
            Err(error) if error.to_string().contains("in use") => tokio::task::yield_now().await,
            joined => break joined.unwrap(),
        }
    };
    let admin = AdminAddr::Tcp(([127, 0, 0, 1], 0).into());
    let plane = Plane::build(&settings.common, fleet.address(), &admin).await;
    let mut plane = plane.unwrap();
    fleet.restore(&mut plane).await;
    (fleet, plane)
}

async fn drive<T>(
    mut fleet: Fleet,
    mut plane: Plane,
    script: impl AsyncFnOnce(&mut Fake, &State) -> T,
    fake: &mut Fake,
) -> T {
    // The script looks at the state, which the agent shares with it.
    let seen = Arc::clone(&plane.applier.state);
    let mut signals = Signals::new().unwrap();
    tokio::select! {
        ending = fleet.steer(&mut plane, &mut signals) => panic!("the agent stops: {ending:?}"),
        result = script(fake, &seen) => result,
    }
}

/// A snapshot whose only certificate has this chain.
fn with_certificate(chain: &str) -> Snapshot {
    let mut snapshot = two_backends();
    snapshot.listeners.clear();
    snapshot.certificates.push(Certificate {
        name: "example".parse::<Name>().unwrap(),
        fingerprint: Fingerprint::of(chain.as_bytes()),
        chain: chain.to_owned(),
    });
    snapshot
}

/// Nothing to bind: what is applied is seen by its admin states.
fn unbound(admin: AdminState) -> Snapshot {
    let mut snapshot = with_a_in(admin);
    snapshot.listeners.clear();
    snapshot
}

fn cut_backend(backend: &str) -> Ordered {
    Ordered::CutBackend(v1::CutBackend {
        pool: "back".to_owned(),
        backend: backend.to_owned(),
    })
}

fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn refusal(code: Code, why: &'static str) -> Status {
    let mut status = Status::new(code, "the control plane's words");
    let why = why.parse().unwrap();
    status.metadata_mut().insert(REASON, why);
    status
}

fn is_here(path: &std::path::Path) -> bool {
    path.exists()
}

#[tokio::test]
async fn an_agent_joins_takes_keys_then_a_snapshot_and_keeps_both_for_a_restart() {
    let mut stage = Stage::new().await;
    let (chain, key) = pair();
    let snapshot = with_certificate(&chain);
    let hash = snapshot.hash();
    stage
        .run(async |fake, state| {
            let mut session = fake.welcomed().await;
            assert!(session.hello.snapshot.is_none() && session.hello.secrets.is_empty());
            assert_eq!(session.hello.address, "127.0.0.1");
            let held = session.send_key(&chain, &key).await;
            assert_eq!(
                held,
                [Fingerprint::of(chain.as_bytes()).as_bytes().to_vec()]
            );
            assert_eq!(session.send(&snapshot, 5).await, (APPLIED, vec![]));
            assert_eq!(state.active().hash, Some(hash));
        })
        .await;

    // No control plane: what ran runs again before anything is dialled.
    let (fleet, plane) = started(&stage.settings()).await;
    assert_eq!(plane.applier.state.active().hash, Some(hash));
    drive(
        fleet,
        plane,
        async |fake, _| {
            let hello = fake.session().await.hello;
            assert_eq!(hello.snapshot.unwrap().change, 5);
            assert_eq!(hello.secrets.len(), 1);
        },
        &mut stage.fake,
    )
    .await;
}

#[tokio::test]
async fn a_newcomer_waits_for_its_checks_and_is_none_after_a_restart() {
    let mut stage = Stage::new().await;
    // Checks pass, and a newcomer needs two of them.
    let backend = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut discovered = unbound(AdminState::Ready);
    for known in &mut discovered.pools[0].backends {
        known.check_address = backend.local_addr().unwrap();
    }
    discovered.pools[0].backends[0].start = Start::Down;
    let up = |state: &State| state.active().pools.values().next().unwrap().taking();
    stage
        .run(async |fake, state| {
            fake.welcomed().await.send(&discovered, 1).await;
            assert_eq!(up(state), 1);
        })
        .await;
    let (_fleet, plane) = started(&stage.settings()).await;
    assert_eq!(up(&plane.applier.state), 2);
}

#[tokio::test]
async fn a_snapshot_that_fails_changes_nothing_and_says_every_reason() {
    let mut stage = Stage::new().await;
    stage
        .run(async |fake, state| {
            let mut session = fake.welcomed().await;
            let good = unbound(AdminState::Ready);
            assert_eq!(session.send(&good, 1).await.0, APPLIED);

            // Not an address of this host, a chain that none is, a key that is not here.
            let mut bad = with_certificate("no PEM");
            bad.listeners = two_backends().listeners;
            bad.listeners[0].bind = "192.0.2.1:9".parse().unwrap();
            let (state_of, mistakes) = session.send(&bad, 2).await;
            let places: Vec<_> = mistakes.iter().map(|m| m.pointer.as_str()).collect();
            assert_eq!(state_of, FAILED);
            assert_eq!(places, ["/certificates/example", "/listeners/edge/bind"]);
            assert_eq!(state.active().hash, Some(good.hash()));

            // Not a snapshot at all: told, and the session goes on.
            let Told::Snapshot(mut garbage) = message(&good, 3) else {
                panic!("a snapshot")
            };
            garbage.payload = b"garbage".as_slice().into();
            garbage.plain_length = 7;
            session.tell(Told::Snapshot(garbage)).await;
            session.status(3).await;
            let (state_of, mistakes) = session.status(3).await;
            assert_eq!((state_of, mistakes[0].pointer.as_str()), (FAILED, ""));

            let next = unbound(AdminState::Drain);
            assert_eq!(session.send(&next, 4).await, (APPLIED, vec![]));
            assert_eq!(state.active().hash, Some(next.hash()));
        })
        .await;
}

#[tokio::test]
async fn an_address_that_a_failed_snapshot_took_is_free_again() {
    let mut stage = Stage::new().await;
    stage
        .run(async |fake, _| {
            let free = {
                let found = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                found.local_addr().unwrap()
            };
            let mut session = fake.welcomed().await;
            let mut bad = with_certificate("no PEM");
            bad.listeners = two_backends().listeners;
            bad.listeners[0].bind = free;
            let (state_of, mistakes) = session.send(&bad, 1).await;
            assert_eq!((state_of, mistakes.len()), (FAILED, 1), "{mistakes:?}");
            assert!(std::net::TcpListener::bind(free).is_ok());
        })
        .await;
}

#[tokio::test]
async fn an_equal_snapshot_is_a_no_op_and_up_to_date_only_moves_the_numbers() {
    let mut stage = Stage::new().await;
    let snapshot = unbound(AdminState::Ready);
    stage
        .run(async |fake, state| {
            let mut session = fake.welcomed().await;
            session.send(&snapshot, 1).await;
            let before = state.active_owned();
            assert_eq!(session.send(&snapshot, 2).await, (APPLIED, vec![]));
            assert!(Arc::ptr_eq(&before, &state.active_owned()));

            let version = super::fake::version(&snapshot, 9);
            session
                .tell(Told::UpToDate(v1::UpToDate {
                    version: Some(version.into()),
                }))
                .await;
            session
                .tell(Told::Reconnect(v1::Reconnect { within_ms: 1 }))
                .await;
            let again = fake.session().await;
            assert_eq!(again.hello.snapshot.as_ref().unwrap().change, 9);
            assert_eq!(again.hello.boot_id, session.hello.boot_id);
        })
        .await;
}

#[tokio::test]
async fn every_lane_is_acknowledged_by_its_own_number_and_remembered() {
    let mut stage = Stage::new().await;
    stage
        .run(async |fake, _| {
            let mut session = fake.welcomed().await;
            session
                .tell(Told::TicketKeys(v1::TicketKeys {
                    number: 3,
                    ..Default::default()
                }))
                .await;
            assert!(matches!(session.said().await, Said::TicketKeysAck(a) if a.number == 3));
            session
                .tell(Told::BanFull(v1::BanFull {
                    number: 5,
                    ..Default::default()
                }))
                .await;
            assert!(matches!(session.said().await, Said::BansAck(a) if a.number == 5));
            let delta = |from, to| {
                Told::BanDelta(v1::BanDelta {
                    from,
                    to,
                    ..Default::default()
                })
            };
            session.tell(delta(5, 6)).await;
            assert!(matches!(session.said().await, Said::BansAck(a) if a.number == 6));
            session
                .tell(Told::Challenges(v1::Challenges {
                    number: 7,
                    ..Default::default()
                }))
                .await;
            assert!(matches!(session.said().await, Said::ChallengesAck(a) if a.number == 7));
            // A gap: what is held does not fit, so the session begins anew with what is.
            session.tell(delta(8, 9)).await;
            session.ended().await;
            let hello = fake.session().await.hello;
            assert_eq!((hello.ticket_keys, hello.bans, hello.challenges), (3, 6, 7));
        })
        .await;
}

#[tokio::test]
async fn ticket_keys_are_in_use_when_they_are_acknowledged_and_broken_ones_end_the_session() {
    let mut stage = Stage::new().await;
    let told = |number, length| {
        let key = v1::TicketKey {
            id: number,
            key: vec![1; length],
            encrypts: true,
            encrypts_for_ms: 60_000,
            opens_for_ms: 60_000,
        };
        let listeners = vec![v1::ListenerTicketKeys {
            listener: "game".to_owned(),
            keys: vec![key],
        }];
        Told::TicketKeys(v1::TicketKeys {
            number,
            listeners,
            lifetime_seconds: 60,
        })
    };
    let game = "game".parse().unwrap();
    stage
        .run(async |fake, state| {
            let ticketer = state.tickets().of(&game);
            let mut session = fake.welcomed().await;
            session.tell(told(4, 32)).await;
            assert!(matches!(session.said().await, Said::TicketKeysAck(a) if a.number == 4));
            let ticket = ticketer.encrypt(b"session").unwrap();
            assert_eq!(ticket[..8], 4_u64.to_be_bytes());
            session.tell(told(5, 31)).await;
            session.ended().await;
            // What it has goes on, and it is told anew whatever it says it holds.
            assert_eq!(fake.session().await.hello.ticket_keys, 4);
            assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        })
        .await;
}

#[tokio::test]
async fn a_challenge_is_answered_by_a_redirect_listener_as_long_as_it_is_told() {
    let mut stage = Stage::new().await;
    let bind = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let mut snapshot = two_backends();
    let listener = &mut snapshot.listeners[0];
    listener.bind = bind;
    listener.pool = None;
    listener.work = Work::Redirect(Redirect::default());
    stage
        .run(async |fake, _| {
            let mut session = fake.welcomed().await;
            assert_eq!(session.send(&snapshot, 1).await, (APPLIED, vec![]));
            let asked = "/.well-known/acme-challenge/tok-1";
            let sent_on = format!("https://a.example{asked}");
            let told = v1::Challenge {
                token: "tok-1".into(),
                key_authorization: "tok-1.thumbprint".into(),
            };
            for (number, challenges) in [(1, vec![told]), (2, vec![])] {
                let answers = !challenges.is_empty();
                let lane = v1::Challenges { number, challenges };
                session.tell(Told::Challenges(lane)).await;
                assert!(
                    matches!(session.said().await, Said::ChallengesAck(a) if a.number == number)
                );
                let answer = get(bind, asked).await;
                assert_eq!(answer.starts_with("HTTP/1.1 200 "), answers, "{answer}");
                assert_eq!(
                    answer.ends_with("\r\n\r\ntok-1.thumbprint"),
                    answers,
                    "{answer}"
                );
                assert_eq!(answer.contains(&sent_on), !answers, "{answer}");
                let other = get(bind, "/.well-known/acme-challenge/tok-2").await;
                assert!(other.starts_with("HTTP/1.1 308 "), "{other}");
            }
        })
        .await;
}

/// All of a plain answer.
async fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpSocket::new_v4().unwrap().connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_command_is_carried_out_or_refused_in_words() {
    let mut stage = Stage::new().await;
    stage
        .run(async |fake, _| {
            let mut session = fake.welcomed().await;
            for (command, refused) in [
                (Some(Ordered::CutClients("192.0.2.0/24".into())), false),
                (Some(Ordered::CutClients("nobody".into())), true),
                (Some(cut_backend("a")), false),
                (Some(cut_backend("")), true),
                (None, true),
            ] {
                session
                    .tell(Told::Command(v1::Command { number: 2, command }))
                    .await;
                match session.said().await {
                    Said::CommandResult(result) => {
                        assert_eq!((result.number, !result.error.is_empty()), (2, refused));
                    }
                    _ => panic!("no result"),
                }
            }
        })
        .await;
}

#[tokio::test]
async fn a_lost_answer_to_enroll_is_asked_for_again_with_the_same_key() {
    let mut stage = Stage::new().await;
    stage.fake.lose_answers(2);
    let settings = stage.settings();
    let joining = started(&settings);
    tokio::pin!(joining);
    let mut keys = Vec::new();
    for _ in 0..3 {
        let request = tokio::select! {
            request = stage.fake.enrolled() => request,
            _ = &mut joining => panic!("joined without an answer"),
        };
        let csr = rcgen::CertificateSigningRequestParams::from_der(&request.csr.into());
        keys.push(rcgen::PublicKeyData::subject_public_key_info(
            &csr.unwrap().public_key,
        ));
    }
    let (fleet, plane) = joining.await;
    assert!(keys.iter().all(|key| *key == keys[0]));
    let proof = async |fake: &mut Fake, _: &State| fake.session().await.key;
    assert_eq!(drive(fleet, plane, proof, &mut stage.fake).await, keys[0]);
}

#[tokio::test]
async fn a_refused_token_ends_the_program_with_the_mend() {
    for (why, mend) in [
        (
            reason::TOKEN_UNKNOWN,
            "make one with `tidegate token create`",
        ),
        (reason::TOKEN_USED, "--uses N"),
        (reason::TOKEN_EXPIRED, "make another one"),
        (reason::TOKEN_ROLE, "leave --role out"),
    ] {
        let stage = Stage::new().await;
        stage
            .fake
            .refuse_with(Some(refusal(Code::FailedPrecondition, why)));
        let refused = Fleet::join(&stage.settings()).await.err().unwrap();
        let refused = format!("{refused:#}");
        assert!(refused.contains("the control plane's words"), "{refused}");
        assert!(refused.contains(mend), "{refused}");
        let token = stage.fake.ca.token().reveal();
        assert!(!refused.contains(&token), "{refused}");
        assert!(!is_here(&stage.path("state/identity.json")));
    }
}

#[tokio::test]
async fn certificates_that_live_seconds_are_renewed_and_the_next_connection_uses_them() {
    let mut stage = Stage::new().await;
    stage.fake.issue_for(Duration::from_secs(3));
    stage
        .run(async |fake, _| {
            let session = fake.welcomed().await;
            let first = fake.renewed().await;
            let second = fake.renewed().await;
            assert!(
                first != second && session.key != first,
                "each has a new key"
            );
            // The answer to the second may be on its way: whichever is in use, it is
            // not the one that ends first.
            session
                .tell(Told::Reconnect(v1::Reconnect { within_ms: 1 }))
                .await;
            let again = fake.session().await;
            assert!([first, second].contains(&again.key));
        })
        .await;
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_before_anything_else() {
    let mut stage = Stage::new().await;
    // Expired on arrival.
    stage.fake.issue_for(Duration::ZERO);
    let settings = stage.settings();
    let (fleet, plane) = tokio::join!(started(&settings), stage.fake.enrolled()).0;
    stage.fake.issue_for(Duration::from_secs(3600));
    drive(
        fleet,
        plane,
        async |fake, _| {
            let renewed = fake.renewed().await;
            assert_eq!(fake.session().await.key, renewed);
        },
        &mut stage.fake,
    )
    .await;
}

#[tokio::test]
async fn a_certificate_that_the_control_plane_calls_expired_is_renewed() {
    let mut stage = Stage::new().await;
    stage
        .run(async |fake, _| {
            let session = fake.welcomed().await;
            session
                .end_with(refusal(Code::Unauthenticated, reason::EXPIRED))
                .await;
            let renewed = fake.renewed().await;
            assert_eq!(fake.session().await.key, renewed);
        })
        .await;
}

#[tokio::test]
async fn a_revoked_agent_keeps_nothing_drains_and_does_not_come_back_by_the_same_token() {
    let mut stage = Stage::new().await;
    let (chain, key) = pair();
    let settings = stage.settings();
    let ((mut fleet, mut plane), _) = tokio::join!(started(&settings), stage.fake.enrolled());
    let script = async |fake: &mut Fake| {
        let mut session = fake.welcomed().await;
        session.send_key(&chain, &key).await;
        assert_eq!(session.send(&with_certificate(&chain), 1).await.0, APPLIED);
        session
            .tell(Told::Revoked(v1::Revoked {
                reason: "stolen".into(),
            }))
            .await;
    };
    let mut signals = Signals::new().unwrap();
    let (ending, ()) = tokio::join!(
        fleet.steer(&mut plane, &mut signals),
        script(&mut stage.fake)
    );
    assert_eq!(ending, Ending::Revoked);
    for gone in ["identity.json", "cache", "cache.key", "joining.key"] {
        assert!(!is_here(&settings.state_dir.join(gone)), "{gone}");
    }
    plane.shutdown(&mut signals).await;
    assert!(plane.applier.state.is_draining());
    drop((fleet, plane));

    let again = loop {
        let refused = Fleet::join(&settings).await.err().unwrap().to_string();
        if !refused.contains("in use") {
            break refused;
        }
        tokio::task::yield_now().await;
    };
    assert!(again.contains("revoked (stolen)"), "{again}");
    assert!(again.contains("tidegate token create"), "{again}");
}

/// Runs an agent to its end, as the program does, with these for its two signals;
/// `script` begins when clients can connect to the address it is given.
async fn to_the_end(
    signals: [SignalKind; 2],
    script: impl AsyncFnOnce(&mut Fake, Session, SocketAddr, &State),
) -> Stage {
    let mut stage = Stage::new().await;
    let settings = stage.settings();
    let ((mut fleet, mut plane), _) = tokio::join!(started(&settings), stage.fake.enrolled());
    let state = Arc::clone(&plane.applier.state);
    let [terminate, interrupt] = signals;
    let mut signals = Signals::of(terminate, interrupt).unwrap();
    let script = async {
        let mut snapshot = two_backends();
        let backend = echo().await;
        for known in &mut snapshot.pools[0].backends {
            (known.address, known.check_address) = (backend, backend);
        }
        let bind = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            free.local_addr().unwrap()
        };
        snapshot.listeners[0].bind = bind;
        let mut session = stage.fake.welcomed().await;
        assert_eq!(session.send(&snapshot, 1).await, (APPLIED, vec![]));
        script(&mut stage.fake, session, bind, &state).await;
    };
    let agent = follow_fleet(&mut fleet, &mut plane, &mut signals);
    let both = async { tokio::join!(agent, script) };
    let ended = timeout(Duration::from_secs(30), both).await;
    ended.expect("the agent ends");
    stage
}

async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while let Ok(byte) = stream.read_u8().await
                    && stream.write_u8(byte).await.is_ok()
                {}
            });
        }
    });
    at
}

/// A client of its own address, served.
async fn client(n: u8, at: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, n], 0).into()).unwrap();
    let mut stream = socket.connect(at).await.unwrap();
    assert!(echoes(&mut stream).await);
    stream
}

async fn echoes(stream: &mut TcpStream) -> bool {
    let mut back = [0];
    stream.write_all(b"x").await.is_ok() && stream.read_exact(&mut back).await.is_ok()
}

async fn draining(state: &State) {
    while !state.is_draining() {
        tokio::task::yield_now().await;
    }
}

fn signal(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

fn revoked() -> Told {
    Told::Revoked(v1::Revoked {
        reason: "stolen".into(),
    })
}

#[tokio::test]
async fn the_first_signal_to_a_revoked_agent_waits_for_its_connections_and_no_other_is_needed() {
    let kinds = [SignalKind::user_defined1(), SignalKind::interrupt()];
    to_the_end(kinds, async |_, session, at, state| {
        let mut client = client(1, at).await;
        session.tell(revoked()).await;
        draining(state).await;
        signal(Signal::USR1);
        // More turns of the agent's thread than it takes to hear a signal.
        for _ in 0..20 {
            assert!(echoes(&mut client).await);
        }
    })
    .await;
}

#[tokio::test]
async fn the_second_signal_to_a_revoked_agent_ends_it_at_once() {
    let kinds = [SignalKind::user_defined2(), SignalKind::alarm()];
    let mut held = None;
    to_the_end(kinds, async |_, session, at, state| {
        held = Some(client(1, at).await);
        session.tell(revoked()).await;
        draining(state).await;
        signal(Signal::USR2);
        signal(Signal::ALARM);
    })
    .await;
    assert!(!echoes(&mut held.unwrap()).await);
}

#[tokio::test]
async fn an_agent_that_drains_still_cuts_clients_and_hears_that_it_is_revoked() {
    let kinds = [SignalKind::hangup(), SignalKind::interrupt()];
    let stage = to_the_end(kinds, async |fake, session, at, state| {
        let (mut stays, mut goes) = (client(1, at).await, client(2, at).await);
        signal(Signal::HUP);
        draining(state).await;
        // A commit cannot be carried out any more: the next session goes on.
        session.tell(message(&unbound(AdminState::Ready), 2)).await;
        session.ended().await;
        let mut session = fake.welcomed().await;
        let command = Some(Ordered::CutClients("127.0.0.2/32".into()));
        let command = v1::Command { number: 1, command };
        session.tell(Told::Command(command)).await;
        assert!(matches!(session.said().await, Said::CommandResult(r) if r.error.is_empty()));
        assert!(!echoes(&mut goes).await);
        ended_by(state, Cause::Killed).await;
        session.tell(revoked()).await;
        session.ended().await;
        assert!(echoes(&mut stays).await);
    })
    .await;
    for gone in ["identity.json", "cache", "cache.key"] {
        assert!(!is_here(&stage.path("state").join(gone)), "{gone}");
    }
}

#[tokio::test]
async fn a_drain_with_a_pace_ends_connections_of_its_backend_alone_and_says_why() {
    let kinds = [SignalKind::user_defined1(), SignalKind::interrupt()];
    to_the_end(kinds, async |_, mut session, at, state| {
        // One on each backend.
        let mut clients = [client(1, at).await, client(2, at).await];
        let mut snapshot = state.active().snapshot.clone();
        let backend = &mut snapshot.pools[0].backends[0];
        backend.admin = AdminState::Drain;
        backend.drain = Some(DrainPace::PerSecond(1000.try_into().unwrap()));
        assert_eq!(session.send(&snapshot, 2).await, (APPLIED, vec![]));
        ended_by(state, Cause::BackendDrained).await;
        let mut live = 0;
        for client in &mut clients {
            live += u32::from(echoes(client).await);
        }
        assert_eq!(live, 1);
        session.tell(revoked()).await;
        draining(state).await;
        signal(Signal::USR1);
    })
    .await;
}

/// Waits until a connection has ended for this cause.
async fn ended_by(state: &State, cause: Cause) {
    let has = || {
        let mut listeners = state.facts().listeners().into_iter();
        listeners.any(|listener| listener.closed().any(|(_, c, _)| c == cause))
    };
    while !has() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_connections_to_a_backend_are_cut_and_counted_and_no_others() {
    let kinds = [SignalKind::hangup(), SignalKind::interrupt()];
    to_the_end(kinds, async |_, mut session, at, _| {
        // One on each backend.
        let (mut one, mut other) = (client(1, at).await, client(2, at).await);
        for left in [1, 0] {
            let backend = if left == 1 { "a" } else { "b" };
            let command = Some(cut_backend(backend));
            let command = v1::Command { number: 1, command };
            session.tell(Told::Command(command)).await;
            match session.said().await {
                Said::CommandResult(result) => assert_eq!(result.connections, 1, "{backend}"),
                _ => panic!("no result"),
            }
            let lives = [echoes(&mut one).await, echoes(&mut other).await];
            assert_eq!(lives.into_iter().filter(|lives| *lives).count(), left);
        }
        signal(Signal::HUP);
    })
    .await;
}

#[tokio::test]
async fn an_unknown_agent_goes_on_with_what_it_has() {
    let mut stage = Stage::new().await;
    let snapshot = unbound(AdminState::Ready);
    stage
        .run(async |fake, state| {
            let mut session = fake.welcomed().await;
            session.send(&snapshot, 1).await;
            session
                .end_with(refusal(Code::NotFound, reason::UNKNOWN_AGENT))
                .await;
            // Whether it drains is decided before it dials again.
            fake.session().await;
            assert!(!state.is_draining());
            assert_eq!(state.active().hash, Some(snapshot.hash()));
        })
        .await;
    assert!(is_here(&stage.path("state/identity.json")));
}

#[tokio::test]
async fn reports_that_nobody_acknowledged_come_again_under_the_same_number() {
    let mut stage = Stage::new().await;
    stage
        .run(async |fake, _| {
            let session = fake.welcomed().await;
            let mut lost = fake.reporting().await;
            let first = lost.reports.message().await.unwrap().unwrap();
            let second = lost.reports.message().await.unwrap().unwrap();
            assert_eq!((first.sequence, second.sequence), (1, 2));
            assert_eq!(first.boot_id, session.hello.boot_id);
            // Both arrived; the second is acknowledged, the first one's answer is lost.
            let sequence = second.sequence;
            lost.acks
                .send(Ok(v1::ReportAck { sequence }))
                .await
                .unwrap();
            session
                .tell(Told::Reconnect(v1::Reconnect { within_ms: 1 }))
                .await;
            session.ended().await;

            let _session = fake.welcomed().await;
            let mut again = fake.reporting().await;
            let repeated = again.reports.message().await.unwrap().unwrap();
            assert_eq!(repeated, first);
            let next = again.reports.message().await.unwrap().unwrap();
            assert!(next.sequence > 1, "{}", next.sequence);
        })
        .await;
}

#[tokio::test]
async fn a_backend_that_goes_down_is_reported_long_before_the_interval_is_over() {
    let backend = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut snapshot = unbound(AdminState::Drain);
    snapshot.pools[0].check.interval = "10ms".parse().unwrap();
    for known in &mut snapshot.pools[0].backends {
        known.check_address = backend.local_addr().unwrap();
    }
    let mut stage = Stage::new().await;
    stage
        .run(async |fake, _| {
            let mut session = fake.session().await;
            session.welcome_with(60_000).await;
            session.send(&snapshot, 1).await;
            let mut reporting = fake.reporting().await;
            let mut seen = async |up| loop {
                let report = reporting.reports.message().await.unwrap().unwrap();
                let backends = report.backends;
                if backends.len() == 2 && backends.iter().all(|b| b.up == up) {
                    break (backends, report.interval_ms);
                }
            };
            let (backends, _) = seen(true).await;
            let told: Vec<_> = backends.iter().map(|b| b.admin.as_str()).collect();
            assert_eq!(told, ["drain", "ready"]);
            drop(backend);
            let (backends, interval_ms) = seen(false).await;
            let check = backends[0].last_check.as_ref().unwrap();
            assert_eq!(
                (check.passed, check.words.as_str()),
                (false, "connect: refused")
            );
            assert!(interval_ms < 60_000);
        })
        .await;
}

#[tokio::test]
async fn an_agent_that_stops_following_the_protocol_is_never_the_end_of_the_program() {
    let mut stage = Stage::new().await;
    stage
        .run(async |fake, _| {
            // Out of order, another version, a lie about what is held, a malformed key.
            let session = fake.session().await;
            session.tell(Told::UpToDate(v1::UpToDate::default())).await;
            session.ended().await;
            let session = fake.session().await;
            session
                .tell(Told::Welcome(v1::Welcome {
                    protocol_version: 99,
                    ..Default::default()
                }))
                .await;
            session.ended().await;
            let session = fake.welcomed().await;
            let version = super::fake::version(&two_backends(), 1);
            session
                .tell(Told::UpToDate(v1::UpToDate {
                    version: Some(version.into()),
                }))
                .await;
            session.ended().await;
            let session = fake.welcomed().await;
            session
                .tell(Told::Secrets(v1::Secrets {
                    number: 1,
                    keys: vec![v1::PrivateKey {
                        fingerprint: vec![1],
                        private_key_pem: vec![2],
                    }],
                }))
                .await;
            session.ended().await;
            fake.welcomed().await;
        })
        .await;
}

#[tokio::test]
async fn no_log_at_any_level_has_a_private_key_or_a_join_token() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .try_init()
        .unwrap();
    let mut stage = Stage::new().await;
    let token = stage.fake.ca.token().reveal();
    let (chain, key) = pair();
    stage
        .run(async |fake, _| {
            let mut session = fake.welcomed().await;
            session.send_key(&chain, &key).await;
            session.send(&with_certificate(&chain), 1).await;
        })
        .await;
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(
        log.contains("TRACE") && log.contains("h2::"),
        "levels are off"
    );
    assert!(
        log.contains("applied"),
        "the agent's own events are missing"
    );
    // The token's secret, a line of the PEM and the end of its bytes, as text, as
    // numbers and in hexadecimal: what a log of bytes would look like.
    let secret = token.split('.').nth(2).unwrap().as_bytes().to_vec();
    let line = key.lines().nth(1).unwrap().as_bytes().to_vec();
    let pem = rcgen::KeyPair::from_pem(&key).unwrap().serialize_der();
    for secret in [secret, line, pem[pem.len() - 16..].to_vec()] {
        let numbers: Vec<String> = secret.iter().map(ToString::to_string).collect();
        let hex: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let text = String::from_utf8_lossy(&secret).into_owned();
        for shape in [text, numbers.join(", "), hex] {
            assert!(!log.contains(&shape), "{shape}");
        }
    }
}

/// What a test's logs say.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl tracing_subscriber::fmt::MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
