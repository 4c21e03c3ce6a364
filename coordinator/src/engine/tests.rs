//! The engine under a seeded simulator: whatever the schedule, every shard of every step is summed once, in its step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lockstep_proto::keys::{Key, Stream};
use lockstep_proto::tree::Node;

use super::*;
use crate::plan::{Plan, sample};

const START: Position = Position { version: 0, evaluation_owed: false };

/// What the commands did to the model, and who holds what.
#[derive(Default)]
struct World {
    held: BTreeMap<WorkerId, Vec<(LeaseId, Work)>>,
    /// Shards summed into the open step.
    open: BTreeSet<u32>,
    steps: u64,
    slices: BTreeSet<u32>,
    evaluations: Vec<u64>,
    checkpoints: Vec<Position>,
    dismissed: BTreeSet<WorkerId>,
    dropped: usize,
    outcome: Option<Outcome>,
}

impl World {
    fn perform(&mut self, plan: &Plan, commands: Vec<Command>) {
        for command in commands {
            assert!(self.outcome.is_none(), "{command:?} after the end");
            match command {
                Command::Lease { worker, lease, work, .. } => {
                    if let Work::Shards { step, .. } = work {
                        assert_eq!(step, self.steps, "work for another step");
                    }
                    self.held.entry(worker).or_default().push((lease, work));
                }
                Command::Sum { node, .. } => {
                    for shard in node.covers(plan.leaves(self.steps)) {
                        assert!(self.open.insert(shard), "shard {shard} summed twice");
                    }
                }
                Command::Step { step } => {
                    assert_eq!(step, self.steps);
                    let all: BTreeSet<u32> = (0..plan.leaves(step)).collect();
                    assert_eq!(std::mem::take(&mut self.open), all, "step {step} without all its shards");
                    self.steps += 1;
                }
                Command::Evaluate { version } => {
                    assert_eq!(version, self.steps);
                    self.slices.clear();
                }
                Command::Count { slice, .. } => assert!(self.slices.insert(slice), "slice {slice} counted twice"),
                Command::Evaluated { version } => {
                    assert_eq!(self.slices.len() as u32, plan.slices);
                    self.slices.clear();
                    self.evaluations.push(version);
                }
                Command::Checkpoint { position, .. } => self.checkpoints.push(position),
                Command::Lost { worker, .. } => drop(self.held.remove(&worker)),
                Command::Dismiss { worker, .. } => drop(self.dismissed.insert(worker)),
                Command::Drop { .. } => self.dropped += 1,
                Command::Reissue { .. } => {}
                Command::EndEpoch { epoch } => assert!(plan.ends_epoch(self.steps) && epoch < plan.epochs),
                Command::Finish { outcome, .. } => self.outcome = Some(outcome),
            }
        }
    }
}

/// Random joins, deaths, silences, failures, late and repeated answers; returns the world at the end.
fn simulate(seed: u64) -> World {
    let mut dice: Stream = Key::new(seed, "simulation", "").stream(0, 0, 0);
    let plan = Plan {
        shards: 1 + dice.below(9),
        examples: 1 + dice.below(60),
        batch_size: 9 + dice.below(12),
        epochs: 1 + dice.below(3),
        slices: dice.below(4),
        min_workers: 1 + dice.below(3) as usize,
        ..sample()
    };
    let mut engine = Engine::new(plan.clone(), START);
    let mut world = World::default();
    let mut now = Duration::ZERO;
    let (mut alive, mut frozen): (BTreeSet<WorkerId>, BTreeSet<WorkerId>) = Default::default();
    let mut next_worker = 1;
    let mut old_answers: Vec<(WorkerId, LeaseId)> = Vec::new();
    let mut restarts = 0;
    for turn in 0..20_000 {
        now += Duration::from_millis(u64::from(dice.below(100)));
        for worker in alive.difference(&frozen) {
            world.perform(&plan, engine.handle(now, Event::Beat { worker: *worker }));
        }
        let faults = turn < 2_000; // then the weather clears, and the run must end
        let someone = alive.iter().nth(dice.below(alive.len().max(1) as u32) as usize).copied();
        let event = match dice.below(if faults { 20 } else { 8 }) {
            0 if alive.len() < 6 => {
                alive.insert(next_worker);
                next_worker += 1;
                Event::Joined { worker: next_worker - 1 }
            }
            8 | 9 if alive.len() > 1 => {
                let worker = someone.expect("two at least");
                alive.remove(&worker);
                frozen.remove(&worker);
                Event::Left { worker, reason: "simulated".to_owned() }
            }
            10 if alive.len() > frozen.len() + 1 => {
                frozen.extend(someone);
                Event::Tick
            }
            11 if !old_answers.is_empty() => {
                let (worker, lease) = old_answers[dice.below(old_answers.len() as u32) as usize];
                Event::Answered { worker, lease }
            }
            12 if restarts < 3 && world.outcome.is_none() => {
                // the coordinator dies and begins again at its last step: all sessions are gone
                restarts += 1;
                let position = engine.position();
                world.held.clear();
                world.open.clear();
                world.slices.clear();
                engine = Engine::new(plan.clone(), position);
                old_answers.clear();
                alive.clear();
                frozen.clear();
                now = Duration::ZERO;
                Event::Tick
            }
            1..=7 => match someone.filter(|w| !frozen.contains(w)).and_then(|w| Some((w, world.held.get_mut(&w)?))) {
                Some((worker, held)) if !held.is_empty() => {
                    let (lease, _) = held.remove(0);
                    old_answers.push((worker, lease));
                    Event::Answered { worker, lease }
                }
                _ => Event::Tick,
            },
            _ => Event::Tick,
        };
        world.perform(&plan, engine.handle(now, event));
        for worker in &world.dismissed {
            alive.remove(worker);
            frozen.remove(worker);
        }
        if world.outcome.is_some() {
            break;
        }
    }
    assert_eq!(world.outcome, Some(Outcome::Complete), "seed {seed}");
    assert_eq!(world.steps, plan.total_steps(), "seed {seed}");
    let due: Vec<u64> = (0..=world.steps).filter(|v| plan.evaluates(*v)).collect();
    assert_eq!(world.evaluations, due, "seed {seed}");
    world
}

