//! The terminator's recipe: as `balancer`, with TLS between policy and pool,
//! and HTTP understood inside it where the listener says so.

use std::sync::Arc;
use std::time::Instant;

use tidegate_core::snapshot::{Inside, Work};

use crate::cause::{Cause, Phase, Served};
use crate::connect::{Tried, Upstream, Wanted};
use crate::connection::Connection;
use crate::engine::{self, TcpStream, timeout_at};
use crate::linger::{LITTLE, linger};
use crate::opening::{Opening, Spoken};
use crate::proxy::{self, Arrival};
use crate::state::Listener;
use crate::tls::{Failure, Unshaken};
use crate::{http, relay, tls};

/// Serves an accepted connection to its end.
pub(crate) async fn serve(
    client: TcpStream,
    connection: &mut Connection,
    listener: Arc<Listener>,
    terms: Arc<tls::Terms>,
) -> Served {
    // Apart, as in `balancer`: an idle connection is a relay and nothing else.
    let prepared = Box::pin(prepare(client, connection, listener, terms)).await?;
    match prepared {
        Prepared::Bytes { client, upstream } => {
            connection.enter(Phase::Relay);
            Ok(relay::run(client, upstream.stream, connection).await)
        }
        Prepared::Http(client, arrival, listener) => {
            Box::pin(http::serve(client, connection, listener, arrival)).await
        }
    }
}

/// A client with whom hands are shaken.
enum Prepared {
    /// And a backend that knows of it.
    Bytes {
        client: tls::Stream,
        upstream: Upstream,
    },
    /// Whose requests say where they go.
    Http(tls::Stream, Arrival, Arc<Listener>),
}

async fn prepare(
    mut client: TcpStream,
    connection: &mut Connection,
    listener: Arc<Listener>,
    terms: Arc<tls::Terms>,
) -> Result<Prepared, Cause> {
    let deadline = connection.first_byte_deadline();
    let arriving = proxy::arrival(&mut client, connection);
    let arrival = timeout_at(deadline, arriving)
        .await
        .unwrap_or_else(|_| Err(connection.too_late()))?;
    let listener = connection.admit(arrival.ends.client, listener)?;
    let client = decrypt(client, connection, &terms, deadline).await?;
    if let Work::Terminate(terminate) = &listener.spec.work
        && let Inside::Http { .. } = terminate.inside
    {
        return Ok(Prepared::Http(client, arrival, listener));
    }
    let upstream = timeout_at(deadline, reach(connection, listener, &arrival))
        .await
        .unwrap_or_else(|_| Err(connection.too_late()))?;
    Ok(Prepared::Bytes { client, upstream })
}

/// From an admitted client's socket to its TLS session.
async fn decrypt(
    client: TcpStream,
    connection: &Connection,
    terms: &tls::Terms,
    deadline: Instant,
) -> Result<tls::Stream, Cause> {
    connection.enter(Phase::Handshake);
    let deadline = match terms.timeout {
        Some(time) => deadline.min(engine::now() + time),
        None => deadline,
    };
    let shaking = timeout_at(deadline, tls::shake(client, terms)).await;
    match shaking.map_err(|_| connection.too_late())? {
        Ok((stream, agreed)) => {
            let name = terms.certified_name(agreed.server_name.as_ref());
            connection.shaken(agreed, name);
            Ok(stream)
        }
        Err(Unshaken { failure, told }) => {
            connection.handshake_failed(failure.reason());
            tracing::debug!(client = ?connection.live.client(), %failure, "handshake failed");
            // Beyond the deadline, which is for those who may still be served.
            if let Some(client) = told {
                linger(client, LITTLE).await;
            }
            Err(Cause::from(&failure))
        }
    }
}

impl From<&Failure> for Cause {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Closed => Self::ClientClosed,
            Failure::Broken(_) => Self::ClientReset,
            Failure::UnknownName | Failure::TooLong | Failure::Refused(_) => Self::TlsFailed,
        }
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
