//! Steps that only their workers have made. A lone worker that makes the optimizer step itself need not send each gradient for the coordinator to
//! make the same step of: it says what its shards counted, and sends parameters and optimizer state when somebody wants them, and every now and
//! then. Until then the coordinator is behind. Where that worker is lost, or something is wrong with what it says, the run goes back to what the
//! coordinator has, and the steps since are made again, to the same bits.

use std::time::Duration;

use super::advance::InAdvance;
use super::command::{Command, Outcome, Report, Work, WorkerId};
use super::mutant::Mutant;
use super::pool::{Kind, Pool};
use super::{Engine, Lease, Phase};

/// Steps that must fit into the time that may be lost, or each gradient is sent: what is sent instead is two or three times as long, and a slow
/// worker's gradients travel while it computes (net6 on two cores, 9 steps in 2 s, was 1 to 2% slower without them).
pub(super) const WORTH_IT: f64 = 32.0;

/// How long a run that is stopped waits for what only a worker has: less than those wait who kill what does not end.
const STOPPING: Duration = Duration::from_secs(5);

/// How far behind the coordinator is.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// It has the parameters of this version.
    pub(super) known: u64,
    /// When it got them, or asked for those that it will have next.
    since: Duration,
    /// Who made the steps since.
    leader: Option<WorkerId>,
    /// Before this version every gradient is sent: something was wrong with a step that was not, or it was lost.
    open_until: u64,
}

impl Behind {
    pub(super) fn at(version: u64) -> Self {
        Self { known: version, ..Self::default() }
    }

    pub(super) fn open_until(&self) -> u64 {
        self.open_until
    }

    /// Has every gradient sent before this version.
    pub(super) fn open_up_to(&mut self, version: u64) {
        self.open_until = self.open_until.max(version);
    }

    /// Whether as much time has gone by as may be lost.
    pub(super) fn is_long_ago(&self, now: Duration, every: Duration) -> bool {
        now.saturating_sub(self.since) >= every
    }

    /// Parameters are on their way.
    pub(super) fn asked(&mut self, now: Duration) {
        self.since = now;
    }
}

impl Engine {
    /// Whether the parameters that the open step begins with are somewhere else.
    pub(super) fn is_behind(&self) -> bool {
        self.behind.known < self.version
    }

    /// The worker that alone has them.
    pub(super) fn leader(&self) -> Option<WorkerId> {
        self.behind.leader.filter(|_| self.is_behind())
    }

    /// Whether the coordinator will not have the parameters of `step` when all steps before it are answered as they were asked for.
    fn will_lack(&self, step: u64) -> bool {
        match step.checked_sub(1).filter(|before| *before >= self.version) {
            Some(before) => {
                let whole = self.whole(before);
                self.leases.values().any(|lease| lease.work == whole && lease.own == Some(Report::Counts))
            }
            None => self.is_behind(),
        }
    }

    /// What `worker` is to send of `step`, all of which it is given and makes.
    pub(super) fn report(&mut self, now: Duration, worker: WorkerId, step: u64) -> Report {
        let Some(every) = self.plan.catch_up else { return Report::Gradient };
        let seconds = self.workers.pace(worker).map(|shard| shard * f64::from(self.plan.leaves(step)));
        let quick = seconds.is_some_and(|seconds| seconds * WORTH_IT <= every.as_secs_f64());
        let long_ago = self.behind.is_long_ago(now, every);
        // somebody answered it already: what is sent is compared
        let answered = matches!(&self.phase, Phase::Working(pool) if pool.case(self.whole(step)).is_some());
        let wanted =
            !quick || long_ago || answered || step < self.behind.open_until || self.is_wanted(now, &[worker], step + 1);
        match (wanted && !self.is(Mutant::StayBehind), self.will_lack(step)) {
            (false, _) => Report::Counts,
            (true, false) => Report::Gradient,
            (true, true) => {
                self.behind.asked(now);
                Report::State
            }
        }
    }

