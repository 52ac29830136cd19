//! An instance joins with one token and is in the traffic; revoked, it is out at
//! once and holds no key. Tokens that are not good say why.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use http::Method;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tidegate_local::databases::Database;
use tidegate_proto::SERVER_NAME;
use tidegate_tests::agent::{self, Event};
use tidegate_tests::control_plane::Start;
use tidegate_tests::rest::Body;
use tidegate_tests::stage::HOST;
use tidegate_tests::steered::{sees_up, write_secret};
use tidegate_tests::wire::Joining;
use tidegate_tests::{Agent, Steered, until};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

#[tokio::test]
async fn a_third_terminator_joins_with_a_token_and_gets_traffic() {
    let mut fleet = Steered::start().await;
    let document = fleet.control_plane.rest.get("/config").await;
    let third = fleet.stage.net.terminator(2);
    let apps = fleet.apps(2, "c").await;
    let joined = fleet.join("terminator", third).await;
    sees_up(&fleet.balancer, "game-tls", 3).await;
    until("its apps answer", async || {
        let whoami = fleet.whoami(3).await;
        whoami["name"].as_str().unwrap().starts_with('c')
    })
    .await;
    assert_eq!(fleet.control_plane.rest.get("/config").await, document);
    fleet.apps.extend(apps);
    fleet.terminators.push(joined);
}

#[tokio::test]
async fn a_revoked_terminator_is_out_at_once_and_holds_no_key() {
    let mut fleet = Steered::start().await;
    let address = fleet.stage.net.terminator(0);
    let rest = &fleet.control_plane.rest;
    let before = rest.agent_at(address).await;
    let held = before["certificates_held"].as_array().unwrap();
    assert_eq!(held.len(), 1, "{before:#}");
    assert_eq!(held[0]["name"], HOST);
    let state = fleet.state_of(address);
    let secret = ["cache", "cache.key", "identity.json"].map(|name| state.join(name));
    assert!(secret.iter().all(|path| path.exists()), "{secret:?}");
    let id = before["id"].as_str().unwrap();

    let commit = rest
        .post(&format!("/agents/{id}/revoke?wait=applied"), &json!({}))
        .await;
    assert_eq!(commit["changed"], true, "{commit:#}");
    // The balancer has applied it: from now on nobody is sent there.
    for client in 0..20 {
        let name = fleet.whoami(client).await["name"].clone();
        assert!(name.as_str().unwrap().starts_with('b'), "{name}");
    }
    let after = rest.agent_at(address).await;
    assert!(after["revoked_at"].is_string(), "{after:#}");
    assert_eq!(after["certificates_held"], before["certificates_held"]);
    let terminator = &fleet.terminators[0];
    let revoked = |event: &Event| event.message().starts_with("revoked");
    terminator
        .await_log("that it was revoked", 0, revoked)
        .await;
    assert_eq!(terminator.health("game-tls").await, 503);
    until("no key is on its disk", async || {
        !secret.iter().any(|path| path.exists())
    })
    .await;

    // What it was does not come back with a restart.
    fleet.terminators[0].kill().await;
    let mut again = fleet.again(address).spawn();
    assert_eq!(again.child().exit_code().await, 1);
    assert!(again.log_text().contains("token"), "{}", again.log_text());
}

#[tokio::test]
async fn a_token_works_once_and_what_is_wrong_with_another_is_said() {
    let fleet = Steered::start().await;
    let rest = &fleet.control_plane.rest;
    let labels = json!({ "app": "game" });
    let used = rest.join_token("terminator", labels.clone()).await;
    let _first = joining(&fleet, 30, &used, &[]);
    until("it is an agent", async || {
        let agents = rest.get("/agents").await;
        agents["items"].as_array().unwrap().len() == 4
    })
    .await;
    refused(&fleet, 31, &used, &[], "used").await;

    let old = rest.join_token("terminator", labels.clone()).await;
    let age = "update join_tokens set expires_at = now() - interval '1 second' where used = 0";
    let database = fleet.database.as_ref().unwrap();
    assert_eq!(database.execute(age).await.unwrap(), 1);
    refused(&fleet, 32, &old, &[], "this join token ended at").await;

    let other_role = rest.join_token("terminator", labels.clone()).await;
    let balancer = [("--role", "balancer")];
    refused(&fleet, 33, &other_role, &balancer, "balancer").await;

    let removed = rest
        .post(
            "/join-tokens",
            &json!({ "roles": ["terminator"], "labels": {} }),
        )
        .await;
    let path = format!("/join-tokens/{}", removed["id"].as_str().unwrap());
    rest.delete(&path).await;
    refused(&fleet, 34, removed["token"].as_str().unwrap(), &[], "token").await;
    rest.refused(404, Method::DELETE, &path, Body::Empty).await;
}

