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

use stagehand::Stagehand;

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
