//! A seeded storm of faults, and `--chaos`: whatever happens, the hash is that of a quiet run.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

use lockstep_proto::keys::{Key, Stream};
use rustix::process::Signal;

use crate::support::Desk;
use crate::support::process::{Ends, alive, children, state};
use crate::support::watched::Cluster;
use crate::support::wire::Wire;

const WORKERS: usize = 4;

/// At most so many steps from the end of one fault to the next.
const SPACING: u32 = 6;

/// Images of a step: so many that a worker spends most of a step with a lease in hand, where a fault counts.
const BATCH: &str = "320";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// SIGKILL to a worker; another one is started.
    Kill,
    /// SIGSTOP until the coordinator has missed it, then SIGCONT.
    Freeze,
    /// Its connections break; new ones are refused for a while.
    Cut,
    /// Nothing arrives in either direction until the coordinator has missed it.
    Silence,
    /// SIGKILL to the coordinator, then `--resume`.
    Coordinator,
    /// SIGSTOP to the coordinator for up to 1.5 s. Costs no lease.
    Pause,
    /// SIGTERM to a worker. Costs no lease.
    Leave,
}

/// One round of faults: 15, of which 13 may count.
const ROUND: [Fault; 15] = {
    use Fault::{Coordinator, Cut, Freeze, Kill, Leave, Pause, Silence};
    [
        Kill,
        Kill,
        Kill,
        Kill,
        Freeze,
        Freeze,
        Freeze,
        Cut,
        Cut,
        Silence,
        Coordinator,
        Coordinator,
        Coordinator,
        Pause,
        Leave,
    ]
};

/// The gate's: 14, of which the first nine count but for bad luck, and three more may.
const SHORT: [Fault; 14] = {
    use Fault::{Coordinator, Cut, Freeze, Kill, Leave, Pause, Silence};
    [
        Freeze,
        Freeze,
        Freeze,
        Freeze,
        Silence,
        Coordinator,
        Coordinator,
        Coordinator,
        Coordinator,
        Kill,
        Kill,
        Cut,
        Pause,
        Leave,
    ]
};

/// Faults by kind: those that cost a lease, or steps that were made, and all.
#[derive(Debug, Default)]
struct Tally(BTreeMap<Fault, (u64, u64)>);

impl Tally {
    fn add(&mut self, fault: Fault, counts: bool) {
        let (counted, all) = self.0.entry(fault).or_default();
        *counted += u64::from(counts);
        *all += 1;
    }

    fn counted(&self) -> u64 {
        self.0.values().map(|(counted, _)| counted).sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: u64 = self.0.values().map(|(_, all)| all).sum();
        let kinds: Vec<_> = self.0.iter().map(|(fault, (counted, all))| format!("{fault:?} {counted}/{all}")).collect();
        write!(f, "{all} faults, {} count: {}", self.counted(), kinds.join(", "))
    }
}

struct Storm<'a> {
    cluster: Cluster<'a>,
    wires: Vec<Wire>,
    workers: Vec<Ends>,
    dice: Stream,
    tally: Tally,
}

fn name(worker: usize) -> String {
    format!("w{worker}")
}

