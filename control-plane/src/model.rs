//! What is not in the document: who acts, who an agent is, what was committed.
//! Values here are whole; the store makes them from rows, the API and the link
//! turn them into their own shapes.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use tidegate_core::diff::ResourceChange;
use tidegate_core::document::{AdminState, Labels, Mistake, Role, Timeout};
use tidegate_core::snapshot::Fingerprint;
use tidegate_proto::convert::CutBackend;
use time::OffsetDateTime;
use uuid::Uuid;

/// An agent, by the UUID in its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct AgentId(pub(crate) Uuid);

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Who did it, for the audit: `token ops`, `agent <uuid>`, `control plane`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Author(pub(crate) String);

impl Author {
    /// The control plane by itself.
    pub(crate) fn control_plane() -> Self {
        Self("control plane".to_owned())
    }

    /// Whoever shows this API token.
    pub(crate) fn token(label: &str, id: &str) -> Self {
        Self(format!("token {label} ({id})"))
    }
}

/// What an API token may do; each role may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ApiRole {
    /// Reads.
    Viewer,
    /// Changes what the fleet does.
    Operator,
    /// Gives tokens to others.
    Admin,
}

impl ApiRole {
    /// As written.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// The reverse of [`ApiRole::as_str`].
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let all = [Self::Viewer, Self::Operator, Self::Admin];
        all.into_iter().find(|role| role.as_str() == text)
    }
}

/// Where numbers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    /// The database's incarnation.
    pub(crate) epoch: Uuid,
    /// Of the last commit.
    pub(crate) change: u64,
    /// Of the document.
    pub(crate) revision: u64,
}

/// What came of a write.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    /// Where numbers stand after it.
    pub(crate) numbers: Numbers,
    /// Whether anything changed; if not, no number was taken.
    pub(crate) changed: bool,
    /// What changed in the document.
    pub(crate) diff: Vec<ResourceChange>,
}

/// What an operator has to say of a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Saying {
    pub(crate) state: AdminState,
    /// How its live connections end while it takes nothing new; absent = by
    /// themselves.
    pub(crate) pace: Option<Pacing>,
}

/// How fast live connections are to be closed, before it is known from when on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pacing {
    /// So many in each second, on each agent.
    PerSecond(NonZeroU32),
    /// All of them, within this time from when it is said.
    Within(Timeout),
}

impl fmt::Display for Saying {
    /// For the audit: `drain`, `drain 5 per second`, `drain within 10m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)?;
        match self.pace {
            None => Ok(()),
            Some(Pacing::PerSecond(rate)) => write!(f, " {rate} per second"),
            Some(Pacing::Within(time)) => write!(f, " within {time}"),
        }
    }
}

/// What a connected agent is to do once, and now.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// Names it among all commands of the cluster.
    pub(crate) number: u64,
    /// Whose connections it is to cut.
    pub(crate) cut: CutBackend,
}

/// What an agent tells of itself when it joins.
#[derive(Clone, Debug)]
pub(crate) struct Joining {
    /// SHA-256 of its public key info.
    pub(crate) key: Fingerprint,
    pub(crate) address: IpAddr,
    pub(crate) health_port: u16,
    pub(crate) version: String,
    /// Roles it insists on.
    pub(crate) roles: BTreeSet<Role>,
}

/// What an agent should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Desired {
    pub(crate) change: u64,
    pub(crate) revision: u64,
    pub(crate) hash: Fingerprint,
}

/// What an agent says of a snapshot.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) version: tidegate_proto::convert::Version,
    pub(crate) outcome: Outcome,
}

/// How far it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Applying,
    Applied,
    Failed(Vec<Mistake>),
}

/// A join token as stored: without its secret.
#[derive(Clone, Debug)]
pub(crate) struct StoredJoinToken {
    pub(crate) id: String,
    pub(crate) roles: BTreeSet<Role>,
    pub(crate) labels: Labels,
    pub(crate) uses: i32,
    pub(crate) used: i32,
    pub(crate) expires_at: OffsetDateTime,
    pub(crate) created_by: String,
    pub(crate) created_at: OffsetDateTime,
}

/// The public half of an uploaded certificate.
#[derive(Clone, Debug)]
pub(crate) struct UploadedCertificate {
    pub(crate) name: String,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) chain: String,
    pub(crate) dns_names: Vec<String>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) uploaded_by: String,
    pub(crate) uploaded_at: OffsetDateTime,
}
