//! Clients on other networks, behind a router: a second network namespace, joined to the
//! test's own by a pair of interfaces. Only for a test that runs in a namespace itself
//! ([`crate::namespace::entered`]).

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;

use crate::child::{Child, Extras};

/// Addresses of the test's namespace, on the network that both are on.
pub const HERE: [&str; 2] = ["192.0.2.1", "2001:db8:1::1"];

/// Makes the two networks. Every address of 198.51.100.0/24, and 2001:db8:2::1 to ::9,
/// is elsewhere.
const NETWORKS: &str = "
set -e
ip link add here type veth peer name there
ip link set there netns $PEER
ip address add 192.0.2.1/24 broadcast 192.0.2.255 dev here
ip address add 2001:db8:1::1/64 dev here nodad
ip link set here up
nsenter --net=/proc/$PEER/ns/net bash -e -c '
ip link set lo up
ip address add 192.0.2.2/24 dev there
ip address add 2001:db8:1::2/64 dev there nodad
ip link set there up
ip route add local 198.51.100.0/24 dev lo
for i in 1 2 3 4 5 6 7 8 9; do ip address add 2001:db8:2::$i/128 dev lo nodad; done
'
ip route add 198.51.100.0/24 via 192.0.2.2
ip route add 2001:db8:2::/64 via 2001:db8:1::2
";

/// The other namespace; gone when dropped.
pub struct Elsewhere {
    namespace: File,
    _holder: Child,
}

impl Elsewhere {
    /// Makes it.
    ///
    /// # Panics
    /// When this host does not let us.
    pub async fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "bash", "-c", "echo there; exec sleep infinity"]);
        let holder = Child::spawn("elsewhere", command, Extras::default());
        let holder = holder.expect("unshare can be run");
        let is_there = |line: &str| (line == "there").then_some(());
        holder.find("a namespace", 0, is_there).await;
        run(&NETWORKS.replace("$PEER", &holder.pid().to_string()));
        let namespace = File::open(format!("/proc/{}/ns/net", holder.pid()));
        Self {
            namespace: namespace.expect("it is there"),
            _holder: holder,
        }
    }

    /// Connects from an address and port elsewhere; port 0 is any.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn connect(&self, source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
        let namespace = self.namespace.try_clone()?;
        // A thread moves for good, so it is one that ends; what it opens stays there.
        let connecting = std::thread::spawn(move || {
            move_into_link_name_space(
                std::os::fd::AsFd::as_fd(&namespace),
                Some(LinkNameSpaceType::Network),
            )?;
            let socket = Socket::new(Domain::for_address(source), Type::STREAM, None)?;
            socket.bind(&source.into())?;
            socket.connect_timeout(&to.into(), crate::DEADLINE)?;
            socket.set_nonblocking(true)?;
            io::Result::Ok(socket)
        });
        let joined = tokio::task::spawn_blocking(|| connecting.join()).await;
        let socket = joined?.expect("no panic")?;
        TcpStream::from_std(socket.into())
    }

    /// The same, from any port.
    ///
    /// # Errors
    /// As the kernel says.
    pub async fn connect_from(&self, source: &str, to: SocketAddr) -> io::Result<TcpStream> {
        let ip: IpAddr = source.parse().map_err(io::Error::other)?;
        self.connect(SocketAddr::new(ip, 0), to).await
    }
}

/// Runs a script in the test's namespace.
///
/// # Panics
/// When it fails.
pub fn run(script: &str) -> String {
    let output = Command::new("bash").args(["-c", script]).output();
    let output = output.expect("bash can be run");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{script}: {said}");
    said
}
