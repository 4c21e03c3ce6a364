//! One schedule: processes that join, compute, lie, freeze, die and come back, drawn from a seed, under a clock of its own.

mod answers;
mod end;
mod harm;
mod rings;
mod work;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use lockstep_proto::keys::{Key, Stream};
use lockstep_proto::recipe::PartitionName;

use super::super::mutant::Mutant;
use super::super::{Command, Engine, Event, LeaseId, Outcome, Work, WorkerId};
use super::process::{Process, What};
use super::world::{Broken, Payload, World};
use crate::plan::{Plan, sample};
pub(super) use end::End;
use rings::Gathering;

/// Milliseconds of bad weather. Then nothing goes wrong any more, and the run must end.
const STORM: u64 = 8_000;
/// … within so many milliseconds: a hundred times what a schedule takes.
const PATIENCE: u64 = 300_000;
/// How often the actor's clock ticks and workers call.
const TICK: u64 = 100;
const BEAT: u64 = 500;

pub(super) struct Weather {
    dice: Stream,
    plan: Plan,
    engine: Engine,
    mutant: Option<Mutant>,
    world: World,
    heap: BinaryHeap<Reverse<(u64, u64, What)>>,
    ordinal: u64,
    now: u64,
    /// When this coordinator began.
    began: u64,
    processes: Vec<Process>,
    owner: BTreeMap<WorkerId, usize>,
    next: WorkerId,
    /// The process whose answers are sometimes wrong.
    liar: Option<usize>,
    lied: BTreeSet<Work>,
    /// Sessions that gave a wrong answer.
    liars: BTreeSet<WorkerId>,
    failed: BTreeSet<Work>,
    /// A shard whose gradient is not finite, whoever computes it.
    poison: Option<(u64, u32)>,
    /// Answers that were sent before.
    sent: Vec<(WorkerId, LeaseId)>,
    /// Sessions that were silent, for whatever reason.
    silent: BTreeSet<WorkerId>,
    /// What the processes do in each ring.
    rings: BTreeMap<u64, Gathering>,
    restarts: u64,
    gaps: u64,
    /// Somebody pressed Ctrl-C.
    stopping: bool,
    /// Print everything: for the replay of one.
    trace: bool,
}

/// Runs the schedule of `seed`; what was broken, if anything.
pub(super) fn run(seed: u64, mutant: Option<Mutant>) -> Result<End, Broken> {
    through(Weather::new(seed, mutant, false))
}

/// The same where gradients are summed in rings.
pub(super) fn run_rings(seed: u64, mutant: Option<Mutant>) -> Result<End, Broken> {
    through(Weather::new(seed, mutant, true))
}

fn through(mut weather: Weather) -> Result<End, Broken> {
    while weather.world.outcome.is_none() {
        weather.turn()?;
        weather.resume();
    }
    weather.judge()
}

