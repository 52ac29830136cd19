//! The sample app, `examples/node-app`: real Node.js processes for agents to stand
//! before.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::process::Command;

use crate::checkout;
use crate::child::{Child, Extras, Signal};

/// How a process of the sample app is started.
pub struct Start {
    address: SocketAddr,
    name: String,
    environment: Vec<(&'static str, String)>,
    copy_to: Option<File>,
}

/// A running process of the sample app; killed when dropped.
pub struct NodeApp {
    child: Child,
    address: SocketAddr,
}

impl NodeApp {
    /// A process at `address` that calls itself `name`.
    pub fn at(address: SocketAddr, name: &str) -> Start {
        Start {
            address,
            name: name.to_owned(),
            environment: Vec::new(),
            copy_to: None,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it calls itself.
    pub fn name(&self) -> &str {
        self.child.name()
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Its process.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.child.signal(signal);
    }

    /// `kill -9`, and waits until it has ended.
    pub async fn kill(&mut self) {
        self.child.signal(Signal::KILL);
        self.child.exit_code().await;
    }

    /// Makes `/health` answer 503 instead of 200, or again 200.
    pub fn toggle_health(&self) {
        self.child.signal(Signal::USR2);
    }
}

impl Start {
    /// Requires a PROXY header on every connection.
    #[must_use]
    pub fn requiring_proxy(mut self) -> Self {
        self.environment.push(("PROXY_PROTOCOL", "1".to_owned()));
        self
    }

    /// Closes HTTP connections idle for that long.
    #[must_use]
    pub fn keep_alive_ms(mut self, ms: u32) -> Self {
        self.environment.push(("KEEP_ALIVE_MS", ms.to_string()));
        self
    }

    /// Copies its output to a file.
    #[must_use]
    pub fn log_to(mut self, file: File) -> Self {
        self.copy_to = Some(file);
        self
    }

    /// Starts it and does not wait for anything.
    ///
    /// # Errors
    /// When there is no Node.js.
    pub fn spawn(self) -> io::Result<NodeApp> {
        let mut command = Command::new("node");
        command.arg(checkout("examples/node-app/server.mjs"));
        command.env("HOST", self.address.ip().to_string());
        command.env("PORT", self.address.port().to_string());
        command.env("NAME", &self.name).envs(self.environment);
        let extras = Extras {
            copy_to: self.copy_to,
            ..Extras::default()
        };
        let child = Child::spawn(&self.name, command, extras)?;
        Ok(NodeApp {
            child,
            address: self.address,
        })
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When there is no Node.js, or it ends.
    pub async fn listen(self) -> NodeApp {
        let app = self
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start node ({e}): `make setup`"));
        app.listening().await;
        app
    }
}

impl NodeApp {
    /// Waits until it listens.
    pub async fn listening(&self) {
        let is_it = |line: &str| line.starts_with("listening ").then_some(());
        self.child.find("'listening'", 0, is_it).await;
    }
}