impl Storm<'_> {
    /// False if the run is over.
    fn strike(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::Coordinator => {
                self.cluster.kill();
                let made = self.cluster.said.step;
                // both ways for tensors take their turn
                let plane = ["auto", "grpc"][self.dice.below(2) as usize];
                self.cluster.resume(&["--plane", plane]);
                let went_on = self.cluster.wait("a step after --resume", |said| said.step > 0);
                // a coordinator that died with its last step on the disk lost nothing
                self.tally.add(fault, self.cluster.said.resumed_from.is_some_and(|step| step < made));
                went_on
            }
            Fault::Pause => {
                self.cluster.coordinator.signal(Signal::STOP);
                std::thread::sleep(Duration::from_millis(u64::from(200 + self.dice.below(1300))));
                self.cluster.coordinator.signal(Signal::CONT);
                self.tally.add(fault, false);
                true
            }
            Fault::Kill | Fault::Freeze | Fault::Cut | Fault::Silence | Fault::Leave => self.strike_worker(fault),
        }
    }

    fn strike_worker(&mut self, fault: Fault) -> bool {
        let worker = self.dice.below(WORKERS as u32) as usize;
        let name = name(worker);
        let back_in = Duration::from_millis(u64::from(self.dice.below(500)));
        if !self.cluster.wait("the worker that is to be harmed", |said| said.is_present(&name)) {
            return false;
        }
        let (lost_before, copies_before) = (self.cluster.said.lost.len(), self.cluster.copies());
        match fault {
            Fault::Kill => self.workers[worker].0.kill().expect("killed"),
            Fault::Freeze => self.workers[worker].signal(Signal::STOP),
            Fault::Cut => self.wires[worker].cut(),
            Fault::Silence => self.wires[worker].silence(),
            _ => self.workers[worker].signal(Signal::TERM),
        }
        let missed = self
            .cluster
            .wait("word that it is missed", |said| said.lost[lost_before..].iter().any(|(lost, _)| *lost == name));
        let shards = |(lost, shards): &(String, u64)| (*lost == name).then_some(*shards);
        let cost = self.cluster.said.lost[lost_before..].iter().find_map(shards);
        // whoever falls silent with a lease in hand is copied long before it is missed
        let silent = matches!(fault, Fault::Freeze | Fault::Silence);
        self.tally.add(fault, cost > Some(0) || silent && self.cluster.copies() > copies_before);
        match fault {
            Fault::Freeze => self.workers[worker].signal(Signal::CONT),
            Fault::Cut | Fault::Silence => {
                std::thread::sleep(back_in);
                self.wires[worker].heal();
            }
            _ => {
                let status = self.workers[worker].0.wait().expect("waited");
                assert!(fault == Fault::Kill || status.success(), "{status}: {}", self.cluster.log(&name));
                self.workers[worker] = self.cluster.worker(&name, Some(&self.wires[worker]));
            }
        }
        missed
    }
}

/// All of `faults`, in an order and at steps that `seed` decides. Returns how many counted.
fn storm(seed: u64, mut faults: Vec<Fault>) -> u64 {
    let start = Instant::now();
    let mut dice = Key::new(seed, "storm", "").stream(0, 0, 0);
    dice.shuffle(&mut faults);
    let desk = Desk::new();
    let recipe = [
        "lenet-dropout-bn",
        "--epochs",
        "100000",
        "--batch-size",
        BATCH,
        "--shards",
        "8",
        "--set",
        "checkpoint.every_steps=5",
        "--set",
        "evaluation.every_epochs=7",
    ];
    let cluster = Cluster::start(&desk, "run", &recipe);
    let wires: Vec<Wire> = (0..WORKERS).map(|_| Wire::to(&cluster.address)).collect();
    let workers = (0..WORKERS).map(|worker| cluster.worker(&name(worker), Some(&wires[worker]))).collect();
    let mut storm = Storm { cluster, wires, workers, dice, tally: Tally::default() };
    for fault in faults {
        storm.cluster.listen();
        let at = storm.cluster.said.step + 1 + u64::from(storm.dice.below(SPACING));
        let goes_on = storm.cluster.wait("the step of the next fault", |said| said.step >= at) && storm.strike(fault);
        assert!(goes_on, "the run ended before its time: {:?}", storm.cluster.said);
    }
    // wherever that is: a quiet run of as many steps has the same weights
    let Storm { cluster, tally, workers, .. } = storm;
    cluster.coordinator.signal(Signal::TERM);
    cluster.finish();
    drop(workers);
    let ours = desk.summary("run");
    let (seconds, steps, hash) = (start.elapsed().as_secs_f64(), &ours["steps"], &ours["weights_hash"]);
    let _ = writeln!(std::io::stderr(), "storm of seed {seed}: {tally}; {steps} steps, {seconds:.1} s, {hash}");

    let quiet = Cluster::start(&desk, "quiet", &[&recipe[..], &["--max-steps", &steps.to_string()]].concat());
    let hands = [quiet.worker("anna", None), quiet.worker("ben", None)];
    quiet.finish();
    drop(hands);
    let quiet = desk.summary("quiet");
    for key in ["weights_hash", "steps", "train_loss", "train_accuracy"] {
        assert_eq!(ours[key], quiet[key], "{key}");
    }
    for key in ["used", "repeated", "lost"] {
        assert_eq!(ours["ledger"][key], quiet["ledger"][key], "ledger {key}");
    }
    tally.counted()
}

