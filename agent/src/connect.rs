//! To a backend: pick, connect, and on failure another one at once. Each
//! backend is tried once, all within the caller's deadline.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tidegate_core::addr::ClientAddr;
use tidegate_core::pick::{Ask, Balance, Choice};
use tokio::io::AsyncWriteExt;

use crate::cause::{Cause, Phase};
use crate::connection::Connection;
use crate::control::draw_bits;
use crate::engine::{self, TcpStream, timeout_at};
use crate::facts::{InFlight, Serving};
use crate::opening::Opening;
use crate::source::Port;
use crate::state::{Backend, Pool};
use crate::{host, sockets, sys, transparent};

/// A connection to a backend, counted as long as it lives.
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    pub(crate) held: InFlight,
}

/// Backends that have failed for one connection or request.
#[derive(Default)]
pub(crate) struct Tried(Vec<usize>);

impl Tried {
    /// Takes the last one back: what failed was not the backend.
    pub(crate) fn forget_last(&mut self) {
        self.0.pop();
    }
}

/// What to open, and with what.
pub(crate) struct Wanted<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) pool: Arc<Pool>,
    pub(crate) opening: &'a Opening,
    /// Who has spoken first, so that its bytes may travel in the SYN.
    pub(crate) spoken: Option<&'a TcpStream>,
}

/// A connection to a backend, as it is made.
struct Connected {
    stream: TcpStream,
    /// Of the agent's; none from a client's address.
    port: Option<Port>,
    /// How much of the opening is sent.
    sent: usize,
}

/// What came of a choice.
enum Chosen {
    Backend(Arc<Backend>, InFlight),
    /// All that may serve have as many connections as they may.
    Full,
    Nobody,
}

