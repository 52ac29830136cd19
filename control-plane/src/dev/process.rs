//! A child process with its log: started, watched, ended.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::select_all;
use tidegate_local::child::{Child, Signal, Start};
use tokio::time::timeout;

use crate::dev::home::Home;

/// What a process gets to finish what it is doing.
const GRACE: Duration = Duration::from_secs(3);
/// As much of a log as an error shows.
const LAST_LINES: usize = 8;

/// A running process; killed when dropped.
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its log in the state directory.
    pub(super) fn start(
        name: &str,
        mut command: Command,
        variables: &[(&str, &str)],
        home: &Home,
    ) -> anyhow::Result<Self> {
        let (file, log) = home.log(name)?;
        // What was set for another fleet is not for this one.
        for (variable, _) in std::env::vars_os() {
            let ours = variable.to_string_lossy().starts_with("TIDEGATE_");
            if ours || variable == "STATE_DIRECTORY" {
                command.env_remove(variable);
            }
        }
        command
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let program = command.get_program().display().to_string();
        let child = Start::new(command).spawn();
        Ok(Self {
            name: name.to_owned(),
            child: child.with_context(|| format!("cannot start {program}"))?,
            log,
        })
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    pub(super) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Asks it to end, and kills it when it takes long. Agents are killed at once:
    /// they would first serve on, as before a restart of their machine.
    pub(super) async fn end(mut self) {
        if self.name == super::CONTROL_PLANE && self.child.signal(Signal::TERM).is_ok() {
            // Dropped in any case.
            let _ended = timeout(GRACE, self.child.ended()).await;
        }
    }

    fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(LAST_LINES);
        let last = lines.into_iter().skip(from);
        last.map(|line| format!("\n    {line}")).collect()
    }
}

/// Waits for the first of them that ends, takes it out, and says so with its last
/// words.
pub(super) async fn first_end(processes: &mut Vec<Process>) -> String {
    if processes.is_empty() {
        return std::future::pending().await;
    }
    let ends = processes
        .iter_mut()
        .map(|process| Box::pin(process.child.ended()));
    let (status, index, _) = select_all(ends).await;
    let ended = processes.swap_remove(index);
    let how = match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    format!(
        "{} ended: {how}; {}{}",
        ended.name,
        ended.log.display(),
        ended.last_lines()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_that_ends_is_told_with_its_log_and_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path()), false).unwrap();
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let stays = Process::start("stays", shell("exec sleep 1000"), &[], &home).unwrap();
        let script = "echo \"$WORDS\"; exit 3";
        let goes = Process::start("goes", shell(script), &[("WORDS", "my last")], &home).unwrap();
        let mut processes = vec![stays, goes];
        let told = first_end(&mut processes).await;
        assert!(told.starts_with("goes ended: exit status: 3"), "{told}");
        assert!(
            told.contains("logs/goes.log") && told.contains("my last"),
            "{told}"
        );
        assert_eq!(processes.len(), 1);
        assert_eq!(processes[0].name(), "stays");
    }
}
