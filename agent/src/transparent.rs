//! `client_ip: transparent`: connections to the app from the client's own address. What
//! the host has to allow for that is looked at before a snapshot is put to work, and made
//! by `tidegate-agent setup-transparent`. Which addresses can be a source is `core`'s to
//! say, how the kernel is asked `rules`'.
//!
//! The app answers to the client's address, which is not here: without a rule the kernel
//! would send that out, to a client that knows nothing of the connection. So what comes
//! from a loopback address on this host is looked up in a table whose only route makes
//! every address local.

mod rules;

use std::error::Error;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use anyhow::ensure;
use socket2::{SockRef, Socket};
use tidegate_core::document::Mistake;
use tidegate_core::snapshot::Snapshot;
use tidegate_core::transparent::NotASource;

use self::rules::Family;
use crate::cause::Cause;
use crate::host::Seldom;
use crate::settings::SetupTransparent;
use crate::{engine, sys};

pub(crate) use tidegate_core::transparent::Source;

/// A socket that connects to `target` from the client's address. Its port is chosen as
/// it connects, where only the whole pair of addresses has to be unique: a client on this
/// host, and one that has many connections, meet no socket that is there already.
///
/// # Errors
/// As socket(2), setsockopt(2) and bind(2).
pub(crate) fn socket(client: Source, target: SocketAddr) -> io::Result<Socket> {
    let socket = engine::stream_socket(target)?;
    socket.set_tcp_nodelay(true)?;
    allow(&socket, Family::of(target.ip()))?;
    sys::bind_without_port(&socket)?;
    socket.bind(&SocketAddr::new(client.ip(), 0).into())?;
    Ok(socket)
}

/// Lets a socket be bound to addresses of others (ip(7)).
fn allow(socket: &Socket, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => socket.set_ip_transparent_v4(true),
        Family::V6 => socket.set_ip_transparent_v6(true),
    }
}

/// The app must not take a client for somebody else: in the place of an address that
/// names no host, such as the broadcast address of a network it is on, the kernel puts
/// one of its own.
///
/// # Errors
/// [`NotASource`], when it did.
pub(crate) fn refuse_another(client: Source, stream: impl AsFd) -> io::Result<()> {
    let own = SockRef::from(&stream).local_addr()?.as_socket();
    if own.map(|own| own.ip()) == Some(client.ip()) {
        return Ok(());
    }
    Err(io::Error::other(NotASource(client.ip())))
}

/// What a failed connect means when it is not the backend's doing: `Ok`, another one may
/// do better; `Err`, none will.
pub(crate) fn failed(
    client: Source,
    backend: SocketAddr,
    error: &io::Error,
) -> Option<Result<Cause, Cause>> {
    if error
        .get_ref()
        .is_some_and(<dyn Error + Send + Sync>::is::<NotASource>)
    {
        tracing::debug!(%error, "client refused");
        return Some(Err(Cause::ClientAddress));
    }
    // Nothing on loopback takes that long, unless its answers go elsewhere.
    if error.kind() == io::ErrorKind::TimedOut {
        let lacks = lacks();
        if !lacks.is_empty() {
            static TOLD: Seldom = Seldom::new();
            if TOLD.is_time() {
                tracing::error!(
                    ?lacks,
                    "no connection from a client's address gets an answer"
                );
            }
            return Some(Err(Cause::Internal));
        }
    }
    let target = client.target(backend);
    if target == backend || sys::is_ours(error) {
        return None;
    }
    // The checks say nothing of the other family, and its clients must not be able to
    // take a backend away from all others.
    static TOLD: Seldom = Seldom::new();
    if TOLD.is_time() {
        tracing::warn!(%backend, target_address = %target, %error, "clients of the other family find no app");
    }
    Some(Ok(match error.kind() {
        io::ErrorKind::TimedOut => Cause::ConnectTimeout,
        _ => Cause::ConnectFailed,
    }))
}

/// Whether this host allows what `snapshot` wants.
///
/// # Errors
/// Everything that it lacks.
pub(crate) fn check(snapshot: &Snapshot) -> Result<(), Vec<Mistake>> {
    let mut listeners = snapshot.listeners.iter();
    let Some(listener) = listeners.find(|listener| listener.work.is_transparent()) else {
        return Ok(());
    };
    let at = format!("/listeners/{}/client_ip", listener.name);
    let lacks = lacks().into_iter();
    let mistakes: Vec<_> = lacks.map(|lack| Mistake::new(at.clone(), lack)).collect();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(mistakes)
    }
}

