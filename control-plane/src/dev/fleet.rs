//! Setting up the fleet over REST, as a person would: certificate, join tokens,
//! document; and waiting until all of it works. What it waits for is in `health`.

mod health;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Certificate;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, sleep};

use crate::cli::client::{Call, Client};
use crate::cli::connection::{Connection, Remembered, write_private};
use crate::cli::error::Error;
use crate::cli::words;
use crate::dev::TERMINATORS;
use crate::dev::addresses::Addresses;
use crate::dev::authority::{Authority, HOST};
use crate::dev::home::Home;

/// The certificate's name in the document.
const CERTIFICATE: &str = "play";
/// The document that a new fleet begins with.
const EXAMPLE: &str = include_str!("../../../examples/demo/fleet.yaml");

/// How long the whole may take from the control plane's first answer on.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// And how long of that the first checks may take.
const HEALTH_PATIENCE: Duration = Duration::from_secs(60);
/// The control plane migrates its database first.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// States that no event tells are asked for that often.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// A certificate that ends sooner is replaced.
const RENEW_BEFORE: time::Duration = time::Duration::days(30);

/// The fleet, through its control plane.
pub(super) struct Fleet<'a> {
    client: Client,
    home: &'a Home,
    at: &'a Addresses,
}

impl<'a> Fleet<'a> {
    /// Waits until the control plane answers, and writes down how it is reached.
    pub(super) async fn reach(home: &'a Home, at: &'a Addresses) -> anyhow::Result<Self> {
        let state = home.at(super::CONTROL_PLANE);
        let (token_file, ca_file) = (state.join("admin.token"), state.join("ca.pem"));
        let give_up = Instant::now() + START_PATIENCE;
        loop {
            // Both are written before anything is answered.
            if let Ok(token) = std::fs::read_to_string(&token_file)
                && ca_file.exists()
            {
                let client = Client::new(Connection {
                    url: at.rest_url().parse()?,
                    token: token.trim().to_owned().into(),
                    token_from: token_file.display().to_string(),
                    ca_file: Some(ca_file.clone()),
                })?;
                match client.send(Call::get(&["status"])).await {
                    Ok(_) => {
                        home.write_connection(&Remembered {
                            url: Some(at.rest_url()),
                            token_file: Some(token_file),
                            token: None,
                            ca_file: Some(ca_file),
                        })?;
                        return Ok(Self { client, home, at });
                    }
                    // It has begun to answer, and will not change its mind.
                    Err(error @ Error::Refused(_)) => return Err(error.into()),
                    Err(_) => {}
                }
            }
            if Instant::now() > give_up {
                let log = home.at("logs/control-plane.log");
                bail!("the control plane does not answer; {}", log.display());
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Whether no document was ever applied.
    pub(super) async fn is_new(&self) -> anyhow::Result<bool> {
        Ok(self.items(&["revisions"]).await?.is_empty())
    }

    /// Uploads a certificate when there is none, or when it ends soon.
    pub(super) async fn have_certificate(&self, authority: &Authority) -> anyhow::Result<()> {
        let stored = self.items(&["certificates"]).await?;
        let stored = stored.iter().find(|c| c["name"] == CERTIFICATE);
        let ends = stored.and_then(|c| instant(&c["not_after"]));
        if ends.is_none_or(|ends| ends - OffsetDateTime::now_utc() < RENEW_BEFORE) {
            let issued = authority.issue(self.at.ip(1))?;
            let body = json!({ "chain": issued.chain, "private_key": issued.private_key });
            let call = Call::put(&["certificates", CERTIFICATE]).json(&body);
            self.client.send(call).await?;
        }
        super::step(
            "certificate",
            &format!("{HOST}, localhost, {}", self.at.ip(1)),
        );
        Ok(())
    }

    /// A file with a join token for an agent that has not joined yet.
    pub(super) async fn token_for(
        &self,
        agent: &str,
        role: &str,
        (label, value): (&str, &str),
    ) -> anyhow::Result<Option<PathBuf>> {
        // An agent that was revoked has no identity either: it joins again.
        if self.home.at(agent).join("identity.json").exists() {
            return Ok(None);
        }
        let body = json!({ "roles": [role], "labels": { label: value }, "expires_in": "10m" });
        let call = Call::post(&["join-tokens"]).json(&body);
        let made: Value = self.client.send(call).await?.json()?;
        let token = made.get("token").and_then(Value::as_str);
        let token = token.context("no token was shown")?;
        let path = self.home.at("tokens").join(agent);
        write_private(&path, &format!("{token}\n"))?;
        Ok(Some(path))
    }

    /// Tokens that were used are of no use.
    pub(super) fn forget_tokens(&self) {
        for name in names() {
            // Mostly there is none.
            let _ = std::fs::remove_file(self.home.at("tokens").join(name));
        }
    }

    /// Waits until each of our agents is connected.
    pub(super) async fn agents_connected(&self) -> anyhow::Result<()> {
        loop {
            let agents = self.items(&["agents"]).await?;
            if ours(self.at).all(|(_, ip)| health::connected(&agents, &ip).is_some()) {
                return Ok(());
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Applies the example, and waits until every agent runs it.
    pub(super) async fn apply_example(&self) -> anyhow::Result<()> {
        let text = document(EXAMPLE, self.at);
        let path = self.home.at("fleet.yaml");
        std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        let call = Call::put(&["config"])
            .body("application/yaml", text.into_bytes())
            .wait_applied(Some(HEALTH_PATIENCE));
        let done: Value = self.client.send(call).await?.json()?;
        let some = |list| {
            let list = done.pointer(list).and_then(Value::as_array);
            list.is_some_and(|list| !list.is_empty())
        };
        if some("/applied/failed") || some("/applied/pending") {
            let applied = done.get("applied").map(Value::to_string);
            bail!(
                "not every agent runs the document: {}",
                applied.unwrap_or_default()
            );
        }
        super::step(
            "document",
            &format!("revision {}", words::at(&done, "/revision")),
        );
        Ok(())
    }

    /// Waits until everything is applied, up and answers, as seen since `began`;
    /// what is missing when that takes too long.
    pub(super) async fn is_healthy(
        &self,
        began: OffsetDateTime,
        authority: &Authority,
    ) -> anyhow::Result<Vec<String>> {
        let traffic = SocketAddr::new(self.at.ip(1), self.at.port);
        let browser = reqwest::Client::builder()
            .tls_certs_only([Certificate::from_pem(authority.pem.as_bytes())?])
            .no_proxy()
            .timeout(Duration::from_secs(5))
            .build()?;
        let give_up = Instant::now() + HEALTH_PATIENCE;
        loop {
            let mut missing = self.missing(began).await?;
            if missing.is_empty() {
                match whoami(&browser, traffic).await {
                    Ok(()) => return Ok(missing),
                    Err(why) => missing.push(why),
                }
            }
            if Instant::now() > give_up {
                return Ok(missing);
            }
            sleep(ASK_AGAIN).await;
        }
    }

    async fn missing(&self, began: OffsetDateTime) -> anyhow::Result<Vec<String>> {
        let agents = self.items(&["agents"]).await?;
        let mut pools = Vec::new();
        for pool in self.items(&["pools"]).await? {
            let name = words::at(&pool, "/name");
            pools.push(self.items(&["pools", &name, "backends"]).await?);
        }
        let backends: Vec<Value> = pools.into_iter().flatten().collect();
        Ok(health::missing(&agents, &backends, ours(self.at), began))
    }

    async fn items(&self, list: &[&str]) -> anyhow::Result<Vec<Value>> {
        Ok(self.client.send(Call::get(list)).await?.items()?)
    }
}

/// One request through the whole chain.
async fn whoami(browser: &reqwest::Client, traffic: SocketAddr) -> Result<(), String> {
    let url = format!("https://{traffic}/whoami");
    match browser.get(&url).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(format!("{url} answers {}", answer.status())),
        Err(error) => Err(format!("{url} does not answer: {error}")),
    }
}

/// Our agents: the others are of whoever added them.
fn names() -> impl Iterator<Item = &'static str> {
    ["balancer"]
        .into_iter()
        .chain(TERMINATORS.map(|(name, _)| name))
}

fn ours(at: &Addresses) -> impl Iterator<Item = (&'static str, String)> + '_ {
    let hosts = [1].into_iter().chain(TERMINATORS.map(|(_, host)| host));
    names().zip(hosts.map(|host| at.ip(host).to_string()))
}

/// The example, with our port in it.
fn document(example: &str, at: &Addresses) -> String {
    // The first is the balancer's.
    example.replacen("bind: \":8443\"", &format!("bind: \":{}\"", at.port), 1)
}

fn instant(value: &Value) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidegate_core::document::Document;

    use super::*;

    #[test]
    fn the_examples_are_right_documents_for_any_port() {
        let at = Addresses {
            network: "127.8.9".parse().unwrap(),
            port: 9443,
        };
        let compose = include_str!("../../../examples/compose/fleet.yaml");
        for example in [EXAMPLE, compose] {
            let text = document(example, &at);
            let uploaded = BTreeSet::from([CERTIFICATE.parse().unwrap()]);
            let document = Document::of_fleet(Document::tree(&text).unwrap(), &uploaded).unwrap();
            let listeners = document.listeners.iter();
            let binds: Vec<String> = listeners.map(|l| l.bind.to_string()).collect();
            assert_eq!(binds, [":9443", ":8443"]);
        }
    }
}
