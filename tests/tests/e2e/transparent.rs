//! `client_ip: transparent`: an app without a line for it sees each client's own address
//! where every program looks for one. Each test is in a network namespace of its own, its
//! clients in another one on other networks, and packets are routed between the two.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output};

use http::HeaderMap;
use serde_json::{Value, json};
use tidegate_tests::agent::{Event, program};
use tidegate_tests::child::{Child, Extras};
use tidegate_tests::client::http::Http;
use tidegate_tests::client::ws::Ws;
use tidegate_tests::client::{connect, read_to_end};
use tidegate_tests::elsewhere::{Elsewhere, HERE, run};
use tidegate_tests::namespace::entered;
use tidegate_tests::node::NodeApp;
use tidegate_tests::stage::{HOST, checked_by_http, pool};
use tidegate_tests::{Agent, Stage, proxy, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The app that knows only sockets: it says whom it talks to, and what it hears.
const TELLER: &str = "
require('node:net').createServer((socket) => {
  socket.on('error', () => {});
  socket.write(socket.remoteAddress + '\\n');
  socket.pipe(socket);
}).listen(3001, process.argv[1], () => console.log('listening'));
";
const HTTP: u16 = 8443;
const TCP: u16 = 8444;

/// Goes on in a namespace of its own, as the test of that name (and with these settings of
/// the kernel); the one that asked has nothing more to do.
macro_rules! enter {
    ($test:literal $(, $setting:expr)*) => {
        if !entered(concat!("transparent::", $test), &[$($setting),*]).await {
            return;
        }
    };
}

/// An address of the test's namespace.
fn here(index: usize, port: u16) -> SocketAddr {
    SocketAddr::new(HERE[index].parse().unwrap(), port)
}

/// Two listeners for each family: HTTP before the sample app, TCP before the other one.
fn document(stage: &Stage) -> Value {
    let listener = |name: &str, bind: SocketAddr, mode: &str, pool: &str| {
        json!({ "name": name, "role": "terminator", "bind": bind, "accept_proxy": "none",
                "tls": { "certificates": ["play"] }, "mode": mode, "pool": pool,
                "policy": "clients", "client_ip": "transparent" })
    };
    let mut tcp = pool("tcp", &["127.0.0.1:3001".parse().unwrap()]);
    tcp["health_check"] = json!({ "tcp": {}, "interval": "100ms" });
    json!({
        "listeners": [
            listener("http4", here(0, HTTP), "http", "http"),
            listener("http6", here(1, HTTP), "http", "http"),
            listener("tcp4", here(0, TCP), "tcp", "tcp"),
            listener("tcp6", here(1, TCP), "tcp", "tcp"),
        ],
        "pools": [checked_by_http(pool("http", &["127.0.0.1:3000".parse().unwrap()])), tcp],
        "policies": [{ "name": "clients" }],
        "certificates": [stage.certificate.inline("play")],
    })
}

/// With another `client_ip`, which needs nothing of the host.
fn untold(document: &Value) -> Value {
    let mut document = document.clone();
    for listener in document["listeners"].as_array_mut().unwrap() {
        listener["client_ip"] = json!("none");
    }
    document
}

/// `tidegate-agent setup-transparent`.
fn setup(arguments: &[&str]) -> Output {
    let mut command = Command::new(program("tidegate-agent"));
    command.arg("setup-transparent").args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn teller(address: &str) -> Child {
    let mut command = Command::new("node");
    command.args(["-e", TELLER, address]);
    let app = Child::spawn("teller", command, Extras::default()).unwrap();
    let is_it = |line: &str| (line == "listening").then_some(());
    app.find("'listening'", 0, is_it).await;
    app
}

/// Both apps, on both families.
async fn apps() -> (NodeApp, Child) {
    let http = NodeApp::at("[::]:3000".parse().unwrap(), "app").listen();
    tokio::join!(http, teller("::"))
}

/// The agent of a unit as documented: root's other rights are gone.
async fn serve(stage: &Stage, document: &Value) -> Agent {
    let at = stage.agent_at(HERE[0].parse().unwrap(), document);
    at.capabilities("+net_raw").serve().await
}

/// Without the mark of a socket that serves both families.
fn unmapped(address: &str) -> &str {
    address.trim_start_matches("::ffff:")
}

/// Whom the sample app sees on this connection.
async fn seen_over_http(stage: &Stage, stream: TcpStream) -> String {
    let tls = stage.client(0).tls_over(stream, HOST).await.unwrap();
    let mut http = Http::over(tls, HOST).await.unwrap();
    let mut seen = HashSet::new();
    // One connection to the app after the other: each ends as the app says.
    for _ in 0..3 {
        let answer = http.get("/whoami").await.unwrap().json();
        seen.insert(answer["remote_address"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen.len(), 1, "{seen:?}");
    unmapped(&seen.into_iter().next().unwrap()).to_owned()
}

/// Whom the other app sees on this connection, which carries bytes both ways to its end.
async fn seen_over_tcp(stage: &Stage, stream: TcpStream) -> String {
    let mut tls = stage.client(0).tls_over(stream, HOST).await.unwrap();
    within("some bytes", tls.write_all(b"and a half-close"))
        .await
        .unwrap();
    tls.shutdown().await.unwrap();
    let said = String::from_utf8(read_to_end(&mut tls).await.0).unwrap();
    let (seen, echo) = said.split_once('\n').unwrap();
    assert_eq!(echo, "and a half-close");
    unmapped(seen).to_owned()
}

async fn seen_over_ws(stage: &Stage, stream: TcpStream) -> String {
    let tls = stage.client(0).tls_over(stream, HOST).await.unwrap();
    let mut ws = Ws::over(tls, HOST, HeaderMap::new()).await.unwrap();
    ws.echo("hello").await.unwrap();
    unmapped(ws.client_ip()).to_owned()
}

#[tokio::test]
async fn an_unmodified_app_sees_each_clients_own_address() {
    enter!("an_unmodified_app_sees_each_clients_own_address");
    let (stage, elsewhere, _apps) = (Stage::new(), Elsewhere::new().await, apps().await);
    let made = setup(&[]);
    assert!(made.status.success(), "{made:?}");
    let _agent = serve(&stage, &document(&stage)).await;
    let clients = [
        "198.51.100.7",
        "198.51.100.8",
        "2001:db8:2::7",
        "2001:db8:2::8",
    ];
    // What hosts have this at, each of them, and none of it matters: nothing that comes
    // in by an interface is looked at another way.
    for rp_filter in ["0", "1", "2"] {
        run(&format!(
            "for i in all default lo here; do echo {rp_filter} > /proc/sys/net/ipv4/conf/$i/rp_filter; done"
        ));
        for (i, client) in clients.into_iter().enumerate() {
            let family = i / 2;
            let at = async |port| {
                let connecting = elsewhere.connect_from(client, here(family, port));
                connecting.await.unwrap()
            };
            assert_eq!(seen_over_http(&stage, at(HTTP).await).await, client);
            assert_eq!(seen_over_ws(&stage, at(HTTP).await).await, client);
            assert_eq!(seen_over_tcp(&stage, at(TCP).await).await, client);
        }
    }
}

#[tokio::test]
async fn two_hundred_clients_with_one_source_port_are_told_apart() {
    enter!("two_hundred_clients_with_one_source_port_are_told_apart");
    let (stage, elsewhere, _apps) = (Stage::new(), Elsewhere::new().await, apps().await);
    assert!(setup(&[]).status.success());
    let agent = serve(&stage, &document(&stage)).await;
    // All at once, so that every pair of addresses is in use beside all others. A port
    // that the app listens on is as good as any.
    let mut open = Vec::new();
    for i in 1..=200 {
        let source: SocketAddr = format!("198.51.100.{i}:3001").parse().unwrap();
        let stream = elsewhere.connect(source, here(0, TCP)).await.unwrap();
        let mut tls = stage.client(0).tls_over(stream, HOST).await.unwrap();
        let expected = format!("::ffff:{}\n", source.ip());
        let mut seen = vec![0; expected.len()];
        within("whom the app sees", tls.read_exact(&mut seen))
            .await
            .unwrap();
        assert_eq!(text(&seen), expected);
        open.push(tls);
    }
    // And of one client, as many.
    for _ in 0..50 {
        let stream = elsewhere.connect_from("198.51.100.7", here(0, HTTP)).await;
        assert_eq!(
            seen_over_http(&stage, stream.unwrap()).await,
            "198.51.100.7"
        );
    }
    let ports = agent.metrics().await.sum("tidegate_source_ports_used", &[]);
    assert_eq!(ports, 0.0, "none of them is the agent's own");
}

#[tokio::test]
async fn a_client_that_has_every_port_takes_none_from_others() {
    enter!(
        "a_client_that_has_every_port_takes_none_from_others",
        ("net.ipv4.ip_local_port_range", "40000 40003")
    );
    let (stage, elsewhere, _apps) = (Stage::new(), Elsewhere::new().await, apps().await);
    assert!(setup(&[]).status.success());
    let mut document = document(&stage);
    for pool in document["pools"].as_array_mut().unwrap() {
        pool["health_check"]["interval"] = json!("1h");
    }
    let agent = serve(&stage, &document).await;
    let open = async |client: &str| {
        let stream = elsewhere.connect_from(client, here(0, TCP)).await;
        let mut tls = stage
            .client(0)
            .tls_over(stream.unwrap(), HOST)
            .await
            .unwrap();
        let heard = within("a byte, or the end", tls.read_u8()).await;
        heard.is_ok().then_some(tls)
    };
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(open("198.51.100.7").await.expect("there is a port"));
    }
    let from = agent.log_len();
    assert!(open("198.51.100.7").await.is_none());
    let closed = agent.await_closed(from, |_| true).await;
    assert_eq!(closed.cause(), "internal", "{closed:?}");
    assert!(open("198.51.100.8").await.is_some());
    drop(held);
    assert_eq!(failures(&agent).await, 0.0);
}

#[tokio::test]
async fn what_the_host_lacks_is_said_and_refused_until_it_is_there() {
    enter!("what_the_host_lacks_is_said_and_refused_until_it_is_there");
    let (stage, elsewhere, _apps) = (Stage::new(), Elsewhere::new().await, apps().await);
    let document = document(&stage);
    let agent = serve(&stage, &untold(&document)).await;
    let refused = async |words: &[&str]| {
        let event = format!("{:?}", agent.refuse(&document).await);
        assert!(event.contains("/listeners/0/client_ip"), "{event}");
        for word in words {
            assert!(event.contains(word), "{word}: {event}");
        }
        event
    };
    let both = ["IPv4 has no routing rule", "IPv6 has no routing rule"];
    refused(&both).await;

    let made = setup(&["--table", "300"]);
    assert!(made.status.success(), "{made:?}");
    assert_eq!(text(&made.stdout).matches(": added").count(), 2, "{made:?}");
    let again = setup(&["--table", "300"]);
    let said = text(&again.stdout);
    assert_eq!(said.matches(": there already").count(), 2, "{again:?}");
    let other = setup(&["--table", "301"]);
    assert!(!other.status.success());
    assert!(
        text(&other.stderr).contains("--remove --table 300"),
        "{other:?}"
    );

    run("ip -6 route flush table 300");
    let event = refused(&["IPv6 has the routing rule", "table 300 has no route"]).await;
    assert!(!event.contains("IPv4"), "{event}");
    assert!(setup(&["--table", "300"]).status.success());
    run("ip rule add priority 1 from all lookup main; ip route add default via 192.0.2.2");
    refused(&["IPv4 has the routing rule", "another rule comes before"]).await;
    let overruled = setup(&["--table", "300"]);
    assert!(!overruled.status.success(), "{overruled:?}");
    run("ip rule delete priority 1");

    // What ran goes on, and what is refused is taken as soon as it can be.
    let stream = elsewhere.connect_from("198.51.100.7", here(0, HTTP)).await;
    assert_eq!(seen_over_http(&stage, stream.unwrap()).await, "127.0.0.1");
    agent.apply(&document).await;
    let stream = elsewhere.connect_from("198.51.100.7", here(0, HTTP)).await;
    assert_eq!(
        seen_over_http(&stage, stream.unwrap()).await,
        "198.51.100.7"
    );

    let removed = setup(&["--remove", "--table", "300"]);
    assert_eq!(
        text(&removed.stdout).matches(": removed").count(),
        2,
        "{removed:?}"
    );
    let again = setup(&["--remove", "--table", "300"]);
    assert_eq!(
        text(&again.stdout).matches(": not there").count(),
        2,
        "{again:?}"
    );
    assert!(!run("ip rule; ip -6 rule").contains("300"));
}

#[tokio::test]
async fn a_missing_capability_is_named() {
    enter!("a_missing_capability_is_named");
    let stage = Stage::new();
    run("ip address add 192.0.2.1/24 dev lo; ip address add 2001:db8:1::1/64 dev lo nodad");
    assert!(setup(&[]).status.success());
    let address = HERE[0].parse().unwrap();
    let mut agent = stage
        .agent_at(address, &document(&stage))
        .capabilities("")
        .spawn();
    assert_eq!(agent.child().exit_code().await, 1);
    let said = agent.log_text();
    assert!(said.contains("/listeners/0/client_ip"), "{said}");
    assert!(
        said.contains("CAP_NET_RAW") && !said.contains("rule"),
        "{said}"
    );

    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin"]);
    command.arg(program("tidegate-agent"));
    let denied = command
        .args(["setup-transparent", "--remove"])
        .output()
        .unwrap();
    assert!(!denied.status.success());
    assert!(text(&denied.stderr).contains("CAP_NET_ADMIN"), "{denied:?}");
}

#[tokio::test]
async fn rules_that_go_while_it_runs_are_told_and_held_against_no_backend() {
    enter!("rules_that_go_while_it_runs_are_told_and_held_against_no_backend");
    let (stage, elsewhere, _apps) = (Stage::new(), Elsewhere::new().await, apps().await);
    assert!(setup(&[]).status.success());
    let mut document = document(&stage);
    document["policies"][0]["timeouts"] = json!({ "connect": "200ms" });
    let agent = serve(&stage, &document).await;
    assert!(setup(&["--remove"]).status.success());
    let from = agent.log_len();
    let stream = elsewhere.connect_from("198.51.100.7", here(0, TCP)).await;
    let mut tls = stage
        .client(0)
        .tls_over(stream.unwrap(), HOST)
        .await
        .unwrap();
    assert_eq!(read_to_end(&mut tls).await.0, b"");
    let closed = agent.await_closed(from, |_| true).await;
    let found = (closed.cause(), closed.phase());
    assert_eq!(found, ("internal", "connect"), "{closed:?}");
    let told = |event: &Event| format!("{event:?}").contains("IPv4 has no routing rule");
    agent.await_log("what is missing", from, told).await;

    assert_eq!(failures(&agent).await, 0.0);
    assert!(setup(&[]).status.success());
    let stream = elsewhere.connect_from("198.51.100.7", here(0, TCP)).await;
    assert_eq!(seen_over_tcp(&stage, stream.unwrap()).await, "198.51.100.7");
}

/// Connects that are held against backends.
async fn failures(agent: &Agent) -> f64 {
    let failed = [("pool", "tcp"), ("result", "failed")];
    let metrics = agent.metrics().await;
    metrics.sum("tidegate_backend_connects_total", &failed)
}

#[tokio::test]
async fn clients_of_a_family_that_the_app_does_not_listen_on_take_it_from_nobody_else() {
    enter!("clients_of_a_family_that_the_app_does_not_listen_on_take_it_from_nobody_else");
    let (stage, elsewhere) = (Stage::new(), Elsewhere::new().await);
    let _app = teller("127.0.0.1").await;
    assert!(setup(&[]).status.success());
    let agent = serve(&stage, &document(&stage)).await;
    for _ in 0..3 {
        let from = agent.log_len();
        let stream = elsewhere.connect_from("2001:db8:2::7", here(1, TCP)).await;
        let mut tls = stage
            .client(0)
            .tls_over(stream.unwrap(), HOST)
            .await
            .unwrap();
        assert_eq!(read_to_end(&mut tls).await.0, b"");
        let of_v6 = |closed: &Event| closed.text("listener") == "tcp6";
        let closed = agent.await_closed(from, of_v6).await;
        assert_eq!(closed.cause(), "connect_failed", "{closed:?}");
        let stream = elsewhere.connect_from("198.51.100.7", here(0, TCP)).await;
        assert_eq!(seen_over_tcp(&stage, stream.unwrap()).await, "198.51.100.7");
    }
    assert_eq!(failures(&agent).await, 0.0);
    assert!(
        agent
            .log_text()
            .contains("\"target_address\":\"[::1]:3001\"")
    );
}

#[tokio::test]
async fn a_client_on_the_same_host_is_seen_as_it_is() {
    enter!("a_client_on_the_same_host_is_seen_as_it_is");
    let (stage, _elsewhere, _apps) = (Stage::new(), Elsewhere::new().await, apps().await);
    assert!(setup(&[]).status.success());
    let _agent = serve(&stage, &document(&stage)).await;
    let sources = [
        "127.0.0.1",
        "127.9.8.7",
        "192.0.2.1",
        "::1",
        "2001:db8:1::1",
    ];
    for source in sources {
        let source: IpAddr = source.parse().unwrap();
        let family = usize::from(source.is_ipv6());
        // Several at once: the client's own connections are local sockets too, and so
        // are those of the checks.
        let mut open = Vec::new();
        for _ in 0..20 {
            let stream = connect(source, here(family, TCP)).await.unwrap();
            open.push(connect(source, here(family, TCP)).await.unwrap());
            assert_eq!(seen_over_tcp(&stage, stream).await, source.to_string());
            let stream = connect(source, here(family, HTTP)).await.unwrap();
            assert_eq!(seen_over_http(&stage, stream).await, source.to_string());
        }
    }
}

#[tokio::test]
async fn an_address_that_is_no_source_reaches_no_app_as_somebody_else() {
    enter!("an_address_that_is_no_source_reaches_no_app_as_somebody_else");
    let (stage, elsewhere, _apps) = (Stage::new(), Elsewhere::new().await, apps().await);
    assert!(setup(&[]).status.success());
    let mut document = document(&stage);
    for listener in document["listeners"].as_array_mut().unwrap() {
        listener["accept_proxy"] = json!(["198.51.100.1/32"]);
    }
    let agent = serve(&stage, &document).await;
    let announced = async |client: &str| {
        let stream = elsewhere.connect_from("198.51.100.1", here(0, TCP)).await;
        let mut stream = stream.unwrap();
        let client = SocketAddr::new(client.parse().unwrap(), 50_000);
        let to = here(usize::from(client.is_ipv6()), TCP);
        stream.write_all(&proxy::v2(client, to)).await.unwrap();
        stream
    };
    // The last one is the broadcast address of a network that the host is on, which
    // only the kernel knows.
    for client in [
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "ff02::1",
        "fe80::1",
        "127.0.0.1",
        "192.0.2.255",
    ] {
        let from = agent.log_len();
        let stream = announced(client).await;
        let mut tls = stage.client(0).tls_over(stream, HOST).await.unwrap();
        assert_eq!(read_to_end(&mut tls).await.0, b"", "{client}");
        let closed = agent.await_closed(from, |_| true).await;
        let found = (closed.cause(), closed.phase());
        assert_eq!(found, ("client_address", "connect"), "{client}: {closed:?}");
    }
    // A client that a balancer tells of is one, on whichever family it came.
    for client in ["203.0.113.9", "2001:db8:99::9"] {
        let seen = seen_over_tcp(&stage, announced(client).await).await;
        assert_eq!(seen, client);
    }
    assert_eq!(failures(&agent).await, 0.0);
}
