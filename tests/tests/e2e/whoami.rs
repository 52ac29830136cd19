//! The app sees the client's own address, in every way it can be told, and nothing
//! that a client says about itself.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tidegate_tests::client::Client;
use tidegate_tests::client::http::Http;
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::{HOST, checked_by_http, pool};
use tidegate_tests::{Agent, Fleet, Stage, until};

/// In every forged header, so that none can hide.
const FORGED: &str = "198.51.100.66";

#[tokio::test]
async fn the_app_sees_each_clients_own_address() {
    let fleet = Fleet::start().await;
    let net = &fleet.stage.net;
    for source in [
        net.client(0),
        net.client(1),
        net.far_client(7),
        net.far_client(400),
    ] {
        let client = fleet.stage.client(0).from(source);
        let mut http = client.http(fleet.edge(), HOST).await.unwrap();
        let seen = whoami(&mut http).await;
        assert_eq!(seen["client_ip"], source.to_string(), "{seen}");
        assert_eq!(
            seen["headers"]["x-forwarded-for"],
            source.to_string(),
            "{seen}"
        );
        assert_eq!(seen["headers"]["x-forwarded-proto"], "https", "{seen}");
        assert_eq!(seen["headers"]["x-forwarded-host"], HOST, "{seen}");
        assert_eq!(seen["headers"]["x-forwarded-port"], "8443", "{seen}");
        let forwarded = seen["headers"]["forwarded"]
            .as_str()
            .expect("RFC 7239 is set");
        assert!(forwarded.contains(&format!("for={source}")), "{forwarded}");
        assert!(forwarded.contains("proto=https"), "{forwarded}");

        let ws = client.ws(fleet.edge(), HOST).await.unwrap();
        assert_eq!(ws.client_ip(), source.to_string());
        assert_eq!(ws.header("x-forwarded-proto"), Some("https"));
    }
}

#[tokio::test]
async fn no_forged_header_survives_on_any_request_of_a_kept_connection() {
    let fleet = Fleet::start().await;
    let client = fleet.stage.client(3);
    let mut http = client.http(fleet.edge(), HOST).await.unwrap();
    for _ in 0..4 {
        let seen = get(&mut http, "/whoami", forged()).await;
        nothing_is_forged(&seen, fleet.stage.net.client(3));
        // Between forged ones an honest request: nothing may stick either way.
        let seen = whoami(&mut http).await;
        nothing_is_forged(&seen, fleet.stage.net.client(3));
    }
}

#[tokio::test]
async fn no_forged_header_survives_a_websocket_upgrade() {
    let fleet = Fleet::start().await;
    let ws = fleet
        .stage
        .client(4)
        .ws_with(fleet.edge(), HOST, forged())
        .await
        .unwrap();
    let client = fleet.stage.net.client(4).to_string();
    assert_eq!(ws.client_ip(), client);
    assert_eq!(ws.header("x-forwarded-for"), Some(client.as_str()));
    for name in forged().keys() {
        let value = ws.header(name.as_str()).unwrap_or_default();
        assert!(!value.contains(FORGED), "{name}: {value}");
    }
}

#[tokio::test]
async fn with_client_ip_none_the_app_is_told_nothing_true_or_forged() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let mut document = stage.http_terminator(&[]);
    document["listeners"][0]["client_ip"] = json!("none");
    document["pools"][0] = checked_by_http(pool("back", &[app.address()]));
    let agent = stage.serve(&document).await;
    let mut http = stage.client(0).http(stage.front(), HOST).await.unwrap();
    for _ in 0..2 {
        let seen = get(&mut http, "/whoami", forged()).await;
        assert_eq!(
            seen["remote_address"],
            stage.net.balancer().to_string(),
            "{seen}"
        );
        assert!(!seen["raw_headers"].to_string().contains(FORGED), "{seen}");
        assert!(seen["headers"]["x-forwarded-for"].is_null(), "{seen}");
        assert!(seen["headers"]["forwarded"].is_null(), "{seen}");
    }
    drop(agent);
}

#[tokio::test]
async fn an_app_that_reads_proxy_headers_sees_the_client_through_both_versions() {
    let stage = Stage::new();
    let v1 = NodeApp::at(stage.back(0), "v1")
        .requiring_proxy()
        .listen()
        .await;
    let v2 = NodeApp::at(stage.back(1), "v2")
        .requiring_proxy()
        .listen()
        .await;
    let agent = stage.serve(&proxy_chains(&stage, [&v1, &v2])).await;
    for (port, app) in [(8441, &v1), (8442, &v2)] {
        // Checks of a backend that requires a header have to carry one.
        let name = app.address().to_string();
        checked_and_up(&agent, &format!("node-{}", app.name()), &name).await;
        for source in [stage.net.client(0), stage.net.far_client(33)] {
            let client = stage.client(0).from(source);
            sees_proxied(&client, stage.net.at(1, port), app.name(), source).await;
            // And where nobody stands before the terminator.
            sees_proxied(&client, stage.net.at(1, port + 2000), app.name(), source).await;
        }
    }
}

