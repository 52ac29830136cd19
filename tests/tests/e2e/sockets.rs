//! What the document and the command line say of sockets, as the kernel has it:
//! backlogs, keepalive on both sides, giving up, and where connections come from.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::backend::{Backend, next};
use tidegate_tests::client::read_to_end;
use tidegate_tests::namespace::entered;
use tidegate_tests::tcp::{backlogs, sockets};
use tidegate_tests::{Stage, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// After this, NLB and NAT gateways have forgotten a silent connection.
const FORGOTTEN: Duration = Duration::from_secs(350);

#[tokio::test]
async fn a_backlog_is_as_written_on_every_socket_and_changes_with_the_document() {
    let stage = Stage::new();
    let mut document = stage.balancer(&[stage.back(0)]);
    document["listeners"][0]["tcp"] = json!({ "backlog": 77 });
    let agent = stage.agent(&document).with("--threads", 2).serve().await;
    assert_eq!(backlogs(stage.front()), [77, 77]);
    document["listeners"][0]["tcp"] = json!({ "backlog": 33 });
    agent.apply(&document).await;
    assert_eq!(backlogs(stage.front()), [33, 33]);
    document["listeners"][0]["tcp"] = json!({});
    agent.apply(&document).await;
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let most: u32 = most.trim().parse().unwrap();
    assert_eq!(backlogs(stage.front()), [most.min(4096); 2]);
}

/// When the agent's socket of a connection asks its peer, as far as it does.
fn keepalive(ours: IpAddr, matches: impl Fn(SocketAddr, SocketAddr) -> bool) -> Option<Duration> {
    let all = sockets();
    let mut own = all
        .iter()
        .filter(|socket| socket.local.ip() == ours && socket.state == 1)
        .filter(|socket| matches(socket.local, socket.peer));
    let socket = own.next().expect("the connection is there");
    assert!(own.next().is_none(), "and no other");
    socket.keepalive
}

#[tokio::test]
async fn silent_clients_and_silent_backends_are_asked_before_anybody_forgets_them() {
    let stage = Stage::new();
    let _backends = [
        Backend::silent(stage.back(0)).await,
        Backend::silent(stage.back(1)).await,
    ];
    let _checks = stage.checks_pass().await;
    // As it comes, and the most there can be.
    let mut document = stage.balancer(&[stage.back(0)]);
    let mut longest = document["listeners"][0].clone();
    longest["name"] = json!("longest");
    longest["bind"] = json!(":8444");
    longest["pool"] = json!("other");
    longest["tcp"] = json!({ "keepalive": "345s" });
    let mut other = document["pools"][0].clone();
    other["name"] = json!("other");
    other["backends"] = json!([{ "address": stage.back(1) }]);
    document["listeners"].as_array_mut().unwrap().push(longest);
    document["pools"].as_array_mut().unwrap().push(other);
    let _agent = stage.serve(&document).await;
    let ours = stage.net.balancer();
    let mut open = Vec::new();
    for (port, backend, written) in [(8443, 0, 120), (8444, 1, 345)] {
        let front = stage.net.at(1, port);
        let client = stage.client(0).tcp(front).await.unwrap();
        open.push((
            client,
            front,
            stage.back(backend),
            Duration::from_secs(written),
        ));
    }
    for (client, front, backend, written) in &open {
        assert!(*written < FORGOTTEN);
        let about = |left: Option<Duration>| {
            left.is_some_and(|left| left <= *written && left + Duration::from_secs(20) > *written)
        };
        let peer = client.local_addr().unwrap();
        let to_client = keepalive(ours, |local, to| (local, to) == (*front, peer));
        assert!(about(to_client), "{to_client:?} to the client of {front}");
        // Of a backend only once it is no short connection any more, after 10 s.
        until(format!("{backend} is asked"), async || {
            about(keepalive(ours, |_, to| to == *backend))
        })
        .await;
    }
}

/// Two listeners, of which the first gives up after a second.
fn gives_up(stage: &Stage) -> Value {
    let mut document = stage.balancer(&[stage.back(0)]);
    let mut patient = document["listeners"][0].clone();
    patient["name"] = json!("patient");
    patient["bind"] = json!(":8444");
    document["listeners"].as_array_mut().unwrap().push(patient);
    document["listeners"][0]["tcp"] = json!({ "user_timeout": "1s" });
    document
}

/// Sends until nobody takes any more, and keeps the connection.
async fn flood(mut stream: TcpStream) {
    while stream.write_all(&[b'.'; 65536]).await.is_ok() {}
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up_where_the_document_says_so() {
    let stage = Stage::new();
    let _floods = Backend::serve(stage.back(0), flood).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&gives_up(&stage)).await;
    let _patient = stage.client(0).tcp(stage.net.at(1, 8444)).await.unwrap();
    let _given_up = stage.client(0).tcp(stage.front()).await.unwrap();
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(closed.text("listener"), "edge", "{closed:?}");
    assert_eq!(closed.cause(), "client_reset", "{closed:?}");
    assert_eq!(agent.metrics().await.live(), 1.0, "the other one waits");
}

#[tokio::test]
async fn a_backend_that_takes_nothing_is_given_up_where_the_document_says_so() {
    let stage = Stage::new();
    let (_backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let agent = stage.serve(&gives_up(&stage)).await;
    let mut deaf = Vec::new();
    for port in [8444, 8443] {
        let client = stage.client(0).tcp(stage.net.at(1, port)).await.unwrap();
        tokio::spawn(flood(client));
        deaf.push(next(&mut handed).await);
    }
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!(closed.text("listener"), "edge", "{closed:?}");
    assert_eq!(closed.cause(), "upstream_reset", "{closed:?}");
    assert_eq!(agent.metrics().await.live(), 1.0, "the other one waits");
}

#[tokio::test]
async fn connections_to_backends_come_from_all_source_addresses_in_turn() {
    const COUNT: usize = 12;
    let stage = Stage::new();
    let (backend, mut handed) = Backend::handed_over(stage.back(0)).await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[backend.address()]);
    // Checks take their turns, too.
    document["pools"][0]["health_check"]["interval"] = json!("1h");
    let sources = [11, 12, 13].map(|host| stage.net.ip(host));
    let start = stage.agent(&document);
    let with = |start: tidegate_tests::agent::Start, ip| start.with("--source-address", ip);
    let agent = sources.iter().fold(start, with).serve().await;
    let mut open = Vec::new();
    let mut seen = BTreeMap::<IpAddr, usize>::new();
    for _ in 0..COUNT {
        let client = stage.client(0).tcp(stage.front()).await.unwrap();
        let upstream = next(&mut handed).await;
        *seen.entry(upstream.peer_addr().unwrap().ip()).or_default() += 1;
        open.push((client, upstream));
    }
    let from: Vec<IpAddr> = seen.keys().copied().collect();
    assert_eq!(from, sources);
    // One turn may have gone to the check.
    let fewest = COUNT / sources.len() - 1;
    assert!(seen.values().all(|count| *count >= fewest), "{seen:?}");
    let used = async |ip: IpAddr| {
        let ip = ip.to_string();
        let metrics = agent.metrics().await;
        metrics.sum("tidegate_source_ports_used", &[("source", &ip)])
    };
    for (ip, count) in &seen {
        let count = u32::try_from(*count).unwrap();
        until(format!("{count} from {ip}"), async || {
            used(*ip).await == f64::from(count)
        })
        .await;
    }
    drop(open);
    for ip in sources {
        until(format!("none from {ip}"), async || used(ip).await == 0.0).await;
    }
}

#[tokio::test]
async fn without_a_port_towards_one_backend_another_one_serves() {
    let name = "sockets::without_a_port_towards_one_backend_another_one_serves";
    if !entered(name, &[("net.ipv4.ip_local_port_range", "40000 40003")]).await {
        return;
    }
    let stage = Stage::new();
    let a = Backend::named(stage.back(0), "a").await;
    let b = Backend::named(stage.back(1), "b").await;
    let _checks = stage.checks_pass().await;
    let mut document = stage.balancer(&[a.address(), b.address()]);
    document["pools"][0]["balance"] = json!("round_robin");
    document["pools"][0]["backends"][0]["weight"] = json!(256);
    document["pools"][0]["health_check"]["interval"] = json!("1h");
    let agent = stage.agent(&document).with("--threads", 1).serve().await;
    // From ports that are no agent's: one that somebody has bound is taken for all.
    let connect = async |client| {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind((stage.net.client(client), 50_000).into())
            .unwrap();
        socket.connect(stage.front()).await.unwrap()
    };
    let (mut open, mut served) = (Vec::new(), String::new());
    for client in 0..8 {
        let mut stream = connect(client).await;
        let name = within("a name", stream.read_u8()).await.unwrap();
        served.push(name.into());
        open.push(stream);
    }
    // Four ports towards each.
    assert_eq!(served, "aaaabbbb");
    let mut stream = connect(8).await;
    assert_eq!(read_to_end(&mut stream).await.0, b"");
    let closed = agent.await_closed(0, |_| true).await;
    assert_eq!((closed.cause(), closed.phase()), ("internal", "connect"));
    let told = |e: &tidegate_tests::agent::Event| e.message() == "this host has no room left";
    let told = agent.await_log("why", 0, told).await;
    assert_eq!(told.text("wanted"), "a connection to a backend", "{told:?}");
    assert_eq!(
        agent.backend("back", &a.address().to_string()).await["ejected"],
        false
    );
}
