//! What opens a connection to a backend: the PROXY header about the client, and
//! what the client said first where the listener waits for that. One buffer, one
//! packet, held until a backend has taken it. What the client said also decides
//! where it goes, where names do.

use std::future::poll_fn;
use std::task::Poll;

use rustix::net::RecvFlags;
use tidegate_core::client_hello::{self, Read, ServerName};
use tidegate_core::document::Plain;
use tidegate_core::proxy_protocol::{self, Extensions, Header, Ssl, Tlvs};

use crate::cause::{Cause, Phase};
use crate::connection::Connection;
use crate::engine::TcpStream;
use crate::proxy::Arrival;
use crate::relay::with_scratch;
use crate::state::{Listener, Target};

/// What a client said before anything was connected.
#[derive(Default)]
pub(crate) struct Spoken {
    bytes: Vec<u8>,
    server_name: Option<ServerName>,
    /// Whether names decide, and this is not TLS.
    plain: bool,
}

/// Hears what the client says first, where the listener waits for that: anything,
/// or, where names decide or are told to backends, a ClientHello to its end.
///
/// # Errors
/// The client ended, broke off, or began TLS wrongly where names decide.
pub(crate) async fn hear(
    client: &TcpStream,
    connection: &Connection,
    listener: &Listener,
) -> Result<Spoken, Cause> {
    let mut spoken = Spoken::default();
    if !listener.spec.client_first {
        return Ok(spoken);
    }
    let decides = !listener.spec.routes.is_empty();
    let told = |target: &Target| target.pool.spec.extensions.authority;
    let is_read = decides || listener.target.as_ref().is_some_and(told);
    connection.enter(Phase::FirstBytes);
    loop {
        spoken.hear_more(client).await?;
        if !is_read {
            return Ok(spoken);
        }
        match client_hello::read(&spoken.bytes) {
            Ok(Read::Partial) => {}
            Ok(Read::NotTls) => {
                spoken.plain = decides;
                return Ok(spoken);
            }
            Ok(Read::Whole { server_name }) => {
                spoken.server_name = server_name;
                return Ok(spoken);
            }
            // Whoever decrypts it will say so.
            Err(_) if !decides => return Ok(spoken),
            Err(malformed) => {
                tracing::debug!(%malformed, "ClientHello refused");
                return Err(Cause::BadClientHello);
            }
        }
    }
}

impl Spoken {
    async fn hear_more(&mut self, client: &TcpStream) -> Result<(), Cause> {
        let most = client_hello::MAX;
        let reading = poll_fn(|cx| {
            with_scratch(|scratch| {
                let room = scratch.get_mut(..most).unwrap_or_default();
                let read = client.poll_receive(cx, room, RecvFlags::empty());
                if let Poll::Ready(Ok(count)) = read {
                    let came = room.get(..count).unwrap_or_default();
                    self.bytes.extend_from_slice(came);
                }
                read
            })
        });
        match reading.await {
            Ok(0) => Err(Cause::ClientClosed),
            Ok(_) => Ok(()),
            Err(_) => Err(Cause::ClientReset),
        }
    }

    /// Where it leads, by what it asks for.
    ///
    /// # Errors
    /// Nowhere.
    pub(crate) fn route(&self, listener: &Listener) -> Result<Target, Cause> {
        if self.plain && listener.spec.plain == Plain::Refuse {
            return Err(Cause::NotTls);
        }
        let named = self.server_name.as_ref();
        let route = named.and_then(|name| listener.routes.find(name.as_str()));
        let target = route.or(listener.target.as_ref());
        target.cloned().ok_or(Cause::NoRoute)
    }
}

/// The first bytes for a backend.
pub(crate) struct Opening {
    bytes: Vec<u8>,
    /// How many of them are the client's.
    payload: usize,
}

impl Opening {
    /// The PROXY header about the client, where the target is told, and then what the
    /// client said.
    pub(crate) fn new(
        connection: &Connection,
        target: &Target,
        arrival: &Arrival,
        spoken: Spoken,
    ) -> Self {
        let payload = spoken.bytes.len();
        let Some(version) = target.announce else {
            return Self {
                bytes: spoken.bytes,
                payload,
            };
        };
        let header = Header::Proxied {
            client: arrival.ends.client.socket(),
            destination: arrival.ends.destination,
        };
        let tls = connection.live.tls();
        // A terminator tells its app all that it knows; a balancer what the pool says.
        let all = tls.is_some();
        let wanted = target.pool.spec.extensions;
        let id = (all || wanted.unique_id).then(|| connection.live.id());
        let named = match tls {
            Some(tls) => tls.server_name.as_ref(),
            None => spoken.server_name.as_ref(),
        };
        let extensions = Extensions {
            pass: match all || wanted.pass {
                true => Tlvs::new(&arrival.extensions),
                false => Tlvs::default(),
            },
            authority: named
                .filter(|_| all || wanted.authority)
                .map(ServerName::as_str),
            unique_id: id.as_deref().map(str::as_bytes),
            alpn: tls.and_then(|tls| tls.alpn.as_deref()),
            ssl: tls.map(|tls| Ssl {
                version: tls.version(),
                cipher: tls.suite(),
                client_certificate: tls.client.is_some(),
                common_name: tls.client.as_ref().and_then(|c| c.common_name.as_deref()),
            }),
            crc32c: wanted.crc32c,
        };
        let header = proxy_protocol::encode_with(version, &header, &extensions);
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&spoken.bytes);
        Self { bytes, payload }
    }

    /// What is to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many of the bytes are the client's.
    pub(crate) fn payload(&self) -> usize {
        self.payload
    }
}
