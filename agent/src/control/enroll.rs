//! Joining a fleet: a join token and a public key for an identity. The key is
//! made once and kept before the first call, so that a repeat after a lost
//! answer is the same question and gets the same identity.

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tidegate_core::backoff::Backoff;
use tidegate_core::document::Role;
use tidegate_core::join_token::{BadToken, JoinToken};
use tidegate_proto::v1::enrollment_client::EnrollmentClient;
use tidegate_proto::v1::{EnrollRequest, EnrollResponse};
use tidegate_proto::{MAX_MESSAGE_BYTES, convert, reason};
use tokio::time::timeout;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::dial::{ControlPlanes, DialError, dial};
use super::identity::{AgentKey, Credentials, Identity, IdentityError, KEY_FILE};
use super::link_tls::{self, TlsError};
use super::state_dir::{StateDir, read_bounded};
use super::{Failures, draw, reason_of};

const LARGEST_KEY: u64 = 4 << 10;
/// A longer text is no join token.
const LARGEST_TOKEN: u64 = 4 << 10;
const VARIABLE: &str = "TIDEGATE_JOIN_TOKEN";
/// For the control plane to answer.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));

/// What an agent that joins says of itself.
pub(crate) struct Joining<'a> {
    pub(crate) control_planes: &'a ControlPlanes,
    pub(crate) token: &'a JoinToken,
    /// Where it came from when absent.
    pub(crate) address: Option<IpAddr>,
    pub(crate) health_port: u16,
    /// It insists on these.
    pub(crate) roles: &'a [Role],
}

/// Why an agent has no join token to use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// None was given.
    #[error(
        "this agent has not joined a fleet yet: give it a join token (`tidegate token create`) by \
         --join-token-file FILE, or - for standard input, or in {VARIABLE}"
    )]
    Missing,
    /// It cannot be read.
    #[error("the join token in {from}: {why}")]
    Unreadable {
        /// Where it was to come from.
        from: String,
        /// What the host says.
        why: io::Error,
    },
    /// It is none.
    #[error("{from}: {why}")]
    Bad {
        /// Where it came from.
        from: String,
        /// What is wrong with it.
        why: BadToken,
    },
}

/// Why an agent does not join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrollError {
    /// Trying again does not help.
    #[error("the control plane refuses this agent: {message}{mend}")]
    Refused {
        /// Its words.
        message: String,
        /// What to do.
        mend: &'static str,
    },
    /// The state directory, or what is in it.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Nobody is there.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// TLS refuses.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It could not answer.
    #[error("the control plane answered {code:?}: {message}")]
    Failed {
        /// The kind.
        code: Code,
        /// Its words.
        message: String,
    },
    /// It did not answer.
    #[error("the control plane did not answer within {PATIENCE:?}")]
    TooLate,
    /// It answered something else than an identity.
    #[error("the control plane's answer cannot be used: {0}")]
    BadAnswer(String),
}

/// The token from the file (`-` is standard input), else from the variable.
///
/// # Errors
/// When there is none, or what there is is none.
pub(crate) fn token(file: Option<&Path>) -> Result<JoinToken, TokenError> {
    let (from, text) = match file {
        Some(path) if path == Path::new("-") => {
            let mut text = Vec::new();
            let read = io::stdin().take(LARGEST_TOKEN).read_to_end(&mut text);
            ("standard input".to_owned(), read.map(|_| text))
        }
        Some(path) => (
            path.display().to_string(),
            read_bounded(path, LARGEST_TOKEN),
        ),
        None => {
            let value = std::env::var(VARIABLE).map_err(|_| TokenError::Missing)?;
            (VARIABLE.to_owned(), Ok(value.into_bytes()))
        }
    };
    let text = match text {
        Ok(text) => Zeroizing::new(text),
        Err(why) => return Err(TokenError::Unreadable { from, why }),
    };
    let text = std::str::from_utf8(&text).unwrap_or_default();
    text.parse().map_err(|why| TokenError::Bad { from, why })
}

