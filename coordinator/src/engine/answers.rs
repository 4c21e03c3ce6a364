//! What becomes of an answer.

use std::borrow::Cow;
use std::time::Duration;

use super::case::Verdict;
use super::command::{Command, Finding, LeaseId, Outcome, Report, Work, WorkerId};
use super::mutant::Mutant;
use super::{Engine, Lease, Phase};

/// Refused answers in a row after which a worker is sent away: one may be a damaged message, three are the worker or its
/// link.
const STRIKES: u32 = 3;

/// How often somebody may say that the same work can't be computed before it is believed.
pub(super) const FAILURES: u32 = 2;

pub(super) const WHAT_TO_DO: &str = "if the training diverged, lower optimizer.lr or set optimizer.clip_grad_norm";

impl Engine {
    pub(super) fn answered(
        &mut self,
        now: Duration,
        worker: WorkerId,
        lease: LeaseId,
        finding: Finding,
        out: &mut Vec<Command>,
    ) {
        self.workers.beat(worker, now);
        let Some(Lease { work, since, own, .. }) = self.give_back(worker, lease) else {
            out.push(drop_it(worker, lease, "the lease was given to another worker, or is answered already"));
            return;
        };
        let finding = match finding {
            Finding::NotFinite(_) if self.is(Mutant::AcceptNotFinite) => Finding::Bits(0),
            other => other,
        };
        if let Work::Part { .. } = work {
            return self.part_answered(now, worker, lease, work, finding, out);
        }
        if let (Some(Report::Counts | Report::State), Finding::NotFinite(what)) = (own, &finding) {
            out.push(drop_it(worker, lease, "something in it is not finite"));
            return self.make_in_the_open(worker, work, what, out);
        }
        let took = now.saturating_sub(since);
        let Phase::Working(pool) = &mut self.phase else { return };
        if let Work::Shards { .. } = work {
            self.workers.took(worker, took, pool.len(work));
        }
        if self.late.has(work, lease) {
            let verdict = self.late.testify(work, worker, lease, finding);
            self.compare_late(now, worker, lease, work, verdict, out);
        } else if pool.has(work, lease) {
            self.closed_by = own.map(|report| (worker, report));
            let units = pool.len(work);
            let said = match &finding {
                Finding::NotFinite(what) => what.clone(),
                Finding::Bits(_) => "it is audited".to_owned(),
            };
            let verdict = pool.testify(work, worker, lease, finding);
            match work {
                _ if !matches!(verdict, Verdict::Accept { .. }) => {}
                Work::Shards { .. } => self.shards.took(took, units),
                Work::Slice { .. } => self.slices.took(took, units),
                Work::Part { .. } => {}
            }
            self.decide(now, worker, lease, work, said, verdict, out);
        } else if self.is(Mutant::AcceptStale) {
            out.push(use_it(worker, lease, work));
        } else {
            out.push(drop_it(worker, lease, "its work is done or begun anew"));
        }
    }

    /// Takes `lease` out of its holder's hands.
    fn give_back(&mut self, worker: WorkerId, lease: LeaseId) -> Option<Lease> {
        self.leases.get(&lease).filter(|held| held.worker == worker)?;
        self.workers.release(worker, lease);
        self.leases.remove(&lease)
    }

    #[expect(clippy::too_many_arguments, reason = "one call; each is a fact of the answer")]
    fn decide(
        &mut self,
        now: Duration,
        worker: WorkerId,
        lease: LeaseId,
        work: Work,
        said: String,
        verdict: Verdict,
        out: &mut Vec<Command>,
    ) {
        match verdict {
            Verdict::Hold => out.push(Command::Hold { worker, lease, reason: format!("{work}: {said}") }),
            Verdict::Accept { worker: accepted, lease, forget, odd } => {
                self.closed_by = self.closed_by.filter(|_| accepted == worker);
                let worker = accepted;
                self.workers.clear(worker);
                self.short_since = None;
                out.push(use_it(worker, lease, work));
                out.extend(forget.into_iter().map(|(worker, lease)| drop_it(worker, lease, "another one was used")));
                self.send_away(now, work, odd, out);
            }
            Verdict::Same => {
                self.workers.clear(worker);
                out.push(drop_it(worker, lease, "it agrees with the one that was used"));
            }
            Verdict::Dispute { first } => {
                out.push(drop_it(worker, lease, "it differs from the one that was used"));
                out.push(Command::Dispute { work, first, second: worker });
            }
            Verdict::Confirmed { odd } | Verdict::Overturned { odd } => {
                out.push(drop_it(worker, lease, "it has decided between two others"));
                self.send_away(now, work, odd, out);
            }
            Verdict::NotFinite(what) => return self.not_finite(work, &what, out),
            Verdict::Hopeless => return self.hopeless(work, out),
        }
        self.advance(now, out);
    }

