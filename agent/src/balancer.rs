//! The balancer's recipe: TCP to a backend of the pool, never decrypted.
//! `terminator` reads the same, with TLS between policy and pool.

use tokio::net::TcpStream;
use tokio::time::timeout_at;

use crate::cause::{Cause, Phase, Served};
use crate::connect::{self, Tried, Upstream};
use crate::connection::Connection;
use crate::{proxy, relay};

/// Serves an accepted connection to its end.
pub(crate) async fn serve(mut client: TcpStream, connection: &mut Connection) -> Served {
    let deadline = connection.first_byte_deadline();
    let upstream = timeout_at(deadline, prepare(&mut client, connection))
        .await
        .unwrap_or_else(|_| Err(connection.too_late()))?;
    connection.enter(Phase::Relay);
    Ok(relay::run(
        client,
        upstream.stream,
        connection,
        relay::Timers::of(connection),
    )
    .await)
}

/// Everything before the first payload byte.
async fn prepare(client: &mut TcpStream, connection: &mut Connection) -> Result<Upstream, Cause> {
    let ends = proxy::ends(client, connection).await?;
    connection.admit(ends.client)?;
    let mut upstream =
        connect::to_pool(connection, &connection.listener.pool, &mut Tried::default()).await?;
    proxy::announce(&mut upstream.stream, connection, ends).await?;
    Ok(upstream)
}
