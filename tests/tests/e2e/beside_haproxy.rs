//! The balancer beside HAProxy, over the same backends: both see the same ones go down
//! and come up at the same time, take no notice of what was too short, and send
//! new connections elsewhere. HAProxy is the measure, not a text about it.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tidegate_tests::agent::Event;
use tidegate_tests::backend::Backend;
use tidegate_tests::client::connect;
use tidegate_tests::peer::Haproxy;
use tidegate_tests::{Agent, Stage, until, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// What decides about the script; another one gives another script.
const SEED: u64 = 1;
const STEPS: usize = 12;
const INTERVAL: Duration = Duration::from_millis(300);
const TIMEOUT: Duration = Duration::from_millis(200);
const RISE: u32 = 2;
const FALL: u32 = 2;
/// Too short for two checks of one side to see it, whenever they come.
const BRIEF: Duration = Duration::from_millis(120);
/// By how much the two may differ: where in its interval each of them was when it
/// happened, and a timeout, since HAProxy counts an interval from the end of a check and
/// we from its beginning. The rest is for our jitter and a busy machine.
const APART: Duration = Duration::from_millis(300 + 200 + 200);
/// How much later than HAProxy we may be on the average, over which the places in the
/// interval even out: two checks more than it takes would show.
const LATER: f64 = 0.2;
/// Two primaries and a backup.
const NAMES: [&str; 3] = ["a", "b", "c"];

/// How a backend is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// Nothing listens.
    Gone,
    /// It listens, and connects hang.
    Hanging,
}

/// What happens to a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It goes, until a later step.
    Down(Away),
    /// It is back before two checks have failed.
    Blink(Away),
    /// It comes back, until a later step.
    Up,
    /// It is gone again before two checks have passed.
    Flash,
}

#[tokio::test]
async fn haproxy_and_the_balancer_agree_on_who_is_down_and_when() {
    let script = script(SEED);
    let mut scene = Scene::new().await;
    let mut table = Table::default();
    let mut expected = Vec::new();
    for (who, step) in script {
        scene.play(who, step, &mut table).await;
        match step {
            Step::Down(_) => expected.push((NAMES[who].to_owned(), false)),
            Step::Up => expected.push((NAMES[who].to_owned(), true)),
            Step::Blink(_) | Step::Flash => {}
        }
        // The whole history, so that nothing but the script is in it.
        assert_eq!(scene.ours_so_far(), expected, "{who} {step:?}: ours");
        assert_eq!(scene.theirs_so_far(), expected, "{who} {step:?}: HAProxy's");
    }
    let later = table.mean_later();
    println!("{}on the average {later:.3} s later", table.rows);
    assert!(later < LATER, "on the average {later:.3} s later");
}

/// What was reported when; printed when the test fails.
#[derive(Default)]
struct Table {
    rows: String,
    /// By how many seconds we were later than HAProxy.
    later: Vec<f64>,
}

impl Table {
    fn mean_later(&self) -> f64 {
        let count = u32::try_from(self.later.len()).expect("a few");
        self.later.iter().sum::<f64>() / f64::from(count)
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {SEED}\n{}", self.rows);
        }
    }
}

