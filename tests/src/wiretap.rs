//! Every TCP segment over IPv4 in a network namespace, as it leaves: for what sockets
//! do not show, such as bytes in a SYN. Needs a namespace of its own
//! ([`namespace`](crate::namespace)), where everybody may look.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use crate::within;

/// ETH_P_IP, by which each packet is seen once, when it arrives.
const IPV4: u16 = 0x0800;
/// As much as loopback carries in one packet.
const MOST: usize = 64 << 10;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A TCP segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Who sent it.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Whether it asks for a connection.
    pub opens: bool,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A tap on all interfaces.
pub struct Wiretap(mpsc::UnboundedReceiver<Segment>);

impl Wiretap {
    /// Sees everything from now on.
    ///
    /// # Panics
    /// Outside a namespace of its own, unless for root.
    pub fn open() -> Self {
        let protocol = Protocol::from(i32::from(IPV4.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol));
        let socket = socket.expect("a namespace lets its root look");
        let (tell, told) = mpsc::unbounded_channel();
        std::thread::spawn(move || listen(socket, &tell));
        Self(told)
    }

    /// The next segment that `wanted` takes; those before it are passed over.
    pub async fn next(&mut self, what: &str, mut wanted: impl FnMut(&Segment) -> bool) -> Segment {
        within(what, async {
            loop {
                let segment = self.0.recv().await.expect("the socket stays open");
                if wanted(&segment) {
                    return segment;
                }
            }
        })
        .await
    }
}

/// Until nobody wants to know any more.
fn listen(mut socket: Socket, tell: &mpsc::UnboundedSender<Segment>) {
    let mut packet = vec![0; MOST];
    while let Ok(count) = socket.read(&mut packet) {
        let segment = packet.get(..count).and_then(parse);
        if segment.is_some_and(|segment| tell.send(segment).is_err()) {
            return;
        }
    }
}

/// RFC 791 and RFC 9293, as far as it is needed; `None` for what is not TCP.
fn parse(packet: &[u8]) -> Option<Segment> {
    let words = |byte: u8| usize::from(byte) * 4;
    let of_ip = words(packet.first()? & 0x0f);
    let length = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    let ip = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    if packet.get(9) != Some(&TCP) {
        return None;
    }
    let tcp = packet.get(of_ip..length)?;
    let port = |at: usize| Some(u16::from_be_bytes(*tcp.get(at..)?.first_chunk::<2>()?));
    let flags = *tcp.get(13)?;
    Some(Segment {
        from: SocketAddrV4::new(ip(12)?, port(0)?).into(),
        to: SocketAddrV4::new(ip(16)?, port(2)?).into(),
        opens: flags & (SYN | ACK) == SYN,
        payload: tcp.get(words(tcp.get(12)? >> 4)..)?.to_vec(),
    })
}
