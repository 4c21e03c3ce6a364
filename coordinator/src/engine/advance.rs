//! Steps given out in advance. A lone worker that makes the optimizer step itself, with the bits that the coordinator's has, needs nobody's
//! parameters for the next one: it goes on while its answer travels and while the coordinator makes the same step.
//!
//! Only what follows an undisturbed step is in advance: where an answer can't be used, or its holder is late, what was given out after it is
//! called back.

use std::collections::VecDeque;
use std::time::Duration;

use lockstep_proto::tree::Node;

use super::command::{LeaseId, Purpose, Work, WorkerId};
use super::mutant::Mutant;
use super::{Command, Engine, Lease, Phase};

/// Whole steps that one worker has in hand beside the open one, in order.
#[derive(Debug, Default)]
pub(super) struct InAdvance {
    leases: VecDeque<(LeaseId, Work)>,
    /// The last one that was called back. Its holder does not hear of that, and makes its step.
    called_back: LeaseId,
}

impl InAdvance {
    pub(super) fn has(&self, lease: LeaseId) -> bool {
        self.leases.iter().any(|(one, _)| *one == lease)
    }
}

impl Engine {
    /// All of a step.
    pub(super) fn whole(&self, step: u64) -> Work {
        Work::Shards { step, node: Node::root(self.plan.leaves(step)) }
    }

    /// Whether `worker`, given `work`, is to make the optimizer step itself: it is alone, and has all of the open step or of one after it; or
    /// nobody else has the parameters.
    pub(super) fn goes_on(&self, worker: WorkerId, work: Work) -> bool {
        let Work::Shards { step, .. } = work else { return false };
        self.plan.in_advance > 0
            && step >= self.version
            && work == self.whole(step)
            && self.workers.makes_steps(worker)
            && (self.workers.staying() == [worker] || self.leader() == Some(worker))
    }

    /// The lease by which `worker` has all of the open step in hand and is to go on from there, if nobody else has anything of it.
    fn has_whole(&self, worker: WorkerId) -> Option<LeaseId> {
        let Phase::Working(pool) = &self.phase else { return None };
        let whole = self.whole(self.version);
        let goes_on = |lease: &Lease| lease.worker == worker && lease.work == whole && lease.own.is_some();
        let found = self.leases.iter().find(|(_, lease)| goes_on(lease)).map(|(lease, _)| *lease);
        found.filter(|_| pool.held_once(whole))
    }

    /// Gives a lone worker the steps after the open one, up to the next that something else follows.
    pub(super) fn give_in_advance(&mut self, now: Duration, out: &mut Vec<Command>) {
        let [worker] = self.workers.staying()[..] else { return };
        if !self.goes_on(worker, self.whole(self.version)) {
            return;
        }
        // what was called back after that is in its way: it has made the same steps when it comes to these, and can't make them again
        if self.has_whole(worker).is_none_or(|lease| lease < self.in_advance.called_back) {
            return;
        }
        while self.in_advance.leases.len() < self.plan.in_advance as usize {
            let step = self.version + 1 + self.in_advance.leases.len() as u64;
            // an evaluation comes before the next step
            let plan = &self.plan;
            if step >= plan.total_steps() || plan.evaluates(step) || self.stopping.is_some() {
                return;
            }
            let work = self.whole(step);
            let lease = self.lease(now, worker, work, Purpose::First, out);
            self.in_advance.leases.push_back((lease, work));
        }
    }

    /// Whether what is in advance follows what its holder has in hand of the open step. Who joins does not change that, and waits; who wants
    /// to go finishes it.
    fn is_in_order(&self) -> bool {
        let Some((first, work)) = self.in_advance.leases.front() else { return true };
        let follows = *work == self.whole(self.version + 1);
        let held = self.in_advance.leases.iter().all(|(lease, _)| self.leases.contains_key(lease));
        let holder = self.leases.get(first).map(|lease| lease.worker);
        follows && held && holder.is_some_and(|worker| self.has_whole(worker).is_some())
    }

    /// Calls back what does not follow the open step any more.
    pub(super) fn call_back(&mut self, out: &mut Vec<Command>) {
        if !self.is_in_order() {
            self.call_all_back(out);
        }
    }

    /// The same where the open step is closed with the answer of `made_by`, or with several: what is in advance follows its holder's, and so does
    /// whatever another worker comes to that has the step in hand and makes it.
    pub(super) fn call_back_behind(&mut self, made_by: Option<WorkerId>, out: &mut Vec<Command>) {
        let whole = self.whole(self.version);
        let makes_it = |lease: &&Lease| lease.own.is_some() && lease.work == whole && Some(lease.worker) != made_by;
        out.extend(self.leases.values().filter(makes_it).map(|lease| Command::Doubt { worker: lease.worker }));
        let holder =
            self.in_advance.leases.front().and_then(|(lease, _)| self.leases.get(lease)).map(|lease| lease.worker);
        if holder.is_some() && holder != made_by {
            self.call_all_back(out);
        }
    }

    /// The answers will be dropped.
    fn call_all_back(&mut self, out: &mut Vec<Command>) {
        if self.is(Mutant::NeverCallBack) {
            return;
        }
        for (lease, _) in std::mem::take(&mut self.in_advance.leases) {
            let Some(Lease { worker, .. }) = self.leases.remove(&lease) else { continue };
            self.workers.release(worker, lease);
            self.in_advance.called_back = self.in_advance.called_back.max(lease);
            out.push(Command::CallBack { worker, lease });
        }
    }

    /// The step that is opened now may be in somebody's hands already.
    pub(super) fn adopt(&mut self, now: Duration) {
        let Some((lease, work)) = self.in_advance.leases.pop_front() else { return };
        let whole = self.whole(self.version);
        let (Phase::Working(pool), Some(held)) = (&mut self.phase, self.leases.get_mut(&lease)) else { return };
        if work == whole {
            // its holder begins with it now
            held.since = now;
            pool.take_all();
            pool.hold(work, lease, held.worker, 1);
        }
    }
}