/// What this host lacks for it, a sentence each with its mend.
fn lacks() -> Vec<String> {
    let mut lacks = Vec::new();
    lacks.extend(lacks_capability());
    let families = Family::ALL.into_iter().filter(|family| is_here(*family));
    lacks.extend(families.filter_map(lacks_rule));
    lacks
}

fn lacks_capability() -> Option<String> {
    let trial = engine::stream_socket(Family::V4.loopback());
    let refused = trial.and_then(|socket| allow(&socket, Family::V4)).err()?;
    Some(match refused.kind() {
        io::ErrorKind::PermissionDenied => {
            "transparent: the agent lacks CAP_NET_RAW, which a connection from a client's address \
             takes (IP_TRANSPARENT): write AmbientCapabilities=CAP_NET_RAW in its systemd unit, or \
             `setcap cap_net_raw+ep` on its program"
                .to_owned()
        }
        _ => format!("transparent: IP_TRANSPARENT cannot be set: {refused}"),
    })
}

/// The kernel is asked for the very route that the app's answers take; the rules are
/// looked at only to say what is missing.
fn lacks_rule(family: Family) -> Option<String> {
    const MEND: &str = "run `tidegate-agent setup-transparent` as root";
    let loopback = family.network();
    let (name, rule) = match (rules::returns(family), rules::table(family)) {
        (Ok(true), _) => return None,
        (Ok(false), Ok(rule)) => (family.name(), rule),
        (Err(error), _) | (_, Err(error)) => {
            return Some(format!("transparent: routing cannot be read: {error}"));
        }
    };
    Some(match rule {
        None => format!(
            "transparent: {name} has no routing rule `from {loopback} iif lo`, so what the app \
             answers to clients would leave this host: {MEND}"
        ),
        Some(table) => format!(
            "transparent: {name} has the routing rule `from {loopback} iif lo`, but it does not \
             decide: table {table} has no route `local default dev lo`, or another rule comes \
             before; {MEND} --table {table}, and compare `{} rule`",
            family.command(),
        ),
    })
}

/// Whether the host has that family at all: IPv6 may be off.
fn is_here(family: Family) -> bool {
    UdpSocket::bind(family.loopback()).is_ok()
}

/// `tidegate-agent setup-transparent`: makes the rules, or takes them away, and says so
/// on standard output.
///
/// # Errors
/// The right to is missing, the rules are there with another table, or they do not do
/// what they should.
pub(crate) fn setup(settings: &SetupTransparent) -> anyhow::Result<()> {
    let table = settings.table;
    for family in Family::ALL {
        let name = family.name();
        if !is_here(family) {
            println!("{name}: is off on this host, nothing to do");
        } else if settings.remove {
            let removed = rules::remove(family, table).map_err(explained)?;
            say(family, table, if removed { "removed" } else { "not there" });
        } else {
            let other = rules::table(family)?.filter(|other| *other != table);
            ensure!(
                other.is_none(),
                "{name} has the rule already, with another table: take it away first \
                 (setup-transparent --remove --table {}), or go on with that table",
                other.unwrap_or_default()
            );
            let added = rules::add(family, table).map_err(explained)?;
            say(family, table, if added { "added" } else { "there already" });
            ensure!(
                rules::returns(family)?,
                "{name}: they do not decide: another rule comes before, or table {table} has another \
                 default route: see `{0} rule` and `{0} route show table {table}`",
                family.command()
            );
        }
    }
    Ok(())
}

fn say(family: Family, table: u32, what: &str) {
    println!(
        "{}: rule `from {} iif lo lookup {table}`, route `local default dev lo table {table}`: \
         {what}",
        family.name(),
        family.network(),
    );
}

fn explained(error: io::Error) -> anyhow::Error {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let why = match denied {
        true => "rules and routes need CAP_NET_ADMIN in this network namespace: run it as root",
        false => "the kernel does not take the rule or the route",
    };
    anyhow::Error::new(error).context(why)
}
