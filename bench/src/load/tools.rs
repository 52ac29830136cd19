//! Other people's load generators: how they are called, and what is read from what
//! they print. What they count as an error is one here too.

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use tidegate_local::child::{Signal, Start};
use tokio::time::timeout;

use crate::systems::{Trouble, installed};

/// What a run of one may take.
const LIMIT: Duration = Duration::from_secs(180);

/// One run of ApacheBench.
#[derive(Clone, Debug)]
pub struct Ab {
    /// What is asked for.
    pub url: String,
    /// How often.
    pub requests: usize,
    /// How many at once.
    pub concurrency: usize,
    /// Whether connections are kept (HTTP/1.0 keep-alive).
    pub keep: bool,
    /// How many bytes each answer must have.
    pub size: usize,
}

/// What it found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AbFigures {
    /// "Time per request (mean)": what one of the concurrent clients waits.
    pub ms: f64,
    /// "Requests per second".
    pub per_s: f64,
}

impl Ab {
    /// Runs it.
    ///
    /// # Errors
    /// When an answer failed or was not kept, or it is not installed.
    pub async fn run(&self) -> Result<AbFigures, Trouble> {
        let mut command = installed("ab")?;
        command.args(["-q", "-s", "20", "-n", &self.requests.to_string()]);
        command.args(["-c", &self.concurrency.to_string()]);
        if self.keep {
            command.arg("-k");
        }
        if self.url.starts_with("https") {
            command.args(["-f", "TLS1.3"]);
        }
        command.arg(&self.url);
        let output = output(command, LIMIT).await?;
        self.read(&text(&output)?)
    }

    /// Reads what it prints.
    fn read(&self, text: &str) -> Result<AbFigures, Trouble> {
        let wrong = |what: &str| Trouble::Wrong(format!("{what}: {}", excerpt(text)));
        let number = |label: &str| field(text, label);
        let count = |label: &str| number(label).unwrap_or(0.0);
        let all = self.requests as f64;
        if count("Complete requests:") != all || count("Failed requests:") != 0.0 {
            return Err(wrong("not every request was answered rightly"));
        }
        if count("Non-2xx responses:") != 0.0 || count("Document Length:") != self.size as f64 {
            return Err(wrong("other answers than the file"));
        }
        let kept = count("Keep-Alive requests:");
        if self.keep && kept != all {
            let why = format!("keeps {kept} of {all} answers' connections with HTTP/1.0 clients");
            return Err(Trouble::Absent(why));
        }
        match (number("Time per request:"), number("Requests per second:")) {
            (Some(ms), Some(per_s)) => Ok(AbFigures { ms, per_s }),
            _ => Err(wrong("ab says no time")),
        }
    }
}

/// Answers that `wrk` got in `seconds` over `connections` kept ones.
///
/// # Errors
/// When there was an error, or it is not installed.
pub async fn wrk(
    address: SocketAddr,
    processor: usize,
    connections: usize,
    seconds: u64,
) -> Result<u64, Trouble> {
    installed("wrk")?;
    let mut command = std::process::Command::new("taskset");
    command.args([
        "-c",
        &processor.to_string(),
        "wrk",
        "-t1",
        "-c",
        &connections.to_string(),
    ]);
    command
        .args(["-d", &seconds.to_string()])
        .arg(format!("http://{address}/64"));
    let output = output(command, LIMIT).await?;
    let text = text(&output)?;
    if text.contains("Socket errors:") || text.contains("Non-2xx") {
        return Err(Trouble::Wrong(excerpt(&text)));
    }
    // "  123456 requests in 2.00s, 12.34MB read"
    let line = text.lines().find(|line| line.contains(" requests in "));
    let count = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    count.ok_or_else(|| Trouble::broken(excerpt(&text)))
}

