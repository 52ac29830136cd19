//! Child processes that cannot outlive us, whatever ends us. [`Start`] says how one
//! is started, [`Child`] is a running one. What it prints is its starter's business.
//!
//! The kernel sends a child its signal when the *thread* that started it ends. So
//! all of them are started by one thread that never ends: start them from anywhere.
#![expect(
    unsafe_code,
    reason = "pre_exec is the only way to prctl between fork and exec"
)]

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{self, ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{self as sys, Pid, PidfdFlags, Resource, Rlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub use rustix::process::Signal;

/// How a child is started.
pub struct Start {
    command: Command,
    on_our_end: Signal,
    max_files: Option<u64>,
    inherited: Vec<OwnedFd>,
}

impl Start {
    /// Starts `command` in a process group of its own, so that Ctrl-C at a terminal
    /// reaches only us, who decide what happens to it; killed when we end.
    pub fn new(mut command: Command) -> Self {
        command.process_group(0);
        Self {
            command,
            on_our_end: Signal::KILL,
            max_files: None,
            inherited: Vec::new(),
        }
    }

    /// Leaves it in our process group: Ctrl-C at a terminal reaches it too.
    #[must_use]
    pub fn in_our_group(mut self) -> Self {
        let group = sys::getpgrp().as_raw_nonzero().get();
        self.command.process_group(group);
        self
    }

    /// The signal it gets when we end, in whatever way.
    #[must_use]
    pub fn on_our_end(mut self, signal: Signal) -> Self {
        self.on_our_end = signal;
        self
    }

    /// Runs it as another user, in no group but that one. For root only.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32) -> Self {
        // The standard library also drops root's other groups.
        self.command.uid(uid).gid(gid);
        self
    }

    /// How many descriptors it may have.
    #[must_use]
    pub fn max_files(mut self, count: u64) -> Self {
        self.max_files = Some(count);
        self
    }

    /// Leaves it descriptors, under the numbers they have here.
    #[must_use]
    pub fn inheriting(mut self, descriptors: impl IntoIterator<Item = OwnedFd>) -> Self {
        self.inherited.extend(descriptors);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the program cannot be started, or not as that user.
    pub fn spawn(self) -> io::Result<Child> {
        let child = spawn_from_a_lasting_thread(self.tied())?;
        let handle = sys::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        Ok(Child { child, handle })
    }

    /// The command, with what has to happen between fork and exec.
    fn tied(self) -> Command {
        let Self {
            mut command,
            on_our_end,
            max_files,
            inherited,
        } = self;
        let parent = sys::getpid();
        // Runs after the change of user, which would take the signal back.
        let before_exec = move || {
            sys::set_parent_process_death_signal(Some(on_our_end))?;
            // We may have been killed before the line above: then nobody will tell it.
            if sys::getppid() != Some(parent) {
                return Err(Errno::SRCH.into());
            }
            for descriptor in &inherited {
                fcntl_setfd(descriptor, FdFlags::empty())?;
            }
            if max_files.is_some() {
                let limit = Rlimit {
                    current: max_files,
                    maximum: max_files,
                };
                sys::setrlimit(Resource::Nofile, limit)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec only what is async-signal-safe may run. The
        // closure makes system calls with values it owns; it does not allocate,
        // lock, or unwind.
        unsafe { command.pre_exec(before_exec) };
        command
    }
}

type Request = (Command, SyncSender<io::Result<process::Child>>);

fn spawn_from_a_lasting_thread(command: Command) -> io::Result<process::Child> {
    static STARTER: Mutex<Option<SyncSender<Request>>> = Mutex::new(None);
    let mut starter = STARTER.lock().unwrap_or_else(PoisonError::into_inner);
    let requests = match &*starter {
        Some(requests) => requests.clone(),
        None => starter.insert(start_starter()?).clone(),
    };
    drop(starter);
    let (answer, answered) = sync_channel(1);
    let gone = |_| io::Error::other("the thread that starts processes is gone");
    requests.send((command, answer)).map_err(|_| gone(()))?;
    answered.recv().map_err(|_| gone(()))?
}

fn start_starter() -> io::Result<SyncSender<Request>> {
    let (requests, received) = sync_channel::<Request>(0);
    let starter = std::thread::Builder::new().name("starter".to_owned());
    // The other end is in a static: this loop ends with the process.
    starter.spawn(move || {
        for (mut command, answer) in received {
            // Whoever asked waits for it.
            let _waiting = answer.send(command.spawn());
        }
    })?;
    Ok(requests)
}

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Child {
    child: process::Child,
    /// Names the process even when its number has been given to another one.
    handle: OwnedFd,
}

impl Child {
    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, once, when the command pipes it.
    pub fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard error, once, when the command pipes it.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.child.stderr.take()
    }

    /// Sends a signal; nothing happens when it has ended.
    ///
    /// # Errors
    /// When it has become another user's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match sys::pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until it has ended, by itself or by a signal. May be dropped and asked
    /// again.
    ///
    /// # Errors
    /// When the process has no descriptor left to wait with.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        readable(self.handle.try_clone()?)?
            .readable()
            .await?
            .retain_ready();
        self.child.wait()
    }

    /// Blocks until it has ended or `limit` has passed; whether it has ended. For
    /// `Drop`, where nothing can be awaited.
    pub fn ends_within(&self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).ok();
        let mut handle = [PollFd::new(&self.handle, PollFlags::IN)];
        poll(&mut handle, limit.as_ref()).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ended = self.signal(Signal::KILL);
        // Reaped, so that whoever counts processes does not count it.
        let _already_reaped = self.child.wait();
    }
}

fn readable(handle: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` owns its descriptor, closes it only when it is dropped,
    // and `as_raw_fd` always answers with that one.
    let registered = unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::Stdio;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command.stdout(Stdio::piped());
        command
    }

    fn said(child: &mut Child) -> String {
        let mut text = String::new();
        child.stdout().unwrap().read_to_string(&mut text).unwrap();
        text.trim().to_owned()
    }

    #[tokio::test]
    async fn the_end_of_a_child_is_told_with_its_status_and_again() {
        let mut child = Start::new(shell("exit 3")).spawn().unwrap();
        for _ in 0..2 {
            assert_eq!(child.ended().await.unwrap().code(), Some(3));
        }
        // A signal to what has ended is nothing.
        child.signal(Signal::TERM).unwrap();
    }

    #[tokio::test]
    async fn a_child_outlives_the_thread_that_asked_for_it() {
        let start = || Start::new(shell("read _; exit 5")).on_our_end(Signal::KILL);
        let asked = std::thread::spawn(move || {
            let mut start = start();
            start.command.stdin(Stdio::piped());
            start.spawn().unwrap()
        });
        let mut child = asked.join().unwrap();
        // Only now may it end by itself: the end of that thread has not killed it.
        drop(child.child.stdin.take());
        assert_eq!(child.ended().await.unwrap().code(), Some(5));
    }

    #[tokio::test]
    async fn a_dropped_child_is_killed_and_a_waiting_one_says_by_what() {
        let mut child = Start::new(shell("echo up; read _ < /dev/zero"))
            .spawn()
            .unwrap();
        assert!(!child.ends_within(Duration::ZERO));
        child.signal(Signal::TERM).unwrap();
        assert_eq!(child.ended().await.unwrap().signal(), Some(15));

        let child = Start::new(shell("read _ < /dev/zero")).spawn().unwrap();
        let pid = child.pid();
        drop(child);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn a_child_gets_its_limit_and_its_descriptor_and_leads_its_group() {
        let (mut kept, given) = io::pipe().unwrap();
        let given = OwnedFd::from(given);
        let number = std::os::fd::AsRawFd::as_raw_fd(&given);
        let script = format!("ulimit -n; ps -o pgid= -p $$; echo $$; echo here >&{number}");
        let start = Start::new(shell(&script)).max_files(77).inheriting([given]);
        let said = said(&mut start.spawn().unwrap());
        let words: Vec<&str> = said.split_whitespace().collect();
        assert_eq!(words[0], "77");
        assert_eq!(words[1], words[2], "its group has its own number");
        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!(text, "here\n");
    }
}