/// Both sides and what they are in front of.
struct Scene {
    stage: Stage,
    agent: Agent,
    haproxy: Haproxy,
    ours: SocketAddr,
    theirs: SocketAddr,
    backends: [Scripted; 3],
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::new();
        let addresses = [0, 1, 2].map(|i| stage.back(i));
        let (ours, theirs) = (stage.front(), stage.net.at(9, 8443));
        let backends = [
            Scripted::serving(addresses[0], NAMES[0]).await,
            Scripted::serving(addresses[1], NAMES[1]).await,
            Scripted::serving(addresses[2], NAMES[2]).await,
        ];
        let document = document(addresses);
        let agent = stage.agent(&document).with("--threads", 1).serve().await;
        let sections = sections(theirs, addresses);
        let haproxy = Haproxy::serve(stage.directory(), &sections).await;
        let mut scene = Self {
            stage,
            agent,
            haproxy,
            ours,
            theirs,
            backends,
        };
        for who in 0..scene.backends.len() {
            scene.checked(who).await;
        }
        scene
    }

    /// Has it happen, and looks at what comes of it on both sides.
    async fn play(&mut self, who: usize, step: Step, table: &mut Table) {
        let backend = &mut self.backends[who];
        let marks = (
            self.agent.log_len(),
            self.haproxy.child().lines().count(),
            Instant::now(),
        );
        match step {
            Step::Down(away) => backend.leave(away).await,
            Step::Up => backend.come_back().await,
            Step::Blink(away) => {
                backend.leave(away).await;
                sleep(BRIEF).await;
                backend.come_back().await;
            }
            Step::Flash => {
                backend.come_back().await;
                sleep(BRIEF).await;
                backend.leave(Away::Gone).await;
                self.failed_again(who).await;
            }
        }
        match step {
            Step::Down(_) => self.reported(who, step, marks, table).await,
            Step::Up => {
                self.reported(who, step, marks, table).await;
                self.checked(who).await;
            }
            Step::Blink(_) => self.checked(who).await,
            Step::Flash => {}
        }
        let now: Vec<bool> = self.backends.iter().map(Scripted::serves).collect();
        let expected: Vec<&str> = match now[..] {
            [true, true, _] => vec!["a", "b"],
            [true, false, _] => vec!["a"],
            [false, true, _] => vec!["b"],
            _ => vec!["c"],
        };
        let clients = (self.served_by(self.ours), self.served_by(self.theirs));
        let (ours, theirs) = join(clients.0, clients.1).await;
        assert_eq!(ours, expected, "{who} {step:?}: whom we chose");
        assert_eq!(theirs, expected, "{who} {step:?}: whom HAProxy chose");
    }

    /// Waits until both have reported a change and serve by it, and compares when.
    async fn reported(
        &self,
        who: usize,
        step: Step,
        (from_ours, from_theirs, begun): (usize, usize, Instant),
        table: &mut Table,
    ) {
        let wanted = (NAMES[who].to_owned(), step == Step::Up);
        let ours = async {
            let is_it = |event: &Event| our_flap(event).as_ref() == Some(&wanted);
            self.agent.await_log("our report", from_ours, is_it).await;
            let told = begun.elapsed();
            self.one_served(self.ours).await;
            [told, begun.elapsed()]
        };
        let theirs = async {
            let is_it = |line: &str| their_flap(line).filter(|flap| *flap == wanted);
            let child = self.haproxy.child();
            child.find("HAProxy's report", from_theirs, is_it).await;
            let told = begun.elapsed();
            self.one_served(self.theirs).await;
            [told, begun.elapsed()]
        };
        let (ours, theirs) = join(ours, theirs).await;
        let what = format!("{:<12} {}", format!("{step:?}"), NAMES[who]);
        let row = format!("{what}  reported, served: ours {ours:?}, HAProxy's {theirs:?}");
        writeln!(table.rows, "{row}").expect("a String has room");
        let [ours_told, theirs_told] = [ours[0], theirs[0]].map(|told| told.as_secs_f64());
        table.later.push(ours_told - theirs_told);
        for (ours, theirs) in ours.into_iter().zip(theirs) {
            assert!(ours.abs_diff(theirs) <= APART, "{row}");
        }
    }

    /// Waits until both find a backend well again: failures that were not enough are
    /// forgotten.
    async fn checked(&mut self, who: usize) {
        self.backends[who].asked_by(self.ours.ip()).await;
        // Theirs never reach accept(2): HAProxy resets instead of acknowledging.
        self.their_health(who, RISE + FALL - 1).await;
    }

    /// Waits until a check of each side has failed again: passes that were not enough
    /// are forgotten.
    async fn failed_again(&self, who: usize) {
        let before = self.failed_checks(who).await;
        until(format!("{} fails us again", NAMES[who]), async || {
            self.failed_checks(who).await > before
        })
        .await;
        self.their_health(who, 0).await;
    }

    async fn failed_checks(&self, who: usize) -> f64 {
        let labels = [("backend", NAMES[who]), ("result", "fail")];
        let metrics = self.agent.metrics().await;
        metrics.sum("tidegate_checks_total", &labels)
    }

    /// Waits until HAProxy counts so much, with no check under way.
    async fn their_health(&self, who: usize, health: u32) {
        let name = NAMES[who];
        until(format!("{name} has {health} in HAProxy"), async || {
            let servers = self.haproxy.servers("back").await;
            let server = servers.iter().find(|server| server.name == name);
            let server = server.expect("it is written there");
            server.check_health == health && !server.is_checked
        })
        .await;
    }

    /// Who serves four connections in a row, each once.
    async fn served_by(&self, front: SocketAddr) -> Vec<String> {
        let mut names = Vec::new();
        for _ in 0..4 {
            names.push(self.one_served(front).await);
        }
        names.sort();
        names.dedup();
        names
    }

    async fn one_served(&self, front: SocketAddr) -> String {
        let client = self.stage.net.client(0);
        let greeting = async {
            let mut stream = connect(client, front).await?;
            stream.read_u8().await
        };
        let name = within("a greeting", greeting)
            .await
            .expect("somebody serves");
        char::from(name).to_string()
    }

    fn ours_so_far(&self) -> Vec<(String, bool)> {
        let events = self.agent.events_since(0);
        events.iter().filter_map(our_flap).collect()
    }

    fn theirs_so_far(&self) -> Vec<(String, bool)> {
        let lines = self.haproxy.child().lines().since(0);
        lines.iter().filter_map(|line| their_flap(line)).collect()
    }
}

