//! The engine decides; the actor acts. Pure: events and the time go in, commands with their reasons come out.
//!
//! No async, no clock, no tensor here: ids, counts and times only, so that a simulator can run it a million times.

mod command;
mod evaluating;
mod training;
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

pub use command::{Command, Event, LeaseId, Outcome, Work, WorkerId};

use crate::plan::Plan;
use evaluating::Evaluating;
use training::Training;
use workers::Workers;

/// The actor lets the engine hear of the time every 100 ms: a longer gap means that the coordinator itself stood still (a
/// stopped process, a busy machine), and messages wait that it has not read. Nobody is blamed for the rest of it.
const BLIND: Duration = Duration::from_millis(500);

/// Where a run stands: what a checkpoint holds of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Optimizer steps made.
    pub version: u64,
    /// The evaluation that follows them has not been finished.
    pub evaluation_owed: bool,
}

/// What the run is doing.
#[derive(Debug)]
enum Phase {
    Training(Training),
    Evaluating(Evaluating),
    Finished,
}

/// The state that decisions depend on.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    version: u64,
    phase: Phase,
    workers: Workers,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: LeaseId,
    /// Set once `min_workers` are there: later losses do not hold the run up.
    started: bool,
    /// Since when too few workers are there. Cleared by an accepted answer, not by a join: a worker that comes and dies
    /// again and again must not keep a run waiting for ever.
    short_since: Option<Duration>,
    /// When the engine last heard of anything.
    heard: Duration,
}

/// Work in somebody's hands.
#[derive(Debug)]
struct Lease {
    worker: WorkerId,
    work: Work,
    since: Duration,
}

impl Engine {
    /// An engine at `position`; nothing happens before the first event.
    #[must_use]
    pub fn new(plan: Plan, position: Position) -> Self {
        let phase = if position.evaluation_owed {
            Phase::Evaluating(Evaluating::new(position.version, plan.slices))
        } else if position.version >= plan.total_steps() {
            Phase::Finished
        } else {
            Phase::Training(Training::new(position.version, plan.leaves(position.version)))
        };
        Self {
            version: position.version,
            phase,
            workers: Workers::default(),
            leases: BTreeMap::new(),
            next_lease: 1,
            started: false,
            short_since: Some(Duration::ZERO),
            heard: Duration::ZERO,
            plan,
        }
    }