impl Weather {
    fn new(seed: u64, mutant: Option<Mutant>, ring: bool) -> Self {
        let mut dice = Key::new(seed, "weather", "").stream(0, 0, 0);
        let shards = 1 + dice.below(9);
        // from a stream of its own, so that a seed keeps its schedule
        let partition = Key::new(seed, "weather", "partition").stream(0, 0, 0).below(3) as usize;
        let plan = Plan {
            partition: [PartitionName::Shuffled, PartitionName::Interleaved, PartitionName::Contiguous][partition],
            shards,
            examples: 1 + dice.below(60),
            batch_size: shards + dice.below(12),
            epochs: 1 + dice.below(3),
            slices: dice.below(5),
            min_workers: 1 + dice.below(3) as usize,
            checkpoint_every_steps: u64::from(dice.below(4)),
            checkpoint_every: (dice.below(3) == 0).then(|| Duration::from_millis(300)),
            audit: [0.0, 0.0, 0.3, 1.0][dice.below(4) as usize],
            seed,
            wait_for_workers: Duration::from_secs(1_000_000),
            ..sample()
        };
        // no gradient is compared in a ring, so that nobody may lie about one
        // … and a deadline is beyond what anything takes
        let plan = if ring { Plan { ring, audit: 0.0, lease_timeout: Duration::from_secs(100), ..plan } } else { plan };
        let total = plan.total_steps() as u32;
        let poison = (dice.below(20) == 0).then(|| {
            let step = u64::from(dice.below(total));
            (step, dice.below(plan.leaves(step)))
        });
        let processes: Vec<_> = (0..3 + dice.below(4))
            .map(|_| {
                let most = if dice.below(4) == 0 { 200 } else { 20 };
                Process { slow: 2 + u64::from(dice.below(most)), ..Process::default() }
            })
            .collect();
        let mut processes = processes;
        let mut able = Key::new(seed, "weather", "able").stream(0, 0, 0);
        processes.iter_mut().for_each(|process| process.makes_steps = able.below(4) > 0);
        let plan = Plan { in_advance: able.below(4), ..plan };
        let catch_up = [None, Some(100), Some(1_000), Some(10_000)][able.below(4) as usize];
        let plan = Plan { catch_up: catch_up.map(Duration::from_millis), ..plan };
        // with three and more few steps are one worker's alone; a lie would be nobody's to find
        let few = !ring && able.below(3) == 0;
        let plan = Plan { min_workers: if few { 1 } else { plan.min_workers }, ..plan };
        // most epochs end with something that wants the parameters here
        let mut cadence = Key::new(seed, "weather", "cadence").stream(0, 0, 0);
        let mut every = || [1, 1, 2, 0][cadence.below(4) as usize];
        let plan = Plan { evaluate_every_epochs: every(), checkpoint_every_epochs: every(), ..plan };
        // and few go by, one after the other, with nothing between
        let rarely =
            Plan { evaluate_every_epochs: 0, checkpoint_every_epochs: 0, checkpoint_every_steps: 0, ..plan.clone() };
        let plan = if few && cadence.below(2) == 0 { rarely } else { plan };
        let liar = (dice.below(3) == 0 && !ring).then(|| dice.below(processes.len() as u32) as usize);
        // what each makes of them is
        let liar = liar.or_else(|| (ring && able.below(3) == 0).then(|| able.below(processes.len() as u32) as usize));
        let mut weather = Self {
            engine: Engine::new(plan.clone(), World::new(plan.clone()).saved.position),
            world: World::new(plan.clone()),
            dice,
            plan,
            mutant,
            heap: BinaryHeap::new(),
            ordinal: 0,
            now: 0,
            began: 0,
            processes: if few { processes.into_iter().take(1 + able.below(2) as usize).collect() } else { processes },
            owner: BTreeMap::new(),
            next: 1,
            liar: liar.filter(|_| !few),
            lied: BTreeSet::new(),
            liars: BTreeSet::new(),
            failed: BTreeSet::new(),
            poison,
            sent: Vec::new(),
            silent: BTreeSet::new(),
            rings: BTreeMap::new(),
            restarts: 0,
            gaps: 0,
            stopping: false,
            trace: std::env::var_os("LOCKSTEP_TRACE").is_some(),
        };
        weather.begin();
        weather.later(0, What::Tick);
        weather.later(50, What::Fault);
        weather
    }

    /// A coordinator begins, at its last checkpoint; whoever lives looks for it.
    fn begin(&mut self) {
        self.engine = Engine::new(self.plan.clone(), self.world.saved.position);
        self.engine.mutant = self.mutant;
        self.world.by_arrival = self.mutant == Some(Mutant::SumByArrival);
        self.began = self.now;
        if self.trace {
            println!("{:6} the coordinator begins at {:?}", self.now, self.world.saved.position);
        }
        self.stopping = false;
        self.owner.clear();
        self.sent.clear();
        self.silent.clear();
        self.rings.clear();
        for process in 0..self.processes.len() {
            let Process { session, jobs, leaving, .. } = &mut self.processes[process];
            (*session, *jobs, *leaving) = (None, VecDeque::new(), false);
            self.processes[process].unseat();
            let soon = u64::from(self.dice.below(200));
            self.later(soon, What::Join(process));
        }
    }

    /// Whoever stopped a run goes on with it.
    fn resume(&mut self) {
        if self.stopping && matches!(self.world.outcome, Some(Outcome::Stopped { .. })) {
            self.restarts += 1;
            self.world.restart();
            self.begin();
        }
    }

    fn later(&mut self, after: u64, what: What) {
        self.ordinal += 1;
        self.heap.push(Reverse((self.now + after, self.ordinal, what)));
    }

