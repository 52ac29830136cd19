//! What can go wrong between a person and the control plane. Each message names
//! the mend; none holds a token.

use std::io;
use std::path::{Path, PathBuf};

use crate::cli::problem::Refusal;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments do not make sense together.
    #[error("{0}")]
    Usage(String),

    /// Nobody said where the control plane is.
    #[error(
        "it is not known where the control plane is. Say it once:\n  \
         tidegate login --url https://HOST:7443 --token-file FILE --ca-file FILE\n\
         or set TIDEGATE_URL, TIDEGATE_TOKEN and TIDEGATE_CA_FILE. A fleet to try on this \
         machine: tidegate dev"
    )]
    NoUrl,

    /// An address that cannot be used.
    #[error("{url:?} ({from}) is not an address of a control plane: {why}")]
    BadUrl {
        /// As it was written.
        url: String,
        /// Who said it.
        from: String,
        /// And the mend.
        why: &'static str,
    },

    /// There is an address, and no token.
    #[error(
        "there is no API token for {0}: give --token-file FILE, or set TIDEGATE_TOKEN. The first \
         admin's is admin.token in the control plane's state directory"
    )]
    NoToken(String),

    /// A text that cannot be a token. It is not quoted.
    #[error(
        "the token from {0} is none: it is one line, as `tidegate api-token create` prints it, or \
         admin.token of the control plane's state directory"
    )]
    BadToken(String),

    /// A file that cannot be read or written.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },

    /// A file that holds something else.
    #[error("{path}: {why}", path = .path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// And the mend.
        why: String,
    },

    /// No answer, or none that can be trusted.
    #[error("{0}")]
    Transport(String),

    /// The control plane said no.
    #[error("{0}")]
    Refused(Box<Refusal>),

    /// An answer of somebody else, or of another version.
    #[error(
        "{url} answered something unknown ({why}). Is it the control plane's REST address (port \
         7443), and does `tidegate --version` fit it?"
    )]
    Answer {
        /// Who answered.
        url: String,
        /// What is wrong with it.
        why: String,
    },

    /// What was named is not there, or not clearly.
    #[error("{0}")]
    NoSuch(String),

    /// The change stands, and not every agent runs it.
    #[error("{0}")]
    NotApplied(String),

    /// Our own output, or our own runtime.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// An error of a file.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |error| Self::File {
            path: path.to_owned(),
            error,
        }
    }

    /// 2 when the command was written wrongly, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
