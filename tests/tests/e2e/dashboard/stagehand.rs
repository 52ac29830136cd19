//! What stories ask of the fleet: traffic, processes that die and come back, other people
//! who work at the same time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tidegate_tests::agent::program;
use tidegate_tests::browser::Story;
use tidegate_tests::child::{Child, Extras};
use tidegate_tests::client::shown_certificate;
use tidegate_tests::crowd::Crowd;
use tidegate_tests::node::NodeApp;
use tidegate_tests::pki::Issued;
use tidegate_tests::rest::Body;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Steered};
use tokio::net::TcpStream;

/// How a story does what can be done in two ways.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Hand {
    Mouse,
    Keyboard,
}

/// A fleet, and who does to it what a story asks.
pub(crate) struct Stagehand {
    fleet: Steered,
    crowd: Option<Crowd>,
    /// What pasted lines have started, and the apps beside it.
    pasted: Vec<Child>,
    apps: Vec<NodeApp>,
}

impl Stagehand {
    /// Tells a story before this fleet.
    pub(crate) async fn tell(name: &str, fleet: Steered) {
        Self::tell_with(name, fleet, Hand::Mouse).await;
    }

    /// Tells it by mouse or by keyboard alone.
    pub(crate) async fn tell_with(name: &str, fleet: Steered, hand: Hand) {
        let net = &fleet.stage.net;
        let pki = &fleet.stage.pki;
        let pem = |issued: &Issued| json!({ "chain": issued.chain, "key": issued.private_key });
        let config = json!({
            "hand": format!("{hand:?}").to_lowercase(),
            "agents": {
                "balancer": net.balancer(),
                "terminators": [net.terminator(0), net.terminator(1)],
                "next": net.terminator(2),
            },
            "clients": (0..4).map(|index| net.client(index)).collect::<Vec<IpAddr>>(),
            "certificate": HOST,
            "pem": {
                "successor": pem(&pki.issue(&[HOST, "www.localhost"])),
                "other": pem(&pki.issue(&["other.localhost"])),
                "short": pem(&pki.issue_for(&["short.localhost"], Duration::from_secs(5 * 3600))),
            },
        });
        let story = Story::begin(name, &fleet.stage, &fleet.control_plane, config).await;
        let mut hand = Self {
            fleet,
            crowd: None,
            pasted: Vec::new(),
            apps: Vec::new(),
        };
        story
            .tell(async |what, asked| hand.does(what, asked).await)
            .await;
    }

    async fn does(&mut self, what: &str, asked: &Value) -> Value {
        match what {
            "names" => self.names(asked).await,
            "open" => self.open(asked).await,
            "crowd" => self.crowd().await,
            "rest" => self.rest(asked).await,
            "control plane" => self.control_plane(asked).await,
            "agent" => self.agent(asked).await,
            "app" => self.app(asked).await,
            "served" => self.served().await,
            "accepts" => self.accepts(asked).await,
            "paste" => self.paste(asked).await,
            _ => panic!("no stagehand does {what}"),
        }
    }

    /// Which apps answer `count` clients, and how often.
    async fn names(&self, asked: &Value) -> Value {
        let mut names: BTreeMap<String, u32> = BTreeMap::new();
        for client in 0..number(asked, "count") {
            let whoami = self.fleet.whoami(client).await;
            let name = whoami["name"].as_str().expect("it has a name");
            *names.entry(name.to_owned()).or_default() += 1;
        }
        json!(names)
    }

    /// Opens `count` WebSockets, each from a client of its own, that echo from now on.
    async fn open(&mut self, asked: &Value) -> Value {
        let (edge, stage) = (self.fleet.edge(), &self.fleet.stage);
        let crowd = Crowd::open(number(asked, "count").into(), async |i| {
            let client = u8::try_from(i).expect("a small crowd");
            stage.client(client).ws(edge, HOST).await
        });
        self.crowd = Some(crowd.await);
        self.crowd().await
    }

    /// How many of them live, and by app how many were opened and have ended.
    async fn crowd(&self) -> Value {
        let crowd = self.crowd.as_ref().expect("the story opened one");
        crowd.round().await;
        let mut ended: BTreeMap<&str, u32> = BTreeMap::new();
        for app in crowd.ended() {
            *ended.entry(app).or_default() += 1;
        }
        let opened: BTreeMap<&str, usize> = ["a0", "a1", "b0", "b1"]
            .map(|app| (app, crowd.at(app)))
            .into();
        json!({ "opened": opened, "ended": ended })
    }

