//! System calls that no safe crate offers, and what is asked of the kernel once
//! at start. The only module with `unsafe`.
#![expect(
    unsafe_code,
    reason = "setsockopt(IP_BIND_ADDRESS_NO_PORT) has no safe wrapper"
)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lets the kernel choose the source port at connect, where the whole
/// (source, destination) pair has to be unique, instead of at bind, where the
/// port alone would be taken from everybody (ip(7)).
pub(crate) fn bind_without_port(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the borrow; `on` lives
    // across the call, and `length` is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Waits for connections on a socket without taking one.
pub(crate) fn readable(listener: TcpListener) -> io::Result<AsyncFd<TcpListener>> {
    // SAFETY: a `TcpListener` owns its descriptor, closes it only when it is
    // dropped, and `as_raw_fd` always answers with that one.
    let registered = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

/// Keys are in memory: no core dump, and no ptrace by processes of the same user.
pub(crate) fn forbid_core_dumps() {
    // Fails only on kernels without the call, where there is nothing else to do.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Raises the soft limit of open files to the hard one; answers with it.
pub(crate) fn raise_open_files() -> u64 {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    match rustix::process::setrlimit(Resource::Nofile, wanted) {
        Ok(()) => maximum.or(current).unwrap_or(u64::from(u32::MAX)),
        Err(_) => current.unwrap_or(1024),
    }
}

/// Whether an error says that this process or host has no descriptor left.
pub(crate) fn out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}
