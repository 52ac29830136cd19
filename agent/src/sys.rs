//! System calls that no safe crate offers, and what is asked of the kernel once
//! at start. The only module with `unsafe`.
#![expect(
    unsafe_code,
    reason = "calls without a safe wrapper, a waker that is a number, reading into \
              memory that is not initialised"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::task::{RawWaker, RawWakerVTable, Waker};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tokio::io::ReadBuf;

use crate::engine;

/// Lets the kernel choose the source port at connect, where the whole
/// (source, destination) pair has to be unique, instead of at bind, where the
/// port alone would be taken from everybody (ip(7)).
pub(crate) fn bind_without_port(socket: impl AsFd) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// Hands over connections when they have data; one without is handed over anyway
/// after about `seconds` (tcp(7)).
pub(crate) fn accept_with_data(listener: impl AsFd, seconds: u16) -> io::Result<()> {
    let level = libc::IPPROTO_TCP;
    set_option(listener, level, libc::TCP_DEFER_ACCEPT, seconds.into())
}

/// Takes data in the SYN (RFC 7413), for up to `pending` connections that are
/// not established yet.
pub(crate) fn listen_with_fast_open(listener: impl AsFd, pending: u16) -> io::Result<()> {
    let level = libc::IPPROTO_TCP;
    set_option(listener, level, libc::TCP_FASTOPEN, pending.into())
}

fn set_option(
    socket: impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the length of the borrow; `value` lives
    // across the call, and `length` is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// recv(2) into what is left of `buffer`; answers how many bytes came.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut ReadBuf<'_>) -> Result<usize, Errno> {
    // SAFETY: nothing is un-initialised here; the kernel only writes.
    let free = unsafe { buffer.unfilled_mut() };
    let ((filled, _), _) = rustix::net::recv(socket, free, RecvFlags::empty())?;
    let count = filled.len();
    // SAFETY: the kernel has written the first `count` bytes.
    unsafe { buffer.assume_init(count) };
    buffer.advance(count);
    Ok(count)
}

/// A waker of a data thread's task: a number, which [`engine::wake`] looks up.
pub(crate) fn waker(task: u64) -> Waker {
    // SAFETY: the data is never dereferenced, and the functions of the table are
    // safe ones that may be called from any thread, any number of times.
    unsafe { Waker::from_raw(raw_waker(task)) }
}

const _: () = assert!(usize::BITS == 64, "a waker's number has 64 bits");

fn raw_waker(task: u64) -> RawWaker {
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let number = std::ptr::without_provenance(task as usize);
    RawWaker::new(number, &WAKER)
}

static WAKER: RawWakerVTable = RawWakerVTable::new(
    |number| raw_waker(number.addr() as u64),
    |number| engine::wake(number.addr() as u64),
    |number| engine::wake(number.addr() as u64),
    |_| {},
);

/// Keys are in memory: no core dump, and no ptrace by processes of the same user.
pub(crate) fn forbid_core_dumps() {
    // Fails only on kernels without the call, where there is nothing else to do.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Gives back to the host what the allocator keeps free (malloc_trim(3)).
pub(crate) fn trim_heap() {
    // SAFETY: takes no pointer, and may be called from any thread at any time.
    unsafe { libc::malloc_trim(0) };
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

/// Whether an error is this host's want, and says nothing of the peer.
pub(crate) fn is_ours(error: &io::Error) -> bool {
    out_of_descriptors(error) || out_of_ports(error)
}

/// Whether an error says that no source port is left towards a target (connect(2)).
pub(crate) fn out_of_ports(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EADDRNOTAVAIL)
}

/// Whether an error says that this process or host has no descriptor left.
fn out_of_descriptors(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}
