//! The balancer's recipe: TCP to a backend of the pool, never decrypted.
//! `terminator` reads the same, with TLS between policy and pool.

use std::sync::Arc;

use crate::cause::{Cause, Phase, Served};
use crate::connect::{Tried, Upstream, Wanted};
use crate::connection::Connection;
use crate::engine::{TcpStream, timeout_at};
use crate::opening::{self, Opening};
use crate::{proxy, relay};

/// Serves an accepted connection to its end.
pub(crate) async fn serve(client: TcpStream, connection: &mut Connection) -> Served {
    // Apart: what is needed until then must not stay in the task of an idle connection.
    let (client, upstream) = Box::pin(prepare(client, connection)).await?;
    connection.enter(Phase::Relay);
    Ok(relay::run(client, upstream.stream, connection).await)
}

/// To an admitted client, and a backend that knows of it.
async fn prepare(
    mut client: TcpStream,
    connection: &mut Connection,
) -> Result<(TcpStream, Upstream), Cause> {
    let deadline = connection.first_byte_deadline();
    let upstream = timeout_at(deadline, reach(&mut client, connection))
        .await
        .unwrap_or_else(|_| Err(connection.too_late()))?;
    Ok((client, upstream))
}

/// Everything before the first payload byte.
async fn reach(client: &mut TcpStream, connection: &mut Connection) -> Result<Upstream, Cause> {
    let arrival = proxy::arrival(client, connection).await?;
    connection.admit(arrival.ends.client)?;
    let spoken = opening::hear(client, connection).await?;
    let target = spoken.route(connection)?;
    let opening = Opening::new(connection, &target, &arrival, spoken);
    let wanted = Wanted {
        connection,
        pool: Arc::clone(&target.pool),
        opening: &opening,
        spoken: (opening.payload() > 0).then_some(client),
    };
    wanted.reach(&mut Tried::default()).await
}
