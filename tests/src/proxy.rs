//! PROXY protocol headers, written by hand from the specification: the agent's own
//! writer is under test and cannot be its own measure.
//! <https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt>

use std::net::{IpAddr, SocketAddr};

/// What every version 2 header begins with.
pub const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A version 1 line.
pub fn v1(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (client.ip(), destination.ip());
    format!(
        "PROXY {family} {from} {to} {} {}\r\n",
        client.port(),
        destination.port()
    )
    .into_bytes()
}

/// A version 2 header.
pub fn v2(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (family, mut addresses) = match (client.ip(), destination.ip()) {
        (IpAddr::V4(c), IpAddr::V4(d)) => (0x11, [c.octets(), d.octets()].concat()),
        (IpAddr::V6(c), IpAddr::V6(d)) => (0x21, [c.octets(), d.octets()].concat()),
        mixed => panic!("both addresses have one family: {mixed:?}"),
    };
    addresses.extend(client.port().to_be_bytes());
    addresses.extend(destination.port().to_be_bytes());
    v2_raw(0x21, family, &addresses)
}

/// A version 2 header that speaks for nobody, as of a health check.
pub fn v2_local() -> Vec<u8> {
    v2_raw(0x20, 0, &[])
}

/// A version 2 header of any bytes.
pub fn v2_raw(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a header is shorter than 64 KiB");
    let head = [version_and_command, family];
    [V2_SIGNATURE, &head, &length.to_be_bytes(), rest].concat()
}
