//! What stories ask of the fleet: traffic, processes that die and come back, other people
//! who work at the same time.

use std::collections::BTreeMap;

use http::Method;
use serde_json::{Value, json};
use tidegate_tests::browser::Story;
use tidegate_tests::crowd::Crowd;
use tidegate_tests::rest::Body;
use tidegate_tests::stage::HOST;
use tidegate_tests::{Agent, Steered};

/// A fleet, and who does to it what a story asks.
pub(crate) struct Stagehand {
    pub(crate) fleet: Steered,
    crowd: Option<Crowd>,
}

impl Stagehand {
    /// Tells a story before this fleet.
    pub(crate) async fn tell(name: &str, fleet: Steered) {
        let config = json!({
            "agents": {
                "balancer": fleet.stage.net.balancer(),
                "terminators": [fleet.stage.net.terminator(0), fleet.stage.net.terminator(1)],
            },
            "certificate": HOST,
        });
        let story = Story::begin(name, &fleet.stage, &fleet.control_plane, config).await;
        let mut hand = Self { fleet, crowd: None };
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
