//! What dev says when everything is up: for people what to open and what to type,
//! for programs `dev.json`.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::dev::App;
use crate::dev::addresses::Addresses;
use crate::dev::authority::HOST;
use crate::dev::home::Home;
use crate::dev::process::Process;

/// What programs read: where everything is.
pub(super) fn report(home: &Home, at: &Addresses, postgres: u32, processes: &[Process]) -> Value {
    let mut pids: Map<String, Value> = Map::new();
    pids.insert("postgres".into(), postgres.into());
    for process in processes {
        pids.insert(process.name().to_owned(), process.pid().into());
    }
    let control_plane = home.at(super::CONTROL_PLANE);
    json!({
        "rest_url": at.rest_url(),
        "token_file": control_plane.join("admin.token"),
        "ca_file": control_plane.join("ca.pem"),
        "traffic_url": at.traffic_url(),
        "traffic_ca_file": home.at("ca.pem"),
        "pids": pids,
    })
}

/// What people read. Lines that begin with two spaces can be typed as they stand.
pub(super) fn text(home: &Home, at: &Addresses, app: &App) -> String {
    let (url, rest, link) = (at.traffic_url(), at.rest_url(), at.link());
    let dir = quoted(home.path());
    // Ours, not another one that the other terminal may find first.
    let (programs, node) = (quoted(&programs()), quoted(&app.node));
    let app = quoted(&app.server());
    let (other, host, third) = (at.ip(9), at.ip(1), at.ip(4));
    let curl = format!("curl --cacert {dir}/ca.pem");
    format!(
        "
Dashboard  {rest}/
           Log in with the token in {dir}/control-plane/admin.token
           Your browser asks once about each certificate: local authorities signed them,
           {dir}/control-plane/ca.pem and {dir}/ca.pem
App        {url}/
REST       {rest}/api/v1/status, with the dashboard's token and authority
State      {dir}
           Logs are in logs/, and what the lines above say is in dev.json.

Worth typing in another terminal, this first:

  export PATH={programs}:\"$PATH\" TIDEGATE_CONFIG={dir}/cli.json

  # who answers, and whom it sees
  {curl} {url}/whoami
  # another client: the app sees its address, through TLS and two hops
  {curl} --interface {other} --resolve {HOST}:{port}:{host} https://{HOST}:{port}/whoami
  # the fleet, what each agent runs, and what it thinks of its backends
  tidegate status
  tidegate get agents
  tidegate get backends game-node
  # no new connection for one process of each terminator; and back
  tidegate drain game-node/:3000 --wait
  tidegate ready game-node/:3000 --wait
  # what a change would do, who changed what, and who connects most
  tidegate get config | sed 's/least_connections/round_robin/' | tidegate apply --dry-run -f -
  tidegate revision list
  tidegate top --live

One more instance, an app and the agent beside it. Traffic reaches it after its first checks:

  HOST={third} NAME=node-c0 {node} {app} &
  tidegate token create --role terminator --label app=game --out {dir}/tokens/c
  tidegate-agent run --control-plane {link} --address {third} --state-dir {dir}/terminator-c \
--join-token-file {dir}/tokens/c

Ctrl-C stops everything.",
        port = at.port,
    )
}

/// The directory of this program, where the agent's is as well.
fn programs() -> std::path::PathBuf {
    let this = std::env::current_exe().ok();
    let folder = this.as_deref().and_then(Path::parent);
    folder.unwrap_or(Path::new(".")).to_owned()
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_letters_is_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("/home/ann/x-1.2")), "/home/ann/x-1.2");
        assert_eq!(quoted(Path::new("/My Files/it's")), r"'/My Files/it'\''s'");
    }
}
