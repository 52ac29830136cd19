//! A TCP connection with a tap on it: what a peer sends through it and what comes
//! back is kept, byte for byte, and its first bytes may be sent in pieces.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// As much as any peer writes at once.
const MOST: usize = 64 << 10;

/// What has passed a connection so far.
#[derive(Clone, Default)]
pub struct Tap {
    sent: Arc<Mutex<Vec<u8>>>,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Tap {
    /// Taps a connection; use what is answered instead of it. `cut` has the first
    /// bytes that are sent, and says in which pieces they leave.
    pub fn on(
        stream: TcpStream,
        cut: impl FnOnce(Vec<u8>) -> Vec<Vec<u8>> + Send + 'static,
    ) -> (DuplexStream, Self) {
        let tap = Self::default();
        let (here, there) = tokio::io::duplex(MOST);
        let (from, to) = stream.into_split();
        let (incoming, outgoing) = tokio::io::split(there);
        tokio::spawn(inwards(from, outgoing, Arc::clone(&tap.received)));
        tokio::spawn(outwards(incoming, to, Arc::clone(&tap.sent), cut));
        (here, tap)
    }

    /// What went into the connection.
    pub fn sent(&self) -> Vec<u8> {
        copy(&self.sent)
    }

    /// What came out of it.
    pub fn received(&self) -> Vec<u8> {
        copy(&self.received)
    }
}

fn copy(kept: &Mutex<Vec<u8>>) -> Vec<u8> {
    kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn keep(kept: &Mutex<Vec<u8>>, bytes: &[u8]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.extend_from_slice(bytes);
}

async fn inwards(
    mut from: OwnedReadHalf,
    mut to: tokio::io::WriteHalf<DuplexStream>,
    kept: Arc<Mutex<Vec<u8>>>,
) {
    let mut bytes = vec![0; MOST];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        keep(&kept, &bytes[..count]);
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
    to.shutdown().await.ok();
}

async fn outwards(
    mut from: tokio::io::ReadHalf<DuplexStream>,
    mut to: OwnedWriteHalf,
    kept: Arc<Mutex<Vec<u8>>>,
    cut: impl FnOnce(Vec<u8>) -> Vec<Vec<u8>>,
) {
    let mut cut = Some(cut);
    let mut bytes = vec![0; MOST];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let came = bytes[..count].to_vec();
        let pieces = match cut.take() {
            Some(cut) => cut(came),
            None => vec![came],
        };
        for piece in pieces {
            keep(&kept, &piece);
            if to.write_all(&piece).await.is_err() {
                return;
            }
            // Each in a segment of its own, as far as the kernel lets us.
            tokio::task::yield_now().await;
        }
    }
    to.shutdown().await.ok();
}
