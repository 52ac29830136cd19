//! What a test begins with: a network, a certificate authority, a directory, and
//! the small documents that most tests vary.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{self, Agent, write_document};
use crate::backend::Backend;
use crate::client::Client;
use crate::net::Net;
use crate::pki::{Issued, Pki};

/// The name that tests ask for and certificates carry.
pub const HOST: &str = "play.localhost";

/// Where listeners of tests listen.
pub const PORT: u16 = 8443;

/// Where backends of tests answer checks, when checks must not meet the traffic.
pub const CHECK_PORT: u16 = 4000;

/// A test's own corner of the machine.
pub struct Stage {
    /// Its network.
    pub net: Net,
    /// Its authority.
    pub pki: Pki,
    /// The certificate for [`HOST`].
    pub certificate: Issued,
    directory: TempDir,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// A new one.
    pub fn new() -> Self {
        let pki = Pki::default();
        let certificate = pki.issue(&[HOST]);
        let directory = TempDir::with_prefix("tidegate-").expect("there is room for a directory");
        Self {
            net: Net::claim(),
            pki,
            certificate,
            directory,
        }
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A path in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Its certificate authority, in a file for programs that are told whom to trust.
    pub fn authority(&self) -> PathBuf {
        let path = self.path("authority.pem");
        std::fs::write(&path, self.pki.ca_pem()).expect("the test's directory can be written");
        path
    }

    /// The client of that number in its network.
    pub fn client(&self, index: u8) -> Client {
        Client::new(self.net.client(index), self.pki.trusting())
    }

    /// How to start an agent at the first address with this document.
    pub fn agent(&self, document: &Value) -> agent::Start {
        self.agent_at(self.net.balancer(), document)
    }

    /// How to start an agent at an address with this document.
    pub fn agent_at(&self, address: IpAddr, document: &Value) -> agent::Start {
        let path = self.path(&format!("chain-{address}.yaml"));
        write_document(&path, document);
        agent::Start::new(&path, address, &self.path(&format!("state-{address}")))
    }

    /// An agent at the first address that serves this document.
    pub async fn serve(&self, document: &Value) -> Agent {
        self.agent(document).serve().await
    }

    /// Where the first agent's listener is.
    pub fn front(&self) -> SocketAddr {
        self.net.at(1, PORT)
    }

    /// The address of a backend, 0 to 39.
    pub fn back(&self, index: u16) -> SocketAddr {
        self.net.at(50, CHECK_PORT + 1 + index)
    }

    /// Something that passes checks for every backend with `"port": CHECK_PORT`.
    pub async fn checks_pass(&self) -> Backend {
        Backend::silent(self.net.at(50, CHECK_PORT)).await
    }

    /// A balancer's document: `edge` before `backends`, checked on [`CHECK_PORT`].
    /// Its policy `clients` is there to be filled.
    pub fn balancer(&self, backends: &[SocketAddr]) -> Value {
        json!({
            "listeners": [
                { "name": "edge", "role": "balancer", "bind": format!(":{PORT}"),
                  "policy": "clients", "pool": "back" },
            ],
            "pools": [pool("back", backends)],
            "policies": [{ "name": "clients" }],
        })
    }

    /// A terminator's document in TCP mode without PROXY header: `tls` before
    /// `backends`, with the same policy.
    pub fn terminator(&self, backends: &[SocketAddr]) -> Value {
        json!({
            "listeners": [
                { "name": "tls", "role": "terminator", "bind": format!(":{PORT}"),
                  "accept_proxy": "none", "tls": { "certificates": ["play"] }, "mode": "tcp",
                  "client_ip": "none", "policy": "clients", "pool": "back" },
            ],
            "pools": [pool("back", backends)],
            "policies": [{ "name": "clients" }],
            "certificates": [self.certificate.inline("play")],
        })
    }

    /// The same in HTTP mode.
    pub fn http_terminator(&self, backends: &[SocketAddr]) -> Value {
        let mut document = self.terminator(backends);
        document["listeners"][0]["mode"] = json!("http");
        document["listeners"][0]["client_ip"] = json!("forwarded");
        document
    }

    /// The same before Node.js processes, checked by their `/health`.
    pub fn node_terminator(&self, apps: &[SocketAddr]) -> Value {
        let mut document = self.http_terminator(&[]);
        document["pools"][0] = checked_by_http(pool("back", apps));
        document
    }
}

/// A pool of listed backends, named by their addresses, checked on [`CHECK_PORT`].
pub fn pool(name: &str, backends: &[SocketAddr]) -> Value {
    let backends: Vec<Value> = backends.iter().map(|a| json!({ "address": a })).collect();
    json!({
        "name": name,
        "balance": "round_robin",
        "backends": backends,
        "health_check": { "tcp": {}, "port": CHECK_PORT, "interval": "100ms", "timeout": "1s" },
    })
}

/// Checks a pool's Node.js processes by their `/health`, often.
pub fn checked_by_http(mut pool: Value) -> Value {
    pool["health_check"] = json!({
        "http": { "path": "/health", "expect": 200 },
        "interval": "100ms", "timeout": "1s", "rise": 2, "fall": 3,
    });
    pool
}
