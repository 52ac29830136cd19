//! TLS as listeners are told to speak it: certificates, versions, suites, groups,
//! protocols, clients' certificates, ends. Asked by OpenSSL and by rustls.

use std::io;
use std::sync::Arc;

use proxy_header::{ParseConfig, ProxyHeader};
use serde_json::{Value, json};
use tidegate_tests::backend::{Backend, next};
use tidegate_tests::client::openssl::{SClient, s_client};
use tidegate_tests::client::{Client, End, echoes, exchange, read_to_end};
use tidegate_tests::pki::Pki;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Stage, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A terminator before an echo, with this in its `tls` beside the certificate.
struct Scene {
    stage: Stage,
    agent: Agent,
    _echo: Backend,
    _checks: Backend,
}

async fn scene(tls: Value) -> Scene {
    let stage = Stage::new();
    let document = document(&stage, tls);
    let _echo = Backend::echo(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&document).await;
    Scene {
        stage,
        agent,
        _echo,
        _checks,
    }
}

fn document(stage: &Stage, tls: Value) -> Value {
    let mut document = stage.terminator(&[stage.back(0)]);
    for (field, value) in tls.as_object().unwrap() {
        document["listeners"][0]["tls"][field] = value.clone();
    }
    document
}

impl Scene {
    /// What OpenSSL sees when it asks for [`HOST`].
    async fn asked(&self, arguments: &[&str]) -> String {
        let known = ["-servername", HOST];
        s_client(self.stage.front(), &[&known, arguments].concat()).await
    }

    async fn count(&self, name: &str, label: (&str, &str)) -> f64 {
        let name = format!("tidegate_{name}_total");
        self.agent.metrics().await.sum(&name, &[label])
    }
}

#[tokio::test]
async fn of_two_certificates_for_a_name_a_client_sees_the_one_it_can_verify() {
    let stage = Stage::new();
    let rsa = stage.pki.issue_rsa(&[HOST]);
    let mut document = document(&stage, json!({ "certificates": ["rsa", "play"] }));
    document["certificates"] = json!([rsa.inline("rsa"), stage.certificate.inline("play")]);
    let _checks = stage.checks_pass().await;
    let _agent = stage.serve(&document).await;
    let kind = async |arguments: &[&str]| {
        let name = ["-servername", HOST];
        let said = s_client(stage.front(), &[&name, arguments].concat()).await;
        let line = said
            .lines()
            .find(|line| line.contains("Server public key is"));
        line.unwrap_or(&said).to_owned()
    };
    let (ecdsa, rsa) = (
        "Server public key is 256 bit",
        "Server public key is 2048 bit",
    );
    // Cheaper to sign with, and so preferred, whatever stands first.
    assert_eq!(kind(&[]).await, ecdsa);
    assert_eq!(kind(&["-tls1_2"]).await, ecdsa);
    assert_eq!(kind(&["-sigalgs", "RSA-PSS+SHA256"]).await, rsa);
    let only_rsa = ["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"];
    assert_eq!(kind(&only_rsa).await, rsa);
}

#[tokio::test]
async fn a_name_that_no_certificate_has_is_refused_where_it_is_to_be() {
    let scene = scene(json!({ "unknown_name": "refuse" })).await;
    let front = scene.stage.front();
    for arguments in [["-servername", "else.test"].as_slice(), &["-noservername"]] {
        let said = s_client(front, arguments).await;
        assert!(said.contains("unrecognized name"), "{said}");
    }
    let said = scene.asked(&[]).await;
    assert!(said.contains("Server public key"), "{said}");
    let refused = ("reason", "unknown_name");
    assert_eq!(scene.count("handshake_failures", refused).await, 2.0);
    assert_eq!(scene.count("handshake_names", ("name", HOST)).await, 1.0);
}

