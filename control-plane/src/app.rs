//! The composition root of the control plane: [`App::build`] opens the database,
//! binds what is answered on and connects the parts; [`App::run`] runs them until
//! a signal.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tidegate_core::tickets::Timing;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::api::{self, Api};
use crate::ca::ServerIdentity;
use crate::clock;
use crate::fleet::Fleet;
use crate::incoming::Replaceable;
use crate::ingest::{self, Ingest};
use crate::journal::Journal;
use crate::limits;
use crate::link::{self, Admission, Link};
use crate::observer::Observer;
use crate::publish::Publisher;
use crate::rest;
use crate::rotation::Rotation;
use crate::seal::Kek;
use crate::series::Series;
use crate::settings::Serve;
use crate::store::Store;
use crate::upkeep::{OwnCertificate, Upkeep};

/// How long agents get to move to another control plane when this one stops.
const HANDING_OVER: Duration = Duration::from_secs(3);

/// A control plane, ready to run.
pub(crate) struct App {
    store: Store,
    fleet: Arc<Fleet>,
    replica: Uuid,
    publisher: Arc<Publisher>,
    writer: ingest::Writer,
    upkeep: Upkeep,
    rotation: Rotation,
    observer: Observer,
    stop: CancellationToken,
    link: (Arc<Link>, TcpListener, Arc<rustls::ServerConfig>),
    rest: (axum::Router, TcpListener, Arc<rustls::ServerConfig>),
}

impl App {
    /// Opens the database, makes what is missing, and binds both ports.
    ///
    /// # Errors
    /// Each with what to do about it.
    pub(crate) async fn build(settings: &Serve) -> anyhow::Result<Self> {
        limits::raise_open_files();
        let state = make_folder(&settings.state_dir)?;
        let kek = match &settings.kek_file {
            Some(file) => Kek::in_file(file, false),
            None => Kek::in_file(&state.join("kek"), true),
        };
        let kek = Arc::new(kek?);
        let timing = Timing::new(settings.ticket_key_rotation, settings.ticket_lifetime)
            .context("--ticket-key-rotation and --ticket-lifetime")?;
        let store = Store::connect(&settings.database_url)
            .await
            .context("is Postgres up, and --database-url (TIDEGATE_DATABASE_URL) right?")?;
        let cluster = store.cluster(&kek, clock::now()).await?;
        let authority = Arc::new(cluster.authority);
        fs::write(state.join("ca.pem"), authority.certificate_pem())?;
        api::first_token(&store, &state.join("admin.token"), clock::now()).await?;

        let rest_listener = bind(settings.rest, "--rest").await?;
        let link_listener = bind(settings.link, "--link").await?;
        let names = names(settings);
        let certificate = OwnCertificate::new(Arc::clone(&authority), names, clock::now())
            .context("the control plane's own certificate (--name)")?;
        let rest_certificate = given_certificate(settings)?.unwrap_or_else(|| certificate.shown());
        let rest_tls = rest::tls(rest_certificate)?;
        let link_tls = link::tls(&authority, certificate.shown())?;

        let replica = Uuid::now_v7();
        let fleet = Arc::new(Fleet::default());
        let publisher = Arc::new(Publisher::new(store.clone(), Arc::clone(&fleet)));
        let (ingest, writer) = Ingest::new(store.clone());
        let (series, journal) = (Arc::<Series>::default(), Arc::<Journal>::default());
        let stop = CancellationToken::new();
        let router = api::router(Api {
            store: store.clone(),
            kek: Arc::clone(&kek),
            cluster: cluster.id,
            pin: authority.pin(),
            replica,
            version: env!("CARGO_PKG_VERSION"),
            report_interval: settings.report_interval,
            series: Arc::clone(&series),
            journal: Arc::clone(&journal),
            stop: stop.clone(),
        });
        let observer = Observer {
            store: store.clone(),
            series,
            journal,
            report_interval: settings.report_interval,
        };
        let link = Link {
            store: store.clone(),
            kek,
            authority,
            fleet: Arc::clone(&fleet),
            publisher: Arc::clone(&publisher),
            ingest,
            replica,
            certificate_lifetime: settings.agent_certificate_lifetime,
            report_interval: settings.report_interval,
            hellos: Admission::new(),
            ticket_timing: timing,
        };
        let rotation = Rotation {
            store: store.clone(),
            kek: Arc::clone(&link.kek),
            replica,
            timing,
        };
        let upkeep = Upkeep {
            store: store.clone(),
            fleet: Arc::clone(&fleet),
            replica,
            address: link_listener.local_addr()?.to_string(),
            forget_after: settings.forget_after,
            certificate,
        };
        Ok(Self {
            store,
            fleet,
            replica,
            publisher,
            writer,
            upkeep,
            rotation,
            observer,
            stop,
            link: (Arc::new(link), link_listener, link_tls),
            rest: (router, rest_listener, rest_tls),
        })
    }

