//! From step to step: what follows when the last answer is in.

use std::time::Duration;

use super::advance::InAdvance;
use super::command::{Command, Outcome};
use super::mutant::Mutant;
use super::pool::{Kind, Pool};
use super::ring::Rings;
use super::{Engine, Phase};

impl Engine {
    /// Closes the step or the evaluation, if all of it is there.
    pub(super) fn advance(&mut self, now: Duration, out: &mut Vec<Command>) {
        let Phase::Working(pool) = &self.phase else { return };
        let early = match pool.kind {
            Kind::Shards { .. } => self.is(Mutant::StepEarly),
            Kind::Slices { .. } => self.is(Mutant::EvaluateEarly),
        };
        if !pool.lacks_at_most(u32::from(early)) {
            return;
        }
        match pool.kind {
            Kind::Shards { step } => self.close_step(step, now, out),
            Kind::Slices { version } => {
                out.push(Command::Evaluated { version });
                // a checkpoint that is taken now owes no evaluation
                self.go_on(now, out);
            }
        }
    }

    /// The step has all its answers.
    pub(super) fn close_step(&mut self, step: u64, now: Duration, out: &mut Vec<Command>) {
        let report = self.closed_by.take();
        self.call_back_behind(report.map(|(worker, _)| worker), out);
        self.leave_late(step, out);
        self.version = step + 1;
        self.made(now, report);
        out.push(Command::Step { step });
        self.after_step(now, out);
    }

    /// Remembers what is still in hand of the step that ends.
    fn leave_late(&mut self, step: u64, out: &mut Vec<Command>) {
        let nothing = Pool::new(Kind::Shards { step: step + 1 }, 0);
        let Phase::Working(pool) = std::mem::replace(&mut self.phase, Phase::Working(nothing)) else { return };
        let cases = pool.into_late();
        if !cases.is_empty() {
            out.push(Command::Keep { version: step });
            if self.is(Mutant::ForgetOld) {
                out.push(Command::Forget { version: step });
            }
            out.extend(self.late.add(step, cases).into_iter().map(|version| Command::Forget { version }));
        }
    }

    fn after_step(&mut self, now: Duration, out: &mut Vec<Command>) {
        let version = self.version;
        if self.plan.ends_epoch(version) {
            out.push(Command::EndEpoch { epoch: self.plan.epoch(version - 1) });
        }
        if self.plan.evaluates(version) {
            out.push(Command::Evaluate { version });
            self.phase = Phase::Working(Pool::new(Kind::Slices { version }, self.plan.slices));
        } else {
            self.go_on(now, out);
        }
    }

    /// The checkpoint that is due, then the next step or the end.
    fn go_on(&mut self, now: Duration, out: &mut Vec<Command>) {
        let version = self.version;
        let last = version >= self.plan.total_steps();
        let leaves = if last { 0 } else { self.plan.leaves(version) };
        self.phase = Phase::Working(Pool::new(Kind::Shards { step: version }, leaves));
        if last {
            return self.finish(Outcome::Complete, out);
        }
        self.adopt(now);
        if self.is_behind() {
            // whatever is due has its turn when the coordinator has caught up
            return;
        }
        if self.is_long_without_checkpoint(now) || self.plan.checkpoints(version) {
            self.kept = now;
            out.push(Command::Checkpoint { position: self.position(), reason: "its turn has come".to_owned() });
        }
    }

    /// Whether a checkpoint is due by time.
    pub(super) fn is_long_without_checkpoint(&self, now: Duration) -> bool {
        self.plan.checkpoint_every.is_some_and(|every| now.saturating_sub(self.kept) >= every)
    }

    pub(super) fn finish(&mut self, outcome: Outcome, out: &mut Vec<Command>) {
        if self.is_behind() {
            self.roll_back(0, "the run ends", out);
        }
        // A run that never made a step has nothing to keep; one that failed keeps its last good checkpoint.
        if self.version > 0 && !matches!(outcome, Outcome::Failed { .. }) {
            out.push(Command::Checkpoint { position: self.position(), reason: outcome.to_string() });
        }
        self.leases.clear();
        self.in_advance = InAdvance::default();
        self.rings = Rings::default();
        out.push(Command::Finish { position: self.position(), outcome });
        self.phase = Phase::Finished;
    }
}
