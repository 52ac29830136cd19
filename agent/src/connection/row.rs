//! What people see of a connection: a row on the debug page while it lives, one access
//! event when it has ended.

use std::sync::atomic::Ordering;

use serde::Serialize;

use super::{Connection, Live, millis};
use crate::cause::Cause;
use crate::tls::Agreed;

impl Live {
    /// As the debug page shows it.
    pub(crate) fn row(&self) -> Row {
        let backend = self.backend();
        Row {
            id: self.id(),
            listener: self.listener.name.to_string(),
            client: self.client().map(|c| c.to_string()),
            peer: self.peer.to_string(),
            pool: backend.as_ref().map(|b| b.pool.name.to_string()),
            backend: backend.as_ref().map(|b| b.name.to_string()),
            phase: self.phase().label(),
            age_ms: millis(self.started.elapsed()),
            queue_ms: self.queued.millis(),
            connect_ms: self.connecting.millis(),
            handshake_ms: self.shaking.millis(),
            tls: self.tls().map(TlsRow::of),
            requests: self.requests(),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

/// A connection on the debug page.
#[derive(Serialize)]
pub(crate) struct Row {
    id: String,
    listener: String,
    client: Option<String>,
    peer: String,
    pool: Option<String>,
    backend: Option<String>,
    phase: &'static str,
    age_ms: u64,
    /// Of it waiting for a backend with room, and for one to accept; what was over when
    /// this was asked.
    queue_ms: Option<u64>,
    connect_ms: Option<u64>,
    handshake_ms: Option<u64>,
    /// What was agreed on, where it is decrypted here.
    tls: Option<TlsRow>,
    requests: u32,
    bytes_in: u64,
    bytes_out: u64,
}

/// Of a TLS session, what the debug page and the access event show.
#[derive(Default, Serialize)]
struct TlsRow {
    version: &'static str,
    suite: &'static str,
    group: Option<&'static str>,
    resumed: bool,
    server_name: Option<String>,
    alpn: Option<String>,
    client_name: Option<String>,
}

impl TlsRow {
    fn of(agreed: &Agreed) -> Self {
        let alpn = agreed.alpn.as_deref();
        let client = agreed.client.as_ref();
        Self {
            version: agreed.version(),
            suite: agreed.suite(),
            group: agreed.group(),
            resumed: agreed.resumed,
            server_name: agreed.server_name.as_ref().map(ToString::to_string),
            alpn: alpn.map(|name| String::from_utf8_lossy(name).into_owned()),
            client_name: client.and_then(|c| c.common_name.as_deref().map(str::to_owned)),
        }
    }
}

/// Tells of a connection that has ended.
pub(super) fn access_event(connection: &Connection, cause: Cause) {
    if !tracing::enabled!(target: "access", tracing::Level::INFO) {
        return;
    }
    connection.live.account();
    let row = connection.live.row();
    let tls = row.tls.as_ref();
    tracing::info!(
        target: "access",
        id = row.id,
        listener = row.listener,
        client = row.client,
        peer = row.peer,
        pool = row.pool,
        backend = row.backend,
        phase = row.phase,
        cause = cause.label(),
        fault = cause.fault().label(),
        requests = row.requests,
        bytes_in = row.bytes_in,
        bytes_out = row.bytes_out,
        queue_ms = row.queue_ms,
        connect_ms = row.connect_ms,
        handshake_ms = row.handshake_ms,
        tls_version = tls.map(|tls| tls.version),
        tls_suite = tls.map(|tls| tls.suite),
        tls_group = tls.and_then(|tls| tls.group),
        tls_resumed = tls.map(|tls| tls.resumed),
        server_name = tls.and_then(|tls| tls.server_name.as_deref()),
        alpn = tls.and_then(|tls| tls.alpn.as_deref()),
        client_name = tls.and_then(|tls| tls.client_name.as_deref()),
        duration_ms = row.age_ms,
        "closed"
    );
}
