//! The program as it is run, with something else in the place of the agent: one that
//! gives wrong answers, and one that can tell whether it still lives.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use tidegate_bench::compare;
use tidegate_bench::load::wire::PATIENCE;
use tidegate_bench::results::Outcome;
use tidegate_local::child::{Child, Signal, Start};

/// An agent that answers every request with as many bytes as were asked for, all wrong.
const LIAR: &str = r#"#!/usr/bin/env node
if (process.argv.includes("--version")) process.exit();
const { readFileSync } = require("node:fs");
const document = readFileSync(process.argv[process.argv.indexOf("--config") + 1], "utf8");
const [, host, port] = /bind: "(.*):(\d+)"/.exec(document);
require("node:http").createServer((request, response) => {
  response.end("x".repeat(Number(request.url.slice(1))));
}).listen(Number(port), host);
"#;

/// An agent that never listens, and holds a connection to the test as long as it lives.
const HANGER: &str = r#"#!/usr/bin/env node
if (process.argv.includes("--version")) process.exit();
require("node:net").connect(Number(process.env.TEST_PORT), "127.0.0.1");
"#;

/// An agent that passes bytes on for its first ten clients, and then goes silent; from
/// then on it holds a connection to the test.
const MUTE: &str = r#"#!/usr/bin/env node
if (process.argv.includes("--version")) process.exit();
const { readFileSync } = require("node:fs");
const net = require("node:net");
const document = readFileSync(process.argv[process.argv.indexOf("--config") + 1], "utf8");
const [, host, port] = /bind: "(.*):(\d+)"/.exec(document);
const [, appHost, appPort] = /address: "(.*):(\d+)"/.exec(document);
let clients = 0;
net.createServer((client) => {
  clients += 1;
  client.on("error", () => {});
  if (clients === 11) net.connect(Number(process.env.TEST_PORT), "127.0.0.1");
  if (clients > 10) return;
  const app = net.connect(Number(appPort), appHost);
  app.on("error", () => {});
  client.pipe(app).pipe(client);
}).listen(Number(port), host);
"#;

struct Run {
    folder: TempDir,
}

impl Run {
    fn with_agent(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let agent = folder.path().join("agent");
        fs::write(&agent, script).expect("there is room");
        fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        fs::create_dir(folder.path().join("tmp")).expect("there is room");
        Self { folder }
    }

    fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// A small run of that agent and of nginx.
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"));
        command
            .args([
                "run",
                "--smoke",
                "--scenario",
                "cores",
                "--case",
                "tcp-short",
            ])
            .args(["--only", "tidegate-balancer,nginx-stream", "--agent"])
            .arg(self.folder.path().join("agent"))
            .arg("--output")
            .arg(self.output())
            .env("TMPDIR", self.temporary())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Started, and so far that the agent runs: its connection to us.
    fn started(&self) -> (Child, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let mut command = self.command();
        command.env("TEST_PORT", port.to_string());
        let child = Start::new(command).spawn().expect("it can be started");
        let (agent, _) = listener.accept().expect("the agent connects");
        (child, agent)
    }
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("it is there").next().is_none()
}

/// Waits for the end of a process that holds this connection.
fn wait_for_its_end(mut agent: TcpStream) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _end = agent.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn a_system_with_wrong_answers_gets_no_figure_and_fails_the_run() {
    let run = Run::with_agent(LIAR);
    let output = run.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("FAILED: tidegate-balancer in tcp-short: wrong answer"),
        "{said}"
    );

    let results = compare::load(run.output()).unwrap();
    let outcome = |system: &str| &results.row("tcp-short", system).unwrap().outcome;
    assert!(matches!(outcome("tidegate-balancer"), Outcome::Failed(_)));
    let nginx = results
        .spread("tcp-short", "nginx-stream", "cpu_us")
        .unwrap();
    assert!(nginx.median > 0.0);
    let report = fs::read_to_string(run.output().join("README.md")).unwrap();
    assert!(report.contains("FAILED"), "{report}");
    assert!(is_empty(&run.temporary()));
}

#[tokio::test]
async fn an_interrupted_run_leaves_no_process_no_folder_and_no_results() {
    for signal in [Signal::INT, Signal::TERM] {
        let run = Run::with_agent(HANGER);
        let (mut child, agent) = run.started();
        child.signal(signal).unwrap();
        assert_eq!(child.ended().await.unwrap().code(), Some(130));
        wait_for_its_end(agent);
        assert!(is_empty(&run.temporary()));
        assert!(!run.output().exists());
    }
}

#[tokio::test]
async fn a_system_that_goes_silent_does_not_hold_up_an_interruption() {
    let run = Run::with_agent(MUTE);
    let (mut child, agent) = run.started();
    let interrupted = Instant::now();
    child.signal(Signal::INT).unwrap();
    assert_eq!(child.ended().await.unwrap().code(), Some(130));
    assert!(interrupted.elapsed() < PATIENCE / 2);
    wait_for_its_end(agent);
    assert!(is_empty(&run.temporary()));
}

#[tokio::test]
async fn a_killed_run_leaves_no_process() {
    let run = Run::with_agent(HANGER);
    let (mut child, agent) = run.started();
    child.signal(Signal::KILL).unwrap();
    child.ended().await.unwrap();
    wait_for_its_end(agent);
}

#[test]
fn a_choice_that_leaves_nothing_is_told() {
    let run = Run::with_agent(LIAR);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"));
    command
        .args(["run", "--smoke", "--only", "none-such", "--output"])
        .arg(run.output());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("no system and case matches --only and --case"),
        "{said}"
    );
}
