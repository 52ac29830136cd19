//! `make demo` from outside: what it prints works as printed, and nothing is left of
//! it, however it ends.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tidegate_tests::child::{Child, Extras, Signal};
use tidegate_tests::{Net, proc, until};
use tokio::net::TcpListener;

#[tokio::test]
async fn the_lines_it_prints_work_and_kill_9_leaves_nothing() {
    let net = Net::claim();
    let mut demo = Demo::start(&net).await;
    let lines = demo.lines_worth_typing();
    assert_eq!(lines.len(), 3, "{lines:?}");

    let whoami: Value = serde_json::from_str(&typed(&lines[0])).unwrap();
    // The kernel's own choice of address for a client that does not choose.
    assert_eq!(whoami["client_ip"], "127.0.0.1", "{whoami}");
    let whoami: Value = serde_json::from_str(&typed(&lines[1])).unwrap();
    assert_eq!(whoami["client_ip"], net.ip(9).to_string(), "{whoami}");
    let clients: Value = serde_json::from_str(&typed(&lines[2])).unwrap();
    assert!(
        clients.to_string().contains(&net.ip(9).to_string()),
        "{clients}"
    );

    let everything = demo.is_all_there();
    demo.child.signal(Signal::KILL);
    demo.child.exit_code().await;
    demo.has_left_nothing(&everything).await;
}

#[tokio::test]
async fn ctrl_c_stops_everything_and_leaves_nothing() {
    let net = Net::claim();
    for signal in [Signal::INT, Signal::TERM] {
        let mut demo = Demo::start(&net).await;
        let everything = demo.is_all_there();
        demo.child.signal(signal);
        assert_eq!(demo.child.exit_code().await, 0);
        demo.has_left_nothing(&everything).await;
    }
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_to_do() {
    let net = Net::claim();
    let address = net.at(3, 3001);
    let _somebody = TcpListener::bind(address).await.unwrap();
    let mut demo = Demo::spawn(&net);
    assert_eq!(demo.exit_code().await, 1);
    let said = demo.lines().since(0).join("\n");
    assert!(said.contains(&address.to_string()), "{said}");
    assert!(said.contains("--network"), "{said}");
}

struct Demo {
    child: Child,
    state_dir: PathBuf,
}

impl Demo {
    fn spawn(net: &Net) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-demo"));
        command.args(["--network", net.prefix().trim_end_matches('.')]);
        Child::spawn("demo", command, Extras::default()).unwrap()
    }

    async fn start(net: &Net) -> Self {
        let child = Self::spawn(net);
        let state_dir = child
            .find("its directory", 0, |line| after(line, "State:"))
            .await;
        child
            .find("its end of starting", 0, |line| after(line, "Ctrl-C"))
            .await;
        Self {
            child,
            state_dir: state_dir.into(),
        }
    }

    /// The lines it prints that begin with `curl`.
    fn lines_worth_typing(&self) -> Vec<String> {
        let lines = self.child.lines().since(0);
        let curl = lines
            .iter()
            .map(|l| l.trim())
            .filter(|l| l.starts_with("curl "));
        curl.map(str::to_owned).collect()
    }

    /// The processes of a whole demo: four of Node.js, three agents, and who cleans up.
    fn is_all_there(&self) -> Vec<u32> {
        assert!(self.state_dir.join("chain.yaml").is_file());
        let processes = proc::descendants(self.child.pid());
        assert!(processes.len() >= 8, "{processes:?}");
        processes
    }

    async fn has_left_nothing(&self, processes: &[u32]) {
        until("no process is left", async || {
            !processes.iter().any(|pid| proc::runs(*pid))
        })
        .await;
        until("no file is left", async || !self.state_dir.exists()).await;
    }
}

fn after(line: &str, mark: &str) -> Option<String> {
    line.split_once(mark)
        .map(|(_, rest)| rest.trim().to_owned())
}

/// What a shell prints when the line is typed.
fn typed(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