    /// Runs until a signal. Agents are sent to another control plane first.
    ///
    /// # Errors
    /// When the host refuses to deliver signals, or the link ends by itself.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let stop = self.stop;
        let tasks = TaskTracker::new();
        let (link, link_listener, link_tls) = self.link;
        let (router, rest_listener, rest_tls) = self.rest;
        let (rest_at, link_at) = (rest_listener.local_addr()?, link_listener.local_addr()?);

        let (publisher, stopped) = (self.publisher, stop.clone());
        tasks.spawn(async move { publisher.run(stopped).await });
        tasks.spawn(self.writer.run(stop.clone()));
        tasks.spawn(self.upkeep.run(stop.clone()));
        tasks.spawn(self.rotation.run(stop.clone()));
        tasks.spawn(self.observer.run(stop.clone()));
        tasks.spawn(rest::serve(router, rest_listener, rest_tls, stop.clone()));
        let serving_link = link::serve(link, link_listener, link_tls, stop.clone());
        tokio::pin!(serving_link);
        tracing::info!(replica = %self.replica, rest = %rest_at, link = %link_at, "serving");

        let ended = tokio::select! {
            ended = &mut serving_link => Some(ended),
            _ = terminate.recv() => None,
            _ = interrupt.recv() => None,
        };
        if ended.is_none() {
            tracing::info!("stopping: agents move on");
            self.fleet.stop();
            let moved = async {
                while !self.fleet.agents().is_empty() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            tokio::select! {
                () = moved => {}
                () = tokio::time::sleep(HANDING_OVER) => {}
                _ = &mut serving_link => {}
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        stop.cancel();
        tasks.close();
        // Each has bounds of its own; this one is for a database that hangs.
        let _ = tokio::time::timeout(HANDING_OVER, tasks.wait()).await;
        if let Err(error) = self.store.replica_ends(self.replica).await {
            tracing::debug!(%error, "the end of this control plane was not written");
        }
        tracing::info!("stopped");
        ended.transpose().context("the agents' link ended")?;
        Ok(())
    }
}

fn make_folder(folder: &Path) -> anyhow::Result<&Path> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("state directory {} (--state-dir)", folder.display()))?;
    Ok(folder)
}

async fn bind(address: SocketAddr, option: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({option})"))
}

/// What this control plane is called: agents ask for the first, people and
/// programs for the rest.
fn names(settings: &Serve) -> Vec<String> {
    let mut names: Vec<String> = [tidegate_proto::SERVER_NAME, "localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .into();
    for address in [settings.rest, settings.link] {
        if !address.ip().is_unspecified() {
            names.push(address.ip().to_string());
        }
    }
    names.extend(settings.names.iter().cloned());
    names.sort();
    names.dedup();
    names
}

fn given_certificate(settings: &Serve) -> anyhow::Result<Option<Arc<Replaceable>>> {
    let (Some(chain), Some(key)) = (&settings.tls_chain, &settings.tls_key) else {
        return Ok(None);
    };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect)
        .with_context(|| format!("--tls-chain {}: a chain in PEM", chain.display()))?;
    let identity = ServerIdentity {
        chain: certificates,
        key: PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("--tls-key {}: a private key in PEM", key.display()))?,
    };
    let given = Replaceable::new(identity).context("--tls-chain and --tls-key")?;
    Ok(Some(Arc::new(given)))
}
