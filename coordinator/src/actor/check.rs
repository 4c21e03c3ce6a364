//! An answer against what was asked: the session has checked its bytes, this checks its meaning.

use super::{Actor, Answer};
use crate::engine::{LeaseId, Work, WorkerId};

impl Actor {
    /// What is wrong with `answer`, if anything. A lease that is not this worker's is no fault: the engine drops it.
    pub(super) fn check(&self, worker: WorkerId, lease: LeaseId, answer: &Answer) -> Result<(), String> {
        let Some(work) = self.engine.work(worker, lease) else { return Ok(()) };
        let ours = self.parameters.version();
        let current = |version: u64| match version == ours {
            true => Ok(()),
            false => Err(format!("it was computed with version {version} of the parameters, and {ours} was asked for")),
        };
        match (work, answer) {
            (_, Answer::Failed { reason }) => Err(reason.clone()),
            (Work::Shards { step, node: asked }, Answer::Gradient { version, node, outcomes, .. }) => {
                current(*version)?;
                if asked != *node {
                    return Err(format!("it is for node {node:?}, and {asked:?} was asked for"));
                }
                let expected = asked.covers(self.plan.leaves(step));
                let counts: Vec<_> = outcomes.iter().map(|outcome| (outcome.shard, outcome.count)).collect();
                let asked: Vec<_> = expected.map(|shard| (shard, self.plan.shard(step, shard).len() as u32)).collect();
                if counts != asked {
                    return Err(format!("its (shard, examples) are {counts:?}, and {asked:?} were asked for"));
                }
                Ok(())
            }
            (Work::Slice { slice, .. }, Answer::Slice { version, counts }) => {
                current(*version)?;
                self.tally.as_ref().map_or(Ok(()), |tally| tally.check(slice, counts))
            }
            (work, _) => Err(format!("it is no answer to {work}")),
        }
    }
}
