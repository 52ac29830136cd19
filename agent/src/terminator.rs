//! The terminator's recipe: as `balancer`, with TLS between policy and pool,
//! and HTTP understood inside it where the listener says so.

use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustls::{ProtocolVersion, ServerConfig};
use tidegate_core::snapshot::{Inside, Work};
use tokio_rustls::TlsAcceptor;

use crate::cause::{Cause, Phase, Served};
use crate::connect::{Tried, Upstream, Wanted};
use crate::connection::Connection;
use crate::engine::{TcpStream, timeout_at};
use crate::opening::{Opening, Spoken};
use crate::proxy::{self, Arrival};
use crate::state::Listener;
use crate::{http, relay, tls};

/// Serves an accepted connection to its end.
pub(crate) async fn serve(
    client: TcpStream,
    connection: &mut Connection,
    listener: Arc<Listener>,
    tls: Arc<ServerConfig>,
) -> Served {
    let deadline = connection.first_byte_deadline();
    let decrypting = decrypt(client, connection, listener, tls);
    let (client, arrival, listener) = timeout_at(deadline, decrypting)
        .await
        .unwrap_or_else(|_| Err(connection.too_late()))?;
    if let Work::Terminate(terminate) = &listener.spec.work
        && let Inside::Http { forwarded } = terminate.inside
    {
        return http::serve(client, connection, listener, arrival, forwarded).await;
    }
    let upstream = timeout_at(deadline, reach(connection, listener, &arrival))
        .await
        .unwrap_or_else(|_| Err(connection.too_late()))?;
    connection.enter(Phase::Relay);
    Ok(relay::run(client, upstream.stream, connection).await)
}

/// From the socket to a TLS session with an admitted client.
async fn decrypt(
    mut client: TcpStream,
    connection: &mut Connection,
    listener: Arc<Listener>,
    tls: Arc<ServerConfig>,
) -> Result<(tls::Stream, Arrival, Arc<Listener>), Cause> {
    let arrival = proxy::arrival(&mut client, connection).await?;
    let listener = connection.admit(arrival.ends.client, listener)?;
    connection.enter(Phase::Handshake);
    match TlsAcceptor::from(tls).accept(client).await {
        Ok(mut session) => {
            acknowledge(&mut session);
            connection
                .live
                .listener
                .handshakes
                .fetch_add(1, Ordering::Relaxed);
            Ok((session, arrival, listener))
        }
        Err(error) => {
            connection.handshake_failed();
            tracing::debug!(client = %arrival.ends.client, %error, "handshake failed");
            Err(match error.kind() {
                // What rustls itself refuses.
                io::ErrorKind::InvalidData => Cause::TlsFailed,
                io::ErrorKind::UnexpectedEof => Cause::ClientClosed,
                _ => Cause::ClientReset,
            })
        }
    }
}

/// Acknowledges the end of a TLS 1.3 handshake at once. It is the client's to end, and
/// we give no ticket: nothing of ours follows that could carry the acknowledgement.
/// The kernel would hold it back for 40 ms, and a client with Nagle's algorithm on its
/// first request with it.
fn acknowledge(session: &mut tls::Stream) {
    let (stream, tls) = session.get_mut();
    let spoken = tls.reader().fill_buf().is_ok();
    if tls.protocol_version() == Some(ProtocolVersion::TLSv1_3) && !spoken {
        // Where it is refused, the acknowledgement comes late.
        let _late = rustix::net::sockopt::set_tcp_quickack(&*stream, true);
    }
}

/// From the session to a backend that knows the client.
async fn reach(
    connection: &Connection,
    listener: Arc<Listener>,
    arrival: &Arrival,
) -> Result<Upstream, Cause> {
    let spoken = Spoken::default();
    let target = spoken.route(&listener)?;
    let opening = Opening::new(connection, &target, arrival, spoken);
    let wanted = Wanted {
        connection,
        pool: Arc::clone(&target.pool),
        opening: &opening,
        spoken: None,
    };
    wanted.reach(&mut Tried::default()).await
}
