//! The WebSocket battle: many connections, each of which shakes hands, says something
//! and hears it back; then all of them, open, exchange more; then all close.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::tls::{Checker, Pins};
use super::wire::{PATIENCE, Wire};
use crate::systems::Trouble;

/// How many handshakes, or messages, are under way at once.
const UNDER_WAY: usize = 128;

/// A battle.
#[derive(Clone)]
pub struct Battle {
    /// Where the system listens.
    pub address: SocketAddr,
    /// With TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Connections.
    pub connections: usize,
    /// Messages exchanged on all of them together, once they are open.
    pub messages: usize,
}

/// How it went.
pub struct Outcome {
    /// TCP connect, TLS where there is one, and upgrade, per connection.
    pub handshakes: Vec<Duration>,
    /// The first message there and back, per connection.
    pub first: Vec<Duration>,
    /// All of that, and the closing.
    pub total: Duration,
    /// A message there and back, with all connections open.
    pub exchanged: Vec<Duration>,
    /// All of these.
    pub exchange: Duration,
}

type Socket = WebSocketStream<Wire>;

impl Battle {
    /// Fights it.
    ///
    /// # Errors
    /// When a connection fails, or an echo is another message.
    pub async fn fight(self) -> Result<Outcome, Trouble> {
        let began = Instant::now();
        let turns = Arc::new(Semaphore::new(UNDER_WAY));
        let mut opening = JoinSet::new();
        for number in 0..self.connections {
            opening.spawn(open(self.clone(), Arc::clone(&turns), number));
        }
        let mut outcome = Outcome {
            handshakes: Vec::with_capacity(self.connections),
            first: Vec::with_capacity(self.connections),
            total: Duration::ZERO,
            exchanged: Vec::with_capacity(self.messages),
            exchange: Duration::ZERO,
        };
        let mut open = Vec::with_capacity(self.connections);
        while let Some(done) = opening.join_next().await {
            let (socket, handshake, first) = done.map_err(Trouble::broken)??;
            outcome.handshakes.push(handshake);
            outcome.first.push(first);
            open.push(socket);
        }
        outcome.total = began.elapsed();

        let began = Instant::now();
        let mut exchanging = JoinSet::new();
        let each = (self.messages / self.connections.max(1)).max(1);
        for socket in open.drain(..) {
            exchanging.spawn(exchange(socket, Arc::clone(&turns), each));
        }
        while let Some(done) = exchanging.join_next().await {
            let (socket, times) = done.map_err(Trouble::broken)??;
            outcome.exchanged.extend(times);
            open.push(socket);
        }
        outcome.exchange = began.elapsed();

        let began = Instant::now();
        let mut closing = JoinSet::new();
        for socket in open {
            closing.spawn(close(socket));
        }
        while let Some(done) = closing.join_next().await {
            done.map_err(Trouble::broken)??;
        }
        outcome.total += began.elapsed();
        Ok(outcome)
    }
}

async fn open(
    battle: Battle,
    turns: Arc<Semaphore>,
    number: usize,
) -> Result<(Socket, Duration, Duration), Trouble> {
    let _turn = turns.acquire().await.map_err(Trouble::broken)?;
    let began = Instant::now();
    let wire = Wire::connect(battle.address, battle.tls.as_ref()).await?;
    let small = WebSocketConfig::default()
        .read_buffer_size(1024)
        .write_buffer_size(0)
        .max_message_size(Some(4096));
    let upgrade = client_async_with_config("ws://localhost/", wire, Some(small));
    let upgraded = timeout(PATIENCE, upgrade).await.map_err(Trouble::broken)?;
    let (mut socket, _) = upgraded.map_err(Trouble::broken)?;
    let handshake = began.elapsed();
    Checker::new(Pins::USUAL, None).check(socket.get_ref())?;
    let first = echo(&mut socket, &format!("connection {number} says hello")).await?;
    Ok((socket, handshake, first))
}

async fn exchange(
    mut socket: Socket,
    turns: Arc<Semaphore>,
    messages: usize,
) -> Result<(Socket, Vec<Duration>), Trouble> {
    let mut times = Vec::with_capacity(messages);
    for number in 0..messages {
        let _turn = turns.acquire().await.map_err(Trouble::broken)?;
        times.push(
            echo(
                &mut socket,
                &format!("message {number} of {messages}, as it is"),
            )
            .await?,
        );
    }
    Ok((socket, times))
}

/// Says something, and wants to hear it back.
async fn echo(socket: &mut Socket, text: &str) -> Result<Duration, Trouble> {
    let began = Instant::now();
    socket
        .send(Message::text(text))
        .await
        .map_err(Trouble::broken)?;
    let heard = timeout(PATIENCE, socket.next())
        .await
        .map_err(Trouble::broken)?;
    match heard {
        Some(Ok(Message::Text(heard))) if heard.as_str() == text => Ok(began.elapsed()),
        Some(Ok(other)) => Err(Trouble::Wrong(format!("{other:?} as the echo of {text:?}"))),
        Some(Err(error)) => Err(Trouble::broken(error)),
        None => Err(Trouble::broken("closed instead of an echo")),
    }
}

async fn close(mut socket: Socket) -> Result<(), Trouble> {
    let closing = async {
        socket.close(None).await?;
        // The other side's close, and the end of the connection.
        while let Some(Ok(_)) = socket.next().await {}
        Ok::<(), tokio_tungstenite::tungstenite::Error>(())
    };
    timeout(PATIENCE, closing)
        .await
        .map_err(Trouble::broken)?
        .map_err(Trouble::broken)
}