impl Wanted<'_> {
    /// Connects to a backend of the pool and sends it the opening. One that does not
    /// accept is left for another one at once.
    ///
    /// # Errors
    /// No backend is up, none accepted, or this host has no descriptor or port left.
    pub(crate) async fn reach(mut self, tried: &mut Tried) -> Result<Upstream, Cause> {
        let mut last = None;
        loop {
            let (backend, held) = self.next(tried, last).await?;
            match self.open(&backend, held).await? {
                Ok(upstream) => return Ok(upstream),
                Err(cause) => last = Some(cause),
            }
        }
    }

    /// The next backend to try, counted from now on; `last` is what became of the one
    /// before, in this call of the caller's.
    ///
    /// # Errors
    /// `last`, or why there is none.
    pub(crate) async fn next(
        &mut self,
        tried: &mut Tried,
        last: Option<Cause>,
    ) -> Result<(Arc<Backend>, InFlight), Cause> {
        let connection = self.connection;
        let none = last.unwrap_or(Cause::NoBackend);
        let most = usize::try_from(self.pool.spec.retries.get()).unwrap_or(usize::MAX);
        if tried.0.len() > most {
            return Err(none);
        }
        connection.enter(Phase::Connect);
        // Whoever comes while others wait would take the place that they are told of.
        let queued = tried.0.is_empty() && self.pool.facts.queue.len() > 0;
        let chosen = match queued {
            true => Chosen::Full,
            false => self.choose(tried),
        };
        let (backend, held) = match chosen {
            Chosen::Backend(backend, held) => (backend, held),
            Chosen::Full if last.is_none() => self.wait_for_room(tried).await?,
            Chosen::Full | Chosen::Nobody => return Err(none),
        };
        connection.enter(Phase::Connect);
        connection.live.set_backend(&backend.facts);
        Ok((backend, held))
    }

    /// Connects to a backend and sends it the opening. The inner error is one after
    /// which another may be tried.
    ///
    /// # Errors
    /// This host has no descriptor or port left, or the backend may have read something.
    pub(crate) async fn open(
        &self,
        backend: &Backend,
        held: InFlight,
    ) -> Result<Result<Upstream, Cause>, Cause> {
        let client = self.client_as_source()?;
        match self.try_one(backend.spec.address, client).await {
            Ok(Connected {
                mut stream,
                port,
                sent,
            }) => {
                backend.facts.connected();
                self.send_rest(&mut stream, sent).await?;
                let held = held.with_port(port);
                Ok(Ok(Upstream { stream, held }))
            }
            Err(error) => self.failed(backend, client, &error).map(Err),
        }
    }

    /// The next backend by the pool's rules, counted from now on, so that whoever
    /// chooses meanwhile sees it; it is in `tried` afterwards.
    fn choose(&self, tried: &mut Tried) -> Chosen {
        let (pool, worker) = (&*self.pool, &self.connection.worker);
        let ask = self.ask();
        loop {
            let choice = worker.picker(pool).map(|mut picker| {
                picker.choose(ask, &tried.0, pool.backends.len(), |index| pool.view(index))
            });
            let index = match choice {
                Some(Choice::Backend { index, tier }) => {
                    pool.facts.serve_by(tier.into());
                    index
                }
                Some(Choice::Full { .. }) => return Chosen::Full,
                Some(Choice::Nobody) | None => {
                    if tried.0.is_empty() {
                        pool.facts.serve_by(Serving::Nobody);
                    }
                    return Chosen::Nobody;
                }
            };
            let Some(backend) = pool.backends.get(index) else {
                return Chosen::Nobody;
            };
            // Taken by another thread between the choice and now: choose again.
            if let Some(held) = InFlight::enter(&backend.facts, backend.spec.max_connections) {
                tried.0.push(index);
                return Chosen::Backend(Arc::clone(backend), held);
            }
        }
    }

    fn ask(&self) -> Ask {
        let client = self.connection.live.client().map(ClientAddr::key);
        let source = self.pool.source.as_ref().zip(client);
        let random = self.pool.spec.balance == Balance::RandomTwo;
        Ask {
            hash: source.map_or(0, |(source, client)| source.key.client(client)),
            draw: if random { draw_bits() } else { 0 },
        }
    }

    /// Until a backend has room. Whoever waited before is served before.
    async fn wait_for_room(
        &mut self,
        tried: &mut Tried,
    ) -> Result<(Arc<Backend>, InFlight), Cause> {
        let connection = self.connection;
        connection.enter(Phase::Queue);
        let spec = &self.pool.spec;
        let timeouts = &connection.spec.policy.timeouts;
        let patience = spec.queue_timeout.unwrap_or(timeouts.connect).duration();
        let deadline = engine::now() + patience;
        let most = usize::try_from(spec.max_queue.get()).unwrap_or(usize::MAX);
        // The pool may be another one when the turn comes; its queue is this one.
        let facts = Arc::clone(&self.pool.facts);
        let mut turn = facts.queue.enter(most).ok_or(Cause::QueueFull)?;
        loop {
            // Room that was made before it stood there was told to nobody.
            if turn.first
                && let Chosen::Backend(backend, held) = self.choose(tried)
            {
                drop(turn);
                facts.queue.wake_one();
                return Ok((backend, held));
            }
            let waited = timeout_at(deadline, turn.come()).await;
            waited.map_err(|_| Cause::QueueTimeout)?;
            self.follow(tried);
            match self.choose(tried) {
                Chosen::Backend(backend, held) => {
                    // One after the other, so that they stay in order over all threads:
                    // where there was room for one there may be more.
                    facts.queue.wake_one();
                    return Ok((backend, held));
                }
                Chosen::Full => turn = facts.queue.enter_again(turn.ticket),
                Chosen::Nobody => {
                    facts.queue.wake_one();
                    return Err(Cause::NoBackend);
                }
            }
        }
    }

    /// Goes by the pool as it is now: a new document is what made room, maybe.
    fn follow(&mut self, tried: &mut Tried) {
        let active = self.connection.worker.state.active();
        if let Some(now) = active.pools.get(&self.pool.spec.name)
            && !Arc::ptr_eq(now, &self.pool)
        {
            self.pool = Arc::clone(now);
            // Its backends have other places.
            tried.0.clear();
        }
    }

    /// The client's address, where backends are connected to from it.
    fn client_as_source(&self) -> Result<Option<transparent::Source>, Cause> {
        let is_wanted = self.connection.spec.work.is_transparent();
        let client = self.connection.live.client().filter(|_| is_wanted);
        let source = |client| transparent::Source::of(client, self.connection.live.peer);
        let source = client.map(source).transpose();
        source.map_err(|not_a_source| {
            tracing::debug!(%not_a_source, "client refused");
            Cause::ClientAddress
        })
    }

    /// Takes note of a connect that failed; answers with what it means for the client.
    fn failed(
        &self,
        backend: &Backend,
        client: Option<transparent::Source>,
        error: &io::Error,
    ) -> Result<Cause, Cause> {
        let (facts, passive) = (&backend.facts, self.pool.spec.passive);
        if let Some(client) = client
            && let Some(cause) = transparent::failed(client, backend.spec.address, error)
        {
            return cause;
        }
        if sys::is_ours(error) {
            host::tell_want(error, "a connection to a backend");
            return match sys::out_of_ports(error) {
                // Towards this one, which is not its doing; another may be reached.
                true => Ok(Cause::Internal),
                false => Err(Cause::Internal),
            };
        }
        if self.early().is_some() && error.kind() == io::ErrorKind::ConnectionReset {
            // It had accepted (whoever has not, refuses), and may have read what the
            // client said: that must not reach another one as well.
            return Err(Cause::UpstreamReset);
        }
        let (pool, name) = (&facts.pool.name, &facts.name);
        tracing::debug!(%pool, backend = %name, %error, "connect failed");
        if let Some(time) = facts.connect_failed(passive, || self.pool.up_and_ejected()) {
            let seconds = time.as_secs();
            tracing::warn!(%pool, backend = %name, %error, seconds, "backend ejected: connects failed");
        }
        Ok(match error.kind() {
            io::ErrorKind::TimedOut => Cause::ConnectTimeout,
            _ => Cause::ConnectFailed,
        })
    }

    /// The client, when its bytes are to travel in the SYN.
    fn early(&self) -> Option<&TcpStream> {
        self.spoken.filter(|_| self.pool.spec.fast_open)
    }

    /// Connects to one backend; from another address where one has no port left.
    async fn try_one(
        &self,
        target: SocketAddr,
        client: Option<transparent::Source>,
    ) -> io::Result<Connected> {
        let source = &self.connection.worker.source;
        let timeouts = &self.connection.spec.policy.timeouts;
        let deadline = engine::now() + timeouts.connect.duration();
        if let Some(client) = client {
            return self
                .connect_as(client, client.target(target), deadline)
                .await;
        }
        let mut choices = source.choices(target.ip());
        loop {
            choices -= 1;
            match self.connect(target, deadline).await {
                Err(error) if sys::out_of_ports(&error) && choices > 0 => {}
                connected => return connected,
            }
        }
    }

    async fn connect(&self, target: SocketAddr, deadline: Instant) -> io::Result<Connected> {
        let source = &self.connection.worker.source;
        let (socket, port) = source.socket(target)?;
        if let Some(time) = self.connection.spec.tcp.user_timeout {
            sockets::give_up(&socket, Some(time.duration()))?;
        }
        let Some(client) = self.early() else {
            let connecting = TcpStream::connect(socket, target);
            let stream = timeout_at(deadline, connecting).await??;
            source.refuse_itself(&stream, target)?;
            return Ok(Connected {
                stream,
                port: Some(port),
                sent: 0,
            });
        };
        let connecting = TcpStream::connect_sending(socket, target, self.opening.bytes());
        let (stream, sent) = timeout_at(deadline, connecting).await??;
        match timeout_at(deadline, stream.established(client)).await {
            Ok(established) => established?,
            // It has accepted, and only its answer takes long.
            Err(_) if stream.is_established() => {}
            Err(elapsed) => return Err(elapsed.into()),
        }
        source.refuse_itself(&stream, target)?;
        let port = Some(port);
        Ok(Connected { stream, port, sent })
    }

    /// Connects from the client's address.
    async fn connect_as(
        &self,
        client: transparent::Source,
        target: SocketAddr,
        deadline: Instant,
    ) -> io::Result<Connected> {
        let socket = transparent::socket(client, target)?;
        if let Some(time) = self.connection.spec.tcp.user_timeout {
            sockets::give_up(&socket, Some(time.duration()))?;
        }
        let stream = timeout_at(deadline, TcpStream::connect(socket, target)).await??;
        self.connection
            .worker
            .source
            .refuse_itself(&stream, target)?;
        transparent::refuse_another(client, &stream)?;
        Ok(Connected {
            stream,
            port: None,
            sent: 0,
        })
    }

    async fn send_rest(&self, stream: &mut TcpStream, sent: usize) -> Result<(), Cause> {
        let rest = self.opening.bytes().get(sent..).unwrap_or_default();
        let written = stream.write_all(rest).await;
        written.map_err(|_| Cause::UpstreamReset)?;
        self.connection.live.add_in(self.opening.payload());
        Ok(())
    }
}