fn our_flap(event: &Event) -> Option<(String, bool)> {
    let up = match event.message() {
        "backend up" => true,
        "backend down" => false,
        _ => return None,
    };
    Some((event.text("backend").to_owned(), up))
}

/// Of `Server back/a is DOWN, reason: ..`.
fn their_flap(line: &str) -> Option<(String, bool)> {
    let line = line.strip_prefix("Backup ").unwrap_or(line);
    let (name, rest) = line.strip_prefix("Server back/")?.split_once(" is ")?;
    let up = match rest.split_once(',')?.0 {
        "UP" => true,
        "DOWN" => false,
        other => panic!("{other}: {line}"),
    };
    Some((name.to_owned(), up))
}

fn document(addresses: [SocketAddr; 3]) -> Value {
    let backends = NAMES
        .iter()
        .zip(addresses)
        .map(|(name, address)| json!({ "name": name, "address": address, "backup": *name == "c" }));
    let backends: Vec<Value> = backends.collect();
    let millis = |time: Duration| format!("{}ms", time.as_millis());
    json!({
        "listeners": [{ "name": "edge", "role": "balancer", "bind": ":8443", "pool": "back" }],
        "pools": [{
            "name": "back", "balance": "round_robin", "passive": "off", "backends": backends,
            "health_check": {
                "tcp": {}, "rise": RISE, "fall": FALL,
                "interval": millis(INTERVAL), "timeout": millis(TIMEOUT),
            },
        }],
    })
}

fn sections(front: SocketAddr, addresses: [SocketAddr; 3]) -> String {
    let [a, b, c] = addresses;
    let (inter, timeout) = (INTERVAL.as_millis(), TIMEOUT.as_millis());
    let ip = front.ip();
    // What a check may take to connect is the lesser of `inter` and `timeout connect`.
    format!(
        "listen back
    bind {front}
    balance roundrobin
    timeout connect {timeout}
    timeout check {timeout}
    source {ip}
    option dontlog-normal
    default-server inter {inter} rise {RISE} fall {FALL}
    server a {a} check
    server b {b} check
    server c {c} check backup
"
    )
}