#[tokio::test]
async fn only_the_versions_that_are_named_are_spoken() {
    for (versions, spoken, refused) in [
        (json!(["tls1.3"]), "-tls1_3", "-tls1_2"),
        (json!(["tls1.2"]), "-tls1_2", "-tls1_3"),
    ] {
        let scene = scene(json!({ "versions": versions })).await;
        let said = scene.asked(&[spoken]).await;
        assert!(said.contains("Server public key"), "{said}");
        let said = scene.asked(&[refused]).await;
        assert!(said.contains("alert protocol version"), "{said}");
    }
}

#[tokio::test]
async fn suites_are_taken_in_the_listeners_order_and_no_others() {
    let theirs = [
        "-ciphersuites",
        "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256",
    ];
    let first = scene(json!({})).await;
    let said = first.asked(&theirs).await;
    assert!(said.contains("Cipher is TLS_AES_128_GCM_SHA256"), "{said}");
    let suite = ("suite", "TLS_AES_128_GCM_SHA256");
    assert_eq!(first.count("handshake_suites", suite).await, 1.0);

    let suites = [
        "TLS_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ];
    let second = scene(json!({ "suites": suites })).await;
    let said = second.asked(&theirs).await;
    assert!(said.contains("Cipher is TLS_AES_256_GCM_SHA384"), "{said}");
    let said = second.asked(&["-tls1_2"]).await;
    assert!(said.contains("ECDHE-ECDSA-CHACHA20-POLY1305"), "{said}");
    let said = second
        .asked(&["-ciphersuites", "TLS_AES_128_GCM_SHA256"])
        .await;
    assert!(said.contains("alert handshake failure"), "{said}");
}

#[tokio::test]
async fn keys_are_exchanged_in_a_post_quantum_group_unless_it_is_left_out() {
    let by_default = scene(json!({})).await;
    let client = by_default.stage.client(0);
    let front = by_default.stage.front();
    assert!(echoes(&mut client.tls(front, HOST).await.unwrap()).await);
    let group = ("group", "X25519MLKEM768");
    assert_eq!(by_default.count("handshake_groups", group).await, 1.0);

    let classic = scene(json!({ "groups": ["secp256r1"] })).await;
    let front = classic.stage.front();
    assert!(echoes(&mut classic.stage.client(0).tls(front, HOST).await.unwrap()).await);
    assert_eq!(
        classic
            .count("handshake_groups", ("group", "secp256r1"))
            .await,
        1.0
    );
    let said = classic.asked(&["-groups", "X25519"]).await;
    assert!(said.contains("alert handshake failure"), "{said}");
}

#[tokio::test]
async fn a_protocol_is_agreed_on_or_there_is_no_connection() {
    let scene = scene(json!({ "alpn": ["mqtt", "h2"] })).await;
    let said = scene.asked(&["-alpn", "h2,mqtt"]).await;
    assert!(said.contains("ALPN protocol: mqtt"), "{said}");
    let said = scene.asked(&[]).await;
    assert!(said.contains("No ALPN negotiated"), "{said}");
    let said = scene.asked(&["-alpn", "smtp"]).await;
    assert!(said.contains("no application protocol"), "{said}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_where_one_is_required() {
    let stage = Stage::new();
    let clients = Pki::new("Clients' authority");
    let wanted = |required| json!({ "ca": clients.ca_pem(), "required": required });
    let tls = |required| json!({ "client_certificates": wanted(required) });
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut told = document(&stage, tls(true));
    told["listeners"][0]["client_ip"] = json!("proxy_v2");
    let agent = stage.serve(&told).await;
    let front = stage.front();
    let client = |config| Client::new(stage.net.client(0), config);

    let device = clients.issue(&["device-7.test"]);
    let mut stream = client(device.client(&stage.pki))
        .tls(front, HOST)
        .await
        .unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut upstream = next(&mut handed).await;
    let mut bytes = [0; 512];
    let read = within("a header", upstream.read(&mut bytes)).await.unwrap();
    let (header, _) = ProxyHeader::parse(&bytes[..read], ParseConfig::default()).unwrap();
    let ssl = header.ssl().unwrap();
    assert!(ssl.client_cert_conn() && ssl.verify() == 0);
    assert_eq!(ssl.cn(), Some("device-7.test"));
    drop((stream, upstream));
    let closed = agent
        .await_closed(0, |event| event.has("client_name"))
        .await;
    assert_eq!(closed.text("client_name"), "device-7.test");

    // Of the alert a client of TLS 1.3 learns when it reads.
    let stranger = stage.pki.issue(&["device-7.test"]);
    for config in [stage.pki.trusting(), stranger.client(&stage.pki)] {
        let refused = async {
            let mut stream = client(config).tls(front, HOST).await?;
            exchange(&mut stream, b"hello").await
        };
        let error = within("a refusal", refused).await.unwrap_err().to_string();
        assert!(
            error.contains("CertificateRequired") || error.contains("UnknownCA"),
            "{error}"
        );
    }
    // A client may hear of it before it is counted.
    until("both are counted", async || {
        let reason = [("reason", "client_certificate")];
        let metrics = agent.metrics().await;
        metrics.sum("tidegate_handshake_failures_total", &reason) >= 2.0
    })
    .await;

    let told = document(&stage, tls(false));
    agent.apply(&told).await;
    backend.stop().await;
    let _echo = Backend::echo(stage.back(0)).await;
    let mut stream = client(stage.pki.trusting()).tls(front, HOST).await.unwrap();
    assert!(echoes(&mut stream).await);
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_ended() {
    let scene = scene(json!({ "handshake_timeout": "200ms" })).await;
    let mut silent = scene
        .stage
        .client(0)
        .tcp(scene.stage.front())
        .await
        .unwrap();
    silent.write_all(&[22, 3, 1]).await.unwrap();
    read_to_end(&mut silent).await;
    let closed = scene.agent.await_closed(0, |_| true).await;
    assert_eq!(
        (closed.phase(), closed.cause()),
        ("handshake", "first_byte_timeout")
    );
    assert!(
        closed.number("duration_ms") < 5_000,
        "long before first_byte"
    );
    assert_eq!(
        scene
            .count("handshake_failures", ("reason", "timeout"))
            .await,
        1.0
    );
}

#[tokio::test]
async fn an_app_that_ends_is_an_end_with_close_notify_or_fast() {
    let stage = Stage::new();
    let _checks = stage.checks_pass().await;
    let _app = Backend::serve(stage.back(0), |mut stream| async move {
        let mut word = [0; 4];
        if stream.read_exact(&mut word).await.is_ok() {
            stream.write_all(b"bye").await.ok();
        }
    })
    .await;
    for (close, ended) in [("notify", End::Eof), ("fast", End::Cut)] {
        let agent = stage
            .serve(&document(&stage, json!({ "close": close })))
            .await;
        let mut stream = stage.client(0).tls(stage.front(), HOST).await.unwrap();
        stream.write_all(b"done").await.unwrap();
        let (said, end) = read_to_end(&mut stream).await;
        assert_eq!(
            (said.as_slice(), end),
            (b"bye".as_slice(), ended),
            "{close}"
        );
        // The client has not ended its side.
        match close {
            "fast" => drop(
                agent
                    .await_closed(0, |event| event.cause() == "upstream_closed")
                    .await,
            ),
            _ => assert_eq!(agent.metrics().await.live(), 1.0),
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_without_close_notify_is_no_failure() {
    let scene = scene(json!({})).await;
    let mut stream = scene
        .stage
        .client(0)
        .tls(scene.stage.front(), HOST)
        .await
        .unwrap();
    assert!(echoes(&mut stream).await);
    let (socket, _) = stream.into_inner();
    drop(socket);
    let closed = scene.agent.await_closed(0, |_| true).await;
    assert_eq!(closed.cause(), "client_closed");
}

#[tokio::test]
async fn keys_change_under_a_live_connection_and_renegotiation_is_refused() {
    let scene = scene(json!({})).await;
    let front = scene.stage.front();
    // OpenSSL's commands: K asks for new keys both ways, R renegotiates.
    let mut client = SClient::start(front, &["-tls1_3", "-servername", HOST]);
    for word in ["before", "after"] {
        client.say(word).await;
        client.tells(&format!("\n{word}\n")).await;
        client.say("K").await;
        client.tells("KEYUPDATE").await;
    }
    drop(client);
    let mut client = SClient::start(front, &["-tls1_2", "-servername", HOST]);
    client.tells("Verify return code").await;
    client.say("R").await;
    client.tells("no renegotiation").await;
}

#[tokio::test]
async fn an_app_is_told_of_the_session_in_a_proxy_header() {
    let stage = Stage::new();
    let (_backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut told = document(&stage, json!({ "alpn": ["mqtt"] }));
    told["listeners"][0]["client_ip"] = json!("proxy_v2");
    let agent = stage.serve(&told).await;
    let mut config = Arc::unwrap_or_clone(stage.pki.trusting());
    config.alpn_protocols = vec![b"mqtt".to_vec()];
    let client = Client::new(stage.net.client(0), Arc::new(config));
    let mut stream = client.tls(stage.front(), HOST).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut upstream = next(&mut handed).await;
    let mut bytes = [0; 512];
    let read = within("a header", upstream.read(&mut bytes)).await.unwrap();
    let (header, length) = ProxyHeader::parse(&bytes[..read], ParseConfig::default()).unwrap();
    let ssl = header.ssl().unwrap();
    assert_eq!(ssl.version(), Some("TLSv1.3"));
    assert_eq!(ssl.cipher(), Some("TLS_AES_128_GCM_SHA256"));
    assert!(ssl.client_ssl() && !ssl.client_cert_conn());
    assert_eq!(header.alpn(), Some(b"mqtt".as_slice()));
    assert_eq!(header.authority(), Some(HOST));
    assert!(header.unique_id().is_some());
    if read == length {
        within("a word", upstream.read(&mut bytes)).await.unwrap();
    }
    drop((stream, upstream));
    let closed = agent.await_closed(0, |_| true).await;
    for (field, value) in [
        ("tls_version", "TLSv1.3"),
        ("tls_suite", "TLS_AES_128_GCM_SHA256"),
        ("tls_group", "X25519MLKEM768"),
        ("server_name", HOST),
        ("alpn", "mqtt"),
    ] {
        assert_eq!(closed.text(field), value);
    }
    assert!(closed.has("handshake_ms"));
    let metrics = agent.metrics().await;
    assert_eq!(metrics.sum("tidegate_handshake_seconds_count", &[]), 1.0);
    let days = metrics.sum("tidegate_certificate_days_left", &[("certificate", "play")]);
    assert!(days > 300.0, "{days}");
}

#[tokio::test]
async fn bytes_that_are_no_tls_are_answered_by_an_alert_and_counted() {
    let scene = scene(json!({})).await;
    let mut stream = scene
        .stage
        .client(0)
        .tcp(scene.stage.front())
        .await
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let (said, _) = read_to_end(&mut stream).await;
    assert_eq!(said.first(), Some(&21), "an alert: {said:?}");
    let closed = scene.agent.await_closed(0, |_| true).await;
    assert_eq!(
        (closed.phase(), closed.cause()),
        ("handshake", "tls_failed")
    );
    assert_eq!(
        scene
            .count("handshake_failures", ("reason", "malformed"))
            .await,
        1.0
    );
}

#[tokio::test]
async fn a_record_that_was_touched_ends_the_connection_with_an_alert() {
    let scene = scene(json!({})).await;
    let socket = scene
        .stage
        .client(0)
        .tcp(scene.stage.front())
        .await
        .unwrap();
    let mut stream = scene.stage.client(0).tls_over(socket, HOST).await.unwrap();
    assert!(echoes(&mut stream).await);
    let forged = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
    let (socket, session) = stream.get_mut();
    socket.write_all(&forged).await.unwrap();
    let mut alert = vec![0; 100];
    let read = within("an alert", socket.read(&mut alert)).await.unwrap();
    session.read_tls(&mut &alert[..read]).unwrap();
    let error: io::Result<_> = session.process_new_packets().map_err(io::Error::other);
    assert!(error.unwrap_err().to_string().contains("BadRecordMac"));
}
