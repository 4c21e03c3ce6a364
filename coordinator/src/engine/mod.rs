//! The engine decides; the actor acts. Pure: events and the time go in, commands with their reasons come out.
//!
//! No async, no clock, no tensor here: ids, counts and times only, so that a simulator can run it a million times.

mod advance;
mod answers;
mod assign;
mod behind;
mod case;
mod collective;
mod command;
mod late;
mod mutant;
mod pace;
mod pool;
mod progress;
mod ring;
mod watch;
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

pub use command::{Command, Event, Finding, LeaseId, Outcome, Purpose, Report, Work, WorkerId};

use crate::plan::Plan;
use advance::InAdvance;
use behind::Behind;
use late::Late;
use mutant::Mutant;
use pace::Pace;
use pool::{Kind, Pool};
use ring::Rings;
use workers::Workers;

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
    /// A step or an evaluation.
    Working(Pool),
    Finished,
}

/// The state that decisions depend on.
#[derive(Debug)]
pub struct Engine {
    plan: Plan,
    version: u64,
    phase: Phase,
    /// What is still in hand of steps that are made.
    late: Late,
    workers: Workers,
    /// Where gradients are summed among the workers: who sums with whom.
    rings: Rings,
    leases: BTreeMap<LeaseId, Lease>,
    /// A lone worker's leases of steps that are not open yet; a ring has its own.
    in_advance: InAdvance,
    /// What only a worker has.
    behind: Behind,
    /// Somebody wants the run to end as soon as the coordinator has caught up.
    stopping: Option<(Duration, String)>,
    /// How the step that is about to be closed was reported by whoever made it.
    closed_by: Option<(WorkerId, Report)>,
    next_lease: LeaseId,
    /// How long shards and slices take.
    shards: Pace,
    slices: Pace,
    /// Set once `min_workers` are there: later losses do not hold the run up.
    started: bool,
    /// Since when too few workers are there. Cleared by an accepted answer, not by a join: a worker that comes and dies
    /// again and again must not keep a run waiting for ever.
    short_since: Option<Duration>,
    /// When the engine last heard of anything.
    heard: Duration,
    /// When the last checkpoint was asked for.
    kept: Duration,
    /// What is wrong with this engine.
    #[cfg(test)]
    mutant: Option<Mutant>,
}

/// Work in somebody's hands.
#[derive(Debug)]
struct Lease {
    worker: WorkerId,
    work: Work,
    since: Duration,
    /// Its holder makes the step that follows, and sends this.
    own: Option<Report>,
}

impl Engine {
    /// An engine at `position`; nothing happens before the first event.
    #[must_use]
    pub fn new(plan: Plan, position: Position) -> Self {
        let version = position.version;
        let phase = if position.evaluation_owed {
            Phase::Working(Pool::new(Kind::Slices { version }, plan.slices))
        } else if version >= plan.total_steps() {
            Phase::Finished
        } else {
            Phase::Working(Pool::new(Kind::Shards { step: version }, plan.leaves(version)))
        };
        Self {
            version,
            phase,
            late: Late::default(),
            workers: Workers::default(),
            rings: Rings::default(),
            leases: BTreeMap::new(),
            in_advance: InAdvance::default(),
            behind: Behind::at(version),
            stopping: None,
            closed_by: None,
            next_lease: 1,
            shards: Pace::default(),
            slices: Pace::default(),
            started: false,
            short_since: Some(Duration::ZERO),
            heard: Duration::ZERO,
            kept: Duration::ZERO,
            #[cfg(test)]
            mutant: None,
            plan,
        }
    }

    /// Where the run stands.
    #[must_use]
    pub fn position(&self) -> Position {
        let evaluating = matches!(&self.phase, Phase::Working(pool) if matches!(pool.kind, Kind::Slices { .. }))
            && !self.is(Mutant::OweNothing);
        Position { version: self.version, evaluation_owed: evaluating }
    }

    /// In a word, for `lockstep status`.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        match &self.phase {
            Phase::Finished => "finished",
            _ if !self.started => "waiting",
            Phase::Working(Pool { kind: Kind::Shards { .. }, .. }) => "training",
            Phase::Working(_) => "evaluating",
        }
    }

    /// How many more workers the run needs before it can go on, if it waits.
    #[must_use]
    pub fn waiting_for(&self) -> Option<usize> {
        if self.stalemate().is_some() {
            return Some(1);
        }
        let needed = if self.started { 1 } else { self.plan.min_workers };
        needed.checked_sub(self.workers.len()).filter(|missing| *missing > 0 && !self.is_finished())
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

    /// What is to be sent of `lease` by whoever makes the step that follows from it.
    #[must_use]
    pub fn report_of(&self, worker: WorkerId, lease: LeaseId) -> Option<Report> {
        self.leases.get(&lease).filter(|held| held.worker == worker).and_then(|held| held.own)
    }

    /// Whether this engine is wrong in this way.
    #[cfg(test)]
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Outside of tests no engine is.
    #[cfg(not(test))]
    const fn is(&self, _: Mutant) -> bool {
        false
    }

    fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    /// Takes in what happened at `now` (time since the run began) and says what to do, in order.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        if self.is_finished() {
            return out;
        }
        self.look(now);
        match event {
            Event::Joined { worker, makes_steps } => self.workers.join(worker, makes_steps, now),
            Event::Left { worker, reason } => self.lose(now, worker, &reason, &mut out),
            Event::Leaving { .. } if self.is(Mutant::GiveToLeaving) => {}
            Event::Leaving { worker } if self.is(Mutant::ForgetLeaving) => drop(self.workers.leave(worker)),
            Event::Leaving { worker } => self.workers.leaving(worker),
            Event::Beat { worker } => self.workers.beat(worker, now),
            Event::Answered { worker, lease, finding } => self.answered(now, worker, lease, finding, &mut out),
            Event::Refused { worker, lease, reason } => self.refused(now, worker, lease, &reason, false, &mut out),
            Event::Failed { worker, lease, reason } => self.refused(now, worker, lease, &reason, true, &mut out),
            Event::Named { worker, generation, id } => self.named(now, worker, generation, &id, &mut out),
            Event::Formed { worker, generation } => self.formed(now, worker, generation),
            Event::Waits { worker, generation } => self.waits(now, worker, generation),
            Event::Broken { worker, generation, reason } => self.broken(now, worker, generation, &reason, &mut out),
            Event::Tick => {}
            Event::Stop { reason } => self.stop(now, reason, &mut out),
        }
        if !self.is_finished() {
            self.look_after_workers(now, &mut out);
        }
        if !self.is_finished() {
            self.stop_when_there(now, &mut out);
        }
        if !self.is_finished() {
            self.assign(now, &mut out);
            out.extend(self.late.settle().into_iter().map(|version| Command::Forget { version }));
        }
        out
    }
}

#[cfg(test)]
mod tests;
