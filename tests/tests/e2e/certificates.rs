//! Which certificate answers which name.

use serde_json::json;
use tidegate_tests::Stage;
use tidegate_tests::backend::Backend;
use tidegate_tests::client::{echoes, shown_certificate};

#[tokio::test]
async fn a_name_gets_its_exact_certificate_before_a_wildcard_before_the_default() {
    let stage = Stage::new();
    // It carries every name asked for below, so that the client trusts it for any.
    let default = stage
        .pki
        .issue(&["default.test", "else.where", "a.b.example.test", "a.test"]);
    let wildcard = stage.pki.issue(&["*.example.test"]);
    let exact = stage.pki.issue(&["a.example.test", "b.example.test"]);
    let mut document = stage.terminator(&[stage.back(0)]);
    // Order in the document does not decide, except who is first.
    document["listeners"][0]["tls"]["certificates"] = json!(["default", "wildcard", "exact"]);
    document["certificates"] = json!([
        exact.inline("exact"),
        wildcard.inline("wildcard"),
        default.inline("default"),
    ]);
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&document).await;

    for (name, wanted) in [
        ("a.example.test", &exact),
        ("B.Example.TEST", &exact),
        ("c.example.test", &wildcard),
        // A wildcard stands for one label (RFC 6125 section 6.4.3).
        ("a.b.example.test", &default),
        ("else.where", &default),
        ("default.test", &default),
    ] {
        let mut stream = stage.client(0).tls(stage.front(), name).await.unwrap();
        assert_eq!(shown_certificate(&stream), wanted.leaf, "{name}");
        assert!(echoes(&mut stream).await);
    }
}

#[tokio::test]
async fn a_client_that_names_nobody_gets_the_default() {
    let stage = Stage::new();
    let address = stage.front().ip().to_string();
    let default = stage.pki.issue(&[&address]);
    let other = stage.pki.issue(&["other.test"]);
    let mut document = stage.terminator(&[stage.back(0)]);
    document["listeners"][0]["tls"]["certificates"] = json!(["default", "other"]);
    document["certificates"] = json!([other.inline("other"), default.inline("default")]);
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&document).await;
    // An address is not sent as a name (RFC 6066 section 3).
    let stream = stage.client(0).tls(stage.front(), &address).await.unwrap();
    assert_eq!(shown_certificate(&stream), default.leaf);
}

#[tokio::test]
async fn a_key_that_does_not_fit_its_chain_is_refused_and_named() {
    let stage = Stage::new();
    let other = stage.pki.issue(&["other.test"]);
    let mut document = stage.terminator(&[stage.back(0)]);
    document["certificates"][0]["private_key"] = json!(other.private_key);
    let mut agent = stage.agent(&document).spawn();
    assert_eq!(agent.child().exit_code().await, 1);
    let log = agent.log_text();
    assert!(log.contains("/certificates/0"), "{log}");
    assert!(!log.contains("PRIVATE KEY"), "keys are never logged");
}

#[tokio::test]
async fn a_private_key_is_shown_to_nobody() {
    let stage = Stage::new();
    let agent = stage.serve(&stage.terminator(&[stage.back(0)])).await;
    // Its base64, line by line: not even a part of it.
    let key = &stage.certificate.private_key;
    let secrets: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
    assert!(secrets.iter().any(|line| line.len() == 64), "{secrets:?}");
    let mut shown = agent.log_text();
    for path in [
        "/metrics",
        "/debug/snapshot",
        "/debug/connections",
        "/debug/backends",
    ] {
        shown += &agent.admin(path).await.text();
    }
    assert!(
        shown.contains("BEGIN CERTIFICATE"),
        "the chain is no secret"
    );
    for secret in secrets {
        assert!(!shown.contains(secret));
    }
}
