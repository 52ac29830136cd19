//! From a socket to a decrypted stream: rustls decides and makes the bytes, here they
//! are carried. Bounded in bytes by [`MOST`], in time by whoever waits.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::RecvFlags;
use rustls::crypto::SupportedKxGroup;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{AlertDescription, HandshakeKind, ProtocolVersion, ServerConfig};
use tidegate_core::client_hello::{self, Read, ServerName};
use tidegate_core::document::Close;

use super::agreed::{Agreed, Client};
use super::certificates::Certificates;
use super::session::Session;
use super::stream::{Shaken, Stream};
use crate::engine::{self, TcpStream};
use crate::relay::with_scratch;

/// The most bytes of a client's handshake that wait to be understood: one message of
/// the largest size (chains of client certificates), in records.
const MOST: usize = 80 << 10;
/// Received at once.
const RECEIVED: usize = 16 << 10;

/// What a listener needs to shake hands.
pub(crate) struct Terms {
    pub(super) config: Arc<ServerConfig>,
    pub(super) certificates: Arc<Certificates>,
    /// Whether a name that no certificate has is refused.
    pub(super) refuses_unknown: bool,
    pub(super) close: Close,
    /// For the handshake alone.
    pub(crate) timeout: Option<Duration>,
}

impl Terms {
    /// The name for a host as a certificate has it.
    pub(crate) fn certified_name(&self, asked: Option<&ServerName>) -> Option<&str> {
        self.certificates.name(asked?.as_str())
    }
}

/// Why hands were not shaken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the client left")]
    Closed,
    #[error("the connection broke off: {0}")]
    Broken(#[from] io::Error),
    #[error("no certificate has the name that the client asks for")]
    UnknownName,
    #[error("the client's handshake does not end within {MOST} bytes")]
    TooLong,
    #[error(transparent)]
    Refused(#[from] rustls::Error),
}

/// What is left of a handshake that failed.
pub(crate) struct Unshaken {
    pub(crate) failure: Failure,
    /// Where the client was told why, to linger on.
    pub(crate) told: Option<TcpStream>,
}

/// Shakes hands.
pub(crate) async fn shake(socket: TcpStream, terms: &Terms) -> Result<(Stream, Agreed), Unshaken> {
    let unshaken = |failure| Unshaken {
        failure,
        told: None,
    };
    let hands = Hands::new(Arc::clone(&terms.config));
    let mut hands = hands.map_err(|error| unshaken(error.into()))?;
    if let Err(failure) = hands.drive(&socket, terms).await {
        hands.say_why(&failure);
        let told = !hands.to_send.is_empty() && hands.send(&socket).await.is_ok();
        let told = told.then_some(socket);
        return Err(Unshaken { failure, told });
    }
    let (shaken, agreed) = hands.finish(&socket).await.map_err(unshaken)?;
    Ok((Stream::new(socket, shaken, terms.close), agreed))
}

/// A handshake under way.
struct Hands {
    tls: UnbufferedServerConnection,
    received: Vec<u8>,
    to_send: Vec<u8>,
    /// What the client said behind its handshake.
    opened: Vec<u8>,
    /// Whether it has said that nothing follows.
    is_ended: bool,
    server_name: Option<ServerName>,
}

/// Where a handshake stands when all that was received is understood.
enum Step {
    /// At the client's turn.
    Waits,
    Over,
}

impl Hands {
    fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        Ok(Self {
            tls: UnbufferedServerConnection::new(config)?,
            received: Vec::new(),
            to_send: Vec::new(),
            opened: Vec::new(),
            is_ended: false,
            server_name: None,
        })
    }

    async fn drive(&mut self, socket: &TcpStream, terms: &Terms) -> Result<(), Failure> {
        self.hear_hello(socket).await?;
        if terms.refuses_unknown && !terms.certificates.have(self.server_name.as_ref()) {
            return Err(Failure::UnknownName);
        }
        loop {
            engine::costly().await;
            match self.step()? {
                Step::Over => return Ok(()),
                Step::Waits => self.send(socket).await?,
            }
            self.receive(socket).await?;
        }
    }

    /// Until the ClientHello is there, or what is no such thing: rustls has an answer to
    /// that.
    async fn hear_hello(&mut self, socket: &TcpStream) -> Result<(), Failure> {
        loop {
            self.receive(socket).await?;
            match client_hello::read(&self.received) {
                Ok(Read::Partial) => {}
                Ok(Read::Whole { server_name }) => {
                    self.server_name = server_name;
                    return Ok(());
                }
                Ok(Read::NotTls) | Err(_) => return Ok(()),
            }
        }
    }

    async fn receive(&mut self, socket: &TcpStream) -> Result<(), Failure> {
        let count = poll_fn(|cx| {
            with_scratch(|scratch| {
                let room = scratch.get_mut(..RECEIVED).unwrap_or_default();
                let count = socket.poll_receive(cx, room, RecvFlags::empty());
                if let std::task::Poll::Ready(Ok(count)) = count {
                    let new = scratch.get(..count).unwrap_or_default();
                    self.received.extend_from_slice(new);
                }
                count
            })
        });
        match count.await? {
            0 => Err(Failure::Closed),
            _ if self.received.len() > MOST => Err(Failure::TooLong),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, socket: &TcpStream) -> io::Result<()> {
        let mut rest = self.to_send.as_slice();
        while !rest.is_empty() {
            let sent = poll_fn(|cx| socket.poll_send(cx, rest)).await?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        self.to_send.clear();
        Ok(())
    }

    /// Understands what was received, as far as it goes.
    fn step(&mut self) -> Result<Step, Failure> {
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.tls.process_tls_records(&mut self.received);
            let mut at_rest = false;
            let heard = match state {
                Ok(ConnectionState::EncodeTlsData(record)) => encode(record, &mut self.to_send),
                // They are sent when the client is waited for, all at once.
                Ok(ConnectionState::TransmitTlsData(records)) => {
                    records.done();
                    Ok(())
                }
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(record) = records.next_record() {
                        self.opened.extend_from_slice(record?.payload);
                    }
                    Ok(())
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.is_ended = true;
                    Ok(())
                }
                // In TLS 1.3 the second one also while the client has not finished.
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => {
                    at_rest = true;
                    Ok(())
                }
                // Data before the handshake's end is never asked for.
                Ok(_) => Err(Failure::Closed),
                Err(error) => Err(Failure::from(error)),
            };
            // Of what failed as well: its alert is asked for with the rest.
            self.received.drain(..discard.min(self.received.len()));
            heard?;
            match (self.tls.is_handshaking(), at_rest) {
                (_, false) => {}
                (true, true) if self.is_ended => return Err(Failure::Closed),
                (true, true) => return Ok(Step::Waits),
                (false, true) => return Ok(Step::Over),
            }
        }
    }

    /// The alert that goes with a failure.
    fn say_why(&mut self, failure: &Failure) {
        match failure {
            Failure::UnknownName => {
                let alert = u8::from(AlertDescription::UnrecognisedName);
                self.to_send = vec![21, 3, 3, 0, 2, 2, alert];
            }
            Failure::Refused(_) => {
                // Only while there is something to say: what failed would fail again.
                while self.tls.wants_write()
                    && let Ok(ConnectionState::EncodeTlsData(record)) =
                        self.tls.process_tls_records(&mut self.received).state
                    && encode(record, &mut self.to_send).is_ok()
                {}
            }
            _ => self.to_send.clear(),
        }
    }

    /// What the handshake leaves. A ticket leaves with the answer to a client that has
    /// asked already.
    async fn finish(mut self, socket: &TcpStream) -> Result<(Shaken, Agreed), Failure> {
        let unknown = || rustls::Error::HandshakeNotComplete;
        let agreed = Agreed {
            version: self.tls.protocol_version().ok_or_else(unknown)?,
            suite: self
                .tls
                .negotiated_cipher_suite()
                .ok_or_else(unknown)?
                .suite(),
            group: self
                .tls
                .negotiated_key_exchange_group()
                .map(SupportedKxGroup::name),
            resumed: self.tls.handshake_kind() == Some(HandshakeKind::Resumed),
            server_name: self.server_name.take(),
            alpn: self.tls.alpn_protocol().map(Box::from),
            client: self
                .tls
                .peer_certificates()
                .and_then(<[_]>::first)
                .map(|certificate| Client::of(certificate)),
        };
        let is_13 = agreed.version == ProtocolVersion::TLSv1_3;
        let has_spoken = !self.opened.is_empty() || !self.received.is_empty();
        if !is_13 || !has_spoken {
            if is_13 && self.to_send.is_empty() {
                acknowledge(socket);
            }
            self.send(socket).await?;
        }
        let session = Session::new(self.tls, self.is_ended).ok_or_else(unknown)?;
        let shaken = Shaken {
            session,
            outgoing: self.to_send,
            sealed: self.received,
            opened: self.opened,
        };
        Ok((shaken, agreed))
    }
}