    /// An answer to a step that is made.
    fn compare_late(
        &mut self,
        now: Duration,
        worker: WorkerId,
        lease: LeaseId,
        work: Work,
        verdict: Verdict,
        out: &mut Vec<Command>,
    ) {
        let reason = match &verdict {
            Verdict::Same => "it agrees with the one that was used",
            _ => "its step is made",
        };
        out.push(drop_it(worker, lease, reason));
        match verdict {
            Verdict::Dispute { first } => out.push(Command::Dispute { work, first, second: worker }),
            Verdict::Confirmed { odd } => self.send_away(now, work, odd, out),
            Verdict::Overturned { odd } => {
                let Work::Shards { step, .. } = work else { return };
                let reason = format!(
                    "{work} was computed wrong, as two other computations show, and its step is made; do without the \
                     machine that did it, and go on with --resume from the last checkpoint before"
                );
                out.push(Command::Taint { version: step, workers: odd });
                self.finish(Outcome::Failed { reason }, out);
            }
            Verdict::Hopeless => self.hopeless(work, out),
            Verdict::NotFinite(what) => self.not_finite(work, &what, out),
            Verdict::Same => self.workers.clear(worker),
            Verdict::Hold | Verdict::Accept { .. } => {}
        }
    }

    fn send_away(&mut self, now: Duration, work: Work, odd: Vec<WorkerId>, out: &mut Vec<Command>) {
        for mut worker in odd {
            if self.is(Mutant::BlameAnother) {
                worker = self.workers.staying().into_iter().find(|other| *other != worker).unwrap_or(worker);
            }
            let reason =
                format!("its answer to {work} differs from what two others computed: its results can't be trusted");
            self.quarantine(now, worker, reason, out);
        }
    }

    fn not_finite(&mut self, work: Work, what: &str, out: &mut Vec<Command>) {
        let reason = format!("{work}: {what}, and so it is when computed again: it is no worker's fault; {WHAT_TO_DO}");
        self.finish(Outcome::Failed { reason }, out);
    }

    fn hopeless(&mut self, work: Work, out: &mut Vec<Command>) {
        let reason = format!(
            "workers differ in {work}, and computing it again did not show which one is wrong; go on with --resume and one \
             worker more, which can decide"
        );
        self.finish(Outcome::Failed { reason }, out);
    }

    /// A worker could not compute (`failed`), or what it sent can't be used.
    pub(super) fn refused(
        &mut self,
        now: Duration,
        worker: WorkerId,
        lease: LeaseId,
        reason: &str,
        failed: bool,
        out: &mut Vec<Command>,
    ) {
        self.workers.beat(worker, now);
        let Some(Lease { work, own, .. }) = self.give_back(worker, lease) else { return };
        if own.is_some() {
            // what it came to follows from this
            out.push(Command::Doubt { worker });
        }
        if let Work::Part { .. } = work {
            return self.part_refused(now, worker, work, reason, failed, out);
        }
        let dropped = self.is(Mutant::DropRefused);
        let Phase::Working(pool) = &mut self.phase else { return };
        if let (Some(Report::Counts | Report::State), true) = (own, pool.has(work, lease)) {
            self.make_in_the_open(worker, work, reason, out);
            return self.strike(now, worker, reason, out);
        }
        self.late.refuse(work, lease);
        if !pool.has(work, lease) {
            return;
        }
        let failures = if dropped { 0 } else { pool.refuse(work, lease, failed) };
        let shards = if matches!(work, Work::Shards { .. }) { pool.len(work) } else { 0 };
        if failures >= FAILURES {
            let reason = format!("{work} failed twice, so it is not one worker's fault: {reason}; {WHAT_TO_DO}");
            return self.finish(Outcome::Failed { reason }, out);
        }
        out.push(Command::Reissue { worker, shards, reason: format!("{work}: {reason}") });
        self.strike(now, worker, reason, out);
    }

    /// What only its worker had of `work` is of no use: it is computed again, and all of it is sent.
    fn make_in_the_open(&mut self, worker: WorkerId, work: Work, reason: &str, out: &mut Vec<Command>) {
        let Work::Shards { step, .. } = work else { return };
        let (shards, reason) = (self.plan.leaves(step), format!("{work}: {reason}"));
        out.push(Command::Reissue { worker, shards, reason: reason.clone() });
        self.roll_back(step + 1, &reason, out);
    }

    /// Counts a refused answer; sends its worker away if it was one too many.
    pub(super) fn strike(&mut self, now: Duration, worker: WorkerId, reason: &str, out: &mut Vec<Command>) {
        let strikes = self.workers.strike(worker);
        if strikes >= STRIKES {
            let reason = format!("{strikes} of its answers in a row were refused; the last: {reason}");
            self.quarantine(now, worker, reason, out);
        }
    }
}

fn use_it(worker: WorkerId, lease: LeaseId, work: Work) -> Command {
    match work {
        Work::Shards { node, .. } => Command::Sum { worker, lease, node },
        Work::Part { .. } => Command::Part { worker, lease, made: false },
        Work::Slice { slice, .. } => Command::Count { worker, lease, slice },
    }
}

pub(super) fn drop_it(worker: WorkerId, lease: LeaseId, reason: &'static str) -> Command {
    Command::Drop { worker, lease, reason: Cow::Borrowed(reason) }
}
