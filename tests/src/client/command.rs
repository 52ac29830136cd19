//! Programs that are clients: what they say, and whether they are content.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long a program may take.
const PATIENCE: Duration = Duration::from_secs(240);

/// Runs a program without input; answers with what it wrote, errors included.
///
/// # Panics
/// When it is not installed, or does not end.
pub async fn said_by(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("{program} does not end"));
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: scripts/setup"));
    let [said, complained] = [output.stdout, output.stderr];
    format!(
        "{}{}",
        String::from_utf8_lossy(&said),
        String::from_utf8_lossy(&complained)
    )
}
