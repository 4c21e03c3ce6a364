//! The run in numbers: how many steps, which epoch a step belongs to, how its batch is cut. Pure.

use std::ops::Range;
use std::time::Duration;

/// Everything about a run that is known before it starts and that decisions depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Training examples used in each epoch.
    pub examples: u32,
    /// Examples of a whole global batch.
    pub batch_size: u32,
    /// Shards of a step, R.
    pub shards: u32,
    pub epochs: u32,
    /// Stop after so many steps; 0: after the last epoch.
    pub max_steps: u64,
    /// Evaluate at the end of every so many epochs; 0: only at the end of the run.
    pub evaluate_every_epochs: u32,
    /// Slices of one evaluation, over all its splits.
    pub slices: u32,
    /// Write a checkpoint at the end of every so many epochs; 0: not at epochs.
    pub checkpoint_every_epochs: u32,
    /// Write a checkpoint every so many steps; 0: not at steps.
    pub checkpoint_every_steps: u64,
    /// Write a checkpoint at the first step after so long without one.
    pub checkpoint_every: Option<Duration>,
    /// Cut steps evenly, however fast each worker is.
    pub even: bool,
    /// Share of the leases of shards that two workers compute on purpose, in [0, 1].
    pub audit: f64,
    /// Which ones depends on it.
    pub seed: u64,
    /// Workers to wait for before the first step.
    pub min_workers: usize,
    /// A worker that has not been heard of for so long has lost its leases.
    pub worker_timeout: Duration,
    /// A worker that holds a lease for so long without an answer is stuck, however alive it sounds.
    pub lease_timeout: Duration,
    /// How long to go on without enough workers before giving up.
    pub wait_for_workers: Duration,
}

impl Plan {
    /// Steps of one epoch; the last, smaller batch counts.
    #[must_use]
    pub fn steps_per_epoch(&self) -> u64 {
        u64::from(self.examples.div_ceil(self.batch_size))
    }

    /// Steps of the whole run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        let all = self.steps_per_epoch() * u64::from(self.epochs);
        if self.max_steps == 0 { all } else { all.min(self.max_steps) }
    }

    /// Epochs that the run begins: fewer than the recipe's where `max_steps` ends it before.
    #[must_use]
    pub fn epochs_begun(&self) -> u32 {
        self.epoch(self.total_steps().saturating_sub(1)) + 1
    }

    /// The epoch of `step`, from 0.
    #[must_use]
    pub fn epoch(&self, step: u64) -> u32 {
        (step / self.steps_per_epoch()) as u32
    }

    /// Where the batch of `step` lies in its epoch's order.
    #[must_use]
    pub fn batch(&self, step: u64) -> Range<u32> {
        let start = (step % self.steps_per_epoch()) as u32 * self.batch_size;
        start..start.saturating_add(self.batch_size).min(self.examples)
    }

    /// Where the examples of shard `shard` lie in the epoch's order. The first `len mod R` shards have one more.
    #[must_use]
    pub fn shard(&self, step: u64, shard: u32) -> Range<u32> {
        let batch = self.batch(step);
        let len = batch.end - batch.start;
        let (each, more) = (len / self.shards, len % self.shards);
        let start = batch.start + shard * each + shard.min(more);
        start..start + each + u32::from(shard < more)
    }

    /// Shards of `step` that have examples: a prefix, for the others are absent leaves.
    #[must_use]
    pub fn leaves(&self, step: u64) -> u32 {
        let batch = self.batch(step);
        self.shards.min(batch.end - batch.start)
    }

    /// Whether `version` steps end an epoch (the last one may be cut short by `max_steps`).
    #[must_use]
    pub fn ends_epoch(&self, version: u64) -> bool {
        version > 0 && (version.is_multiple_of(self.steps_per_epoch()) || version == self.total_steps())
    }

    /// Whether an evaluation follows step number `version`.
    #[must_use]
    pub fn evaluates(&self, version: u64) -> bool {
        let due = |every: u32| {
            every > 0 && version.is_multiple_of(self.steps_per_epoch()) && (self.epoch(version)).is_multiple_of(every)
        };
        version > 0 && self.slices > 0 && (version == self.total_steps() || due(self.evaluate_every_epochs))
    }

    /// Whether a checkpoint follows step number `version`.
    #[must_use]
    pub fn checkpoints(&self, version: u64) -> bool {
        let at_epoch = self.checkpoint_every_epochs > 0
            && version.is_multiple_of(self.steps_per_epoch())
            && self.epoch(version).is_multiple_of(self.checkpoint_every_epochs);
        let at_step = self.checkpoint_every_steps > 0 && version.is_multiple_of(self.checkpoint_every_steps);
        version > 0 && (version == self.total_steps() || at_epoch || at_step)
    }

    /// What to tell the user of `workers` workers for this many shards, if the work is not shared out evenly.
    #[must_use]
    pub fn imbalance(&self, workers: usize) -> Option<String> {
        let (r, n) = (self.shards as usize, workers);
        if n > r {
            return Some(format!("{n} workers for {r} shards: {} stay idle; raise --shards to use them", n - r));
        }
        if n > 0 && !r.is_multiple_of(n) {
            let (most, least) = (r.div_ceil(n), r / n);
            return Some(format!(
                "{r} shards over {n} workers: some compute {most} a step, some {least}; a multiple of {n} shards is even"
            ));
        }
        None
    }
}

