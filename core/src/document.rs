//! The document: what people write and apply. Types here hold exactly what was
//! written; `plan` resolves them for one agent.
//!
//! [`Document::parse`] answers with every mistake at once, each with the JSON
//! pointer of its place (RFC 6901) and the mend. A value that cannot be right
//! by itself is refused by its type (`value`), a resource by its fields
//! (`read`), and what only shows between resources by `check`.
//!
//! To add a field: put it on its struct with a default, and if it refers to or
//! excludes something else, add the rule to `check`.

mod bounded;
mod certificate;
mod check;
mod health_check;
mod http;
mod index;
mod listener;
mod passive;
mod policy;
mod pool;
mod proxy_protocol;
mod read;
mod server_name;
mod tls;
mod value;

use std::collections::BTreeSet;
use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use crate::pick::{AllDown, Backups};
pub use crate::rate::Rate;
pub use bounded::{Bounded, Keepalive, UserTimeout};
pub use certificate::{Certificate, Material, SecretPem};
pub use health_check::{AgentCheck, CheckKind, CheckProxy, HealthCheck, HttpCheck, TlsCheck};
pub use http::{Http, HttpVersion, MaxConcurrentStreams, MaxHeaderBytes, MaxHeaders, Versions};
pub(crate) use index::Index;
pub use listener::{ClientIp, Listener, Mode, Plain, Redirect, RedirectStatus, Route, Tcp};
pub use passive::{Ejecting, Passive};
pub use policy::{Limits, Policy, Timeouts};
pub use pool::{Backend, BoundedLoad, Discover, MaxQueue, Pool, Retries};
pub use proxy_protocol::{Extensions, ProxyProtocol};
pub use server_name::{ServerName, ServerPattern};
pub use tls::{
    Authorities, ClientCertificates, Close, Group, Groups, Protocol, Suite, Suites, Tls,
    UnknownName, Version as TlsVersion, Versions as TlsVersions,
};
pub use value::{
    AcceptProxy, AdminState, BackendName, Cidr, Labels, Name, ProxyOut, Timeout, Weight,
};

/// All listeners, pools, policies and certificates, in the order written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Document {
    /// What is bound, on which agents.
    pub listeners: Vec<Listener>,
    /// Where connections go.
    pub pools: Vec<Pool>,
    /// What listeners do about clients.
    pub policies: Vec<Policy>,
    /// Names of certificates; standalone agents also find the material here.
    pub certificates: Vec<Certificate>,
}

/// The two kinds of work an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Spreads TCP, never decrypts.
    Balancer,
    /// Terminates TLS beside the app.
    Terminator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Balancer => "balancer",
            Self::Terminator => "terminator",
        })
    }
}

/// Something wrong in a document, or impossible on an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Mistake {
    /// Where: a JSON pointer (RFC 6901) into the document; empty = all of it.
    pub pointer: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

impl Mistake {
    /// A mistake at `pointer`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

impl Document {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// Every mistake found, sorted by place, never an empty list.
    pub fn parse(text: &str) -> Result<Self, Vec<Mistake>> {
        let read = read::document(read::tree(text)?)?;
        let mut mistakes = read.mistakes;
        check::references(&read.document, &read.places, &mut mistakes);
        settled(read.document, mistakes)
    }

    /// YAML or JSON to a tree, for [`Document::of_fleet`].
    ///
    /// # Errors
    /// When the text is neither.
    pub fn tree(text: &str) -> Result<Value, Vec<Mistake>> {
        read::tree(text)
    }

    /// Reads a value as a resource is read, for what is said beside the document.
    ///
    /// # Errors
    /// Every mistake in it, with pointers into the value.
    pub fn part<T: DeserializeOwned>(value: Value) -> Result<T, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        read::resource(value, "", &mut mistakes).ok_or(mistakes)
    }

    /// Reads the document of a fleet, where chains and keys are `uploaded` and
    /// the document only names them.
    ///
    /// # Errors
    /// As [`Document::parse`], and a certificate that was never uploaded or
    /// brings its key along.
    pub fn of_fleet(tree: Value, uploaded: &BTreeSet<Name>) -> Result<Self, Vec<Mistake>> {
        let mut read = read::document(tree)?;
        let mut mistakes = read.mistakes;
        check::certificates_are_uploaded(&read.document, &read.places, uploaded, &mut mistakes);
        let named = &mut read.places.certificates.names;
        named.extend(uploaded.iter().cloned());
        check::references(&read.document, &read.places, &mut mistakes);
        settled(read.document, mistakes)
    }

    /// Every certificate that the document names, as declared or by a listener.
    pub fn certificate_names(&self) -> BTreeSet<&Name> {
        let declared = self.certificates.iter().map(|c| &c.name);
        let used = self.listeners.iter().filter_map(|l| l.tls.as_ref());
        declared
            .chain(used.flat_map(|tls| &tls.certificates))
            .collect()
    }

    /// Turns the names in the pointers of an agent's mistakes
    /// (`/listeners/edge/bind`) into indexes: an agent knows resources by name,
    /// and a pointer leads into the document as written.
    pub fn locate(&self, mistakes: Vec<Mistake>) -> Vec<Mistake> {
        let index_of = |kind: &str, name: &str| match kind {
            "listeners" => self.listeners.iter().position(|l| l.name.as_str() == name),
            "pools" => self.pools.iter().position(|p| p.name.as_str() == name),
            "certificates" => self
                .certificates
                .iter()
                .position(|c| c.name.as_str() == name),
            _ => None,
        };
        let located = |mut mistake: Mistake| {
            let mut keys = mistake.pointer.splitn(4, '/');
            if let (Some(""), Some(kind), Some(name)) = (keys.next(), keys.next(), keys.next())
                && let Some(index) = index_of(kind, name)
            {
                let below = keys
                    .next()
                    .map_or_else(String::new, |rest| format!("/{rest}"));
                mistake.pointer = format!("/{kind}/{index}{below}");
            }
            mistake
        };
        mistakes.into_iter().map(located).collect()
    }
}

/// Whether a field need not be written: its absence says the same.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The document, unless something is wrong with it.
fn settled(document: Document, mut mistakes: Vec<Mistake>) -> Result<Document, Vec<Mistake>> {
    if mistakes.is_empty() {
        return Ok(document);
    }
    mistakes.sort();
    mistakes.dedup();
    Err(mistakes)
}

#[cfg(test)]
mod tests;