#[test]
fn every_shard_of_every_step_is_summed_once_whatever_happens() {
    let mut dropped = 0;
    for seed in 0..300 {
        dropped += simulate(seed).dropped;
    }
    assert!(dropped > 100, "the schedules hardly ever repeat an answer: {dropped}");
}

fn join(engine: &mut Engine, worker: WorkerId) -> Vec<Command> {
    engine.handle(Duration::ZERO, Event::Joined { worker })
}

fn leases(commands: &[Command]) -> Vec<(WorkerId, LeaseId, Node)> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Lease { worker, lease, work: Work::Shards { node, .. }, .. } => Some((*worker, *lease, *node)),
            _ => None,
        })
        .collect()
}

#[test]
fn one_worker_gets_the_root_and_two_get_halves() {
    let mut engine = Engine::new(sample(), START);
    assert_eq!(leases(&join(&mut engine, 7)), [(7, 1, Node { level: 2, index: 0 })]);
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    assert_eq!(join(&mut engine, 1), []);
    let halves = leases(&join(&mut engine, 2));
    assert_eq!(halves, [(1, 1, Node { level: 1, index: 0 }), (2, 2, Node { level: 1, index: 1 })]);
}

/// Lets time pass as the actor does, with a beat of each of `beating` every tick; returns the commands of the last tick,
/// and makes sure that none came before it.
fn pass(engine: &mut Engine, from: u64, to: u64, beating: &[WorkerId]) -> Vec<Command> {
    let mut last = Vec::new();
    for ms in (from..=to).step_by(100) {
        assert_eq!(last, [], "before {ms} ms");
        for worker in beating {
            last.extend(engine.handle(Duration::from_millis(ms), Event::Beat { worker: *worker }));
        }
        last.extend(engine.handle(Duration::from_millis(ms), Event::Tick));
    }
    last
}

#[test]
fn a_worker_that_leaves_finishes_what_it_has_in_hand() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    assert_eq!(engine.handle(Duration::ZERO, Event::Leaving { worker: 2 }), []);
    let last = engine.handle(Duration::ZERO, Event::Answered { worker: 2, lease: 2 });
    assert!(matches!(&last[0], Command::Sum { worker: 2, .. }), "{last:?}");
    assert!(matches!(&last[1], Command::Lost { worker: 2, reissued: 0, .. }), "{last:?}");
    assert!(matches!(&last[2], Command::Dismiss { worker: 2, may_return: true, .. }), "{last:?}");
    // the other one has the next step to itself
    let next = engine.handle(Duration::ZERO, Event::Answered { worker: 1, lease: 1 });
    assert_eq!(leases(&next), [(1, 3, Node { level: 2, index: 0 })]);
}

#[test]
fn a_silent_worker_loses_its_leases_to_the_others() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    engine.handle(Duration::ZERO, Event::Answered { worker: 1, lease: 1 });
    let commands = pass(&mut engine, 0, 2_100, &[1]);
    assert!(matches!(&commands[0], Command::Lost { worker: 2, reissued: 2, .. }), "{commands:?}");
    assert_eq!(leases(&commands), [(1, 3, Node { level: 1, index: 1 })]);
}

