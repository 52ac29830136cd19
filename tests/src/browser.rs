//! Stories told in a real browser: a script of `tests/browser` drives Chromium, and asks
//! for what only the test can do: traffic, processes that die, other people at work.
//!
//! They speak in lines of JSON over a connection of their own: the script sends
//! `{"ask": "whoami", ...}` and goes on when it has an answer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::child::{Child, Extras};
use crate::{ControlPlane, Stage, checkout, within};

/// For a whole story: a browser is started, and every step has a deadline of its own.
const PATIENCE: Duration = Duration::from_secs(240);

/// A story that is being told.
pub struct Story {
    name: String,
    child: Child,
    listener: TcpListener,
}

impl Story {
    /// Starts a script of `tests/browser/dashboard` before the dashboard of a control
    /// plane; `config` is what it is told besides.
    ///
    /// # Panics
    /// When there is no browser, or no Node.js.
    pub async fn begin(
        name: &str,
        stage: &Stage,
        control_plane: &ControlPlane,
        config: Value,
    ) -> Self {
        is_there();
        let listener = TcpListener::bind(SocketAddr::new(stage.net.ip(250), 0)).await;
        let listener = listener.expect("the test's network is its own");
        let director = listener.local_addr().expect("it is bound");
        let mut all = json!({
            "url": format!("https://{}", control_plane.rest_address()),
            "token": control_plane.token(),
            "director": { "host": director.ip(), "port": director.port() },
            "screenshots": screenshots(),
        });
        let given = config.as_object().into_iter().flatten();
        let all_fields = all.as_object_mut().expect("it is one");
        all_fields.extend(given.map(|(key, value)| (key.clone(), value.clone())));
        let script = checkout(&format!("tests/browser/dashboard/{name}.mjs"));
        assert!(script.is_file(), "{} is missing", script.display());
        let mut command = Command::new("node");
        // The token is in a variable: arguments can be read by everybody.
        command.arg(script).env("STORY", all.to_string());
        let child = Child::spawn(name, command, Extras::default());
        Self {
            name: name.to_owned(),
            child: child.expect("Node.js: `make setup`"),
            listener,
        }
    }

    /// Answers what the script asks until it ends; a panic, with all that it said, when
    /// something in it did not hold.
    pub async fn tell(mut self, mut answer: impl AsyncFnMut(&str, &Value) -> Value) {
        let telling = async {
            let asked = tokio::select! {
                asked = self.listener.accept() => asked.expect("it listens").0,
                _ = self.child.ended() => return,
            };
            let mut director = Director::new(asked);
            while let Some(asked) = director.next().await {
                let what = asked["ask"].as_str().expect("what is asked").to_owned();
                let answered = answer(&what, &asked).await;
                director.answer(&answered).await;
            }
        };
        let told = timeout(PATIENCE, telling).await;
        let code = match told {
            Ok(()) => self.child.exit_code().await,
            Err(_) => i32::MIN,
        };
        let said = self.child.lines().since(0).join("\n");
        assert_eq!(code, 0, "the story {} went otherwise:\n{said}", self.name);
    }
}

/// The connection on which the script asks.
struct Director {
    lines: Lines<BufReader<OwnedReadHalf>>,
    answers: OwnedWriteHalf,
}

impl Director {
    fn new(stream: TcpStream) -> Self {
        let (reader, answers) = stream.into_split();
        Self {
            lines: BufReader::new(reader).lines(),
            answers,
        }
    }

    async fn next(&mut self) -> Option<Value> {
        let line = self.lines.next_line().await.ok().flatten()?;
        Some(serde_json::from_str(&line).expect("scripts ask in JSON"))
    }

    async fn answer(&mut self, answer: &Value) {
        let line = format!("{answer}\n");
        let sent = self.answers.write_all(line.as_bytes());
        within("an answer to the script", sent).await.ok();
    }
}

/// Where people look at what pages looked like.
fn screenshots() -> PathBuf {
    checkout("target/dashboard")
}

/// A panic with the mend where there is no browser. Scripts look in the same places.
///
/// # Panics
/// So it does.
pub fn is_there() {
    let usual = [
        "/usr/bin/chromium",
        "/usr/bin/chromium-browser",
        "/usr/bin/google-chrome",
    ];
    let found = match std::env::var_os("CHROMIUM") {
        Some(path) => Path::new(&path).is_file(),
        None => usual.iter().any(|path| Path::new(path).is_file()),
    };
    let library = checkout("tests/browser/node_modules/playwright-core").is_dir();
    assert!(
        found && library,
        "no browser to test with: run `make setup`"
    );
}
