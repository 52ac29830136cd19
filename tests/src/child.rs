//! Child processes with their output: they cannot outlive us ([`tidegate_local::child`]),
//! what they write is kept line by line ([`Lines`]) for tests to wait for, and copied
//! to a file where people want to read it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tidegate_local::child::{self, Start};
use tokio::sync::watch;

pub use tidegate_local::child::Signal;

use crate::event::Event;
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
    child: child::Child,
    lines: Lines,
}

impl Child {
    /// Starts `command` in a process group of its own, so that Ctrl-C at a
    /// terminal reaches only us and we decide what happens to it.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub fn spawn(name: &str, mut command: Command, extras: Extras) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut start = Start::new(command);
        if let Some(count) = extras.max_files {
            start = start.max_files(count);
        }
        let mut child = start.spawn()?;
        let lines = Lines::default();
        let (grown, receiver) = watch::channel(());
        let grown = Arc::new(grown);
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child.stdout().map(|s| Box::new(s) as Box<dyn Read + Send>),
            child.stderr().map(|s| Box::new(s) as Box<dyn Read + Send>),
        ];
        for stream in streams.into_iter().flatten() {
            let copy_to = extras.copy_to.as_ref().map(File::try_clone).transpose()?;
            let (lines, grown) = (Arc::clone(&lines.kept), Arc::clone(&grown));
            std::thread::spawn(move || keep_lines(stream, copy_to, &lines, &grown));
        }
        let lines = Lines {
            grown: Some(receiver),
            ..lines
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            lines,
        })
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// What it has written, to either stream.
    pub fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Sends a signal; nothing happens when it has ended.
    pub fn signal(&self, signal: Signal) {
        if let Err(error) = self.child.signal(signal) {
            panic!("{signal:?} to {}: {error}", self.name);
        }
    }

    /// Waits until it has ended, by itself or by a signal.
    pub async fn ended(&mut self) -> ExitStatus {
        let status = self.child.ended().await;
        status.expect("the child is ours to wait for")
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

    /// The first event of its log from line `from` on that `wanted` takes.
    pub async fn event(
        &self,
        what: &str,
        from: usize,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Event {
        self.find(what, from, |line| Event::parse(line).filter(|e| wanted(e)))
            .await
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the last lines of {} ----", self.name);
            for line in self.lines.last(40) {
                eprintln!("{line}");
            }
        }
    }
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
