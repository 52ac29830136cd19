//! Private keys of one session: those that the agent's snapshot names and the agent
//! lacks. They go before the snapshot, which waits for their acknowledgement.

use std::sync::Arc;

use tidegate_core::snapshot::Fingerprint;
use tidegate_proto::convert::{self, Version};
use tidegate_proto::v1;
use tidegate_proto::v1::control_message::Message as Down;
use tokio::time::Instant;

use super::{ANSWER, End, Owed, Session};
use crate::publish::Content;
use crate::seal::key_purpose;
use crate::store::StoreError;

impl Session {
    /// The keys first, if any are missing.
    pub(super) async fn prepare(
        &mut self,
        version: Version,
        content: Arc<Content>,
    ) -> Result<(), End> {
        let named = content.fingerprints.iter();
        let missing: Vec<Fingerprint> = named.filter(|f| !self.held.contains(f)).copied().collect();
        if missing.is_empty() {
            return self.send_snapshot(version, &content).await;
        }
        let keys = match self.keys(&missing).await {
            Ok(keys) => keys,
            Err(error) => {
                self.later(&error);
                return Ok(());
            }
        };
        let number = version.change;
        self.owed = Owed::Keys {
            number,
            version,
            content,
            until: Instant::now() + ANSWER,
        };
        self.send(Down::Secrets(v1::Secrets { number, keys })).await
    }

    async fn keys(&self, wanted: &[Fingerprint]) -> Result<Vec<v1::PrivateKey>, StoreError> {
        let agent = self.peer.agent;
        let sealed = self.link.store.sealed_keys(agent, wanted).await?;
        self.link.store.delivering_keys(agent, wanted).await?;
        let mut keys = Vec::with_capacity(sealed.len());
        for (fingerprint, sealed) in sealed {
            let opened = self.link.kek.open(&key_purpose(fingerprint), &sealed)?;
            keys.push(v1::PrivateKey {
                fingerprint: fingerprint.as_bytes().to_vec(),
                private_key_pem: opened.to_vec(),
            });
        }
        Ok(keys)
    }

    pub(super) async fn heard_keys(&mut self, ack: v1::SecretsAck) -> Result<(), End> {
        let owed = std::mem::replace(&mut self.owed, Owed::Nothing);
        let (version, content) = match owed {
            Owed::Keys {
                number,
                version,
                content,
                ..
            } if number == ack.number => (version, content),
            _ => return Err(End::Protocol("keys were acknowledged that were not sent")),
        };
        for fingerprint in &ack.fingerprints {
            self.held.insert(convert::fingerprint(fingerprint)?);
        }
        // Keys that the agent could not take are its reasons to fail, in its words.
        self.send_snapshot(version, &content).await
    }
}
