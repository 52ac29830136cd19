//! Routing rules and routes over rtnetlink(7), which needs no other program on the host
//! and says by number what went wrong. One request at a time, each on a socket of its
//! own; the kernel answers at once.

use std::fmt;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// The loopback interface, in every network namespace.
const LO: &str = "lo";
const LO_INDEX: u32 = 1;
/// Larger than the kernel's own buffer for one part of an answer.
const ANSWER: usize = 64 << 10;
/// The kernel answers at once, or does not know the request.
const PATIENCE: Duration = Duration::from_secs(2);

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub(super) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    /// What shows its rules.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip -6",
        }
    }

    /// What the app's answers come from.
    pub(super) fn network(self) -> Network {
        match self {
            Self::V4 => Network(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
            Self::V6 => Network(Ipv6Addr::LOCALHOST.into(), 128),
        }
    }

    /// One address of it, on any port.
    pub(super) fn loopback(self) -> SocketAddr {
        let ip = match self {
            Self::V4 => IpAddr::from(Ipv4Addr::LOCALHOST),
            Self::V6 => IpAddr::from(Ipv6Addr::LOCALHOST),
        };
        SocketAddr::new(ip, 0)
    }

    /// An address that no host has: the dummy address (RFC 7600), and one of the prefix
    /// for discarding (RFC 6666).
    fn nobody(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(192, 0, 0, 8).into(),
            Self::V6 => Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 1).into(),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    fn number(self) -> AddressFamily {
        match self {
            Self::V4 => AddressFamily::Inet,
            Self::V6 => AddressFamily::Inet6,
        }
    }
}

/// An address and the length of its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(IpAddr, u8);

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

/// Whether what a loopback address sends to somebody elsewhere comes back to this host:
/// the route that the app's answers take. Needs no privilege.
///
/// # Errors
/// The kernel does not answer.
pub(super) fn returns(family: Family) -> io::Result<bool> {
    let mut asked = RouteMessage::default();
    asked.header.address_family = family.number();
    asked.header.destination_prefix_length = family.bits();
    asked.header.source_prefix_length = family.bits();
    let source = family.loopback().ip();
    asked.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(family.nobody())),
        RouteAttribute::Source(RouteAddress::from(source)),
    ];
    let answers = match ask(RouteNetlinkMessage::GetRoute(asked), NLM_F_ACK) {
        Ok(answers) => answers,
        // No route at all, or one that refuses.
        Err(error) if is(&error, &[Errno::NETUNREACH, Errno::HOSTUNREACH]) => return Ok(false),
        Err(error) if is(&error, &[Errno::INVAL, Errno::ACCESS]) => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(answers.iter().any(|answer| {
        matches!(answer, RouteNetlinkMessage::NewRoute(route)
            if route.header.kind == RouteType::Local)
    }))
}

/// The table that the rule leads to, if it is there.
///
/// # Errors
/// The kernel does not answer.
pub(super) fn table(family: Family) -> io::Result<Option<u32>> {
    let mut asked = RuleMessage::default();
    asked.header.family = family.number();
    let answers = ask(RouteNetlinkMessage::GetRule(asked), NLM_F_DUMP)?;
    Ok(answers.iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewRule(rule) => table_of(family, rule),
        _ => None,
    }))
}

fn table_of(family: Family, rule: &RuleMessage) -> Option<u32> {
    let Network(address, length) = family.network();
    let has = |attribute: &RuleAttribute| rule.attributes.contains(attribute);
    let is_ours = rule.header.family == family.number()
        && rule.header.action == RuleAction::ToTable
        && rule.header.src_len == length
        && has(&RuleAttribute::Source(address))
        && has(&RuleAttribute::Iifname(LO.to_owned()));
    let table = rule
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Table(table) => Some(*table),
            _ => None,
        });
    is_ours.then(|| table.unwrap_or(rule.header.table.into()))
}

/// Adds route and rule; whether one of them was missing. The route first, so that the
/// rule leads somewhere from the beginning.
///
/// # Errors
/// `PermissionDenied` without CAP_NET_ADMIN.
pub(super) fn add(family: Family, table: u32) -> io::Result<bool> {
    let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    let made = |asked| match ask(asked, flags) {
        Ok(_) => Ok(true),
        Err(error) if is(&error, &[Errno::EXIST]) => Ok(false),
        Err(error) => Err(error),
    };
    let route = made(RouteNetlinkMessage::NewRoute(route(family, table)))?;
    // The kernel takes the same rule again, with another priority.
    let has_rule = self::table(family)? == Some(table);
    Ok(route | (!has_rule && made(RouteNetlinkMessage::NewRule(rule(family, table)))?))
}

/// Takes rule and route away; whether one of them was there.
///
/// # Errors
/// `PermissionDenied` without CAP_NET_ADMIN.
pub(super) fn remove(family: Family, table: u32) -> io::Result<bool> {
    let gone = |asked| match ask(asked, NLM_F_ACK) {
        Ok(_) => Ok(true),
        Err(error) if is(&error, &[Errno::NOENT, Errno::SRCH]) => Ok(false),
        Err(error) => Err(error),
    };
    let rule = gone(RouteNetlinkMessage::DelRule(rule(family, table)))?;
    Ok(gone(RouteNetlinkMessage::DelRoute(route(family, table)))? | rule)
}

fn rule(family: Family, table: u32) -> RuleMessage {
    let Network(address, length) = family.network();
    let mut rule = RuleMessage::default();
    rule.header.family = family.number();
    rule.header.src_len = length;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Source(address),
        RuleAttribute::Iifname(LO.to_owned()),
        RuleAttribute::Table(table),
    ];
    rule
}

/// `local default dev lo`.
fn route(family: Family, table: u32) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header = RouteHeader {
        address_family: family.number(),
        protocol: RouteProtocol::Static,
        scope: RouteScope::Host,
        kind: RouteType::Local,
        ..RouteHeader::default()
    };
    route.attributes = vec![RouteAttribute::Oif(LO_INDEX), RouteAttribute::Table(table)];
    route
}

fn is(error: &io::Error, which: &[Errno]) -> bool {
    let number = error.raw_os_error();
    which
        .iter()
        .any(|errno| Some(errno.raw_os_error()) == number)
}

/// Sends one request; everything that the kernel answers until it is done with it.
fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);

    let protocol = Protocol::from(libc::NETLINK_ROUTE);
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&bytes)?;
    let (mut answers, mut part) = (Vec::new(), vec![0; ANSWER]);
    loop {
        // Through `Read`, which takes memory that is initialised.
        let count = (&socket).read(&mut part)?;
        if take(part.get(..count).unwrap_or_default(), &mut answers)? {
            return Ok(answers);
        }
    }
}

/// Takes the messages of one part; whether the last one is among them.
fn take(mut part: &[u8], answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    while !part.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(part);
        let message = message.map_err(|error| io::Error::other(error.to_string()))?;
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            NetlinkPayload::Error(_) => return Ok(true),
            NetlinkPayload::InnerMessage(answer) => answers.push(answer),
            _ => {}
        }
        // Each begins on a multiple of four bytes (netlink(7)).
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        part = part
            .get(length.saturating_add(3) & !3..)
            .unwrap_or_default();
    }
    Ok(false)
}