    /// Where the run stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { version: self.version, evaluation_owed: matches!(self.phase, Phase::Evaluating(_)) }
    }

    /// In a word, for `lockstep status`.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        match self.phase {
            Phase::Finished => "finished",
            _ if !self.started => "waiting",
            Phase::Training(_) => "training",
            Phase::Evaluating(_) => "evaluating",
        }
    }

    /// How many more workers the run needs before it can go on, if it waits.
    #[must_use]
    pub fn waiting_for(&self) -> Option<usize> {
        let needed = if self.started { 1 } else { self.plan.min_workers };
        needed.checked_sub(self.workers.len()).filter(|missing| *missing > 0 && !matches!(self.phase, Phase::Finished))
    }

    /// Leases in this worker's hands.
    #[must_use]
    pub fn leases_of(&self, worker: WorkerId) -> usize {
        self.workers.get(worker).map_or(0, |state| state.leases.len())
    }

    /// What `lease` is for, if it is in this worker's hands.
    #[must_use]
    pub fn work(&self, worker: WorkerId, lease: LeaseId) -> Option<Work> {
        self.leases.get(&lease).filter(|held| held.worker == worker).map(|held| held.work)
    }

    /// Takes in what happened at `now` (time since the run began) and says what to do, in order.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        if matches!(self.phase, Phase::Finished) {
            return out;
        }
        self.forgive(now.saturating_sub(self.heard).saturating_sub(BLIND));
        self.heard = self.heard.max(now);
        match event {
            Event::Joined { worker } => self.workers.join(worker, now),
            Event::Left { worker, reason } => self.lose(now, worker, &reason, &mut out),
            Event::Leaving { worker } => self.workers.leaving(worker),
            Event::Beat { worker } => self.workers.beat(worker, now),
            Event::Answered { worker, lease } => self.answered(now, worker, lease, &mut out),
            Event::Failed { worker, lease, reason } => self.failed(now, worker, lease, &reason, &mut out),
            Event::Tick => {}
            Event::Stop { reason } => return self.finish(Outcome::Stopped { reason }),
        }
        if !matches!(self.phase, Phase::Finished) {
            self.look_after_workers(now, &mut out);
            self.assign(now, &mut out);
        }
        out
    }

    /// Moves every deadline by the time in which the coordinator did not look.
    fn forgive(&mut self, gap: Duration) {
        if gap.is_zero() {
            return;
        }
        self.workers.forgive(gap);
        self.leases.values_mut().for_each(|lease| lease.since += gap);
        self.short_since = self.short_since.map(|since| since + gap);
    }

    /// Declares workers dead that were silent too long, and gives up when nobody comes.
    fn look_after_workers(&mut self, now: Duration, out: &mut Vec<Command>) {
        for worker in self.workers.silent(now, self.plan.worker_timeout) {
            let reason = format!("no heartbeat for {:.1} s", self.plan.worker_timeout.as_secs_f64());
            self.lose(now, worker, &reason, out);
            out.push(Command::Dismiss { worker, reason, may_return: true });
        }
        for worker in self.workers.gone() {
            let reason = "it was asked to stop".to_owned();
            self.lose(now, worker, &reason, out);
            out.push(Command::Dismiss { worker, reason, may_return: true });
        }
        let stuck = |lease: &&Lease| now.saturating_sub(lease.since) > self.plan.lease_timeout;
        let stuck: Vec<_> = self.leases.values().filter(stuck).map(|lease| (lease.worker, lease.work)).collect();
        for (worker, work) in stuck {
            let reason = format!("no answer to {work} for {:.1} s", self.plan.lease_timeout.as_secs_f64());
            self.lose(now, worker, &reason, out);
            out.push(Command::Dismiss { worker, reason, may_return: true });
        }
        self.started |= self.workers.len() >= self.plan.min_workers;
        let enough = self.started && !self.workers.is_empty();
        if enough {
            return;
        }
        let since = *self.short_since.get_or_insert(now);
        if now.saturating_sub(since) >= self.plan.wait_for_workers {
            let waited = self.plan.wait_for_workers.as_secs();
            let (here, needed) = (self.workers.len(), if self.started { 1 } else { self.plan.min_workers });
            let reason = format!("{here} of {needed} workers after waiting {waited} s");
            out.extend(self.finish(Outcome::NoWorkers { reason }));
        }
    }

    /// Gives a lost worker's leases back to the pool.
    fn lose(&mut self, now: Duration, worker: WorkerId, reason: &str, out: &mut Vec<Command>) {
        let Some(state) = self.workers.leave(worker) else { return };
        let mut shards = 0;
        for lease in state.leases {
            if let Some(Lease { work, .. }) = self.leases.remove(&lease) {
                shards += self.give_back(work);
            }
        }
        out.push(Command::Lost { worker, reissued: shards, reason: reason.to_owned() });
        if self.workers.is_empty() {
            self.short_since.get_or_insert(now);
        }
    }

    /// Frees what a lease held; returns how many shards that were.
    fn give_back(&mut self, work: Work) -> u32 {
        match (&mut self.phase, work) {
            (Phase::Training(training), Work::Shards { node, .. }) => training.free(node),
            (Phase::Evaluating(evaluating), Work::Slice { slice, .. }) => {
                evaluating.free(slice);
                0
            }
            _ => 0,
        }
    }

    fn answered(&mut self, now: Duration, worker: WorkerId, lease: LeaseId, out: &mut Vec<Command>) {
        self.workers.beat(worker, now);
        let Some(held) = self.leases.get(&lease).filter(|held| held.worker == worker) else {
            let reason = "the lease was given to another worker, or is answered already".to_owned();
            out.push(Command::Drop { worker, lease, reason });
            return;
        };
        let work = held.work;
        self.leases.remove(&lease);
        self.workers.release(worker, lease);
        self.short_since = None;
        match (&mut self.phase, work) {
            (Phase::Training(training), Work::Shards { step, node }) => {
                out.push(Command::Sum { worker, lease, node });
                if training.done(node) {
                    self.version = step + 1;
                    out.push(Command::Step { step });
                    self.after_step(out);
                }
            }
            (Phase::Evaluating(evaluating), Work::Slice { slice, .. }) => {
                out.push(Command::Count { worker, lease, slice });
                if evaluating.done(slice) {
                    out.push(Command::Evaluated { version: self.version });
                    self.after_evaluation(out);
                }
            }
            _ => {}
        }
    }

    fn failed(&mut self, now: Duration, worker: WorkerId, lease: LeaseId, reason: &str, out: &mut Vec<Command>) {
        let Some(held) = self.leases.get(&lease).filter(|held| held.worker == worker) else { return };
        let work = held.work;
        let repeated = match (&mut self.phase, work) {
            (Phase::Training(training), Work::Shards { node, .. }) => training.failed(node),
            (Phase::Evaluating(evaluating), Work::Slice { slice, .. }) => evaluating.failed(slice),
            _ => false,
        };
        if repeated {
            let reason = format!(
                "{work} failed twice, so it is not one worker's fault: {reason}; if the training diverged, lower \
                 optimizer.lr or set optimizer.clip_grad_norm"
            );
            out.extend(self.finish(Outcome::Failed { reason }));
        } else if self.workers.len() > 1 {
            // Others can show whether the fault is the worker's: it must not get the same shard again.
            let reason = format!("could not compute {work}: {reason}");
            self.lose(now, worker, &reason, out);
            out.push(Command::Dismiss { worker, reason, may_return: false });
        } else {
            self.leases.remove(&lease);
            self.workers.release(worker, lease);
            let shards = self.give_back(work);
            let reason = format!("worker {worker} could not compute {work}: {reason}");
            out.push(Command::Reissue { shards, reason });
        }
    }

    fn after_step(&mut self, out: &mut Vec<Command>) {
        if self.plan.ends_epoch(self.version) {
            out.push(Command::EndEpoch { epoch: self.plan.epoch(self.version - 1) });
        }
        if self.plan.evaluates(self.version) {
            out.push(Command::Evaluate { version: self.version });
            self.phase = Phase::Evaluating(Evaluating::new(self.version, self.plan.slices));
        } else {
            self.go_on(out);
        }
    }

    fn after_evaluation(&mut self, out: &mut Vec<Command>) {
        // Set first: a checkpoint taken now owes no evaluation.
        self.phase = Phase::Training(Training::new(self.version, 0));
        self.go_on(out);
    }

    /// The checkpoint that is due, then the next step or the end.
    fn go_on(&mut self, out: &mut Vec<Command>) {
        let last = self.version >= self.plan.total_steps();
        if !last {
            self.phase = Phase::Training(Training::new(self.version, self.plan.leaves(self.version)));
            if self.plan.checkpoints(self.version) {
                out.push(Command::Checkpoint { position: self.position(), reason: "its turn has come".to_owned() });
            }
        } else {
            self.phase = Phase::Training(Training::new(self.version, 0));
            out.extend(self.finish(Outcome::Complete));
        }
    }

    fn finish(&mut self, outcome: Outcome) -> Vec<Command> {
        let mut out = Vec::new();
        // A run that never made a step has nothing to keep; one that failed keeps its last good checkpoint.
        if self.version > 0 && !matches!(outcome, Outcome::Failed { .. }) {
            out.push(Command::Checkpoint { position: self.position(), reason: outcome.to_string() });
        }
        self.leases.clear();
        out.push(Command::Finish { position: self.position(), outcome });
        self.phase = Phase::Finished;
        out
    }

    /// Hands free work to idle workers.
    fn assign(&mut self, now: Duration, out: &mut Vec<Command>) {
        if !self.started {
            return;
        }
        let grants = match &mut self.phase {
            Phase::Training(training) => training.assign(&self.workers.idle(1)),
            Phase::Evaluating(evaluating) => evaluating.assign(&self.workers),
            Phase::Finished => return,
        };
        for (worker, work, reason) in grants {
            let lease = self.next_lease;
            self.next_lease += 1;
            self.leases.insert(lease, Lease { worker, work, since: now });
            self.workers.hold(worker, lease);
            out.push(Command::Lease { worker, lease, work, reason });
        }
    }
}

#[cfg(test)]
mod tests;