/// A backend that comes and goes as the script says.
struct Scripted {
    address: SocketAddr,
    name: &'static str,
    now: Now,
    tell: mpsc::UnboundedSender<IpAddr>,
    told: mpsc::UnboundedReceiver<IpAddr>,
}

enum Now {
    Serving(Backend),
    Gone,
    Hanging { _full: [Socket; 2] },
}

impl Scripted {
    async fn serving(address: SocketAddr, name: &'static str) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let mut scripted = Self {
            address,
            name,
            now: Now::Gone,
            tell,
            told,
        };
        scripted.come_back().await;
        scripted
    }

    fn serves(&self) -> bool {
        matches!(self.now, Now::Serving(_))
    }

    async fn come_back(&mut self) {
        // What hangs has to be gone before the address can be bound again.
        self.now = Now::Gone;
        let (name, tell) = (self.name, self.tell.clone());
        let backend = Backend::serve(self.address, move |mut stream| {
            if let Ok(peer) = stream.peer_addr() {
                tell.send(peer.ip()).ok();
            }
            async move {
                stream.write_all(name.as_bytes()).await.ok();
            }
        });
        self.now = Now::Serving(backend.await);
    }

    async fn leave(&mut self, away: Away) {
        if let Now::Serving(backend) = std::mem::replace(&mut self.now, Now::Gone) {
            backend.stop().await;
        }
        if away == Away::Hanging {
            let full = full(self.address);
            self.now = Now::Hanging { _full: full };
        }
    }

    /// Waits for a connection from there, from now on.
    async fn asked_by(&mut self, checker: IpAddr) {
        while self.told.try_recv().is_ok() {}
        let asked = async { while self.told.recv().await != Some(checker) {} };
        within("a check", asked).await;
    }
}

/// Something that listens, and has no room in its queue from now on: it takes one, which
/// is ours unless a check was faster.
fn full(address: SocketAddr) -> [Socket; 2] {
    let tcp = || Socket::new(Domain::for_address(address), Type::STREAM, None);
    let both = || {
        let (listening, first) = (tcp()?, tcp()?);
        listening.set_reuse_address(true)?;
        listening.bind(&address.into())?;
        listening.listen(0)?;
        first.set_nonblocking(true)?;
        // On its way; what becomes of it is all the same.
        first.connect(&address.into()).ok();
        std::io::Result::Ok([listening, first])
    };
    both().expect("the address is the test's own")
}

/// Twelve steps at random; somebody is always there.
fn script(seed: u64) -> Vec<(usize, Step)> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) % below
    };
    let mut up = [true; 3];
    let mut script = Vec::new();
    let mut only_backup = 0;
    while script.len() < STEPS {
        let who = usize::try_from(draw(3)).expect("less than three");
        let away = [Away::Gone, Away::Hanging][usize::from(draw(2) == 0)];
        let last = up.iter().filter(|up| **up).count() == 1;
        let step = match (up[who], draw(3) == 0) {
            (true, brief) if brief || last => Step::Blink(away),
            (true, _) => Step::Down(away),
            (false, true) => Step::Flash,
            (false, false) => Step::Up,
        };
        up[who] = matches!(step, Step::Blink(_) | Step::Up);
        only_backup += usize::from(up == [false, false, true]);
        script.push((who, step));
    }
    let steps: Vec<Step> = script.iter().map(|(_, step)| *step).collect();
    let of_both = [Away::Gone, Away::Hanging];
    let wanted = of_both
        .into_iter()
        .flat_map(|a| [Step::Down(a), Step::Blink(a)]);
    for wanted in wanted.chain([Step::Up, Step::Flash]) {
        assert!(
            steps.contains(&wanted),
            "seed {seed} has no {wanted:?}: {script:?}"
        );
    }
    assert!(
        only_backup > 0,
        "seed {seed} never needs the backup: {script:?}"
    );
    script
}
