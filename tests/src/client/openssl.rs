//! `openssl s_client`: another TLS library, and one that says what it sees.

use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::within;

/// Shakes hands with `to`, ends, and answers with all that OpenSSL has to tell.
pub async fn s_client(to: SocketAddr, arguments: &[&str]) -> String {
    SClient::start(to, arguments).end().await
}

/// A running `openssl s_client`, killed when dropped.
pub struct SClient {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    seen: Vec<u8>,
}

impl SClient {
    /// Connects to `to`.
    pub fn start(to: SocketAddr, arguments: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec openssl s_client \"$@\" 2>&1", "s_client"])
            .args(["-connect", &to.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("openssl is installed");
        Self {
            input: child.stdin.take().expect("its input is a pipe"),
            output: child.stdout.take().expect("its output is a pipe"),
            child,
            seen: Vec::new(),
        }
    }

    /// A line of input. One that begins with a letter such as `K`, `R` or `Q` is a command.
    pub async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        // It leaves when hands cannot be shaken, and reads nothing then.
        self.input.write_all(line.as_bytes()).await.ok();
    }

    /// Reads on until OpenSSL has told this.
    pub async fn tells(&mut self, what: &str) {
        while !self.text().contains(what) {
            let so_far = self.text();
            let read = self.output.read_buf(&mut self.seen);
            let count = within(format!("{what}, in {so_far}"), read).await;
            assert!(count.expect("a pipe can be read") > 0, "{}", self.text());
        }
    }

    /// Ends the input, and answers with all that was told.
    pub async fn end(mut self) -> String {
        drop(self.input);
        let rest = self.output.read_to_end(&mut self.seen);
        within("the end of openssl", rest)
            .await
            .expect("a pipe can be read");
        within("its exit", self.child.wait())
            .await
            .expect("it was started");
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}