/// Acknowledges the end of a TLS 1.3 handshake at once. It is the client's to end, and
/// without a ticket nothing of ours follows that could carry the acknowledgement. The
/// kernel would hold it back for 40 ms, and a client with Nagle's algorithm on its first
/// request with it.
fn acknowledge(socket: &TcpStream) {
    // Where it is refused, the acknowledgement comes late.
    let _late = rustix::net::sockopt::set_tcp_quickack(socket, true);
}

fn encode(
    mut record: EncodeTlsData<'_, ServerConnectionData>,
    to_send: &mut Vec<u8>,
) -> Result<(), Failure> {
    let from = to_send.len();
    let mut room = 0;
    loop {
        to_send.resize(from + room, 0);
        match record.encode(to_send.get_mut(from..).unwrap_or_default()) {
            Ok(_) => return Ok(()),
            Err(EncodeError::InsufficientSize(needed)) if room == 0 => room = needed.required_size,
            Err(error) => return Err(rustls::Error::General(error.to_string()).into()),
        }
    }
}

/// A handshake without sockets.
#[cfg(test)]
pub(super) fn shake_in_memory(
    config: Arc<ServerConfig>,
    client: &mut rustls::ClientConnection,
) -> Session {
    let mut hands = Hands::new(config).unwrap();
    loop {
        while client.wants_write() {
            client.write_tls(&mut hands.received).unwrap();
        }
        let step = hands.step().unwrap();
        let mut wire = hands.to_send.as_slice();
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets().unwrap();
        }
        hands.to_send.clear();
        if matches!(step, Step::Over) && !client.wants_write() {
            return Session::new(hands.tls, false).unwrap();
        }
    }
}