/// Asks until there is an identity, and keeps it.
///
/// # Errors
/// When the control plane refuses for good, or the state directory does not
/// keep what has to be kept.
pub(crate) async fn enroll(joining: &Joining<'_>, dir: &StateDir) -> Result<Identity, EnrollError> {
    let key = kept_key(dir)?;
    let (mut attempt, mut failures) = (0_u32, Failures::default());
    loop {
        for at in joining.control_planes.shuffled() {
            match joining.ask(at, &key).await {
                Ok(identity) => {
                    identity.store(dir)?;
                    dir.remove(KEY_FILE).map_err(IdentityError::Io)?;
                    let roles: Vec<_> = identity.roles.iter().map(Role::to_string).collect();
                    tracing::info!(
                        control_plane = at,
                        agent = %identity.agent,
                        ?roles,
                        address = %identity.address,
                        "joined"
                    );
                    return Ok(identity);
                }
                Err(refused @ (EnrollError::Refused { .. } | EnrollError::Identity(_))) => {
                    return Err(refused);
                }
                Err(error) => failures.note(at, &error, "cannot join yet"),
            }
        }
        tokio::time::sleep(RETRY.delay(attempt, draw())).await;
        attempt = attempt.saturating_add(1);
    }
}

fn kept_key(dir: &StateDir) -> Result<AgentKey, IdentityError> {
    let kept = dir.read(KEY_FILE, LARGEST_KEY)?;
    if let Some(key) = kept.and_then(AgentKey::from_der) {
        return Ok(key);
    }
    let key = AgentKey::new()?;
    dir.write(KEY_FILE, key.reveal())?;
    Ok(key)
}

impl Joining<'_> {
    async fn ask(&self, at: &str, key: &AgentKey) -> Result<Identity, EnrollError> {
        let dialled = dial(at, link_tls::first_contact(self.token.pin)?).await?;
        let address = self.address.unwrap_or(dialled.local);
        let request = EnrollRequest {
            join_token: self.token.reveal(),
            csr: key.signing_request()?,
            address: address.to_string(),
            health_port: self.health_port.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: self.roles.iter().map(Role::to_string).collect(),
        };
        let mut client =
            EnrollmentClient::new(dialled.channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let answer = timeout(PATIENCE, client.enroll(request)).await;
        let answer = answer.map_err(|_| EnrollError::TooLate)?;
        let answer = answer.map_err(|status| refused(&status))?.into_inner();
        self.identity(answer, key, address)
    }

    fn identity(
        &self,
        answer: EnrollResponse,
        key: &AgentKey,
        address: IpAddr,
    ) -> Result<Identity, EnrollError> {
        let bad = |why: &dyn std::fmt::Display| EnrollError::BadAnswer(why.to_string());
        let credentials = Credentials::issued(
            key.clone(),
            answer.certificate_chain,
            answer.trust_bundle,
            SystemTime::now(),
        )
        .map_err(|e| bad(&e))?;
        // Whether key, chain and bundle belong together.
        link_tls::mutual(&credentials).map_err(|e| bad(&e))?;
        let roles = answer.roles.iter().map(|written| role(written));
        Ok(Identity {
            agent: convert::uuid(&answer.agent_id, "agent_id").map_err(|e| bad(&e))?,
            roles: roles
                .collect::<Option<_>>()
                .ok_or_else(|| bad(&"it gives a role that this version does not know"))?,
            address,
            join_token: self.token.id.clone(),
            credentials,
        })
    }
}

fn role(written: &str) -> Option<Role> {
    let all = [Role::Balancer, Role::Terminator];
    all.into_iter().find(|role| role.to_string() == written)
}

/// What a refusal means, and whether to ask again.
fn refused(status: &Status) -> EnrollError {
    let message = status.message().to_owned();
    let mend = match reason_of(status) {
        Some(reason::TOKEN_UNKNOWN) => {
            ": it may have been removed, or be another fleet's; make one with `tidegate token create`"
        }
        Some(reason::TOKEN_USED) => {
            ": make another one with `tidegate token create`; --uses N makes one for several agents"
        }
        Some(reason::TOKEN_EXPIRED) => ": make another one with `tidegate token create`",
        Some(reason::TOKEN_ROLE) => {
            ": leave --role out to take the roles that the token gives, or make a token with \
             `tidegate token create --role`"
        }
        _ if is_for_good(status.code()) => "",
        _ => {
            let code = status.code();
            return EnrollError::Failed { code, message };
        }
    };
    EnrollError::Refused { message, mend }
}

fn is_for_good(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::AlreadyExists
    )
}