    /// Whether something needs the parameters of `version` here, to which `workers` come.
    pub(super) fn is_wanted(&self, now: Duration, workers: &[WorkerId], version: u64) -> bool {
        let plan = &self.plan;
        let mut staying = self.workers.staying();
        if plan.ring {
            staying.truncate(plan.shards as usize);
        }
        version >= plan.total_steps()
            || plan.evaluates(version)
            || plan.checkpoints(version)
            || self.is_long_without_checkpoint(now)
            || self.stopping.is_some()
            || staying != workers
    }

    /// A step is made: where its parameters are.
    pub(super) fn made(&mut self, now: Duration, report: Option<(WorkerId, Report)>) {
        match report {
            Some((worker, Report::Counts)) => self.behind.leader = Some(worker),
            _ => {
                (self.behind.known, self.behind.since) = (self.version, now);
            }
        }
    }

    /// Whoever made the steps that the coordinator lacks makes the next one, too, whoever else is there.
    pub(super) fn follow(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Phase::Working(pool) = &self.phase else { return };
        if pool.free() == 0 {
            return;
        }
        // also if it wants to go: what it is asked for now is what it came to
        let Some(leader) = self.leader() else { return };
        let (work, purpose) = (self.whole(self.version), pool.purpose());
        let lease = self.lease(now, leader, work, purpose, out);
        if let Phase::Working(pool) = &mut self.phase {
            pool.take_all();
            pool.hold(work, lease, leader, 1);
        }
    }

    /// Goes back to the parameters that the coordinator has. Steps before `open_until` are made in the open then.
    pub(super) fn roll_back(&mut self, open_until: u64, reason: &str, out: &mut Vec<Command>) {
        let known = self.behind.known;
        let shards: u32 = (known..self.version).map(|step| self.plan.leaves(step)).sum();
        let undone = |lease: &Lease| matches!(lease.work, Work::Shards { step, .. } if step >= known);
        let over: Vec<_> = self.leases.iter().filter(|(_, lease)| undone(lease)).map(|(lease, _)| *lease).collect();
        for lease in over {
            let Some(Lease { worker, .. }) = self.leases.remove(&lease) else { continue };
            self.workers.release(worker, lease);
            out.push(Command::CallBack { worker, lease });
        }
        self.in_advance = InAdvance::default();
        self.behind.leader = None;
        self.behind.open_up_to(open_until);
        if !self.is(Mutant::KeepWhatIsLost) {
            self.version = known;
        }
        self.phase =
            Phase::Working(Pool::new(Kind::Shards { step: self.version }, self.plan.leaves(self.version)).afresh());
        out.push(Command::RollBack { version: known, shards, reason: reason.to_owned() });
    }

    /// Gives the open step up where its holder is late, others are idle, and nobody else can compute it: with the steps that they lack.
    pub(super) fn give_up_what_is_late(&mut self, now: Duration, out: &mut Vec<Command>) {
        let unsent = |lease: &&Lease| matches!(lease.own, Some(Report::Counts | Report::State));
        let whole = self.whole(self.version);
        let Some(held) = self.leases.values().filter(unsent).find(|lease| lease.work == whole) else { return };
        // what is on its way takes longer than a step, but no longer than a worker may be silent
        if now.saturating_sub(held.since) > self.plan.worker_timeout && self.workers.anybody_idle() {
            self.roll_back(self.version + 1, "its holder is late, and others wait for it", out);
        }
    }

    /// Ends the run when the coordinator has caught up: whoever made its steps is asked for what it came to.
    pub(super) fn stop(&mut self, now: Duration, reason: String, out: &mut Vec<Command>) {
        // who asks twice wants no more waiting
        if !self.is_behind() || self.stopping.is_some() {
            return self.finish(Outcome::Stopped { reason }, out);
        }
        self.stopping = Some((now, reason));
    }

    /// Does so if it has, or takes too long.
    pub(super) fn stop_when_there(&mut self, now: Duration, out: &mut Vec<Command>) {
        let there = !self.is_behind();
        let done = self.stopping.take_if(|(since, _)| there || now.saturating_sub(*since) > STOPPING);
        if let Some((_, reason)) = done {
            self.finish(Outcome::Stopped { reason }, out);
        }
    }

    /// Whether the run ends as soon as the coordinator has caught up, and how long that may take.
    #[must_use]
    pub fn stops_within(&self) -> Option<Duration> {
        self.stopping.as_ref().map(|_| STOPPING)
    }
}