#[cfg(test)]
pub(crate) fn sample() -> Plan {
    Plan {
        examples: 103,
        batch_size: 10,
        shards: 4,
        epochs: 3,
        max_steps: 0,
        evaluate_every_epochs: 1,
        slices: 5,
        checkpoint_every_epochs: 1,
        checkpoint_every_steps: 0,
        checkpoint_every: None,
        even: false,
        audit: 0.0,
        seed: 0,
        min_workers: 1,
        worker_timeout: Duration::from_secs(2),
        lease_timeout: Duration::from_secs(60),
        wait_for_workers: Duration::from_secs(60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cut_every_batch_without_gap_or_overlap() {
        for shards in 1..13 {
            let plan = Plan { shards, ..sample() };
            for step in 0..plan.total_steps() {
                let mut next = plan.batch(step).start;
                let sizes: Vec<u32> = (0..shards)
                    .map(|shard| {
                        let range = plan.shard(step, shard);
                        assert_eq!(range.start, next);
                        next = range.end;
                        range.len() as u32
                    })
                    .collect();
                assert_eq!(next, plan.batch(step).end);
                assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]) && sizes[0] - sizes[sizes.len() - 1] <= 1);
                assert_eq!(sizes.iter().filter(|n| **n > 0).count() as u32, plan.leaves(step));
            }
        }
    }

    #[test]
    fn the_last_batch_of_an_epoch_is_kept() {
        let plan = sample();
        assert_eq!((plan.steps_per_epoch(), plan.total_steps()), (11, 33));
        assert_eq!(plan.batch(10), 100..103);
        assert_eq!(plan.leaves(10), 3);
        assert_eq!(plan.batch(11), 0..10);
    }

    #[test]
    fn a_limit_on_steps_is_a_limit_on_epochs() {
        let begun = |max_steps| Plan { max_steps, ..sample() }.epochs_begun();
        assert_eq!([0, 1, 11, 12, 33, 99].map(begun), [3, 1, 1, 2, 3, 3]);
    }

    #[test]
    fn cadences_meet_the_last_step_whatever_they_are() {
        let plan = Plan { evaluate_every_epochs: 2, checkpoint_every_epochs: 0, max_steps: 27, ..sample() };
        let due = |f: fn(&Plan, u64) -> bool| (0..=27).filter(|v| f(&plan, *v)).collect::<Vec<_>>();
        assert_eq!(due(Plan::evaluates), [22, 27]);
        assert_eq!(due(Plan::checkpoints), [27]);
        assert_eq!(due(Plan::ends_epoch), [11, 22, 27]);
    }
}
