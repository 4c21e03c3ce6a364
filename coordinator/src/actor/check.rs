//! An answer against what was asked: the session has checked its bytes, this checks its meaning.

use std::ops::Range;

use lockstep_proto::tensors;
use lockstep_proto::wire::ShardOutcome;

use super::{Actor, Answer};
use crate::engine::{Event, Finding, LeaseId, Report, Work, WorkerId};
use crate::evaluation::SliceCounts;

impl Actor {
    /// `answer` as the engine's event. A lease that is not this worker's is no fault: the engine drops it.
    pub(super) fn judge(&self, worker: WorkerId, lease: LeaseId, answer: &Answer) -> Event {
        let finding = match answer {
            Answer::Failed { reason } => return Event::Failed { worker, lease, reason: reason.clone() },
            Answer::Refused { reason } => return Event::Refused { worker, lease, reason: reason.clone() },
            Answer::NotFinite { what } => Finding::NotFinite(what.clone()),
            // what the ranks of a ring made of one sum
            Answer::Part { digest, .. } if self.run.compares_ranks() => Finding::Bits(*digest),
            Answer::Made { node: None, state: Some(state), .. } if self.run.compares_ranks() => {
                Finding::Bits(state.digest)
            }
            // without the promise two right answers may differ: there is nothing to compare
            Answer::Part { .. } => Finding::Bits(0),
            Answer::Gradient { .. } | Answer::Slice { .. } if !self.run.recipe.deterministic => Finding::Bits(0),
            Answer::Gradient { digest, outcomes, .. } => Finding::Bits(fingerprint(*digest, outcomes)),
            // nobody else is asked for it, so that nothing compares with it
            Answer::Made { .. } => Finding::Bits(0),
            Answer::Slice { counts, .. } => Finding::Bits(fingerprint_of_counts(counts)),
        };
        let checked = self.engine.work(worker, lease).map_or(Ok(()), |work| {
            check_report(self.engine.report_of(worker, lease), answer)?;
            self.check(work, answer)
        });
        match checked {
            Ok(()) => Event::Answered { worker, lease, finding },
            Err(reason) => Event::Refused { worker, lease, reason },
        }
    }

    /// Whether `answer` is one to `work`.
    fn check(&self, work: Work, answer: &Answer) -> Result<(), String> {
        let current = |version: u64, ours: u64| match version == ours {
            true => Ok(()),
            false => Err(format!("it was computed with version {version} of the parameters, and {ours} was asked for")),
        };
        match (work, answer) {
            (_, Answer::NotFinite { .. }) => Ok(()),
            (
                Work::Shards { step, node: asked },
                Answer::Gradient { version, node, outcomes, .. }
                | Answer::Made { version, node: Some(node), outcomes, .. },
            ) => {
                // a step's gradients are of the parameters that have as many steps behind them
                current(*version, step)?;
                if asked != *node {
                    return Err(format!("it is for node {node:?}, and {asked:?} was asked for"));
                }
                self.check_counts(step, asked.covers(self.plan.leaves(step)), outcomes)
            }
            (Work::Part { step, rank: 0, first, end, .. }, Answer::Made { version, node: None, outcomes, .. }) => {
                current(*version, step)?;
                self.check_counts(step, first..end, outcomes)
            }
            (Work::Part { step, rank, first, end, .. }, Answer::Part { version, values, outcomes, .. }) => {
                current(*version, step)?;
                match (rank, values) {
                    (0, None) => return Err("it is rank 0's, and has no sum".to_owned()),
                    (1.., Some(_)) => {
                        return Err(format!("it has a sum, which is rank 0's to send, not rank {rank}'s"));
                    }
                    _ => {}
                }
                self.check_counts(step, first..end, outcomes)
            }
            (Work::Slice { version: asked, slice }, Answer::Slice { version, counts }) => {
                current(*version, asked)?;
                self.tally.as_ref().map_or(Ok(()), |tally| tally.check(slice, counts))
            }
            (work, _) => Err(format!("it is no answer to {work}")),
        }
    }
}

impl Actor {
    /// Whether `outcomes` are of these shards of `step`, with as many examples.
    fn check_counts(&self, step: u64, shards: Range<u32>, outcomes: &[ShardOutcome]) -> Result<(), String> {
        let counts: Vec<_> = outcomes.iter().map(|outcome| (outcome.shard, outcome.count)).collect();
        let asked: Vec<_> = shards.map(|shard| (shard, self.plan.shard(step, shard).len() as u32)).collect();
        if counts != asked {
            return Err(format!("its (shard, examples) are {counts:?}, and {asked:?} were asked for"));
        }
        Ok(())
    }
}

/// Whether `answer` has what was asked for of a step that its worker makes.
fn check_report(asked: Option<Report>, answer: &Answer) -> Result<(), String> {
    let has = match answer {
        Answer::Gradient { .. } | Answer::Part { values: Some(_), .. } => Report::Gradient,
        Answer::Made { state: None, .. } => Report::Counts,
        Answer::Made { state: Some(_), .. } => Report::State,
        _ => return Ok(()),
    };
    let asked = asked.unwrap_or(Report::Gradient);
    if has == asked { Ok(()) } else { Err(format!("it has the {has:?}, and the {asked:?} was asked for")) }
}

/// All bits of a gradient and of what goes with it. Timings are no part of an answer.
fn fingerprint(digest: u64, outcomes: &[ShardOutcome]) -> u64 {
    let mut bytes = digest.to_le_bytes().to_vec();
    for outcome in outcomes {
        bytes.extend(outcome.loss_sum.to_le_bytes());
        bytes.extend([outcome.shard, outcome.correct, outcome.count].map(u32::to_le_bytes).concat());
    }
    tensors::digest(&bytes)
}

fn fingerprint_of_counts(counts: &SliceCounts) -> u64 {
    // a test loss may be infinite where a network is very sure; the run goes on, and NaN has many bit patterns
    let loss = if counts.loss_sum.is_finite() { counts.loss_sum } else { f64::INFINITY };
    let mut bytes = loss.to_le_bytes().to_vec();
    for number in [counts.correct, counts.count].iter().chain(&counts.confusion).chain(&counts.alive) {
        bytes.extend(number.to_le_bytes());
    }
    tensors::digest(&bytes)
}
