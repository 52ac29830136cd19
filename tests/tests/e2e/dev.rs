//! `tidegate dev` from outside, as `make demo` runs it: what it prints works as
//! printed, no process is left of it however it ends, and the next run continues
//! with what was stored.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tidegate_tests::agent::program;
use tidegate_tests::child::{Child, Extras, Signal};
use tidegate_tests::client::Client;
use tidegate_tests::client::ws::Ws;
use tidegate_tests::{Net, pki, proc, until};
use tokio::net::TcpListener;
use tokio::time::timeout;

/// initdb, migrations, four programs and three joins, on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_lines_it_prints_work_as_typed_and_kill_9_leaves_no_process() {
    let net = Net::claim();
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&net, folder.path()).await;
    let said = dev.said();
    let typed = |beginning: &str| dev.type_line(&line(&said, beginning));

    let whoami: Value = serde_json::from_str(&typed("curl --cacert")).unwrap();
    // The kernel's own choice of address for a client that does not choose.
    assert_eq!(whoami["client_ip"], "127.0.0.1", "{whoami}");
    let whoami: Value =
        serde_json::from_str(&dev.type_line(&line_with(&said, "--interface"))).unwrap();
    assert_eq!(whoami["client_ip"], net.ip(9).to_string(), "{whoami}");
    assert!(typed("tidegate status").contains("3 total"));
    assert!(typed("tidegate get agents").contains(&net.ip(3).to_string()));
    assert!(typed("tidegate get backends game-node").contains("answered 200"));
    let drained = typed("tidegate drain");
    assert!(drained.contains("applied by 3 agents"), "{drained}");
    assert!(typed("tidegate ready").contains("ready"));
    assert!(typed("tidegate get config | sed").contains("-> \"round_robin\""));
    assert!(typed("tidegate revision list").contains("apply"));
    assert!(typed("tidegate top").contains("live connections now"));

    // What is refused is told with its mend.
    for (line, mend) in [
        ("tidegate get pools gmae-node", "Did you mean game-node?"),
        (
            "echo 'pools: [{name: p, balance: x}]' | tidegate apply -f -",
            "/pools/0/balance: ",
        ),
        (
            "TIDEGATE_TOKEN=tga1.0.0 tidegate status",
            "api-token create --role viewer",
        ),
        (
            "tidegate status --url https://127.0.0.1:1",
            "tidegate serve",
        ),
        (
            "tidegate status --ca-file \"${TIDEGATE_CONFIG%/*}/ca.pem\"",
            "Name its authority",
        ),
    ] {
        let output = dev.shell(line).output().unwrap();
        assert_eq!(
            output.status.code(),
            Some(1),
            "{line}: {}",
            said_by(&output)
        );
        let told = said_by(&output);
        assert!(told.contains(mend), "{line}: {told}");
    }

    // Its authority is all that a WebSocket over TLS needs to know.
    let mut ws = dev.ws(net.ip(9)).await;
    ws.echo("through the fleet").await.unwrap();
    assert_eq!(ws.client_ip(), net.ip(9).to_string());

    let everything = dev.everything();
    dev.child.signal(Signal::KILL);
    dev.child.exit_code().await;
    has_left_no_process(&everything).await;
}

#[tokio::test]
async fn one_more_instance_takes_traffic_by_the_lines_it_prints() {
    let net = Net::claim();
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(&net, folder.path()).await;
    let said = dev.said();
    let app = line(&said, "HOST=");
    // The Node.js that dev runs, whatever the other terminal would find.
    let node = app.split(' ').nth(2).unwrap();
    assert!(Path::new(node).is_absolute(), "{app}");
    let app = dev.run_line("app", app.trim_end_matches('&'));
    dev.type_line(&line(&said, "tidegate token create"));
    let agent = dev.run_line("terminator-c", &line(&said, "tidegate-agent run"));
    let whoami = line(&said, "curl --cacert");
    until("the new app answers through the new agent", async || {
        dev.type_line(&whoami).contains("\"node-c0\"")
    })
    .await;

    // The next run does not wait for what it does not run.
    drop((agent, app));
    dev.child.signal(Signal::INT);
    assert_eq!(dev.child.exit_code().await, 0);
    let next = Dev::start(&net, folder.path()).await;
    let said = next.said();
    assert_eq!(next.ids("agents", "id").len(), 4);
    assert!(
        said.iter().any(|l| l.trim().starts_with("healthy")),
        "{said:#?}"
    );
}

#[tokio::test]
async fn the_next_run_has_the_same_fleet_and_what_ends_is_told() {
    let net = Net::claim();
    let folder = tempfile::tempdir().unwrap();
    let mut first = Dev::start(&net, folder.path()).await;
    let report = first.report();
    for (key, file) in [
        ("token_file", true),
        ("ca_file", true),
        ("traffic_ca_file", true),
        ("rest_url", false),
        ("traffic_url", false),
    ] {
        let value = report[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key} in {report}"));
        assert!(if file {
            Path::new(value).is_file()
        } else {
            value.starts_with("https://")
        });
    }
    first.type_line(
        "tidegate get config | sed 's/least_connections/round_robin/' | tidegate apply -f - --wait",
    );
    let agents = first.ids("agents", "id");
    let revisions = first.ids("revisions", "number");
    assert_eq!((agents.len(), revisions.len()), (3, 2));

    // One process ends: it is told with its log, and the rest goes on.
    let everything = first.everything();
    let pid = report["pids"]["node-a0"].as_u64().unwrap();
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
    let told = first.child.find("its end", 0, |l| {
        l.starts_with("node-a0 ended").then(|| l.to_owned())
    });
    assert!(told.await.contains("logs/node-a0.log"));
    let whoami = line(&first.said(), "curl --cacert");
    assert!(first.type_line(&whoami).contains("client_ip"));
    // Not before: the terminator whose process died would have had none left.
    first.type_line("tidegate drain game-node/:3001");

    first.child.signal(Signal::INT);
    assert_eq!(first.child.exit_code().await, 0);
    has_left_no_process(&everything).await;
    assert!(!folder.path().join("dev.json").exists());

    let mut second = Dev::start(&net, folder.path()).await;
    assert_eq!(second.ids("agents", "id"), agents);
    assert_eq!(second.ids("revisions", "number"), revisions);
    let backends = second.type_line("tidegate get backends game-node");
    assert!(backends.contains("drain"), "{backends}");
    second.child.signal(Signal::TERM);
    assert_eq!(second.child.exit_code().await, 0);
}

