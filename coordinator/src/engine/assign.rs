//! Who gets what next.

use std::collections::BTreeSet;
use std::time::Duration;

use lockstep_proto::keys::Key;

use super::command::{Command, LeaseId, Purpose, Report, Work, WorkerId};
use super::mutant::Mutant;
use super::pool::Kind;
use super::{Engine, Lease, Phase, pace};

/// Slices in one worker's hands at once: the second hides the way there and back. Shards need no second: a step's are given
/// out at once.
const SLICES: usize = 2;

impl Engine {
    /// Hands work to idle workers: first what others wait for, then what is free, then copies of what is late.
    pub(super) fn assign(&mut self, now: Duration, out: &mut Vec<Command>) {
        if !self.started {
            return;
        }
        if self.plan.ring && matches!(&self.phase, Phase::Working(pool) if matches!(pool.kind, Kind::Shards { .. })) {
            return self.sum_in_ring(now, out);
        }
        self.call_back(out);
        self.give_up_what_is_late(now, out);
        if self.is_behind() {
            self.follow(now, out);
            if self.is_behind() {
                return self.give_in_advance(now, out);
            }
        }
        self.ask_one_more(now, out);
        self.hand_out(now, out);
        self.copy_what_is_late(now, out);
        self.give_in_advance(now, out);
    }

    fn depth(&self) -> usize {
        match &self.phase {
            Phase::Working(pool) if matches!(pool.kind, Kind::Slices { .. }) => SLICES,
            _ => 1,
        }
    }

    /// Work that failed, is audited or is in dispute goes to somebody who has not answered it, if there is anybody.
    fn ask_one_more(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Phase::Working(pool) = &self.phase else { return };
        let due = [self.late.due(), pool.due()].concat();
        for (work, purpose) in due {
            let Phase::Working(pool) = &self.phase else { return };
            let Some(case) = pool.case(work).or_else(|| self.late.case(work)) else { continue };
            let fresh = |worker: &WorkerId| !case.knows(*worker);
            let idle = self.workers.idle(self.depth());
            let worker = match idle.iter().copied().find(fresh) {
                Some(worker) => worker,
                // one who has not answered it is there, only busy
                None if self.workers.staying().iter().any(fresh) => continue,
                None => {
                    // busy or not, or who is idle more often would be asked again and again
                    let mut next = self.workers.staying();
                    next.retain(|worker| !case.has_in_hand(*worker));
                    let next = next.into_iter().min_by_key(|worker| case.asked(*worker));
                    // somebody who only failed at it may still decide
                    let shows = |worker: &WorkerId| !case.needs_somebody_new() || !case.was_answered_by(*worker);
                    match next.filter(|worker| idle.contains(worker)).filter(shows) {
                        Some(worker) => worker,
                        None => continue,
                    }
                }
            };
            self.grant(now, worker, work, purpose, out);
        }
    }

    /// Free shards are cut over the idle workers by their pace, in blocks of neighbours; free slices are dealt round by
    /// round: everybody has one before anybody has two.
    fn hand_out(&mut self, now: Duration, out: &mut Vec<Command>) {
        for depth in 1..=self.depth() {
            let idle = self.workers.idle(depth);
            let Phase::Working(pool) = &mut self.phase else { return };
            if idle.is_empty() || pool.free() == 0 {
                continue;
            }
            let shares = match pool.kind {
                Kind::Shards { .. } => {
                    let pace = |worker: &WorkerId| if self.plan.even { None } else { self.workers.pace(*worker) };
                    let seconds: Vec<_> = idle.iter().map(pace).collect();
                    let shares = pace::shares(pool.free(), &seconds);
                    let nothing = idle.iter().zip(&shares).filter(|(_, share)| **share == 0);
                    nothing.for_each(|(worker, _)| self.workers.fade(*worker));
                    shares
                }
                Kind::Slices { .. } => vec![1; idle.len().min(pool.free())],
            };
            let purpose = pool.purpose();
            let blocks = pool.take(&shares);
            for (worker, block) in idle.into_iter().zip(blocks) {
                for work in block {
                    self.grant(now, worker, work, purpose, out);
                }
            }
        }
    }

    /// Near the end of a step idle workers compute again what others have had too long; the first answer counts.
    fn copy_what_is_late(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Phase::Working(pool) = &self.phase else { return };
        if pool.free() > 0 || !self.workers.anybody_idle() {
            return;
        }
        let pace = match pool.kind {
            Kind::Shards { .. } => &self.shards,
            Kind::Slices { .. } => &self.slices,
        };
        let late = |lease: &&Lease| {
            // what is not sent whole can't be compared
            let whole = matches!(lease.own, None | Some(Report::Gradient));
            (pool.held_once(lease.work) && whole || self.is(Mutant::CopyWithoutEnd))
                && pace.late(pool.len(lease.work)).is_some_and(|limit| now.saturating_sub(lease.since) > limit)
        };
        let late: BTreeSet<(Duration, Work)> =
            self.leases.values().filter(late).map(|lease| (lease.since, lease.work)).collect();
        for (_, work) in late {
            let Phase::Working(pool) = &self.phase else { return };
            let knows = |worker: &WorkerId| pool.case(work).is_some_and(|case| case.knows(*worker));
            let Some(worker) = self.workers.idle(1).into_iter().find(|worker| !knows(worker)) else { continue };
            self.grant(now, worker, work, Purpose::Copy, out);
        }
    }

    fn grant(&mut self, now: Duration, worker: WorkerId, work: Work, purpose: Purpose, out: &mut Vec<Command>) {
        let wanted = if self.audits(work) && !self.is(Mutant::SkipAudit) { 2 } else { 1 };
        let lease = self.lease(now, worker, work, purpose, out);
        let Phase::Working(pool) = &mut self.phase else { return };
        if self.late.case(work).is_some() {
            self.late.hold(work, lease, worker);
        } else {
            pool.hold(work, lease, worker, wanted);
        }
    }

    /// Puts `work` into a worker's hands.
    pub(super) fn lease(
        &mut self,
        now: Duration,
        worker: WorkerId,
        work: Work,
        purpose: Purpose,
        out: &mut Vec<Command>,
    ) -> LeaseId {
        let lease = self.next_lease;
        self.next_lease += u64::from(!(self.is(Mutant::RepeatLeases) && lease.is_multiple_of(7)));
        let own = match work {
            Work::Shards { step, .. } if self.goes_on(worker, work) && self.late.case(work).is_none() => {
                Some(self.report(now, worker, step))
            }
            _ => None,
        };
        self.leases.insert(lease, Lease { worker, work, since: now, own });
        self.workers.hold(worker, lease);
        out.push(Command::Lease { worker, lease, work, purpose, own });
        lease
    }

    /// Whether `work` is computed by two workers on purpose. A keyed draw, so that it can be told afterwards.
    pub(super) fn audits(&self, work: Work) -> bool {
        let Work::Shards { step, node } = work else { return false };
        if self.plan.audit <= 0.0 || self.workers.staying().len() < 2 {
            return false;
        }
        let key = Key::new(self.plan.seed, "audit", "");
        f64::from(key.stream(step as u32, node.level, node.index).unit()) < self.plan.audit
    }
}