#[tokio::test]
async fn a_control_plane_of_another_authority_is_not_joined() {
    let fleet = Steered::start().await;
    let other = Database::create().await.unwrap();
    let other = Start::new(
        fleet.stage.net.ip(20),
        other.url(),
        &fleet.stage.path("other"),
    );
    let other = other.serve().await;
    let token = fleet
        .control_plane
        .rest
        .join_token("terminator", json!({}))
        .await;
    let agent = joining_at(&fleet, other.link(), 35, &token, &[]);
    await_error(
        &agent,
        "none of the presented certificates is the authority",
    )
    .await;
    let agents = other.rest.get("/agents").await;
    assert_eq!(agents["items"], json!([]));
}

#[tokio::test]
async fn the_right_authority_appended_to_a_forged_certificate_does_not_help() {
    let fleet = Steered::start().await;
    let state = fleet.control_plane.state_dir();
    let authority = fs::read_to_string(state.join("ca.pem")).unwrap();
    let link = fleet.stage.net.at(20, 7444);
    let _forger = forger(link, &authority).await;
    let token = fleet
        .control_plane
        .rest
        .join_token("terminator", json!({}))
        .await;
    let agent = joining_at(&fleet, link, 35, &token, &[]);
    await_error(&agent, "was not issued by the authority").await;
}

#[tokio::test]
async fn an_agents_certificate_does_not_make_a_control_plane() {
    let fleet = Steered::start().await;
    let rest = &fleet.control_plane.rest;
    let state = fleet.control_plane.state_dir();
    let authority = fs::read_to_string(state.join("ca.pem")).unwrap();
    let stolen = rest.join_token("terminator", json!({})).await;
    let at = fleet.stage.net.at(40, 7445);
    let wire = fleet.control_plane.wire();
    let agent = wire.enroll(&Joining::new(&stolen, at)).await.unwrap();
    let mut chain = agent.chain.clone();
    chain.push(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap());
    let link = fleet.stage.net.at(20, 7444);
    let _impostor = serve(link, chain, agent.private_key()).await;
    let token = rest.join_token("terminator", json!({})).await;
    let agent = joining_at(&fleet, link, 35, &token, &[]);
    await_error(&agent, "it is no control plane's").await;
}

/// Shows a certificate of its own for the right name, and after it the authority's,
/// which anybody may have.
async fn forger(at: SocketAddr, authority: &str) -> JoinHandle<()> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = params.self_signed(&key).unwrap();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).unwrap();
    let chain = vec![leaf.der().clone(), authority];
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    serve(at, chain, key.into()).await
}

/// A server that is no control plane and shows these certificates.
async fn serve(
    at: SocketAddr,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> JoinHandle<()> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // The agent leaves in the middle.
            let _left = acceptor.accept(stream).await;
        }
    })
}

async fn await_error(agent: &Agent, words: &str) {
    let has = |event: &Event| event.text("error").contains(words);
    agent.await_log(words, 0, has).await;
}

/// An agent at the address that ends in `host`, that tries to join.
fn joining(fleet: &Steered, host: u8, token: &str, options: &[(&str, &str)]) -> Agent {
    joining_at(fleet, fleet.control_plane.link(), host, token, options)
}

fn joining_at(
    fleet: &Steered,
    link: SocketAddr,
    host: u8,
    token: &str,
    options: &[(&str, &str)],
) -> Agent {
    let address = fleet.stage.net.ip(host);
    let file = fleet.stage.path(&format!("token-{host}"));
    write_secret(&file, token);
    let state = fleet.state_of(address);
    let start = agent::Start::run(&[link], address, &state);
    let start = start.with("--join-token-file", file.display());
    let options = options.iter();
    options
        .fold(start, |start, (option, value)| start.with(option, value))
        .spawn()
}

async fn refused(fleet: &Steered, host: u8, token: &str, options: &[(&str, &str)], why: &str) {
    let mut agent = joining(fleet, host, token, options);
    assert_eq!(agent.child().exit_code().await, 1);
    let said = agent.log_text();
    assert!(said.contains(why), "{why} in {said}");
    let (_, secret) = token.split_once('.').unwrap();
    assert!(!said.contains(secret), "the token is in {said}");
}
