//! The Node.js apps of `bench/apps`, one process each.

use std::process::Command;

use super::{Layer, Site, Trouble, installed};

/// An app.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its file: "caching.mjs".
    pub script: &'static str,
    /// HTTPS, in Node.js itself.
    pub tls: bool,
}

/// A proxy for WebSockets in Node.js, on the `http-proxy` package.
#[derive(Clone, Copy, Debug)]
pub struct HttpProxy {
    /// HTTPS, in Node.js itself.
    pub tls: bool,
}

impl Node {
    /// An app over HTTP.
    pub const fn new(script: &'static str) -> Self {
        Self { script, tls: false }
    }
}

impl Layer for Node {
    fn name(&self) -> &'static str {
        "node"
    }

    fn ends_tls(&self) -> bool {
        self.tls
    }

    fn command(&self, site: &Site) -> Result<Command, Trouble> {
        node(self.script, self.tls, site)
    }
}

impl Layer for HttpProxy {
    fn name(&self) -> &'static str {
        "http-proxy"
    }

    fn ends_tls(&self) -> bool {
        self.tls
    }

    fn command(&self, site: &Site) -> Result<Command, Trouble> {
        let mut command = node("proxy.mjs", self.tls, site)?;
        command.env("TARGET", format!("http://{}", site.upstream()?));
        Ok(command)
    }
}

fn node(script: &str, tls: bool, site: &Site) -> Result<Command, Trouble> {
    let mut command = installed("node")?;
    command
        .arg(site.stage.programs().apps.join(script))
        .env("NODE_ENV", "production")
        .env("HOST", site.listen.ip().to_string())
        .env("PORT", site.listen.port().to_string())
        .env("DATA", site.stage.files());
    if tls {
        let certificate = site.certificate();
        command
            .env("TLS_CERT", &certificate.chain)
            .env("TLS_KEY", &certificate.key);
    }
    Ok(command)
}
