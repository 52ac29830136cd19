//! The kernel's own table of TCP sockets over IPv4 (`/proc/net/tcp`), for what no peer
//! can see: states that linger, and timers.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

/// What the kernel counts its timers' time in.
const TICKS_PER_SECOND: u32 = 100;
/// The timer of an idle connection.
const KEEPALIVE: &str = "02";

/// A socket.
#[derive(Debug, Clone)]
pub struct Socket {
    /// Its own address.
    pub local: SocketAddr,
    /// Its peer's.
    pub peer: SocketAddr,
    /// Its state, as in Linux' `tcp_states.h`: 1 is ESTABLISHED, 8 CLOSE_WAIT.
    pub state: u8,
    /// When the peer is asked next whether it is still there.
    pub keepalive: Option<Duration>,
}

/// All of this network namespace.
///
/// # Panics
/// When the kernel writes its table in another way than Linux does.
pub fn sockets() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux tells its sockets");
    let rows = table.lines().skip(1);
    rows.map(|row| parse(row).unwrap_or_else(|| panic!("no socket: {row}")))
        .collect()
}

fn parse(row: &str) -> Option<Socket> {
    let mut fields = row.split_whitespace().skip(1);
    let (local, peer) = (address(fields.next()?)?, address(fields.next()?)?);
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (timer, ticks) = fields.nth(1)?.split_once(':')?;
    let ticks = u32::from_str_radix(ticks, 16).ok()?;
    let left = Duration::from_secs(1) * ticks / TICKS_PER_SECOND;
    Some(Socket {
        local,
        peer,
        state,
        keepalive: (timer == KEEPALIVE).then_some(left),
    })
}

fn address(field: &str) -> Option<SocketAddr> {
    let (ip, port) = field.split_once(':')?;
    // The bytes as they are on the wire, read as a number of this machine's.
    let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
    let port = u16::from_str_radix(port, 16).ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
}

/// How many connections may wait on each socket that listens at `address`, by `ss`:
/// the table does not tell.
///
/// # Panics
/// Without iproute2.
pub fn backlogs(address: SocketAddr) -> Vec<u32> {
    let mut asked = Command::new("ss");
    asked.args(["-Hltn", "src", &address.to_string()]);
    let said = asked.output().expect("iproute2 is installed").stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    // State, Recv-Q, Send-Q, which of a listening socket is its backlog.
    let rows = said.lines().map(|row| row.split_whitespace().nth(2));
    rows.map(|field| field.and_then(|f| f.parse().ok()))
        .map(|backlog| backlog.unwrap_or_else(|| panic!("no Send-Q: {said}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_the_kernel_writes_it() {
        let row = "  12: 0100327F:20FB 6400327F:A1B2 01 00000000:00000000 02:00002EE0 00000000     \
                   0        0 4242 2 0000000000000000 20 4 30 10 -1";
        let socket = parse(row).unwrap();
        assert_eq!(socket.peer.port(), 0xa1b2);
        assert_eq!(socket.state, 1);
        assert_eq!(socket.keepalive, Some(Duration::from_secs(120)));
        #[cfg(target_endian = "little")]
        assert_eq!(socket.local, "127.50.0.1:8443".parse().unwrap());
    }
}