    /// Somebody else uses the API.
    async fn rest(&self, asked: &Value) -> Value {
        let method: Method = text(asked, "method").parse().expect("a method");
        let body = match &asked["body"] {
            Value::Null => Body::Empty,
            body => Body::Json(body),
        };
        let rest = &self.fleet.control_plane.rest;
        let answer = rest.send(method, text(asked, "path"), None, body).await;
        let answer = answer.expect("the control plane answers");
        assert!(answer.status.is_success(), "{asked}: {}", answer.text());
        match answer.text().is_empty() {
            true => Value::Null,
            false => answer.json(),
        }
    }

    async fn control_plane(&mut self, asked: &Value) -> Value {
        match text(asked, "do") {
            "kill" => self.fleet.control_plane.kill().await,
            "start" => self.fleet.control_plane.restart().await,
            other => panic!("a control plane is not to {other}"),
        }
        Value::Null
    }

    async fn agent(&mut self, asked: &Value) -> Value {
        let address = text(asked, "at").parse().expect("an address");
        match text(asked, "do") {
            "kill" => self.fleet.agent_mut(address).kill().await,
            "start" => {
                let agent: Agent = self.fleet.again(address).serve().await;
                *self.fleet.agent_mut(address) = agent;
            }
            other => panic!("an agent is not to {other}"),
        }
        Value::Null
    }

    async fn app(&mut self, asked: &Value) -> Value {
        let name = text(asked, "name");
        let mut apps = self.fleet.apps.iter_mut();
        let app = apps.find(|app| app.name() == name).expect("an app");
        match text(asked, "do") {
            "kill" => app.kill().await,
            "toggle health" => app.toggle_health(),
            other => panic!("an app is not to {other}"),
        }
        Value::Null
    }

    /// The DNS names in the certificate that clients of the edge see.
    async fn served(&self) -> Value {
        let client = self.fleet.stage.client(0);
        let stream = client.tls(self.fleet.edge(), HOST).await;
        let leaf = shown_certificate(&stream.expect("the edge serves"));
        let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).expect("a certificate");
        let names = leaf.subject_alternative_name().ok().flatten();
        let names = names.map_or_else(Vec::new, |names| {
            let names = names.value.general_names.iter();
            names.map(ToString::to_string).collect::<Vec<_>>()
        });
        json!(names)
    }

    /// Whether the balancer accepts connections on a port.
    async fn accepts(&self, asked: &Value) -> Value {
        let port = asked["port"].as_u64().expect("a port");
        let port = u16::try_from(port).expect("a port");
        let at = SocketAddr::new(self.fleet.stage.net.balancer(), port);
        json!(TcpStream::connect(at).await.is_ok())
    }

    /// Somebody pastes a line on the next machine, where two apps run. Word for word: the
    /// shell only knows where the program is, and that all machines here are one.
    async fn paste(&mut self, asked: &Value) -> Value {
        self.apps = self.fleet.apps(2, "c").await;
        let address = self.fleet.stage.net.terminator(2);
        let state = self.fleet.state_of(address);
        let script = format!(
            "tidegate_agent={}; tidegate-agent() {{ \"$tidegate_agent\" \"$@\" --address {address}; }}\n{}\n",
            program("tidegate-agent").display(),
            text(asked, "line").replace("/var/lib/tidegate-agent", &state.display().to_string()),
        );
        let mut shell = Command::new("bash");
        shell.arg("-c").arg(script);
        let child = Child::spawn("the pasted line", shell, Extras::default());
        self.pasted.push(child.expect("there is a shell"));
        Value::Null
    }
}

fn text<'a>(asked: &'a Value, field: &str) -> &'a str {
    let text = asked[field].as_str();
    text.unwrap_or_else(|| panic!("{field} is missing in {asked}"))
}

fn number(asked: &Value, field: &str) -> u8 {
    let number = asked[field].as_u64();
    let number = number.unwrap_or_else(|| panic!("{field} is missing in {asked}"));
    u8::try_from(number).expect("a small number")
}
