//! Backends that do one thing, often a wrong one: echo, say nothing, reset, end
//! one direction early, or never accept.
//!
//! To add a way to misbehave: a constructor that hands [`Backend::serve`] what it
//! does with each connection.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use crate::pki::Issued;
use crate::within;

/// A listening backend; it and its connections end when it is dropped.
pub struct Backend {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Backend {
    /// Does `work` with each connection.
    pub async fn serve<F>(
        address: SocketAddr,
        work: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address)
            .await
            .expect("the address is the test's own");
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(work(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, accepting }
    }

    /// Ends it and its connections, and waits until its address is free.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // It ends by being aborted, which is no news.
        (&mut self.accepting).await.ok();
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends back what comes, and ends when the other side does.
    pub async fn echo(address: SocketAddr) -> Self {
        Self::serve(address, |mut stream| async move {
            let (mut read, mut write) = stream.split();
            if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                // The other side may be gone by now, as is its right.
                write.shutdown().await.ok();
            }
        })
        .await
    }

    /// Says its name first, then echoes: for tests of who was chosen.
    pub async fn named(address: SocketAddr, name: &'static str) -> Self {
        Self::serve(address, move |stream| greet_and_echo(stream, name)).await
    }

    /// Decrypts for itself, says its name, then echoes.
    pub async fn tls(address: SocketAddr, certificate: &Issued, name: &'static str) -> Self {
        let acceptor = certificate.acceptor();
        Self::serve(address, move |stream| {
            let acceptor = acceptor.clone();
            async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    greet_and_echo(stream, name).await;
                }
            }
        })
        .await
    }

    /// Accepts, reads, and never says a word.
    pub async fn silent(address: SocketAddr) -> Self {
        Self::serve(address, |mut stream| async move {
            tokio::io::copy(&mut stream, &mut tokio::io::sink())
                .await
                .ok();
        })
        .await
    }

    /// Resets each connection that has sent a byte.
    pub async fn resetting(address: SocketAddr) -> Self {
        Self::serve(address, |mut stream| async move {
            if stream.read_u8().await.is_ok() {
                reset(stream);
            }
        })
        .await
    }

    /// Hands its connections to the test, as far as they have sent or awaited
    /// anything: a health check that only connects is not among them.
    pub async fn handed_over(address: SocketAddr) -> (Self, mpsc::UnboundedReceiver<TcpStream>) {
        let (hand, handed) = mpsc::unbounded_channel();
        let backend = Self::serve(address, move |stream| {
            let hand = hand.clone();
            async move {
                hand.send(stream).ok();
            }
        })
        .await;
        (backend, handed)
    }
}

/// Says its name, then echoes.
pub async fn greet_and_echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, name: &str) {
    if stream.write_all(name.as_bytes()).await.is_ok() && stream.flush().await.is_ok() {
        let (mut read, mut write) = tokio::io::split(stream);
        tokio::io::copy(&mut read, &mut write).await.ok();
    }
}

/// The next connection that a backend hands over.
pub async fn next(handed: &mut mpsc::UnboundedReceiver<TcpStream>) -> TcpStream {
    within("a connection at the backend", handed.recv())
        .await
        .expect("the backend lives")
}

/// Ends a connection by a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .expect("a TCP socket can linger");
}

/// An address where connects hang: it listens, and its queue is full.
pub struct Unaccepting {
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl Unaccepting {
    /// Fills the queue of a new listener.
    pub async fn at(address: SocketAddr) -> Self {
        let listener = Socket::new(Domain::for_address(address), Type::STREAM, None)
            .and_then(|socket| {
                socket.set_reuse_address(true)?;
                socket.bind(&address.into())?;
                socket.listen(0)?;
                Ok(socket)
            })
            .expect("the address is the test's own");
        let mut queued = Vec::new();
        // One fits into a queue of length 0; the first that hangs shows it is full.
        while let Ok(stream) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            queued.push(stream.expect("something listens"));
        }
        Self {
            _listener: listener,
            _queued: queued,
        }
    }
}
