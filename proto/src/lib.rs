//! The wire between control plane and agents (`tidegate/v1/link.proto`), and the
//! one place where wire types become core's ([`convert`]). Nothing else of
//! either program takes a wire type for a fact.

pub mod convert;

/// Generated from the proto file.
#[expect(
    missing_docs,
    clippy::all,
    clippy::allow_attributes,
    unused_qualifications,
    reason = "generated; what it means stands in the proto file"
)]
pub mod v1 {
    tonic::include_proto!("tidegate.v1");
}

/// Grows when an old peer would misread a new one.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest message of either direction, so also the largest snapshot on the
/// wire. Checked when a change is committed, set on every sender and receiver.
pub const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// The largest message from an agent: answers are short, and a report has bounded
/// rows.
pub const MAX_AGENT_MESSAGE_BYTES: usize = 4 << 20;

/// Rows of each kind in a report, of texts of at most 256 characters. An agent
/// that sees more leaves out what matters least; the control plane refuses more.
pub const MAX_REPORT_ROWS: usize = 16_384;

/// The largest snapshot before compression: what a receiver is ready to hold.
pub const MAX_SNAPSHOT_BYTES: usize = 128 << 20;

/// The name in every control-plane certificate. Agents ask for it whatever host
/// they dial, so that only the authority decides who is the control plane.
pub const SERVER_NAME: &str = "control-plane.tidegate.internal";

/// What a peer may name in `features`: only what it really does.
pub mod feature {
    /// The agent carries out `Command.cut_clients`.
    pub const CUT_CLIENTS: &str = "cut_clients";
    /// The agent carries out `Command.cut_backend`.
    pub const CUT_BACKEND: &str = "cut_backend";
}

/// The metadata key by which an error says what kind it is, for programs;
/// the values are in [`reason`].
pub const REASON: &str = "tidegate-reason";

/// Values of [`REASON`].
pub mod reason {
    /// The agent was revoked or removed: it drops keys and cache and stays down.
    pub const REVOKED: &str = "revoked";
    /// The control plane has no such agent: it goes on with what it has, and
    /// has to join again.
    pub const UNKNOWN_AGENT: &str = "unknown_agent";
    /// The certificate has ended: renew it.
    pub const EXPIRED: &str = "expired";
    /// No such join token.
    pub const TOKEN_UNKNOWN: &str = "token_unknown";
    /// The join token has ended.
    pub const TOKEN_EXPIRED: &str = "token_expired";
    /// The join token was used as often as it may be.
    pub const TOKEN_USED: &str = "token_used";
    /// The join token does not give the role.
    pub const TOKEN_ROLE: &str = "token_role";
}