/// Answers that `h2load` got in `seconds` over `connections` kept ones, HTTP/1.1 in
/// TLS.
///
/// # Errors
/// When there was an error, or it is not installed.
pub async fn h2load(
    address: SocketAddr,
    processor: usize,
    connections: usize,
    seconds: u64,
) -> Result<u64, Trouble> {
    installed("h2load")?;
    let mut command = std::process::Command::new("taskset");
    command.args(["-c", &processor.to_string(), "h2load", "--h1", "-t1"]);
    command.args(["-c", &connections.to_string(), "-D", &seconds.to_string()]);
    command.arg(format!("https://{address}/64"));
    let output = output(command, LIMIT).await?;
    let text = text(&output)?;
    // "requests: 1 total, 1 started, 1 done, 1 succeeded, 0 failed, 0 errored, 0 timeout"
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("requests:"))
        .unwrap_or_default();
    let part = |word: &str| {
        let part = line
            .split(',')
            .find(|part| part.trim_end().ends_with(word))?;
        part.trim().split(' ').next()?.parse::<u64>().ok()
    };
    match (part("succeeded"), part("failed"), part("timeout")) {
        (Some(count), Some(0), Some(0)) => Ok(count),
        _ => Err(Trouble::Wrong(excerpt(&text))),
    }
}

/// What a command says until it ends; killed when this is dropped, or at the limit.
pub(crate) async fn output(
    mut command: std::process::Command,
    limit: Duration,
) -> Result<Output, Trouble> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = Start::new(command).on_our_end(Signal::KILL).spawn()?;
    let (stdout, stderr) = (child.stdout(), child.stderr());
    let reading = tokio::task::spawn_blocking(move || {
        let stdout = stdout
            .map(std::io::read_to_string)
            .transpose()?
            .unwrap_or_default();
        let stderr = stderr
            .map(std::io::read_to_string)
            .transpose()?
            .unwrap_or_default();
        std::io::Result::Ok((stdout, stderr))
    });
    let ended = timeout(limit, child.ended()).await;
    let status = ended.map_err(|_| Trouble::broken(format!("{name} takes over {limit:?}")))??;
    let (stdout, stderr) = reading.await.map_err(Trouble::broken)??;
    Ok(Output {
        status,
        stdout: stdout.into_bytes(),
        stderr: stderr.into_bytes(),
    })
}

fn text(output: &Output) -> Result<String, Trouble> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    if output.status.success() {
        return Ok(stdout.into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(Trouble::broken(format!(
        "{}: {}",
        output.status,
        excerpt(&format!("{stderr} {stdout}"))
    )))
}

/// The first number after a label at the beginning of a line.
fn field(text: &str, label: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

fn excerpt(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(600).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "Document Length:        2216 bytes\n\
        Complete requests:      5000\nFailed requests:        0\nKeep-Alive requests:    5000\n\
        Requests per second:    12345.67 [#/sec] (mean)\n\
        Time per request:       0.810 [ms] (mean)\n\
        Time per request:       0.081 [ms] (mean, across all concurrent requests)\n";

    fn ab(keep: bool) -> Ab {
        let url = "http://127.0.0.1:1/2216".to_owned();
        Ab {
            url,
            requests: 5000,
            concurrency: 10,
            keep,
            size: 2216,
        }
    }

    #[test]
    fn abs_figures_are_read() {
        let figures = ab(true).read(GOOD).unwrap();
        assert_eq!(
            figures,
            AbFigures {
                ms: 0.810,
                per_s: 12345.67
            }
        );
    }

    #[test]
    fn an_answer_that_failed_is_no_figure() {
        let mistakes = [
            ("Failed requests:        0", "Failed requests:        1"),
            (
                "Complete requests:      5000",
                "Complete requests:      4999",
            ),
            (
                "Document Length:        2216",
                "Document Length:        162",
            ),
            ("Keep-Alive", "Non-2xx responses:      5000\nKeep-Alive"),
        ];
        for (right, wrong) in mistakes {
            let read = ab(false).read(&GOOD.replace(right, wrong));
            assert!(matches!(read, Err(Trouble::Wrong(_))), "{wrong}: {read:?}");
        }
    }

    #[test]
    fn connections_that_are_not_kept_are_a_reason_and_no_failure() {
        let read = ab(true).read(&GOOD.replace("Keep-Alive requests:    5000", ""));
        assert!(matches!(read, Err(Trouble::Absent(_))), "{read:?}");
    }
}