#[test]
fn a_short_storm_ends_with_the_hash_of_a_quiet_run() {
    let counted = storm(1, SHORT.to_vec());
    assert!(counted >= 8, "only {counted} faults cost anything");
}

#[test]
#[ignore = "minutes: cargo test --release -- --ignored chaos"]
fn a_long_storm_ends_with_the_hash_of_a_quiet_run() {
    let counted = storm(2, ROUND.repeat(12));
    assert!(counted >= 100, "only {counted} faults cost anything");
}

#[test]
fn train_survives_the_chaos_that_it_was_asked_for() {
    let desk = Desk::new();
    let recipe = ["--epochs", "4000", "--max-steps", "400", "--batch-size", "160"];
    desk.train("quiet", &recipe).ok();
    let chaos = "kill=500ms,freeze=700ms/1500ms,leave=900ms,seed=3";
    let loud = ["--workers", "3", "--worker-timeout", "1", "--max-restarts", "0", "--chaos", chaos];
    let done = desk.train("loud", &[&recipe[..], &loud].concat()).ok();
    assert_eq!(desk.hash("loud"), desk.hash("quiet"));
    let notices = desk.events("loud", "notice");
    let told = |what: &str| {
        let texts = notices.iter().filter_map(|notice| notice["text"].as_str());
        texts.filter(|text| text.starts_with("chaos: worker-") && text.contains(what)).count()
    };
    let (kills, freezes, leaves) = (told("SIGKILL"), told("SIGSTOP"), told("SIGTERM"));
    assert!(kills > 0 && freezes > 0 && leaves > 0, "{notices:?}");
    let summary = done.stderr.lines().find(|line| line.starts_with("chaos: ")).expect("a summary");
    // those after the last step are told to nobody
    let faults: usize = summary.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    assert!(faults >= kills + freezes + leaves, "{summary}");
    let reissued = desk.summary("loud")["ledger"]["reissued"].as_u64().expect("a number");
    assert!(reissued > 0 && summary.contains(&format!("{reissued} lease")), "{summary}");
}

/// A stopped process sees no pipe close and takes no SIGTERM: neither end of the run may leave one behind.
#[test]
fn no_frozen_worker_outlives_its_run() {
    let desk = Desk::new();
    for (signal, out) in [("KILL", "killed"), ("TERM", "stopped")] {
        let fixed = ["train", "--data", "images", "--json", "--epochs", "4000", "--workers", "2", "--out", out];
        let mut running = desk.start(&[&fixed[..], &["--chaos", "freeze=500ms/1h"]].concat());
        running.wait_for(|line| line.contains("SIGSTOP").then_some(()));
        let workers = children(running.child.id());
        let start = Instant::now();
        while !workers.iter().any(|id| state(*id) == Some('T')) {
            assert!(start.elapsed() < Duration::from_secs(10), "nobody is frozen");
        }
        running.signal(signal);
        drop(running.finish());
        let start = Instant::now();
        while workers.iter().any(|id| alive(*id)) {
            assert!(start.elapsed() < Duration::from_secs(10), "after SIG{signal} somebody is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn chaos_that_can_not_be_meant_is_refused() {
    let desk = Desk::new();
    desk.run(&["train", "--chaos", "kil=3s"]).refused(&["--chaos", "\"kil\"", "kill=TIME"]);
}
