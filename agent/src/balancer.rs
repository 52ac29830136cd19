//! The balancer's recipe: TCP to a backend of the pool, never decrypted.
//! `terminator` reads the same, with TLS between policy and pool.

use std::sync::Arc;

use crate::cause::{Cause, Phase, Served};
use crate::connect::{Tried, Upstream, Wanted};
use crate::connection::Connection;
use crate::engine::{TcpStream, timeout_at};
use crate::opening::{self, Opening};
use crate::state::Listener;
use crate::{proxy, relay};

/// Serves an accepted connection to its end.
pub(crate) async fn serve(
    client: TcpStream,
    connection: &mut Connection,
    listener: Arc<Listener>,
) -> Served {
    // Apart: what is needed until then must not stay in the task of an idle connection.
    let (client, upstream) = Box::pin(prepare(client, connection, listener)).await?;
    connection.enter(Phase::Relay);
    Ok(relay::run(client, upstream.stream, connection).await)
}

/// To an admitted client, and a backend that knows of it.
async fn prepare(
    mut client: TcpStream,
    connection: &mut Connection,
    listener: Arc<Listener>,
) -> Result<(TcpStream, Upstream), Cause> {
    let deadline = connection.first_byte_deadline();
    let upstream = timeout_at(deadline, reach(&mut client, connection, listener))
        .await
        .unwrap_or_else(|_| Err(connection.too_late()))?;
    Ok((client, upstream))
}

/// Everything before the first payload byte.
async fn reach(
    client: &mut TcpStream,
    connection: &mut Connection,
    listener: Arc<Listener>,
) -> Result<Upstream, Cause> {
    let arrival = proxy::arrival(client, connection).await?;
    let listener = connection.admit(arrival.ends.client, listener)?;
    let spoken = opening::hear(client, connection, &listener).await?;
    let target = spoken.route(&listener)?;
    let opening = Opening::new(connection, &target, &arrival, spoken);
    let wanted = Wanted {
        connection,
        pool: Arc::clone(&target.pool),
        opening: &opening,
        spoken: (opening.payload() > 0).then_some(client),
    };
    wanted.reach(&mut Tried::default()).await
}
