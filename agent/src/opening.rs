//! What opens a connection to a backend: the PROXY header about the client, and
//! what the client said first where the listener waits for that. One buffer, one
//! packet, held until a backend has taken it.

use std::future::poll_fn;

use rustix::net::RecvFlags;
use tidegate_core::proxy_protocol::{self, Header, Version};

use crate::cause::{Cause, Phase};
use crate::connection::Connection;
use crate::engine::TcpStream;
use crate::proxy::Ends;
use crate::relay::with_scratch;

/// Client's bytes taken before a backend is connected, at most.
const MOST: usize = 16 << 10;

/// The first bytes for a backend.
#[derive(Default)]
pub(crate) struct Opening {
    bytes: Vec<u8>,
    /// How many of them are the client's.
    payload: usize,
}

impl Opening {
    /// What is to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The client's bytes in it.
    pub(crate) fn payload(&self) -> usize {
        self.payload
    }
}

/// The PROXY header about the client, where the listener announces it.
pub(crate) fn announcing(version: Option<Version>, ends: Ends) -> Opening {
    let header = Header::Proxied {
        client: ends.client.socket(),
        destination: ends.destination,
    };
    let bytes = version.map(|version| proxy_protocol::encode(version, &header));
    Opening {
        bytes: bytes.map_or_else(Vec::new, |header| header.as_bytes().to_vec()),
        payload: 0,
    }
}

impl Opening {
    /// Waits for the client's first bytes and takes them in.
    ///
    /// # Errors
    /// The client ended without any, or broke off.
    pub(crate) async fn hear(
        &mut self,
        client: &TcpStream,
        connection: &Connection,
    ) -> Result<(), Cause> {
        connection.enter(Phase::FirstBytes);
        let count = poll_fn(|cx| {
            with_scratch(|scratch| {
                let room = scratch.get_mut(..MOST).unwrap_or_default();
                let read = client.poll_receive(cx, room, RecvFlags::empty());
                if let std::task::Poll::Ready(Ok(count)) = read {
                    self.bytes
                        .extend_from_slice(room.get(..count).unwrap_or_default());
                }
                read
            })
        });
        match count.await {
            Ok(0) => Err(Cause::ClientClosed),
            Ok(count) => {
                self.payload += count;
                Ok(())
            }
            Err(_) => Err(Cause::ClientReset),
        }
    }
}