#[tokio::test]
async fn a_taken_port_is_named_with_what_to_do() {
    let net = Net::claim();
    let folder = tempfile::tempdir().unwrap();
    for address in [net.at(3, 3001), net.at(1, 7443)] {
        let _somebody = TcpListener::bind(address).await.unwrap();
        let mut child = Dev::spawn(&net, folder.path());
        assert_eq!(child.exit_code().await, 1);
        let said = child.lines().since(0).join("\n");
        assert!(said.contains(&address.to_string()), "{said}");
        assert!(said.contains("--network"), "{said}");
    }
    assert!(
        !folder.path().join("postgres").exists(),
        "nothing was started"
    );
}

struct Dev {
    child: Child,
    folder: PathBuf,
}

impl Dev {
    fn spawn(net: &Net, folder: &Path) -> Child {
        let mut command = Command::new(program("tidegate"));
        command.arg("dev").arg("--state-dir").arg(folder);
        command.args(["--network", net.prefix().trim_end_matches('.')]);
        Child::spawn("dev", command, Extras::default()).unwrap()
    }

    async fn start(net: &Net, folder: &Path) -> Self {
        let child = Self::spawn(net, folder);
        let lines = child.lines().clone();
        let ready = lines.find(0, |line| line.starts_with("Ctrl-C").then_some(()));
        let ready = timeout(STARTS_WITHIN, ready).await;
        assert!(
            matches!(ready, Ok(Some(()))),
            "not up: {}",
            lines.since(0).join("\n")
        );
        let folder = folder.to_owned();
        Self { child, folder }
    }

    fn said(&self) -> Vec<String> {
        self.child.lines().since(0)
    }

    fn report(&self) -> Value {
        let text = fs::read_to_string(self.folder.join("dev.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// A WebSocket from `source` through the fleet, by what programs read.
    async fn ws(&self, source: IpAddr) -> Ws {
        let report = self.report();
        let authority = fs::read_to_string(report["traffic_ca_file"].as_str().unwrap()).unwrap();
        let url: http::Uri = report["traffic_url"].as_str().unwrap().parse().unwrap();
        let (name, port) = (url.host().unwrap(), url.port_u16().unwrap());
        let edge = SocketAddr::new(name.parse().unwrap(), port);
        let client = Client::new(source, pki::trusting(&authority));
        client.ws(edge, name).await.unwrap()
    }

    /// Every process it says it has, all of them there: agents, apps, control plane,
    /// and Postgres with its own.
    fn everything(&self) -> Vec<u32> {
        let processes = proc::descendants(self.child.pid());
        let report = self.report();
        let pids = report["pids"].as_object().unwrap();
        let names: Vec<&str> = pids.keys().map(String::as_str).collect();
        for name in [
            "postgres",
            "control-plane",
            "balancer",
            "terminator-a",
            "terminator-b",
            "node-a0",
            "node-a1",
            "node-b0",
            "node-b1",
        ] {
            assert!(names.contains(&name), "{name} in {names:?}");
            let pid = pids[name].as_u64().unwrap();
            assert!(
                processes.contains(&u32::try_from(pid).unwrap()),
                "{name} {pid}"
            );
        }
        processes
    }

    /// What a shell prints when the line is typed after the first one.
    fn type_line(&self, line: &str) -> String {
        let output = self.shell(line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", said_by(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The line as a program that stays.
    fn run_line(&self, name: &str, line: &str) -> Child {
        let words = line.trim();
        let (variables, rest): (Vec<&str>, Vec<&str>) = words
            .split(' ')
            .partition(|word| word.starts_with("HOST=") || word.starts_with("NAME="));
        let line = format!("exec env {} {}", variables.join(" "), rest.join(" "));
        Child::spawn(name, self.shell(&line), Extras::default()).unwrap()
    }

    fn shell(&self, line: &str) -> Command {
        let first = line_with(&self.said(), "export PATH");
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &format!("{first}\n{line}")]);
        command
    }

    fn ids(&self, kind: &str, key: &str) -> Vec<String> {
        let list: Value =
            serde_json::from_str(&self.type_line(&format!("tidegate get {kind} -o json"))).unwrap();
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item[key].to_string()).collect()
    }
}

/// The line it prints that begins so.
fn line(said: &[String], beginning: &str) -> String {
    let found = said
        .iter()
        .map(|l| l.trim())
        .find(|l| l.starts_with(beginning));
    found
        .unwrap_or_else(|| panic!("{beginning} in {said:#?}"))
        .to_owned()
}

fn line_with(said: &[String], part: &str) -> String {
    let found = said.iter().map(|l| l.trim()).find(|l| l.contains(part));
    found
        .unwrap_or_else(|| panic!("{part} in {said:#?}"))
        .to_owned()
}

async fn has_left_no_process(processes: &[u32]) {
    until("no process is left", async || {
        !processes.iter().any(|pid| proc::runs(*pid))
    })
    .await;
}

fn said_by(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}
