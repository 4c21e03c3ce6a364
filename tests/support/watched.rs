//! A coordinator and workers that are started by hand, and what the coordinator says while they run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Desk;
use super::process::Ends;
use super::wire::Wire;

/// Long enough for a loaded machine; only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(90);

/// A run in a folder of the desk's, at an address that stays the same when the coordinator is started again.
pub struct Cluster<'a> {
    desk: &'a Desk,
    out: String,
    pub address: String,
    recipe: Vec<String>,
    pub coordinator: Ends,
    events: Receiver<Value>,
    /// What this start of the coordinator has said so far.
    pub said: Said,
}

/// What is known of a run from its events.
#[derive(Debug, Default)]
pub struct Said {
    /// Steps made.
    pub step: u64,
    /// The step that this start of the coordinator went on from.
    pub resumed_from: Option<u64>,
    /// Who takes part: names by number on the screen.
    present: BTreeMap<u64, String>,
    /// Who was lost, and how many shards that cost.
    pub lost: Vec<(String, u64)>,
    /// Shards accepted, by name.
    pub shards: BTreeMap<String, u64>,
    /// Standard output is closed: nothing more will be said.
    pub ended: bool,
}

impl Said {
    fn take(&mut self, event: &Value) {
        let number = |key: &str| event[key].as_u64().unwrap_or_default();
        let who = self.present.get(&number("worker")).cloned().unwrap_or_default();
        match event["event"].as_str().unwrap_or_default() {
            "run_started" => self.resumed_from = event["resumed_from"].as_u64(),
            "step" => self.step = number("step"),
            "worker_joined" => {
                self.present.insert(number("worker"), event["name"].as_str().unwrap_or_default().to_owned());
            }
            "worker_left" => {
                self.present.remove(&number("worker"));
                self.lost.push((who, number("reissued")));
            }
            "worker_stats" => *self.shards.entry(who).or_default() += number("shards"),
            _ => {}
        }
    }

    pub fn is_present(&self, name: &str) -> bool {
        self.present.values().any(|one| one == name)
    }
}

impl<'a> Cluster<'a> {
    /// Starts the coordinator of a new run.
    pub fn start(desk: &'a Desk, out: &str, recipe: &[&str]) -> Self {
        let address = format!("127.0.0.1:{}", port());
        let recipe: Vec<String> = recipe.iter().map(ToString::to_string).collect();
        let (coordinator, events) = serve(desk, out, &address, &recipe, &[]);
        Self { desk, out: out.to_owned(), address, recipe, coordinator, events, said: Said::default() }
    }

    /// Starts the coordinator again where its last checkpoint was, with further arguments.
    pub fn resume(&mut self, more: &[&str]) {
        let more = [&["--resume"], more].concat();
        (self.coordinator, self.events) = serve(self.desk, &self.out, &self.address, &self.recipe, &more);
        self.said = Said::default();
    }

    /// Kills the coordinator as `kill -9` does, and hears the rest of what it had said.
    pub fn kill(&mut self) {
        self.coordinator.0.kill().expect("killed");
        self.coordinator.0.wait().expect("dead");
        self.wait("the end of its output", |_| false);
    }

    /// A worker called `name`, over a wire or straight to the coordinator.
    pub fn worker(&self, name: &str, wire: Option<&Wire>) -> Ends {
        let address = wire.map_or(&self.address, |wire| &wire.address);
        let args = ["worker", "--join", address, "--name", name, "--threads", "1"];
        let mut command = self.desk.command(&args);
        command.stdout(Stdio::null()).stderr(append(self.desk, name));
        Ends(command.spawn().expect("spawned"))
    }

    /// What the worker `name` has said on its standard error.
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.desk.path(&format!("{name}.log"))).expect("a log")
    }

    /// Leases that were given to a second worker because the first was late, in every start of the coordinator.
    pub fn copies(&self) -> usize {
        self.log("coordinator").matches("its holder is late").count()
    }

    /// Listens until `enough`, or until the coordinator has no more to say; true if it was enough.
    pub fn wait(&mut self, what: &str, enough: impl Fn(&Said) -> bool) -> bool {
        let mut heard = Instant::now();
        while !enough(&self.said) {
            if self.said.ended {
                return false;
            }
            // a long run is no hang, and a silent one is
            match self.events.recv_timeout(PATIENCE.saturating_sub(heard.elapsed())) {
                Ok(event) => {
                    self.said.take(&event);
                    heard = Instant::now();
                }
                Err(RecvTimeoutError::Disconnected) => self.said.ended = true,
                Err(RecvTimeoutError::Timeout) => panic!("{what} never came; {:#?}", self.said),
            }
        }
        true
    }

    /// Takes in what was said up to now, without waiting.
    pub fn listen(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.said.take(&event);
        }
    }

    /// Waits for the run's end, which must be a good one.
    pub fn finish(mut self) {
        self.wait("the end of the run", |_| false);
        let status = self.coordinator.0.wait().expect("waited");
        assert!(status.success(), "{status}: {}", self.log("coordinator"));
    }
}

fn serve(desk: &Desk, out: &str, address: &str, recipe: &[String], more: &[&str]) -> (Ends, Receiver<Value>) {
    let fixed =
        ["coordinator", "--data", "images", "--json", "--out", out, "--worker-timeout", "1", "--listen", address];
    let mut command = desk.command(&fixed);
    // each lease with its reason: copies of a late one are told nowhere else
    command.env("RUST_LOG", "lockstep_coordinator::actor=trace");
    command.args(recipe).args(more).stdout(Stdio::piped()).stderr(append(desk, "coordinator"));
    let mut child = command.spawn().expect("spawned");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (tell, events) = mpsc::channel();
    // ends with the coordinator's output; a line that was torn by its death is no event
    std::thread::spawn(move || {
        for event in lines.map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()) {
            if tell.send(event).is_err() {
                return;
            }
        }
    });
    (Ends(child), events)
}

fn append(desk: &Desk, name: &str) -> File {
    File::options().create(true).append(true).open(desk.path(&format!("{name}.log"))).expect("a log")
}

/// A port that stays free while nobody listens on it: below those that the kernel gives to connections. (One that tries to
/// reach a closed port among those may be given that very port, and is then connected with itself.)
fn port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::SeqCst) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
