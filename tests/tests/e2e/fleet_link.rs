//! The link by hand: what a control plane gives an agent and what it does not, a lost
//! answer, an equal snapshot, certificates that live seconds.

use rcgen::{BasicConstraints, CertificateParams, IsCa, SanType};
use serde_json::json;
use tidegate_proto::v1::control_message::Message as Down;
use tidegate_proto::{reason, v1};
use tidegate_tests::crowd::Crowd;
use tidegate_tests::stage::HOST;
use tidegate_tests::steered::Plan;
use tidegate_tests::wire::{self, Joining};
use tidegate_tests::{Steered, until, within};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

#[tokio::test]
async fn a_lost_answer_to_enroll_is_asked_for_again() {
    let fleet = Steered::start().await;
    let link = fleet.control_plane.wire();
    let rest = &fleet.control_plane.rest;
    let token = rest.join_token("balancer", json!({})).await;
    let at = fleet.stage.net.at(40, 7445);
    let joining = Joining::new(&token, at);
    let first = link.enroll(&joining).await.unwrap();
    let second = link.enroll(&joining).await.unwrap();
    assert_eq!(first.id, second.id);
    let agents = rest.get("/agents").await;
    assert_eq!(agents["items"].as_array().unwrap().len(), 4);

    // The same token with another key is another agent, and one too many.
    let refused = link.enroll(&Joining::new(&token, at)).await.err().unwrap();
    assert_eq!(wire::reason(&refused), reason::TOKEN_USED, "{refused}");
}

#[tokio::test]
async fn a_request_gets_a_key_signed_and_nothing_else_it_asks_for() {
    let fleet = Steered::start().await;
    let link = fleet.control_plane.wire();
    let rest = &fleet.control_plane.rest;
    let token = rest.join_token("balancer", json!({})).await;
    let victim = rest.agent_at(fleet.stage.net.terminator(0)).await;
    let cluster = rest.get("/status").await["cluster"]
        .as_str()
        .unwrap()
        .to_owned();
    let victim = format!(
        "spiffe://{cluster}/agent/{}",
        victim["id"].as_str().unwrap()
    );
    let mut params = CertificateParams::new([tidegate_proto::SERVER_NAME.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .subject_alt_names
        .push(SanType::URI(victim.try_into().unwrap()));
    let joining = Joining::asking(&token, fleet.stage.net.at(40, 7445), params);
    let identity = link.enroll(&joining).await.unwrap();

    let (_, certificate) = X509Certificate::from_der(&identity.chain[0]).unwrap();
    assert!(!certificate.is_ca());
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let own = format!("spiffe://{cluster}/agent/{}", identity.id);
    assert_eq!(names.value.general_names, [GeneralName::URI(&own)]);
    let usage = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
}

#[tokio::test]
async fn what_an_agent_holds_is_not_sent_again_and_a_session_has_one_order() {
    let fleet = Steered::start().await;
    let link = fleet.control_plane.wire();
    let rest = &fleet.control_plane.rest;
    let token = rest
        .join_token("terminator", json!({ "app": "game" }))
        .await;
    let at = fleet.stage.net.at(40, 7445);
    let identity = link.enroll(&Joining::new(&token, at)).await.unwrap();
    let greet = |hello: &mut v1::Hello| hello.address = at.ip().to_string();
    let mut session = link.session(&identity, greet).await.unwrap();
    let (version, _) = session.applies().await.unwrap();
    drop(session);

    let chain = fleet.stage.certificate.chain.as_bytes();
    let held = tidegate_core::snapshot::Fingerprint::of(chain);
    let mut session = link
        .session(&identity, |hello| {
            greet(hello);
            hello.snapshot = Some(version.into());
            hello.secrets = vec![held.as_bytes().to_vec()];
        })
        .await
        .unwrap();
    let told = loop {
        match session.next().await.unwrap().unwrap() {
            Down::UpToDate(told) => break told,
            Down::Snapshot(_) | Down::Secrets(_) => panic!("it has them"),
            _ => {}
        }
    };
    assert_eq!(told.version.unwrap().hash, version.hash.as_bytes());

    // Of no concern to a terminator: the next snapshot is that of the second commit.
    let mut document = fleet.document.clone();
    document["pools"][0]["balance"] = json!("round_robin");
    // The others run it before the second is there: it is not skipped as outdated.
    rest.put("/config?wait=applied", &document).await;
    document["pools"][1]["balance"] = json!("round_robin");
    let second = rest.put("/config", &document).await;
    let (version, _) = session.applies().await.unwrap();
    assert_eq!(json!(version.change), second["change"], "{second:#}");
}

#[tokio::test]
async fn an_agents_certificate_is_worth_nothing_after_its_revocation() {
    let fleet = Steered::start().await;
    let link = fleet.control_plane.wire();
    let rest = &fleet.control_plane.rest;
    let token = rest
        .join_token("terminator", json!({ "app": "game" }))
        .await;
    let at = fleet.stage.net.at(40, 7445);
    let identity = link.enroll(&Joining::new(&token, at)).await.unwrap();
    let greet = |hello: &mut v1::Hello| hello.address = at.ip().to_string();
    let mut session = link.session(&identity, greet).await.unwrap();
    session.applies().await.unwrap();
    rest.post(&format!("/agents/{}/revoke", identity.id), &json!({}))
        .await;
    within("the end of the session", async {
        while let Ok(Some(_)) = session.next().await {}
    })
    .await;
    let refused = link.session(&identity, greet).await.err().unwrap();
    assert_eq!(wire::reason(&refused), reason::REVOKED, "{refused}");
}

#[tokio::test]
async fn certificates_that_live_seconds_are_renewed_under_traffic() {
    let plan = Plan::default().option("--agent-certificate-lifetime", "6s");
    let fleet = plan.start().await;
    let crowd = Crowd::open(50, async |i| {
        let client = u8::try_from(i).unwrap();
        fleet.stage.client(client).ws(fleet.edge(), HOST).await
    })
    .await;
    for agent in fleet.agents() {
        let mut from = 0;
        // Three lives of half a certificate are more than one whole one.
        for _ in 0..3 {
            let renewed =
                |event: &tidegate_tests::agent::Event| event.message() == "certificate renewed";
            agent
                .await_log("a renewed certificate", from, renewed)
                .await;
            from = agent.log_len();
        }
    }
    let rest = &fleet.control_plane.rest;
    until("all are connected", async || {
        rest.get("/status").await["agents"]["connected"] == 3
    })
    .await;
    crowd.round().await;
    assert_eq!(crowd.ended(), [""; 0]);
}
