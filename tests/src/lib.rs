//! The end-to-end harness: the real `tidegate-agent` and `tidegate serve`, real
//! Node.js processes, clients at any loopback address and backends that misbehave on
//! purpose. Tests (`tests/e2e`) are built from it.
//!
//! Nothing waits by sleeping: a test waits for an event (a log line, a byte, the
//! end of a process) under [`DEADLINE`], or asks an admin endpoint [`until`] it
//! says what is awaited. A test begins with a [`Stage`], a whole [`Fleet`] of
//! standalone agents, or one that a control plane steers: [`Steered`].
//!
//! To add a way to misbehave: a constructor on [`backend::Backend`].

pub mod agent;
pub mod backend;
pub mod browser;
pub mod child;
pub mod client;
pub mod control_plane;
pub mod crowd;
pub mod elsewhere;
pub mod event;
pub mod fleet;
pub mod metrics;
pub mod namespace;
pub mod net;
pub mod node;
pub mod peer;
pub mod pki;
pub mod proc;
pub mod proxy;
pub mod rest;
pub mod stage;
pub mod steered;
pub mod tap;
pub mod tcp;
pub mod wire;
pub mod wiretap;

use std::fmt::Display;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use agent::Agent;
pub use control_plane::ControlPlane;
pub use fleet::Fleet;
pub use net::Net;
pub use stage::Stage;
pub use steered::Steered;

/// How long anything may take that should happen soon. Long, since it only
/// passes when a test fails, and a busy machine must not make one fail.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// `future`'s answer, or a panic that says what did not happen in time.
pub async fn within<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {DEADLINE:?}: {what}"),
    }
}

/// Asks `holds` again and again until it does: for states that no event tells.
pub async fn until(what: impl Display, mut holds: impl AsyncFnMut() -> bool) {
    within(what, async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// A path in this checkout.
pub fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