#[test]
fn a_worker_that_sounds_alive_and_never_answers_loses_its_lease() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    engine.handle(Duration::ZERO, Event::Answered { worker: 1, lease: 1 });
    // not a tick early
    let late = pass(&mut engine, 0, 60_100, &[1, 2]);
    assert!(matches!(&late[0], Command::Lost { worker: 2, reissued: 2, .. }), "{late:?}");
    assert_eq!(leases(&late), [(1, 3, Node { level: 1, index: 1 })]);
}

#[test]
fn nobody_there_ends_the_run_and_says_who_was_missing() {
    let mut engine = Engine::new(sample(), START);
    let commands = pass(&mut engine, 0, 60_000, &[]);
    let [Command::Finish { outcome: Outcome::NoWorkers { reason }, .. }] = &commands[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(reason, "0 of 1 workers after waiting 60 s");
}

#[test]
fn a_worker_that_comes_and_dies_does_not_keep_a_run_waiting() {
    let mut engine = Engine::new(sample(), START);
    pass(&mut engine, 0, 50_000, &[]);
    engine.handle(Duration::from_millis(50_000), Event::Joined { worker: 1 });
    let gone = Event::Left { worker: 1, reason: "killed".to_owned() };
    engine.handle(Duration::from_millis(50_100), gone);
    let commands = pass(&mut engine, 50_200, 60_000, &[]);
    assert!(matches!(&commands[..], [Command::Finish { outcome: Outcome::NoWorkers { .. }, .. }]), "{commands:?}");
}

#[test]
fn nobody_is_blamed_for_the_coordinators_own_pause() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    pass(&mut engine, 0, 1_000, &[1, 2]);
    // the process was stopped for a minute and a half: heartbeats wait to be read, the lease's time has not run out
    assert_eq!(pass(&mut engine, 91_000, 92_400, &[]), []);
    let late = pass(&mut engine, 92_500, 92_600, &[1]);
    assert!(matches!(&late[0], Command::Lost { worker: 2, reissued: 2, .. }), "{late:?}");
}

#[test]
fn a_refused_answer_of_the_only_worker_is_counted() {
    let mut engine = Engine::new(sample(), START);
    join(&mut engine, 1);
    let failed = Event::Failed { worker: 1, lease: 1, reason: "checksum".to_owned() };
    let commands = engine.handle(Duration::ZERO, failed);
    assert!(
        matches!(&commands[0], Command::Reissue { shards: 4, reason } if reason.contains("checksum")),
        "{commands:?}"
    );
    assert_eq!(leases(&commands), [(1, 2, Node { level: 2, index: 0 })]);
}

#[test]
fn a_shard_that_fails_on_two_workers_is_the_models_own_fault() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    let failed = |worker, lease| Event::Failed { worker, lease, reason: "NaN in net.0.weight".to_owned() };
    let first = engine.handle(Duration::ZERO, failed(1, 1));
    assert!(first.iter().any(|c| matches!(c, Command::Dismiss { worker: 1, .. })), "{first:?}");
    engine.handle(Duration::ZERO, Event::Answered { worker: 2, lease: 2 });
    let second = engine.handle(Duration::ZERO, failed(2, 3));
    let Some(Command::Finish { outcome: Outcome::Failed { reason }, .. }) = second.last() else { panic!("{second:?}") };
    assert!(reason.contains("shards 0 to 1 of step 1") && reason.contains("net.0.weight"), "{reason}");
    assert!(!second.iter().any(|c| matches!(c, Command::Checkpoint { .. })), "the last good one stays");
}

#[test]
fn a_stop_in_an_evaluation_leaves_it_owed() {
    let plan = Plan { examples: 10, ..sample() };
    let mut engine = Engine::new(plan.clone(), START);
    join(&mut engine, 1);
    engine.handle(Duration::ZERO, Event::Answered { worker: 1, lease: 1 });
    let commands = engine.handle(Duration::ZERO, Event::Stop { reason: "Ctrl-C".to_owned() });
    let owed = Position { version: 1, evaluation_owed: true };
    assert!(matches!(&commands[0], Command::Checkpoint { position, .. } if *position == owed), "{commands:?}");
    let mut resumed = Engine::new(plan, owed);
    let again = join(&mut resumed, 1);
    assert!(matches!(again[0], Command::Lease { work: Work::Slice { version: 1, slice: 0 }, .. }), "{again:?}");
}
