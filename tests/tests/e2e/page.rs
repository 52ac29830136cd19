//! The sample app's page in a real browser, through the whole chain.

use std::process::Command;

use serde_json::Value;
use tidegate_tests::child::{Child, Extras};
use tidegate_tests::{Fleet, browser, checkout};

#[tokio::test]
async fn the_page_opens_its_websocket_in_a_real_browser() {
    browser::is_there();
    let fleet = Fleet::start().await;
    let screenshot = fleet.stage.path("page.png");
    let mut command = Command::new("node");
    command.arg(checkout("tests/browser/page.mjs"));
    // The kernel's own choice of address for a client that does not choose.
    command
        .arg(format!("https://{}/", fleet.edge()))
        .arg(&screenshot)
        .arg("127.0.0.1");
    let mut node = Child::spawn("page.mjs", command, Extras::default()).unwrap();
    let report = node
        .find("its report", 0, |line| {
            serde_json::from_str::<Value>(line).ok()
        })
        .await;
    assert_eq!(node.exit_code().await, 0, "{report:#}");
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(report["client_ip"], "127.0.0.1", "{report:#}");
    assert!(screenshot.is_file());
}
