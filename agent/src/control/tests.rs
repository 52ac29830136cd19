//! The link against a control plane that does what a test says (`fake`), with a
//! data plane of its own and a state directory that outlives it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tempfile::TempDir;
use tidegate_core::document::{AdminState, Name};
use tidegate_core::snapshot::{Certificate, Fingerprint, Snapshot};
use tidegate_proto::v1::agent_message::Message as Said;
use tidegate_proto::v1::command::Command as Ordered;
use tidegate_proto::v1::control_message::Message as Told;
use tidegate_proto::v1::{self, snapshot_status};
use tidegate_proto::{REASON, reason};
use tonic::{Code, Status};

use super::fake::{AGENT, Fake, Session, message};
use super::fleet::{Ending, Fleet};
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
            Command::Standalone(_) => panic!("another command"),
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

fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
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
