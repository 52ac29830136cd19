//! The whole chain of the demo for a test: a balancer, two terminators that require
//! its PROXY header, and two Node.js processes beside each, from one document.

use std::net::SocketAddr;
use std::path::PathBuf;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::agent::{Agent, Start, write_document};
use crate::node::NodeApp;
use crate::stage::{HOST, PORT, Stage};

/// Names of the Node.js processes: `a` beside terminator 0, `b` beside 1; the digit
/// is the last one of the port.
pub const APPS: [&str; 4] = ["a0", "a1", "b0", "b1"];

/// A running fleet.
pub struct Fleet {
    /// The document that all agents run.
    pub document: Value,
    /// The balancer.
    pub balancer: Agent,
    /// The two terminators.
    pub terminators: Vec<Agent>,
    /// The Node.js processes, in the order of [`APPS`].
    pub apps: Vec<NodeApp>,
    path: PathBuf,
    /// Network, authority, directory; last, since fields are dropped in this order
    /// and the network is somebody else's from then on.
    pub stage: Stage,
}

impl Fleet {
    /// The usual one.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// One whose document was changed before anything started.
    pub async fn with(change: impl FnOnce(&mut Value)) -> Self {
        let stage = Stage::new();
        let mut document = chain(&stage);
        change(&mut document);
        // For documents that name files instead of holding the certificate.
        stage
            .certificate
            .write(stage.directory(), "play")
            .expect("there is room for two files");
        let path = stage.path("chain.yaml");
        write_document(&path, &document);

        let listening = APPS.iter().zip(0..).map(|(name, i)| {
            let address = SocketAddr::new(stage.net.terminator(i / 2), 3000 + u16::from(i % 2));
            NodeApp::at(address, name).listen()
        });
        let apps = join_all(listening).await;
        let mut terminators = Vec::new();
        for index in 0..2 {
            let address = stage.net.terminator(index);
            let start = Start::new(&path, address, &stage.path(&format!("terminator-{index}")));
            terminators.push(start.with("--role", "terminator").serve().await);
        }
        let start = Start::new(&path, stage.net.balancer(), &stage.path("balancer"));
        let balancer = start.with("--role", "balancer").serve().await;
        Self {
            stage,
            document,
            balancer,
            terminators,
            apps,
            path,
        }
    }

    /// Where clients connect.
    pub fn edge(&self) -> SocketAddr {
        self.stage.net.at(1, PORT)
    }

    /// The terminator and backend name of the app at `index` in [`APPS`].
    pub fn place(&self, index: usize) -> (&Agent, &'static str) {
        (&self.terminators[index / 2], [":3000", ":3001"][index % 2])
    }

    /// All agents.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.terminators.iter().chain([&self.balancer])
    }

    /// Changes the document and has every agent apply it.
    pub async fn apply(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.document);
        write_document(&self.path, &self.document);
        for event in join_all(self.agents().map(Agent::reload)).await {
            assert_ne!(event.message(), "refused", "{event:?}");
        }
    }
}

fn chain(stage: &Stage) -> Value {
    let net = &stage.net;
    json!({
        "listeners": [
            { "name": "edge", "role": "balancer", "bind": format!(":{PORT}"),
              "policy": "clients", "pool": "game-tls" },
            { "name": "game-tls", "role": "terminator", "bind": format!(":{PORT}"),
              "accept_proxy": [net.balancer()], "tls": { "certificates": [HOST] },
              "mode": "http", "client_ip": "forwarded", "policy": "clients",
              "pool": "game-node" },
        ],
        "pools": [
            { "name": "game-tls", "balance": "least_connections", "proxy_protocol": "v2",
              "backends": [
                  { "name": "a", "address": SocketAddr::new(net.terminator(0), PORT) },
                  { "name": "b", "address": SocketAddr::new(net.terminator(1), PORT) },
              ],
              "health_check": {
                  "http": { "path": "/health/game-tls", "expect": 200 }, "port": 7445,
                  "interval": "100ms", "timeout": "1s", "rise": 2, "fall": 3,
              } },
            { "name": "game-node", "balance": "least_connections",
              "backends": [{ "address": ":3000" }, { "address": ":3001" }],
              "health_check": {
                  "http": { "path": "/health", "expect": 200 },
                  "interval": "100ms", "timeout": "1s", "rise": 2, "fall": 3,
              } },
        ],
        "policies": [{ "name": "clients" }],
        "certificates": [stage.certificate.inline(HOST)],
    })
}