#[tokio::test]
async fn a_client_of_a_dual_stack_listener_has_its_ipv4_address() {
    let stage = Stage::new();
    let app = NodeApp::at(stage.back(0), "app").listen().await;
    let mut document = stage.http_terminator(&[]);
    let port = stage.net.shared_port();
    document["listeners"][0]["bind"] = json!(format!("[::]:{port}"));
    document["pools"][0] = checked_by_http(pool("back", &[app.address()]));
    let agent = stage.serve(&document).await;

    let source = stage.net.client(9);
    let mut http = stage
        .client(9)
        .http(stage.net.at(77, port), HOST)
        .await
        .unwrap();
    let seen = whoami(&mut http).await;
    assert_eq!(
        seen["headers"]["x-forwarded-for"],
        source.to_string(),
        "{seen}"
    );

    let v6 = SocketAddr::new("::1".parse().unwrap(), port);
    let mut http = stage.client(0).from(v6.ip()).http(v6, HOST).await.unwrap();
    let seen = whoami(&mut http).await;
    assert_eq!(seen["headers"]["x-forwarded-for"], "::1", "{seen}");
    let forwarded = seen["headers"]["forwarded"].as_str().unwrap();
    // RFC 7239 section 6: an IPv6 address stands in brackets and quotes.
    assert!(forwarded.contains("for=\"[::1]\""), "{forwarded}");
    drop(agent);
}

/// Balancer and terminator in one agent, once by version: `:8441` to `:9441` to the
/// first app in version 1, `:8442` to `:9442` to the second in version 2; the
/// terminators without a balancer before them at `:10441` and `:10442`.
fn proxy_chains(stage: &Stage, apps: [&NodeApp; 2]) -> Value {
    let mut document = json!({
        "listeners": [], "pools": [], "certificates": [stage.certificate.inline("play")],
    });
    for (n, (version, app)) in ["v1", "v2"].into_iter().zip(apps).enumerate() {
        let terminator = |name: String, port: usize, accept: Value| {
            json!({
                "name": name, "role": "terminator", "bind": format!(":{port}"),
                "accept_proxy": accept, "tls": { "certificates": ["play"] }, "mode": "tcp",
                "client_ip": format!("proxy_{version}"), "pool": format!("node-{version}"),
            })
        };
        let listeners = document["listeners"].as_array_mut().unwrap();
        listeners.extend([
            json!({ "name": format!("edge-{version}"), "role": "balancer",
                    "bind": format!(":{}", 8441 + n), "pool": format!("tls-{version}") }),
            terminator(
                format!("tls-{version}"),
                9441 + n,
                json!([stage.net.balancer()]),
            ),
            terminator(format!("bare-{version}"), 10441 + n, json!("none")),
        ]);
        let back = SocketAddr::new(stage.net.balancer(), 9441 + u16::try_from(n).unwrap());
        let mut tls = pool(&format!("tls-{version}"), &[back]);
        tls["proxy_protocol"] = json!(version);
        tls["health_check"] = json!({ "tcp": {}, "interval": "100ms" });
        let node = checked_by_http(pool(&format!("node-{version}"), &[app.address()]));
        document["pools"]
            .as_array_mut()
            .unwrap()
            .extend([tls, node]);
    }
    document
}

async fn checked_and_up(agent: &Agent, pool: &str, backend: &str) {
    until("a passed check", async || {
        let passed = [("pool", pool), ("backend", backend), ("result", "pass")];
        agent.metrics().await.sum("tidegate_checks_total", &passed) >= 2.0
    })
    .await;
    assert!(agent.is_up(pool, backend).await);
}

async fn sees_proxied(client: &Client, to: SocketAddr, app: &str, source: IpAddr) {
    let mut http = client.http(to, HOST).await.unwrap();
    let seen = get(&mut http, "/whoami", HeaderMap::new()).await;
    assert_eq!(seen["name"], app, "{seen}");
    assert_eq!(seen["client_ip"], source.to_string(), "{seen}");
    let ws = client.ws(to, HOST).await.unwrap();
    assert_eq!(ws.client_ip(), source.to_string());
}

/// Everything a client may say about where it comes from, in several spellings, and
/// the request to drop the true answer on the way (RFC 9110 section 7.6.1).
fn forged() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in [
        "x-forwarded-for",
        "x-real-ip",
        "x-forwarded-host",
        "x-forwarded-port",
    ] {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(FORGED),
        );
    }
    headers.append(
        "x-forwarded-for",
        HeaderValue::from_static("198.51.100.66, 10.0.0.1"),
    );
    headers.append(
        "x-forwarded-proto",
        HeaderValue::from_static("http-198.51.100.66"),
    );
    headers.append(
        "forwarded",
        HeaderValue::from_static("for=198.51.100.66;proto=http"),
    );
    headers.append(
        "connection",
        HeaderValue::from_static("x-forwarded-for, forwarded"),
    );
    headers
}

fn nothing_is_forged(seen: &Value, client: IpAddr) {
    assert_eq!(seen["client_ip"], client.to_string(), "{seen}");
    assert!(!seen["raw_headers"].to_string().contains(FORGED), "{seen}");
    for (name, value) in [
        ("x-forwarded-for", client.to_string()),
        ("x-forwarded-proto", "https".to_owned()),
        ("x-forwarded-host", HOST.to_owned()),
    ] {
        assert_eq!(raw_values(seen, name), [value], "{name} in {seen}");
    }
    assert_eq!(raw_values(seen, "forwarded").len(), 1, "{seen}");
}

/// All values of a header as they came over the wire, not as Node.js joined them.
fn raw_values(seen: &Value, name: &str) -> Vec<String> {
    let raw = seen["raw_headers"]
        .as_array()
        .expect("names and values in turn");
    let text = |value: &Value| value.as_str().expect("a header is text").to_owned();
    raw.chunks(2)
        .filter(|pair| text(&pair[0]).eq_ignore_ascii_case(name))
        .map(|pair| text(&pair[1]))
        .collect()
}

async fn whoami(http: &mut Http) -> Value {
    get(http, "/whoami", HeaderMap::new()).await
}

async fn get(http: &mut Http, path: &str, headers: HeaderMap) -> Value {
    let answer = http
        .send(Method::GET, path, headers, Bytes::new())
        .await
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}
