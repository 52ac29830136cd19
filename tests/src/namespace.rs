//! A network namespace for one test that has to change the kernel's settings, or to see
//! every packet: the test is run again in there, and nothing of it reaches the host.

use std::process::Command;

use crate::child::{Child, Extras};

/// Set for a test that runs in its namespace.
const INSIDE: &str = "TIDEGATE_TESTS_INSIDE";

/// Whether the test of that name (`module::name`) runs in a namespace of its own, with
/// these settings (as for `sysctl`). When it does not, it is run there, and has passed
/// when this returns.
///
/// # Panics
/// When it fails there.
pub async fn entered(test: &str, settings: &[(&str, &str)]) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let set = settings.iter().map(|(name, value)| {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        format!("echo {value} > {file}\n")
    });
    let set: String = set.collect();
    let script =
        format!("set -e\nip link set lo up\n{set}exec \"$0\" --exact \"$1\" --nocapture\n");
    let mut command = Command::new("unshare");
    command.arg("--net").args(more_of_a_user());
    command.args(["bash", "-c", &script]);
    command.arg(std::env::current_exe().expect("a running program has a path"));
    command.arg(test).env(INSIDE, test);
    let mut child = Child::spawn(test, command, Extras::default()).expect("unshare can be run");
    let code = child.exit_code().await;
    let said = child.lines().since(0).join("\n");
    assert!(code == 0 && said.contains("1 passed"), "{code}: {said}");
    false
}

/// Root of its own namespace is who is root outside; others need to become that first.
fn more_of_a_user() -> &'static [&'static str] {
    use std::os::unix::fs::MetadataExt;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|us| us.uid() == 0);
    if is_root { &[] } else { &["--map-root-user"] }
}
