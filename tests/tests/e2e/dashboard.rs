//! The dashboard in a real browser, before a real fleet with real traffic: what it shows,
//! and that what is done in it happens. The stories are scripts in
//! `tests/browser/dashboard`; what they ask of the fleet is done by [`Stagehand`].
//!
//! Each page is photographed on the way, in light and dark, wide and narrow, into
//! `target/dashboard`, for people to look at.

mod stagehand;

use serde_json::json;
use tidegate_local::databases::Database;
use tidegate_tests::browser::Story;
use tidegate_tests::{Stage, Steered, control_plane};

use stagehand::{Hand, Stagehand};

#[tokio::test]
async fn where_nothing_is_each_page_says_the_next_step() {
    let stage = Stage::new();
    let database = Database::create().await.expect("tests have a Postgres");
    let start = control_plane::Start::new(
        stage.net.ip(10),
        database.url(),
        &stage.path("control-plane"),
    );
    let control_plane = start.serve().await;
    let story = Story::begin("nothing", &stage, &control_plane, json!({})).await;
    story
        .tell(async |what, _| panic!("nothing has no {what}"))
        .await;
}

#[tokio::test]
async fn a_healthy_fleet_is_seen_at_a_glance() {
    Stagehand::tell("healthy", Steered::start().await).await;
}

#[tokio::test]
async fn who_is_not_logged_in_sees_nothing_and_a_viewer_changes_nothing() {
    Stagehand::tell("session", Steered::start().await).await;
}

#[tokio::test]
async fn an_open_page_follows_a_control_plane_that_dies_and_comes_back() {
    Stagehand::tell("outage", Steered::start().await).await;
}

#[tokio::test]
async fn a_broken_fleet_says_what_is_wrong_and_what_to_do() {
    Stagehand::tell("broken", Steered::start().await).await;
}

#[tokio::test]
async fn backends_are_acted_on_by_mouse() {
    Stagehand::tell_with("backends", Steered::start().await, Hand::Mouse).await;
}

#[tokio::test]
async fn backends_are_acted_on_by_keyboard() {
    Stagehand::tell_with("backends", Steered::start().await, Hand::Keyboard).await;
}

#[tokio::test]
async fn listeners_and_pools_are_written_by_mouse() {
    Stagehand::tell_with("listeners", Steered::start().await, Hand::Mouse).await;
}

#[tokio::test]
async fn listeners_and_pools_are_written_by_keyboard() {
    Stagehand::tell_with("listeners", Steered::start().await, Hand::Keyboard).await;
}

#[tokio::test]
async fn an_instance_is_added_by_a_pasted_line_and_revoked_by_mouse() {
    Stagehand::tell_with("instance", Steered::start().await, Hand::Mouse).await;
}

#[tokio::test]
async fn an_instance_is_added_by_a_pasted_line_and_revoked_by_keyboard() {
    Stagehand::tell_with("instance", Steered::start().await, Hand::Keyboard).await;
}

#[tokio::test]
async fn certificates_are_uploaded_and_replaced_by_mouse() {
    Stagehand::tell_with("certificates", Steered::start().await, Hand::Mouse).await;
}

#[tokio::test]
async fn certificates_are_uploaded_and_replaced_by_keyboard() {
    Stagehand::tell_with("certificates", Steered::start().await, Hand::Keyboard).await;
}

#[tokio::test]
async fn a_client_is_denied_from_its_page_by_mouse() {
    Stagehand::tell_with("deny", Steered::start().await, Hand::Mouse).await;
}

#[tokio::test]
async fn a_client_is_denied_from_its_page_by_keyboard() {
    Stagehand::tell_with("deny", Steered::start().await, Hand::Keyboard).await;
}

#[tokio::test]
async fn the_document_is_edited_and_rolled_back_by_mouse() {
    Stagehand::tell_with("document", Steered::start().await, Hand::Mouse).await;
}

#[tokio::test]
async fn the_document_is_edited_and_rolled_back_by_keyboard() {
    Stagehand::tell_with("document", Steered::start().await, Hand::Keyboard).await;
}

#[tokio::test]
async fn five_thousand_rows_stay_fluid() {
    Stagehand::tell("many", Steered::start().await).await;
}
