//! TLS as others see it: scanners that look for what is weak, and clients of other
//! libraries than ours.

use std::fs;

use serde_json::Value;
use tidegate_tests::backend::Backend;
use tidegate_tests::client::command::said_by;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An app that answers each connection's request with one word.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";

struct Scene {
    stage: Stage,
    authority: String,
    _app: Backend,
    _checks: Backend,
    _agent: Agent,
}

async fn scene() -> Scene {
    let stage = Stage::new();
    let _checks = stage.checks_pass().await;
    let _app = Backend::serve(stage.back(0), |mut stream| async move {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
        stream.write_all(ANSWER).await.ok();
    })
    .await;
    let _agent = stage.serve(&stage.terminator(&[stage.back(0)])).await;
    let authority = stage.authority();
    Scene {
        authority: authority.display().to_string(),
        stage,
        _app,
        _checks,
        _agent,
    }
}

#[tokio::test]
async fn testssl_finds_nothing_weak() {
    let scene = scene().await;
    let report = scene.stage.path("testssl.json");
    let (front, file) = (scene.stage.front(), report.display().to_string());
    let (ip, url) = (
        front.ip().to_string(),
        format!("https://{HOST}:{}", front.port()),
    );
    // Protocols, suites, forward secrecy, the server's preferences, known holes; not the
    // certificate, which is the test's, nor what the app says.
    let asked = [
        "-p",
        "-s",
        "-f",
        "-P",
        "-U",
        "--ip",
        &ip,
        "--jsonfile",
        &file,
    ];
    let quiet = [
        "--quiet",
        "--color",
        "0",
        "--warnings",
        "off",
        "--add-ca",
        &scene.authority,
    ];
    let said = said_by("testssl", &[&quiet[..], &asked[..], &[&url]].concat()).await;
    let report = fs::read_to_string(&report).unwrap_or_else(|_| panic!("{said}"));
    let findings: Vec<Value> = serde_json::from_str(&report).unwrap();
    let severity = |finding: &Value| finding["severity"].as_str().unwrap().to_owned();
    let weak: Vec<_> = findings
        .iter()
        .filter(|finding| !matches!(severity(finding).as_str(), "OK" | "INFO"))
        // Of testssl's own OpenSSL, which lacks GOST.
        .filter(|finding| finding["id"] != "engine_problem")
        .collect();
    assert!(weak.is_empty(), "{weak:#?}");
    for (id, wanted) in [
        ("TLS1_2", "offered"),
        ("TLS1_3", "offered with final"),
        ("PFS", "offered"),
        ("cipher_order", "server"),
        ("ROBOT", "not vulnerable, no RSA key transport cipher"),
        ("secure_client_renego", "not vulnerable"),
        ("heartbleed", "not vulnerable, no heartbeat extension"),
    ] {
        let finding = findings.iter().find(|finding| finding["id"] == id);
        let found = finding.unwrap_or_else(|| panic!("{id}: {said}"));
        assert_eq!(found["finding"], wanted, "{id}");
    }
}

#[tokio::test]
async fn sslscan_sees_two_versions_and_no_renegotiation() {
    let scene = scene().await;
    let (front, name) = (
        scene.stage.front().to_string(),
        format!("--sni-name={HOST}"),
    );
    let said = said_by("sslscan", &["--no-colour", &name, &front]).await;
    for line in [
        "SSLv2     disabled",
        "SSLv3     disabled",
        "TLSv1.0   disabled",
        "TLSv1.1   disabled",
        "TLSv1.2   enabled",
        "TLSv1.3   enabled",
        "Session renegotiation not supported",
        "Preferred TLSv1.3  128 bits  TLS_AES_128_GCM_SHA256",
        "Preferred TLSv1.2  128 bits  ECDHE-ECDSA-AES128-GCM-SHA256",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let accepted = said
        .lines()
        .filter(|l| l.starts_with("Accepted") || l.starts_with("Preferred"));
    for suite in accepted {
        assert!(
            suite.contains("GCM") || suite.contains("POLY1305"),
            "{suite}"
        );
    }
}

#[tokio::test]
async fn clients_of_every_library_speak_both_versions() {
    let scene = scene().await;
    let front = scene.stage.front();
    let (ip, port) = (front.ip().to_string(), front.port().to_string());
    let authority = scene.authority.as_str();
    let url = format!("https://{HOST}:{port}/");
    let resolve = format!("{HOST}:{port}:{ip}");
    let python = "import socket, ssl, sys
host, ip, port, ca, version = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
tls = context.wrap_socket(socket.create_connection((ip, int(port))), server_hostname=host)
tls.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
print(tls.version(), tls.recv(4096).decode())";
    let node = "const tls = require('node:tls'), fs = require('node:fs');
const [servername, host, port, ca, version] = process.argv.slice(1);
const socket = tls.connect({ servername, host, port, ca: fs.readFileSync(ca),
  minVersion: version, maxVersion: version }, () => {
  socket.write('GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n');
});
socket.on('data', (data) => console.log(socket.getProtocol(), data.toString()));";
    let curl = ["-sS", "--cacert", authority, "--resolve", &resolve, &url];
    let said = [
        said_by("curl", &[&curl[..], &["--tls-max", "1.2"]].concat()).await,
        said_by("curl", &[&curl[..], &["--tlsv1.3"]].concat()).await,
        said_by(
            "python3",
            &["-c", python, HOST, &ip, &port, authority, "TLSv1_2"],
        )
        .await,
        said_by(
            "python3",
            &["-c", python, HOST, &ip, &port, authority, "TLSv1_3"],
        )
        .await,
        said_by(
            "node",
            &["-e", node, HOST, &ip, &port, authority, "TLSv1.2"],
        )
        .await,
        said_by(
            "node",
            &["-e", node, HOST, &ip, &port, authority, "TLSv1.3"],
        )
        .await,
    ];
    for (said, version) in said
        .iter()
        .zip(["", "", "TLSv1.2", "TLSv1.3", "TLSv1.2", "TLSv1.3"])
    {
        assert!(said.contains("hello") && said.contains(version), "{said}");
    }
    for (priority, wanted) in [
        ("NORMAL:-VERS-ALL:+VERS-TLS1.2", "TLS1.2"),
        ("NORMAL:-VERS-ALL:+VERS-TLS1.3", "TLS1.3"),
    ] {
        let asked = [
            "--x509cafile",
            authority,
            "--sni-hostname",
            HOST,
            "--verify-hostname",
            HOST,
        ];
        let rest = ["--priority", priority, "-p", &port, &ip];
        let said = said_by("gnutls-cli", &[&asked[..], &rest[..]].concat()).await;
        assert!(
            said.contains("The certificate is trusted") && said.contains(wanted),
            "{said}"
        );
    }
}
