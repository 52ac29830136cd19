//! A whole fleet for a test, steered by a control plane on a database of its own: a
//! balancer, two terminators that joined by real tokens and are discovered, and two
//! Node.js processes beside each.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tidegate_local::databases::Database;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::agent::{self, Agent};
use crate::client::connect;
use crate::control_plane::{self, ControlPlane};
use crate::node::NodeApp;
use crate::stage::{HOST, PORT, Stage};
use crate::wire::{Joining, Link, Session};
use crate::{proxy, until, within};

/// The host of a control plane in the test's network; others take the next ones.
const CONTROL_PLANE: u8 = 10;

/// A running fleet. Fields are dropped in this order: agents before what they dial.
pub struct Steered {
    /// The document that is applied.
    pub document: Value,
    /// The balancer.
    pub balancer: Agent,
    /// The terminators, in the order they joined.
    pub terminators: Vec<Agent>,
    /// Node.js processes: `a0` and `a1` beside terminator 0, `b0` and `b1` beside 1.
    pub apps: Vec<NodeApp>,
    /// The control plane.
    pub control_plane: ControlPlane,
    /// Its database; none when the test brought a server of its own.
    pub database: Option<Database>,
    /// Network, authority of the public certificate, directory.
    pub stage: Stage,
}

/// What a test varies before anything starts.
#[derive(Default)]
pub struct Plan {
    database_url: Option<String>,
    options: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, String)>,
}

impl Plan {
    /// The control plane's database, instead of a fresh one.
    #[must_use]
    pub fn database(mut self, url: &str) -> Self {
        self.database_url = Some(url.to_owned());
        self
    }

    /// An option of the control plane.
    #[must_use]
    pub fn option(mut self, option: &'static str, value: &str) -> Self {
        self.options.push((option, value.to_owned()));
        self
    }

    /// A variable in the environment of every program.
    #[must_use]
    pub fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    /// Starts all, and waits until every backend has passed its checks.
    pub async fn start(self) -> Steered {
        let stage = Stage::new();
        let database = match &self.database_url {
            Some(_) => None,
            None => Some(Database::create().await.expect("tests have a Postgres")),
        };
        let url = database.as_ref().map(Database::url);
        let url = url.or(self.database_url.as_deref());
        let url = url.expect("one of the two is there");
        let start = control_plane::Start::new(
            stage.net.ip(CONTROL_PLANE),
            url,
            &stage.path("control-plane"),
        );
        let options = self.options.iter();
        let start = options.fold(start, |start, (option, value)| start.with(option, value));
        let variables = self.variables.iter();
        let start = variables.fold(start, |start, (name, value)| start.variable(name, value));
        let control_plane = start.serve().await;

        let document = document();
        control_plane.rest.upload(HOST, &stage.certificate).await;
        control_plane.rest.apply(&document).await;
        let apps = join_all([(0, "a"), (1, "b")].map(|(i, letter)| apps(&stage, i, letter)));
        let apps = apps.await.into_iter().flatten().collect();
        let joined = |role, address| join(&stage, &control_plane, role, address, &self.variables);
        let terminators = vec![
            joined("terminator", stage.net.terminator(0)).await,
            joined("terminator", stage.net.terminator(1)).await,
        ];
        let balancer = joined("balancer", stage.net.balancer()).await;
        let fleet = Steered {
            document,
            balancer,
            terminators,
            apps,
            control_plane,
            database,
            stage,
        };
        fleet.is_whole().await;
        fleet
    }
}

impl Steered {
    /// An agent that joins at `host` as the test says, message by message: its id, its
    /// session, and the link to it.
    pub async fn joined_by_hand(
        &self,
        role: &str,
        labels: Value,
        host: u8,
    ) -> (String, Session, Link) {
        let link = self.control_plane.wire();
        let token = self.control_plane.rest.join_token(role, labels).await;
        let joining = Joining::new(&token, self.stage.net.at(host, 7445));
        let identity = link.enroll(&joining).await.expect("the token is good");
        let address = self.stage.net.ip(host).to_string();
        let session = link
            .session(&identity, |hello| hello.address = address)
            .await;
        (identity.id, session.expect("the identity is good"), link)
    }

    /// The usual one.
    pub async fn start() -> Self {
        Plan::default().start().await
    }

    /// Where clients connect.
    pub fn edge(&self) -> SocketAddr {
        self.stage.net.at(1, PORT)
    }

