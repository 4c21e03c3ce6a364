//! What the actor would do with the engine's commands, and what must never be among them.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_proto::tree::Node;

use super::super::{Command, LeaseId, Outcome, Position, Purpose, Report, Work, WorkerId};
use super::counts::Counts;
use super::toy;
use crate::plan::Plan;

/// A whole answer on its way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Payload {
    pub(super) version: u64,
    pub(super) value: u64,
    /// What its worker was asked to send, and what it came to.
    pub(super) own: Option<Report>,
    pub(super) state: u64,
}

/// Work in a worker's hands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) lease: LeaseId,
    pub(super) work: Work,
    pub(super) purpose: Purpose,
    /// The parameters that it was sent.
    pub(super) input: Payload,
    /// It was sent none, and goes on from its own step.
    pub(super) own: bool,
    /// It makes the step that follows, for itself, and sends this.
    pub(super) report: Option<Report>,
}

/// What a checkpoint holds.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub(super) position: Position,
    value: u64,
    used: Vec<u8>,
    evaluations: Vec<u64>,
}

/// The actor's state.
pub(super) struct World {
    plan: Plan,
    pub(super) version: u64,
    pub(super) value: u64,
    /// The version of that value and what was used then, where only a worker made the steps since.
    mark: Option<(u64, Vec<u8>)>,
    kept: BTreeMap<u64, u64>,
    held: BTreeMap<LeaseId, Payload>,
    /// Nodes that are summed into the open step, in the order in which they came.
    open: Vec<(Node, Payload)>,
    /// Shards of the open step that a ring summed, and their sum.
    parts: Vec<u32>,
    sum: Option<Payload>,
    /// How often each place of the epoch's order was used.
    used: Vec<u8>,
    evaluating: Option<BTreeSet<u32>>,
    pub(super) evaluations: Vec<u64>,
    pub(super) saved: Saved,
    pub(super) holders: BTreeMap<LeaseId, (WorkerId, Work)>,
    /// The parameters that each worker was sent last, or comes to by itself.
    holds: BTreeMap<WorkerId, u64>,
    /// Every part that was given out since the last step.
    given: BTreeMap<LeaseId, (WorkerId, Work)>,
    pub(super) outcome: Option<Outcome>,
    pub(super) counts: Counts,
    /// Sum in the order of arrival: what must be noticed.
    pub(super) by_arrival: bool,
}

/// A broken promise, in words.
pub(super) type Broken = String;

macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let start = Position { version: 0, evaluation_owed: false };
        let used = vec![0; plan.examples as usize];
        Self {
            version: 0,
            value: 0,
            mark: None,
            kept: BTreeMap::new(),
            held: BTreeMap::new(),
            open: Vec::new(),
            evaluating: None,
            evaluations: Vec::new(),
            saved: Saved { position: start, value: 0, used: used.clone(), evaluations: Vec::new() },
            parts: Vec::new(),
            sum: None,
            used,
            holders: BTreeMap::new(),
            holds: BTreeMap::new(),
            given: BTreeMap::new(),
            outcome: None,
            counts: Counts::default(),
            by_arrival: false,
            plan,
        }
    }

    /// The coordinator died and begins again at its last checkpoint.
    pub(super) fn restart(&mut self) {
        let Saved { position, value, used, evaluations } = self.saved.clone();
        let fresh = Self::new(self.plan.clone());
        *self = Self {
            version: position.version,
            value,
            used,
            evaluations,
            evaluating: position.evaluation_owed.then(BTreeSet::new),
            saved: self.saved.clone(),
            counts: self.counts,
            by_arrival: self.by_arrival,
            ..fresh
        };
    }

    /// Whether `holders` has so many of `work` that the same is computed for nothing.
    fn crowded(&self, work: Work) -> bool {
        self.holders.values().filter(|(_, held)| *held == work).count() > 3
    }

    /// Does one command; new work for a worker comes back.
    pub(super) fn perform(
        &mut self,
        command: Command,
        now: &mut Option<(LeaseId, Payload)>,
    ) -> Result<Option<(WorkerId, Job)>, Broken> {
        ensure!(self.outcome.is_none(), "{command:?} after the end");
        match command {
            Command::Lease { worker, lease, work, purpose, own } => {
                let job = self.lease(worker, lease, work, purpose)?;
                let next = job.input.version + u64::from(own.is_some());
                self.holds.insert(worker, next);
                let input = Payload { own, ..job.input };
                return Ok(Some((worker, Job { report: own, input, ..job })));
            }
            Command::Doubt { worker } => drop(self.holds.remove(&worker)),
            Command::RollBack { version, .. } => {
                let (known, used) = self.mark.take().unwrap_or_else(|| (self.version, self.used.clone()));
                ensure!(version == known, "back to version {version}, and {known} is here");
                let ended = |version| version / self.plan.steps_per_epoch();
                self.counts.epochs_undone += u64::from(ended(known) < ended(self.version));
                (self.version, self.used) = (known, used);
                self.open.clear();
                self.parts.clear();
                self.holds.clear();
                self.counts.rolled_back += 1;
            }
            Command::CallBack { worker, lease } => {
                self.holders.remove(&lease);
                self.holds.remove(&worker);
                self.counts.called_back += 1;
            }
            Command::Hold { worker, lease, .. } => {
                // a part waits for the others, and nothing is wrong with it
                if !self.given.contains_key(&lease) {
                    self.holds.remove(&worker);
                }
                self.held.extend(now.take_if(|(this, _)| *this == lease));
                ensure!(self.held.len() <= 4 * self.plan.shards as usize, "{} answers are put aside", self.held.len());
            }
            Command::Sum { lease, node, .. } => {
                let payload = self.find(lease, now).ok_or("a sum of an answer that is not there")?;
                self.sum(node, payload)?;
            }
            Command::Part { lease, .. } => {
                let payload = self.find(lease, now).ok_or("a part of an answer that is not there")?;
                let (_, work) = self.given.get(&lease).ok_or("a part that nobody was given")?;
                let Work::Part { step, rank, first, end, .. } = *work else { return Err(format!("{work} as a part")) };
                ensure!(step == self.version && payload.version == step, "{work} after {} steps", self.version);
                self.parts.extend(first..end);
                self.sum = if rank == 0 { Some(payload) } else { self.sum };
            }
            Command::Form { .. } => self.counts.rings += 1,
            Command::Dissolve { generation, reissued, members, .. } => {
                // they may have made a step that nobody knows of
                self.holds.retain(|worker, _| !members.contains(worker));
                self.holders
                    .retain(|_, (_, held)| !matches!(held, Work::Part { generation: of, .. } if *of == generation));
                self.counts.reissued += u64::from(reissued);
                self.counts.dissolved += 1;
            }
            Command::Count { lease, slice, .. } => {
                let payload = self.find(lease, now).ok_or("a count of an answer that is not there")?;
                let version = self.version;
                ensure!(payload.version == version, "a slice of version {} after {version} steps", payload.version);
                ensure!(self.mark.is_none(), "an evaluation of what only a worker has");
                let right = toy::compute(&self.plan, Work::Slice { version, slice }, self.value);
                ensure!(payload.value == right, "slice {slice} of version {version} is wrong");
                let counted = self.evaluating.as_mut().ok_or("a slice outside of an evaluation")?;
                ensure!(counted.insert(slice), "slice {slice} counted twice");
            }
            Command::Drop { lease, reason, .. } => {
                self.find(lease, now);
                self.counts.dropped += 1;
                self.counts.compared_late += u64::from(reason.contains("agrees"));
            }
            Command::Dispute { .. } => self.counts.disputes += 1,
            Command::Reopen { step } => {
                ensure!(step == self.version, "step {step} begun again after {} steps", self.version);
                self.open.clear();
                self.held.clear();
                // what is in hand of it is worth nothing any more
                self.holders.retain(|_, (_, work)| !matches!(work, Work::Shards { step: held, .. } if *held == step));
                self.counts.reopened += 1;
            }
            Command::Keep { version } => {
                ensure!(version == self.version, "version {version} kept, {} is here", self.version);
                ensure!(self.mark.is_none(), "kept what only a worker has");
                self.kept.insert(version, self.value);
                ensure!(self.kept.len() <= 3, "{} old versions are kept", self.kept.len());
            }
            Command::Forget { version } => drop(self.kept.remove(&version)),
            Command::Taint { version, .. } => return Err(format!("step {version} was made with a wrong answer")),
            Command::Step { step } => self.step(step)?,
            Command::EndEpoch { epoch } => {
                ensure!(self.plan.ends_epoch(self.version), "epoch {epoch} ends after {} steps", self.version);
                ensure!(epoch == self.plan.epoch(self.version - 1), "epoch {epoch} ends after {} steps", self.version);
                let whole = self.version.is_multiple_of(self.plan.steps_per_epoch());
                let fits = |times: &u8| *times == 1 || (*times == 0 && !whole);
                ensure!(self.used.iter().all(fits), "epoch {epoch} used its examples {:?}", self.used);
                self.used.fill(0);
            }
            Command::Evaluate { version } => {
                ensure!(version == self.version, "version {version} evaluated after {} steps", self.version);
                self.counts.reopened += u64::from(self.evaluating.is_some());
                self.evaluating = Some(BTreeSet::new());
                self.held.clear();
                self.holders.retain(|_, (_, work)| !matches!(work, Work::Slice { .. }));
            }
            Command::Evaluated { version } => {
                let counted = self.evaluating.take().ok_or("an evaluation ends that never began")?;
                ensure!(counted.len() as u32 == self.plan.slices, "{} slices of {}", counted.len(), self.plan.slices);
                self.evaluations.push(version);
            }
            Command::Checkpoint { position, .. } => {
                let owed = self.evaluating.is_some();
                let here = Position { version: self.version, evaluation_owed: owed };
                ensure!(self.mark.is_none(), "a checkpoint of what only a worker has");
                ensure!(position == here, "a checkpoint says {position:?}, the run is at {here:?}");
                let (used, evaluations) = (self.used.clone(), self.evaluations.clone());
                self.saved = Saved { position, value: self.value, used, evaluations };
            }
            Command::Lost { worker, reissued, .. } => {
                self.holders.retain(|_, (holder, _)| *holder != worker);
                self.counts.reissued += u64::from(reissued);
            }
            Command::Reissue { worker, .. } => {
                self.holds.remove(&worker);
                self.counts.refused += 1;
            }
            Command::Dismiss { may_return, .. } => self.counts.quarantined += u64::from(!may_return),
            Command::Finish { outcome, .. } => self.outcome = Some(outcome),
        }
        Ok(None)
    }

    fn lease(&mut self, worker: WorkerId, lease: LeaseId, work: Work, purpose: Purpose) -> Result<Job, Broken> {
        if let Work::Part { .. } = work {
            self.given.insert(lease, (worker, work));
        }
        let asked = match work {
            Work::Shards { step, .. } | Work::Part { step, .. } => step,
            Work::Slice { version, .. } => version,
        };
        // as the actor: nothing is sent to whoever has it, or comes to it by itself
        let in_advance = asked > self.version && !matches!(work, Work::Slice { .. });
        let own = in_advance || self.holds.get(&worker) == Some(&asked);
        let value = match asked == self.version {
            // whatever its holder comes to
            _ if in_advance || (own && self.mark.is_some()) => Some(0),
            true if self.mark.is_some() => None,
            true => Some(self.value),
            false => self.kept.get(&asked).copied(),
        };
        let value = value.ok_or_else(|| format!("{work} needs parameters that are gone"))?;
        self.counts.in_advance += u64::from(in_advance);
        ensure!(self.holders.insert(lease, (worker, work)).is_none(), "lease {lease} is given out twice");
        ensure!(!self.crowded(work), "{work} is in too many hands");
        let twice = self.holders.iter().filter(|(_, held)| **held == (worker, work)).count() > 1;
        ensure!(!twice, "worker {worker} has {work} twice");
        if let (Purpose::First, Work::Shards { step, node }) = (purpose, work) {
            let cover = node.covers(self.plan.leaves(step));
            let summed = self
                .open
                .iter()
                .any(|(other, _)| cover.clone().any(|s| other.covers(self.plan.leaves(step)).contains(&s)));
            ensure!(!summed, "{work} is given out, and summed already");
        }
        match purpose {
            Purpose::Copy => self.counts.copies += 1,
            Purpose::Audit => self.counts.audits += 1,
            _ => {}
        }
        Ok(Job {
            lease,
            work,
            purpose,
            input: Payload { version: asked, value, ..Payload::default() },
            own,
            report: None,
        })
    }

    fn find(&mut self, lease: LeaseId, now: &mut Option<(LeaseId, Payload)>) -> Option<Payload> {
        match now.take_if(|(this, _)| *this == lease) {
            Some((_, payload)) => Some(payload),
            None => self.held.remove(&lease),
        }
    }

    fn sum(&mut self, node: Node, payload: Payload) -> Result<(), Broken> {
        let step = self.version;
        ensure!(payload.version == step, "an answer of version {} in the sum of step {step}", payload.version);
        let leaves = self.plan.leaves(step);
        for (other, _) in &self.open {
            let cover = other.covers(leaves);
            ensure!(!node.covers(leaves).any(|shard| cover.contains(&shard)), "{node:?} and {other:?} in one sum");
        }
        self.open.push((node, payload));
        Ok(())
    }

    fn step(&mut self, step: u64) -> Result<(), Broken> {
        ensure!(step == self.version, "step {step} made after {} steps", self.version);
        let leaves = self.plan.leaves(step);
        if self.plan.ring {
            return self.ring_step(step, leaves);
        }
        let open = std::mem::take(&mut self.open);
        let covered: u32 = open.iter().map(|(node, _)| node.covers(leaves).len() as u32).sum();
        ensure!(covered == leaves, "step {step} made with {covered} of {leaves} shards");
        let unsent = |(_, sum): &&(Node, Payload)| matches!(sum.own, Some(Report::Counts | Report::State));
        if let Some((_, sum)) = open.iter().find(unsent) {
            return self.made_elsewhere(step, *sum);
        }
        ensure!(self.mark.is_none(), "a sum for step {step}, whose parameters only a worker has");
        let root = if self.by_arrival {
            open.iter().map(|(_, sum)| sum.value).reduce(toy::add)
        } else {
            let value = |node| open.iter().find(|(n, _)| *n == node).map(|(_, sum)| sum.value);
            toy::tree(Node::root(leaves), leaves, &mut { value })
        };
        self.value = toy::update(self.value, root.ok_or("a step without a sum")?);
        self.commit(step)
    }

    /// A ring's step: each shard once, and one sum.
    fn ring_step(&mut self, step: u64, leaves: u32) -> Result<(), Broken> {
        let mut parts = std::mem::take(&mut self.parts);
        parts.sort_unstable();
        ensure!(parts.iter().copied().eq(0..leaves), "step {step} made with the shards {parts:?} of {leaves}");
        self.given.retain(|_, (_, work)| matches!(work, Work::Part { step: of, .. } if *of > step));
        let sum = self.sum.take().ok_or("a step without a sum")?;
        if let Some(Report::Counts | Report::State) = sum.own {
            return self.made_elsewhere(step, sum);
        }
        ensure!(self.mark.is_none(), "a sum for step {step}, whose parameters only a ring has");
        self.value = toy::update(self.value, sum.value);
        self.commit(step)
    }

    /// A step whose gradient stays where it was made.
    fn made_elsewhere(&mut self, step: u64, sum: Payload) -> Result<(), Broken> {
        self.mark.get_or_insert((self.version, self.used.clone()));
        self.commit(step)?;
        self.counts.behind += 1;
        if sum.own == Some(Report::State) {
            (self.value, self.mark) = (sum.state, None);
        }
        Ok(())
    }

    fn commit(&mut self, step: u64) -> Result<(), Broken> {
        for place in (0..self.plan.shards).flat_map(|shard| self.plan.shard(step, shard)) {
            self.used[place as usize] += 1;
        }
        self.version += 1;
        Ok(())
    }
}
