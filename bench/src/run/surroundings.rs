//! What is written down beside the figures: machine, versions, commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity};
use sha2::{Digest, Sha256};

use super::fast_open::FastOpen;
use crate::load::tools::output;
use crate::results::Machine;
use crate::scenario::Processors;
use crate::stage::{Programs, find_program};

/// Programs and how each is asked for its version.
const PROGRAMS: [(&str, &str); 9] = [
    ("haproxy", "-v"),
    ("nginx", "-v"),
    ("apache2", "-v"),
    ("hitch", "--version"),
    ("ab", "-V"),
    ("wrk", "-v"),
    ("h2load", "--version"),
    ("node", "--version"),
    ("openssl", "version"),
];

/// What a program may take to tell its version.
const VERSION_LIMIT: Duration = Duration::from_secs(5);

const PACKAGES: [&str; 3] = ["express", "ws", "http-proxy"];

/// As many descriptors as we may have: children inherit it.
pub(super) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where it cannot be raised, the rows that need more say so.
    let _refused = setrlimit(Resource::Nofile, raised);
}

/// The processors this process may use.
pub(super) fn processors() -> std::io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    let all: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|&number| set.is_set(number))
        .collect();
    Ok(apart(all))
}

/// With one of another core in the second place, where there is one: two threads of one
/// core slow each other down.
fn apart(mut all: Vec<usize>) -> Vec<usize> {
    let core = |number: &usize| {
        let file = format!("/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list");
        fs::read_to_string(file).unwrap_or_else(|_| number.to_string())
    };
    let other = all
        .first()
        .map(core)
        .and_then(|first| all.iter().position(|number| core(number) != first));
    if let Some(place) = other {
        all.swap(1, place);
    }
    all
}

pub(super) fn machine(processors: &Processors) -> Machine {
    let uname = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    Machine {
        processor: labelled("/proc/cpuinfo", "model name", ':').unwrap_or_else(unknown),
        processors: processors.0.len(),
        memory_mib: labelled("/proc/meminfo", "MemTotal", ':')
            .and_then(|kib| kib.trim_end_matches("kB").trim().parse::<u64>().ok())
            .map_or(0, |kib| kib / 1024),
        kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
        distribution: labelled("/etc/os-release", "PRETTY_NAME", '=').unwrap_or_else(unknown),
        descriptors: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
    }
}

/// What each program tells; those that are missing are left out.
pub(super) async fn versions(programs: &Programs) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    versions.insert("net.ipv4.tcp_fastopen".to_owned(), FastOpen::now());
    for (name, argument) in PROGRAMS {
        let Some(file) = find_program(name) else {
            continue;
        };
        if let Some(version) = version(&file, argument).await {
            versions.insert(name.to_owned(), version);
        }
    }
    if let Some(version) = version(&programs.agent, "--version").await {
        // Two agents of one version are told apart.
        let content = fs::read(&programs.agent).unwrap_or_default();
        let hash: String = Sha256::digest(content)
            .iter()
            .take(6)
            .map(|b| format!("{b:02x}"))
            .collect();
        versions.insert(
            "tidegate-agent".to_owned(),
            format!("{version}, SHA-256 {hash}…"),
        );
    }
    if let Some(haproxy) = find_program("haproxy") {
        // nginx and hitch link the same library; it may be another one than the command's.
        let linked = line(&haproxy, "-vv", |line| line.starts_with("Running on")).await;
        versions.extend(linked.map(|line| ("haproxy -vv".to_owned(), line)));
    }
    for name in PACKAGES {
        let file = programs
            .apps
            .join("node_modules")
            .join(name)
            .join("package.json");
        let package = fs::read(file)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok());
        let package: serde_json::Value = package.unwrap_or_default();
        if let Some(version) = package.get("version").and_then(serde_json::Value::as_str) {
            versions.insert(name.to_owned(), version.to_owned());
        }
    }
    versions
}

/// Its first line with a number in it, from either stream: wrk and ab print more.
async fn version(program: &Path, argument: &str) -> Option<String> {
    let has_digit = |line: &str| line.contains(|c: char| c.is_ascii_digit());
    line(program, argument, has_digit).await
}

async fn line(program: &Path, argument: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let mut command = Command::new(program);
    command.arg(argument);
    let output = output(command, VERSION_LIMIT).await.ok()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| wanted(line))?;
    Some(line.trim().to_owned())
}

/// Of the checkout this was built from.
pub(super) fn commit() -> String {
    let git = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match git {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => unknown(),
    }
}

fn labelled(file: &str, label: &str, separator: char) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(label))?;
    let (_, value) = line.split_once(separator)?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn unknown() -> String {
    "unknown".to_owned()
}