    fn turn(&mut self) -> Result<(), Broken> {
        let Some(Reverse((at, _, what))) = self.heap.pop() else { return Err("nothing happens any more".to_owned()) };
        self.now = self.now.max(at);
        if self.now > STORM + PATIENCE {
            return Err(format!("no end after {} s; at step {}", self.now / 1000, self.world.version));
        }
        match what {
            What::Tick => {
                self.later(TICK, What::Tick);
                self.tell(Event::Tick, None)
            }
            What::Beat(process, session) if self.processes[process].session == Some(session) => {
                self.later(BEAT, What::Beat(process, session));
                if self.processes[process].frozen { Ok(()) } else { self.tell(Event::Beat { worker: session }, None) }
            }
            What::Done(process, session) if self.processes[process].session == Some(session) => self.done(process),
            What::Thaw(process) => {
                let thawed = &mut self.processes[process];
                thawed.frozen = false;
                if let (Some(session), false) = (thawed.session, thawed.jobs.is_empty()) {
                    self.later(1, What::Done(process, session));
                }
                Ok(())
            }
            What::Join(process) => self.join(process),
            What::Fault if self.now < STORM => {
                let next = 20 + u64::from(self.dice.below(300));
                self.later(next, What::Fault);
                self.fault()
            }
            What::Seat(process, session, _) | What::Word(process, session, ..) | What::Summed(process, session, _)
                if self.processes[process].session == Some(session) =>
            {
                self.in_ring(process, session, what)
            }
            What::Seat(..) | What::Word(..) | What::Summed(..) => Ok(()),
            What::Beat(..) | What::Done(..) | What::Fault => Ok(()),
        }
    }

    /// Lets the engine hear of `event`, and does what it says.
    fn tell(&mut self, event: Event, mut answer: Option<(LeaseId, Payload)>) -> Result<(), Broken> {
        let now = Duration::from_millis(self.now - self.began);
        let told = self.trace.then(|| format!("{event:?}"));
        let commands = self.engine.handle(now, event);
        if let Some(event) = told.filter(|event| event != "Tick" || !commands.is_empty()) {
            println!("{:6} {event}\n         -> {commands:?}", self.now);
        }
        for command in commands {
            if let Command::Dismiss { worker, reason, may_return } = &command {
                self.dismissed(*worker, reason, *may_return)?;
            }
            match &command {
                Command::Form { worker, generation, rank, size, .. } => {
                    self.form(*worker, *generation, *rank, *size)?;
                }
                Command::Dissolve { reason, .. } if reason.contains("waited for each other") => {
                    return Err(format!("a ring stood still: {reason}"));
                }
                Command::Dissolve { generation, members, .. } => self.dissolve(*generation, members)?,
                _ => {}
            }
            if let Some((worker, job)) = self.world.perform(command, &mut answer)? {
                self.give(worker, job)?;
            }
        }
        Ok(())
    }

    fn dismissed(&mut self, worker: WorkerId, reason: &str, may_return: bool) -> Result<(), Broken> {
        let Some(process) = self.owner.remove(&worker) else { return Err(format!("{worker} dismissed twice")) };
        if reason.contains("no heartbeat") && !self.silent.contains(&worker) {
            return Err(format!("{worker} called all the time, and was dismissed: {reason}"));
        }
        if reason.contains("waited for it") && !self.silent.contains(&worker) {
            return Err(format!("{worker} did its part, and was dismissed: {reason}"));
        }
        if reason.contains("trusted") && !self.liars.contains(&worker) {
            return Err(format!("an honest worker was sent away: {reason}"));
        }
        let gone = &mut self.processes[process];
        if !may_return && self.liar == Some(process) {
            self.liar = None; // another machine takes its place
        }
        if gone.session != Some(worker) {
            return Ok(()); // its machine went long ago, and is back under another number
        }
        (gone.session, gone.jobs) = (None, VecDeque::new());
        gone.leaving = false;
        gone.unseat();
        let soon = 10 + u64::from(self.dice.below(300));
        self.later(soon, What::Join(process));
        Ok(())
    }

    fn join(&mut self, process: usize) -> Result<(), Broken> {
        let Process { session: None, .. } = self.processes[process] else { return Ok(()) };
        if self.processes[process].frozen {
            self.later(300, What::Join(process));
            return Ok(());
        }
        let worker = self.next;
        self.next += 1;
        self.processes[process].session = Some(worker);
        self.owner.insert(worker, process);
        self.later(BEAT, What::Beat(process, worker));
        let makes_steps = self.processes[process].makes_steps;
        self.processes[process].held = None;
        self.tell(Event::Joined { worker, makes_steps }, None)
    }
}
