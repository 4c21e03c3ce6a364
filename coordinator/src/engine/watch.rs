//! Looking after workers: who is silent, who is stuck, who can't be trusted.

use std::time::Duration;

use super::command::{Command, Outcome, Work, WorkerId};
use super::mutant::Mutant;
use super::pool::Kind;
use super::{Engine, Lease, Phase};

/// The actor lets the engine hear of the time every 100 ms: a longer gap means that the coordinator itself stood still (a
/// stopped process, a busy machine), and messages wait that it has not read. Nobody is blamed for the rest of it.
const BLIND: Duration = Duration::from_millis(500);

impl Engine {
    /// Notes that it is `now`, and moves every deadline by the time in which the coordinator did not look.
    pub(super) fn look(&mut self, now: Duration) {
        let gap = now.saturating_sub(self.heard).saturating_sub(BLIND);
        self.heard = self.heard.max(now);
        if gap.is_zero() || self.is(Mutant::NoForgiveness) {
            return;
        }
        self.workers.forgive(gap);
        self.leases.values_mut().for_each(|lease| lease.since += gap);
        self.rings.forgive(gap);
        self.short_since = self.short_since.map(|since| since + gap);
    }

    /// Declares workers dead that were silent too long, and gives up when nobody comes.
    pub(super) fn look_after_workers(&mut self, now: Duration, out: &mut Vec<Command>) {
        for worker in self.workers.silent(now, self.plan.worker_timeout) {
            if self.is(Mutant::NoTimeout) {
                break;
            }
            let reason = format!("no heartbeat for {:.1} s", self.plan.worker_timeout.as_secs_f64());
            self.dismiss(now, worker, reason, true, out);
        }
        for worker in self.workers.gone() {
            let in_ring = || self.rings.current.as_ref().is_some_and(|ring| ring.has(worker));
            if self.leader() == Some(worker) || (self.is_behind() && in_ring()) {
                // first it sends what it came to
                continue;
            }
            self.dismiss(now, worker, "it was asked to stop".to_owned(), true, out);
        }
        // who has a part waits for all others: there it shows otherwise who is stuck
        let stuck = |lease: &&Lease| {
            now.saturating_sub(lease.since) > self.plan.lease_timeout && !matches!(lease.work, Work::Part { .. })
        };
        // what is in advance waits for its holder's own answer
        let open = self.leases.iter().filter(|(lease, _)| !self.in_advance.has(**lease)).map(|(_, held)| held);
        let stuck: Vec<_> = open.filter(stuck).map(|lease| (lease.worker, lease.work)).collect();
        for (worker, work) in stuck {
            let reason = format!("no answer to {work} for {:.1} s", self.plan.lease_timeout.as_secs_f64());
            self.dismiss(now, worker, reason, true, out);
        }
        self.watch_ring(now, out);
        self.started |= self.workers.len() >= self.plan.min_workers;
        let stalemate = self.stalemate();
        let enough = self.started && !self.workers.is_empty() && stalemate.is_none();
        if enough {
            return;
        }
        let since = *self.short_since.get_or_insert(now);
        if now.saturating_sub(since) >= self.plan.wait_for_workers {
            let waited = self.plan.wait_for_workers.as_secs();
            let (here, needed) = (self.workers.len(), if self.started { 1 } else { self.plan.min_workers });
            let reason = match stalemate {
                Some(work) => format!("workers differ in {work}, and nobody new came to decide in {waited} s"),
                None => format!("{here} of {needed} workers after waiting {waited} s"),
            };
            self.finish(Outcome::NoWorkers { reason }, out);
        }
    }

    /// What only somebody new can decide, if nobody is who may.
    pub(super) fn stalemate(&self) -> Option<Work> {
        let Phase::Working(pool) = &self.phase else { return None };
        let work = pool.needs_somebody_new()?;
        let case = pool.case(work)?;
        self.workers.staying().into_iter().all(|worker| case.was_answered_by(worker)).then_some(work)
    }

    /// Ends a worker's session, if it is there.
    pub(super) fn dismiss(
        &mut self,
        now: Duration,
        worker: WorkerId,
        reason: String,
        may_return: bool,
        out: &mut Vec<Command>,
    ) {
        if self.workers.get(worker).is_some() {
            self.lose(now, worker, &reason, out);
            out.push(Command::Dismiss { worker, reason, may_return });
        }
    }

    /// Gives a lost worker's leases back to the pool.
    pub(super) fn lose(&mut self, now: Duration, worker: WorkerId, reason: &str, out: &mut Vec<Command>) {
        let Some(state) = self.workers.leave(worker) else { return };
        let mut shards = 0;
        for lease in state.leases {
            let Some(Lease { work, .. }) = self.leases.remove(&lease) else { continue };
            self.late.lost(work, lease);
            if self.is(Mutant::DropReissue) {
                continue;
            }
            let open = self.open_shards(work);
            if let Phase::Working(pool) = &mut self.phase {
                let units = pool.lost(work, lease);
                shards += match work {
                    Work::Shards { step, .. } if self.in_advance.has(lease) => self.plan.leaves(step),
                    Work::Shards { .. } => units,
                    Work::Part { .. } => open,
                    Work::Slice { .. } => 0,
                };
            }
        }
        out.push(Command::Lost { worker, reissued: shards, reason: reason.to_owned() });
        self.leave_ring(worker, out);
        if self.leader() == Some(worker) && !self.is(Mutant::GoOnWithout) {
            // in the open up to here, so that one that dies again and again still brings the run on
            self.roll_back(self.version, reason, out);
        }
        if self.workers.is_empty() {
            self.short_since.get_or_insert(now);
        }
    }

    /// Sends a worker away for good. What it gave for the open step can't be trusted either.
    pub(super) fn quarantine(&mut self, now: Duration, worker: WorkerId, reason: String, out: &mut Vec<Command>) {
        self.dismiss(now, worker, reason, false, out);
        let Phase::Working(pool) = &mut self.phase else { return };
        if !pool.used(worker) {
            return;
        }
        *pool = pool.afresh();
        out.push(match pool.kind {
            Kind::Shards { step } => Command::Reopen { step },
            Kind::Slices { version } => Command::Evaluate { version },
        });
    }
}
