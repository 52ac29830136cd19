//! Child processes that cannot outlive us, whatever ends us: the kernel kills
//! them with the *thread* that started them, so start them from one that lives as
//! long as they should (a test's own, or `main`).
//!
//! Their output is kept line by line ([`Lines`]) for tests to wait for, and copied
//! to a file where people want to read it.
#![expect(
    unsafe_code,
    reason = "pre_exec is the only way to prctl between fork and exec"
)]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use rustix::process::{self as sys, Pid, PidfdFlags, Resource, Rlimit, WaitId, WaitIdOptions};
use tokio::sync::watch;

pub use rustix::process::Signal;

use crate::within;

/// What a child is started with besides its command line.
#[derive(Default)]
pub struct Extras {
    /// RLIMIT_NOFILE, soft and hard.
    pub max_files: Option<u64>,
    /// Where its output is copied to.
    pub copy_to: Option<File>,
}

/// A running process with its output; killed when dropped.
pub struct Child {
    name: String,
    child: std::process::Child,
    /// Names the process even when its number has been given to another one.
    handle: OwnedFd,
    has_ended: watch::Receiver<()>,
    lines: Lines,
}

impl Child {
    /// Starts `command` in a process group of its own, so that Ctrl-C at a
    /// terminal reaches only us and we decide what happens to it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command, extras: Extras) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        die_with_us(command, extras.max_files);
        let mut child = command.spawn()?;
        let lines = Lines::default();
        let (grown, receiver) = watch::channel(());
        let grown = Arc::new(grown);
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child
                .stdout
                .take()
                .map(|s| Box::new(s) as Box<dyn Read + Send>),
            child
                .stderr
                .take()
                .map(|s| Box::new(s) as Box<dyn Read + Send>),
        ];
        for stream in streams.into_iter().flatten() {
            let copy_to = extras.copy_to.as_ref().map(File::try_clone).transpose()?;
            let (lines, grown) = (Arc::clone(&lines.kept), Arc::clone(&grown));
            std::thread::spawn(move || keep_lines(stream, copy_to, &lines, &grown));
        }
        let handle = sys::pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let lines = Lines {
            grown: Some(receiver),
            ..lines
        };
        let has_ended = notice_end(handle.try_clone()?);
        Ok(Self {
            name: name.to_owned(),
            child,
            handle,
            has_ended,
            lines,
        })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written, to either stream.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Sends a signal; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) {
        match sys::pidfd_send_signal(&self.handle, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => panic!("{signal:?} to {}: {error}", self.name),
        }
    }

    /// Waits until it has ended, by itself or by a signal.
    pub async fn ended(&mut self) -> ExitStatus {
        // An error says that the waiting thread is done, which is the same.
        let _done = self.has_ended.changed().await;
        self.child.wait().expect("the child is ours to wait for")
    }

    /// Waits for its end under the deadline; the exit code, or minus the signal.
    pub async fn exit_code(&mut self) -> i32 {
        let what = format!("the end of {}", self.name);
        let status = within(what, self.ended()).await;
        // Its last words may still be on their way through the pipe.
        within(
            format!("the end of what {} says", self.name),
            self.lines.ended(),
        )
        .await;
        status
            .code()
            .or_else(|| status.signal().map(|s| -s))
            .expect("it has ended")
    }

    /// The first line from number `from` on that `pick` takes; a panic when it
    /// ends or the deadline passes without one.
    pub async fn find<T>(&self, what: &str, from: usize, pick: impl FnMut(&str) -> Option<T>) -> T {
        let found = within(
            format!("{what} from {}", self.name),
            self.lines.find(from, pick),
        )
        .await;
        found.unwrap_or_else(|| panic!("{} ended without {what}", self.name))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        // Reaped, so that a test that counts processes does not count it.
        let _already_reaped = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- the last lines of {} ----", self.name);
            for line in self.lines.last(40) {
                eprintln!("{line}");
            }
        }
    }
}

fn die_with_us(command: &mut Command, max_files: Option<u64>) {
    let parent = sys::getpid();
    let before_exec = move || {
        sys::set_parent_process_death_signal(Some(Signal::KILL))?;
        // We may have been killed before the line above: then nobody will tell it.
        if sys::getppid() != Some(parent) {
            return Err(Errno::SRCH.into());
        }
        if max_files.is_some() {
            sys::setrlimit(
                Resource::Nofile,
                Rlimit {
                    current: max_files,
                    maximum: max_files,
                },
            )?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec only what is async-signal-safe may run. The
    // closure makes three system calls with values on its stack; it does not
    // allocate, lock, or unwind.
    unsafe { command.pre_exec(before_exec) };
}

/// A channel that closes when the process has ended. It is left for `Child` to reap.
fn notice_end(handle: OwnedFd) -> watch::Receiver<()> {
    let (alive, has_ended) = watch::channel(());
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        // An error: it has been reaped already.
        let _end = sys::waitid(WaitId::PidFd(handle.as_fd()), options);
        drop(alive);
    });
    has_ended
}

fn keep_lines(
    stream: impl Read,
    mut copy_to: Option<File>,
    lines: &Mutex<Vec<String>>,
    grown: &watch::Sender<()>,
) {
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        if let Some(file) = &mut copy_to {
            // A full disk costs the copy, not the run.
            let _lost = file.write_all(&[&line, &b"\n"[..]].concat());
        }
        lines
            .lock()
            .expect(POISON)
            .push(String::from_utf8_lossy(&line).into_owned());
        grown.send_replace(());
    }
}

const POISON: &str = "nothing panics while it holds the lines";

/// The lines a process has written so far.
#[derive(Clone, Default)]
pub struct Lines {
    kept: Arc<Mutex<Vec<String>>>,
    /// Closed when the process has closed both its streams.
    grown: Option<watch::Receiver<()>>,
}

impl Lines {
    /// How many there are: a place to look on from later.
    pub fn count(&self) -> usize {
        self.kept.lock().expect(POISON).len()
    }

    /// The lines from number `from` on.
    pub fn since(&self, from: usize) -> Vec<String> {
        self.kept
            .lock()
            .expect(POISON)
            .iter()
            .skip(from)
            .cloned()
            .collect()
    }

    /// Waits for the first line from number `from` on that `pick` takes; `None`
    /// when the output ends without one.
    pub async fn find<T>(
        &self,
        mut from: usize,
        mut pick: impl FnMut(&str) -> Option<T>,
    ) -> Option<T> {
        let mut grown = self.grown.clone()?;
        loop {
            let open = grown.has_changed().is_ok();
            grown.mark_unchanged();
            let new = self.since(from);
            if let Some(found) = new.iter().find_map(|line| pick(line)) {
                return Some(found);
            }
            from += new.len();
            if !open {
                return None;
            }
            // An error says that the streams are closed: look one last time.
            let _closed = grown.changed().await;
        }
    }

    /// Waits until the process has closed both its streams.
    async fn ended(&self) {
        if let Some(mut grown) = self.grown.clone() {
            while grown.changed().await.is_ok() {}
        }
    }

    fn last(&self, count: usize) -> Vec<String> {
        self.since(self.count().saturating_sub(count))
    }
}
