//! What a process answers: mostly what is right.

use super::super::super::mutant::Mutant;
use super::super::super::{Event, Finding, Phase, Purpose, Work, WorkerId};
use super::super::toy;
use super::super::world::Job;
use super::{STORM, Weather};

impl Weather {
    pub(super) fn answer(&mut self, process: usize, worker: WorkerId, job: Job) -> Event {
        let lease = job.lease;
        let stormy = self.now < STORM;
        if stormy && self.dice.below(60) == 0 {
            return Event::Refused { worker, lease, reason: "checksum".to_owned() };
        }
        if stormy && self.dice.below(200) == 0 && self.failed.insert(job.work) {
            return Event::Failed { worker, lease, reason: "out of memory".to_owned() };
        }
        if let (Some((step, shard)), Work::Shards { step: asked, node }) = (self.poison, job.work)
            && step == asked
            && node.covers(self.plan.leaves(step)).contains(&shard)
        {
            return Event::Answered { worker, lease, finding: Finding::NotFinite("NaN".to_owned()) };
        }
        let bits = toy::compute(&self.plan, job.work, job.input.value);
        let finding = match self.dice.below(4) {
            0 if self.may_lie(process, &job) => Finding::Bits(bits ^ (1 << self.dice.below(64))),
            1 if self.may_lie(process, &job) => Finding::NotFinite("NaN".to_owned()),
            _ => Finding::Bits(bits),
        };
        Event::Answered { worker, lease, finding }
    }

    /// Only where it must come out, and once for each piece of work: two equal lies are nobody's to find.
    fn may_lie(&mut self, process: usize, job: &Job) -> bool {
        let Phase::Working(pool) = &self.engine.phase else { return false };
        let case = pool.case(job.work).or_else(|| self.engine.late.case(job.work));
        let compared = job.purpose == Purpose::Decide
            || case.is_some_and(|case| case.is_audited() || case.is_settled())
            || (self.mutant == Some(Mutant::SkipAudit) && self.engine.audits(job.work));
        let lies = self.liar == Some(process) && self.now < STORM && compared && self.lied.insert(job.work);
        if lies {
            self.liars.extend(self.processes[process].session);
        }
        lies
    }
}
