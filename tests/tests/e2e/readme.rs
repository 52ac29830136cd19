//! The README's commands, run as they stand: `make demo`, and an own app behind
//! the agent in five minutes. Each in a network namespace of its own, since
//! they take well-known ports, and in a process namespace, so that whatever
//! they leave in the background ends with them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tidegate_tests::agent::program;
use tokio::process::Command;
use tokio::time::timeout;

const README: &str = include_str!("../../../README.md");

#[tokio::test]
async fn the_readmes_five_minutes_lead_to_an_app_behind_tls() {
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("examples/node-app");
    copy_app(&app);
    let commands = shell_of("## Your own app in five minutes");
    // The registry is not to be reached from the namespace; the rest needs no network.
    let (install, rest): (Vec<&str>, Vec<&str>) =
        commands.lines().partition(|line| line.starts_with("npm "));
    assert_eq!(install.len(), 1, "{install:?}");
    let installed = script(&install.join("\n"), folder.path(), &[]).await;
    assert!(installed.status.success(), "{}", said(&installed));

    let done = script(&rest.join("\n"), folder.path(), &namespace()).await;
    let said = said(&done);
    assert!(done.status.success(), "{said}");
    assert_eq!(said.matches("\"client_ip\"").count(), 2, "{said}");
    assert!(
        said.contains("answered 200"),
        "the backend's last check: {said}"
    );
    assert!(!said.contains("\"message\":\"refused\""), "{said}");
}

#[tokio::test]
async fn make_demo_serves_https_and_wss() {
    let commands = indented_of("## Try it");
    assert!(
        commands.contains("make demo") && commands.contains("make test"),
        "{commands}"
    );
    let state = tempfile::tempdir().unwrap();
    let typed = commands
        .lines()
        .filter(|line| line.trim().starts_with("tidegate "));
    let typed: Vec<&str> = typed.map(str::trim).collect();
    assert!(typed.len() > 2, "{commands}");
    // Up, one request and one WebSocket through the chain, the README's own lines,
    // then Ctrl-C.
    let steps = r#"
        exec 3< <(exec make demo 2>&1)
        demo=$!
        while read -r line <&3; do
            printf '%s\n' "$line"
            case $line in
                "export PATH="*) first=$line ;;
                "curl --cacert"*) whoami=${whoami:-$line} ;;
                "Ctrl-C stops"*) break ;;
            esac
        done
        eval "$whoami"
        read -r _ _ authority url <<< "$whoami"
        url=${url/https:/wss:}
        NODE_EXTRA_CA_CERTS=$authority timeout 20 node -e '
            const WebSocket = require("./examples/node-app/node_modules/ws");
            const socket = new WebSocket(process.argv[1]);
            socket.on("open", () => socket.send("over wss"));
            socket.on("message", (data) => {
                if (String(data) !== "over wss") return;
                console.log("came back:", String(data));
                socket.close();
            });
        ' "${url/whoami/socket}"
        eval "$first"
        TYPED
        # Written so that it does not find this shell.
        pkill -INT -f "[t]idegate dev"
        wait "$demo"
    "#;
    let steps = steps.replace("TYPED", &typed.join("\n"));
    let steps = format!("export XDG_STATE_HOME={}\n{steps}", state.path().display());
    let done = script(&steps, &repository(), &namespace()).await;
    let said = said(&done);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("\"x-forwarded-proto\""), "{said}");
    assert!(said.contains("came back: over wss"), "{said}");
}

/// Loopback comes up by hand in a new namespace. Users stay who they are: Postgres
/// runs for anybody but root, and root's drops to another user.
fn namespace() -> Vec<&'static str> {
    let ours = [
        "unshare",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ];
    let of_a_user = ["--map-current-user", "--keep-caps"];
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|us| us.uid() == 0);
    let more = if is_root { &[][..] } else { &of_a_user };
    ours.iter().chain(more).copied().collect()
}

async fn script(steps: &str, folder: &Path, within: &[&str]) -> Output {
    let up = if within.is_empty() {
        ""
    } else {
        "ip link set lo up\n"
    };
    // Job control, as whoever types this has it.
    let text = format!("set -eumo pipefail\n{up}{steps}");
    let agent = program("tidegate-agent");
    let binaries = agent.parent().unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut words = within.iter().copied().chain(["bash", "-c", &text]);
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .current_dir(folder)
        .env("PATH", format!("{}:{path}", binaries.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // What the test runner tells its tests is not for builds inside them.
    for (name, _) in
        std::env::vars().filter(|(n, _)| n.starts_with("CARGO_") || n.starts_with("NEXTEST"))
    {
        if name != "CARGO_HOME" && name != "CARGO_TARGET_DIR" {
            command.env_remove(name);
        }
    }
    timeout(Duration::from_secs(150), command.output())
        .await
        .expect("it takes minutes, not hours")
        .unwrap()
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stdout), text(&output.stderr))
}

fn section(heading: &str) -> &'static str {
    let (_, after) = README
        .split_once(heading)
        .expect("the README has the section");
    after.split("\n## ").next().unwrap_or(after)
}

/// All ```sh blocks of a section.
fn shell_of(heading: &str) -> String {
    let blocks = section(heading).split("```sh\n").skip(1);
    blocks
        .filter_map(|block| block.split("```").next())
        .collect()
}

/// The lines of a section that are set in.
fn indented_of(heading: &str) -> String {
    let lines = section(heading).lines();
    let lines: Vec<&str> = lines.filter(|line| line.starts_with("    ")).collect();
    lines.join("\n")
}

fn copy_app(to: &Path) {
    let from = repository().join("examples/node-app");
    for folder in ["", "public"] {
        std::fs::create_dir_all(to.join(folder)).unwrap();
        for entry in std::fs::read_dir(from.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                std::fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
            }
        }
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}
