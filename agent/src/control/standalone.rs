//! The document as a file: read, parsed, planned for this agent alone. What
//! the control plane does for a fleet happens here for one.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use tidegate_core::document::{Certificate, Document, Material, Mistake, Name};
use tidegate_core::keyed::HashKey;
use tidegate_core::plan::{Agent, Chain, Facts, plan};
use tidegate_core::snapshot::Snapshot;

use crate::settings::Standalone;
use crate::tickets::own::Secrets;
use crate::tls::Keys;

/// A document's file and the agent it is for.
pub(crate) struct Source {
    path: PathBuf,
    hash_key: Option<PathBuf>,
    ticket_keys: Option<PathBuf>,
    agent: Agent,
}

/// A document, planned, with the keys it names.
pub(crate) struct Loaded {
    pub(crate) document: Document,
    pub(crate) snapshot: Snapshot,
    pub(crate) keys: Keys,
    /// Of session tickets; none when the agent makes keys of its own.
    pub(crate) ticket_secrets: Option<Secrets>,
}

impl Source {
    /// The file named on the command line, for an agent with this address.
    ///
    /// # Errors
    /// When the agent's own name were not a name, which it is.
    pub(crate) fn new(settings: &Standalone, address: IpAddr) -> anyhow::Result<Self> {
        let agent = Agent {
            id: "standalone".parse()?,
            roles: settings.roles(),
            labels: settings.labels(),
            address,
            health_port: settings.common.health_port,
        };
        Ok(Self {
            path: settings.config.clone(),
            hash_key: settings.hash_key_file.clone(),
            ticket_keys: settings.ticket_key_file.clone(),
            agent,
        })
    }

    /// The file as it is now.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(crate) fn load(&self) -> Result<Loaded, Vec<Mistake>> {
        let text = read(&self.path).map_err(|error| {
            vec![Mistake::new(
                "",
                format!("{}: {error}", self.path.display()),
            )]
        })?;
        let document = Document::parse(&text)?;
        let (certificates, keys) = self.material(&document)?;
        let hash_key = self.hash_key.as_deref().map(read_hash_key).transpose();
        let hash_key = hash_key.map_err(|mistake| vec![mistake])?;
        let ticket_secrets = self.ticket_keys.as_deref().map(read_ticket_keys);
        let ticket_secrets = ticket_secrets.transpose().map_err(|m| vec![m])?;
        let facts = Facts {
            agents: vec![self.agent.clone()],
            certificates,
            admin: BTreeMap::new(),
            hash_key,
            standalone: true,
        };
        let snapshot = plan(&document, &facts, &self.agent)?;
        Ok(Loaded {
            document,
            snapshot,
            keys,
            ticket_secrets,
        })
    }

    fn material(&self, document: &Document) -> Result<(BTreeMap<Name, Chain>, Keys), Vec<Mistake>> {
        let (mut chains, mut keys, mut mistakes) = (BTreeMap::new(), Keys::default(), Vec::new());
        for (index, certificate) in document.certificates.iter().enumerate() {
            match self.pair(certificate, index) {
                Ok(None) => {}
                Ok(Some((chain, key))) => match keys.insert(&chain, &key) {
                    Ok(()) => {
                        chains.insert(certificate.name.clone(), Chain { pem: chain });
                    }
                    Err(why) => mistakes.push(Mistake::new(
                        format!("/certificates/{index}/{}", certificate.material.key_field()),
                        why,
                    )),
                },
                Err(mut unread) => mistakes.append(&mut unread),
            }
        }
        if mistakes.is_empty() {
            Ok((chains, keys))
        } else {
            Err(mistakes)
        }
    }

    /// Chain and key as PEM, if the document says where they are.
    fn pair(
        &self,
        certificate: &Certificate,
        index: usize,
    ) -> Result<Option<(String, String)>, Vec<Mistake>> {
        match &certificate.material {
            Material::Uploaded => Ok(None),
            Material::Inline { chain, private_key } => {
                Ok(Some((chain.clone(), private_key.reveal().to_owned())))
            }
            Material::Files { chain, private_key } => {
                let read = |file: &Path, field| {
                    let path = self.beside_document(file);
                    read(&path).map_err(|error| {
                        let at = format!("/certificates/{index}/{field}");
                        Mistake::new(at, format!("{}: {error}", path.display()))
                    })
                };
                match (
                    read(chain, "chain_file"),
                    read(private_key, "private_key_file"),
                ) {
                    (Ok(chain), Ok(key)) => Ok(Some((chain, key))),
                    (chain, key) => Err(chain.err().into_iter().chain(key.err()).collect()),
                }
            }
        }
    }

    fn beside_document(&self, file: &Path) -> PathBuf {
        self.path
            .parent()
            .map_or_else(|| file.to_owned(), |folder| folder.join(file))
    }
}

fn read_hash_key(path: &Path) -> Result<HashKey, Mistake> {
    let mistake = |why: &dyn Display| Mistake::new("", format!("{}: {why}", path.display()));
    let text = read(path).map_err(|error| mistake(&error))?;
    let key = HashKey::try_from(text.trim().to_owned());
    key.map_err(|bad| mistake(&format_args!("{bad}, as of `openssl rand -hex 16`")))
}

fn read_ticket_keys(path: &Path) -> Result<Secrets, Mistake> {
    let secrets = Secrets::in_file(path);
    secrets.map_err(|why| Mistake::new("", format!("{}: {why}", path.display())))
}

/// A document or PEM file larger than this is none.
const LARGEST_FILE: u64 = 64 << 20;

fn read(path: &Path) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > LARGEST_FILE {
        return Err(std::io::Error::other(format!(
            "{length} bytes are too many"
        )));
    }
    std::fs::read_to_string(path)
}