    /// All agents.
    pub fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.terminators.iter().chain([&self.balancer])
    }

    /// The agent at `address`.
    pub fn agent_mut(&mut self, address: IpAddr) -> &mut Agent {
        let terminators = (0..).zip(&mut self.terminators);
        let net = &self.stage.net;
        let mut found = terminators.filter(|(i, _)| net.terminator(*i) == address);
        found.next().map_or(&mut self.balancer, |(_, agent)| agent)
    }

    /// Another agent at `address`, with a token of its own and the labels that the
    /// others of its role have.
    pub async fn join(&self, role: &str, address: IpAddr) -> Agent {
        join(&self.stage, &self.control_plane, role, address, &[]).await
    }

    /// How the agent that once joined at `address` is started again: without a token.
    pub fn again(&self, address: IpAddr) -> agent::Start {
        agent::Start::run(
            &[self.control_plane.link()],
            address,
            &self.state_of(address),
        )
    }

    /// Speaks TLS with a terminator as the balancer would for that client, without it.
    ///
    /// # Errors
    /// When the terminator does not listen, or the handshake fails.
    pub async fn handshake(&self, terminator: u8, client: u8) -> io::Result<TlsStream<TcpStream>> {
        let net = &self.stage.net;
        let to = net.at(2 + terminator, PORT);
        let mut stream = connect(net.balancer(), to).await?;
        let from = SocketAddr::new(net.client(client), 40_000);
        stream.write_all(&proxy::v2(from, self.edge())).await?;
        self.stage.client(client).tls_over(stream, HOST).await
    }

    /// The state directory of the agent at `address`.
    pub fn state_of(&self, address: IpAddr) -> PathBuf {
        state_of(&self.stage, address)
    }

    /// Two Node.js processes beside the terminator of that number, named by a letter.
    pub async fn apps(&self, terminator: u8, letter: &str) -> Vec<NodeApp> {
        apps(&self.stage, terminator, letter).await
    }

    /// Where agents connect to [`Self::another_control_plane`], also before it is there.
    pub fn other_link(&self) -> SocketAddr {
        self.stage.net.at(CONTROL_PLANE + 1, 7444)
    }

    /// Another control plane on the same database.
    pub async fn another_control_plane(&self) -> ControlPlane {
        let database = self.database.as_ref();
        let url = database.expect("the fleet has its own database").url();
        let address = self.stage.net.ip(CONTROL_PLANE + 1);
        let state = self.stage.path("control-plane-2");
        let start = self.control_plane.beside(address, url, &state);
        start.serve_to(self.control_plane.token()).await
    }

    /// Changes the document, and waits until every connected agent runs it.
    pub async fn apply(&mut self, change: impl FnOnce(&mut Value)) -> Value {
        change(&mut self.document);
        self.control_plane.rest.apply(&self.document).await
    }

    /// The name of the app that answers a client.
    pub async fn whoami(&self, client: u8) -> Value {
        let client = self.stage.client(client);
        let mut http = client
            .http(self.edge(), HOST)
            .await
            .expect("the edge serves");
        let answer = http.get("/whoami").await.expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Waits until every agent sees every backend up, the balancer one per terminator.
    pub async fn is_whole(&self) {
        for terminator in &self.terminators {
            sees_up(terminator, "game-node", 2).await;
        }
        sees_up(&self.balancer, "game-tls", self.terminators.len()).await;
        within("an answer through the chain", self.whoami(0)).await;
    }
}

/// Waits until an agent's pool has that many backends, all of them up.
pub async fn sees_up(agent: &Agent, pool: &str, count: usize) {
    until(format!("{count} backends of {pool} are up"), async || {
        let rows = agent.debug("/debug/backends").await;
        let rows = rows.as_array().expect("a list");
        let of_pool: Vec<_> = rows.iter().filter(|row| row["pool"] == pool).collect();
        of_pool.len() == count && of_pool.iter().all(|row| row["up"] == true)
    })
    .await;
}

async fn join(
    stage: &Stage,
    control_plane: &ControlPlane,
    role: &str,
    address: IpAddr,
    variables: &[(&'static str, String)],
) -> Agent {
    let labels = match role {
        "balancer" => json!({ "tier": "edge" }),
        _ => json!({ "app": "game" }),
    };
    let token = control_plane.rest.join_token(role, labels).await;
    let file = stage.path(&format!("join-{address}"));
    write_secret(&file, &token);
    let state = state_of(stage, address);
    let start = agent::Start::run(&[control_plane.link()], address, &state)
        .with("--join-token-file", file.display());
    let variables = variables.iter();
    let start = variables.fold(start, |start, (name, value)| start.variable(name, value));
    start.serve().await
}

/// A file that only its owner may read.
pub fn write_secret(path: &std::path::Path, text: &str) {
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600);
    let mut file = options
        .open(path)
        .expect("the test's directory can be written");
    file.write_all(text.as_bytes())
        .expect("there is room for a line");
}

fn state_of(stage: &Stage, address: IpAddr) -> PathBuf {
    stage.path(&format!("state-{address}"))
}

async fn apps(stage: &Stage, terminator: u8, letter: &str) -> Vec<NodeApp> {
    let address = stage.net.terminator(terminator);
    let listening = (0..2u16).map(|i| {
        let address = SocketAddr::new(address, 3000 + i);
        async move { NodeApp::at(address, &format!("{letter}{i}")).listen().await }
    });
    join_all(listening).await
}

/// The canonical set-up, checked often.
fn document() -> Value {
    json!({
        "listeners": [
            { "name": "edge", "role": "balancer", "agents": { "tier": "edge" },
              "bind": format!(":{PORT}"), "policy": "clients", "pool": "game-tls" },
            { "name": "game-tls", "role": "terminator", "agents": { "app": "game" },
              "bind": format!(":{PORT}"), "tls": { "certificates": [HOST] },
              "mode": "http", "client_ip": "forwarded", "policy": "clients",
              "pool": "game-node" },
        ],
        "pools": [
            { "name": "game-tls", "balance": "least_connections", "proxy_protocol": "v2",
              "discover": { "listener": "game-tls" },
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
        "certificates": [{ "name": HOST }],
    })
}
