//! The run in numbers: how many steps, which epoch a step belongs to, how its batch is cut. Pure.

use std::ops::Range;
use std::time::Duration;

use lockstep_proto::recipe::PartitionName;

/// Everything about a run that is known before it starts and that decisions depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Training examples used in each epoch.
    pub examples: u32,
    /// Examples of a whole global batch.
    pub batch_size: u32,
    /// Shards of a step, R; not more than `batch_size` (a rule of the recipe).
    pub shards: u32,
    /// Which shards an example may be in.
    pub partition: PartitionName,
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
    /// Workers sum a step's gradients among themselves, in a ring.
    pub ring: bool,
    /// Steps that a lone worker, or a ring, that can make them may have in hand beside the open one; 0: a lone one makes none.
    pub in_advance: u32,
    /// For how long one of these may go on without sending what it came to; none: it sends every gradient.
    pub catch_up: Option<Duration>,
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

    /// Examples of the batch of `step`: the batch size, and what is left in an epoch's last; where every shard has its own,
    /// the batch size up to a shard's rounding.
    #[must_use]
    pub fn batch_len(&self, step: u64) -> u32 {
        match self.partition {
            PartitionName::Shuffled => self.batch(step).len() as u32,
            PartitionName::Interleaved | PartitionName::Contiguous => {
                let longer = self.examples % self.shards;
                let len = |shard| self.own(step, shard).len() as u32;
                longer * len(0) + (self.shards - longer) * len(self.shards - 1)
            }
        }
    }

    /// Where the examples of shard `shard` of `step` lie in the epoch's order.
    #[must_use]
    pub fn shard(&self, step: u64, shard: u32) -> Range<u32> {
        match self.partition {
            PartitionName::Shuffled => part(self.batch(step), self.shards, shard),
            PartitionName::Interleaved | PartitionName::Contiguous => self.own(step, shard),
        }
    }

    /// Where the examples that are a shard's own for ever lie in the epoch's order, shard after shard.
    #[must_use]
    pub fn share(&self, shard: u32) -> Range<u32> {
        part(0..self.examples, self.shards, shard)
    }

    /// Shards of `step` that have examples: a prefix, for the others are absent leaves.
    #[must_use]
    pub fn leaves(&self, step: u64) -> u32 {
        match self.partition {
            PartitionName::Shuffled => self.shards.min(self.batch(step).len() as u32),
            // A shard goes without in a step only if it has fewer examples than the epoch steps. As a batch has at least R
            // images, these steps are then as many as the longer shards have examples: which come first, and have one in each.
            PartitionName::Interleaved | PartitionName::Contiguous => {
                match self.own(step, self.shards - 1).is_empty() {
                    true => self.examples % self.shards,
                    false => self.shards,
                }
            }
        }
    }

    /// Where the batch of `step` lies in its epoch's order, if it is drawn from all examples.
    fn batch(&self, step: u64) -> Range<u32> {
        let start = (step % self.steps_per_epoch()) as u32 * self.batch_size;
        start..start.saturating_add(self.batch_size).min(self.examples)
    }

    /// What a shard with examples of its own gives in `step`: an even share of them, so that all shards finish together.
    fn own(&self, step: u64, shard: u32) -> Range<u32> {
        let (share, steps) = (self.share(shard), self.steps_per_epoch());
        let at = |step: u64| share.start + (step * share.len() as u64 / steps) as u32;
        let step = step % steps;
        at(step)..at(step + 1)
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

/// The part with number `part` of `parts` equal ones. The first `len mod parts` have one more.
fn part(whole: Range<u32>, parts: u32, part: u32) -> Range<u32> {
    let len = whole.end - whole.start;
    let (each, more) = (len / parts, len % parts);
    let start = whole.start + part * each + part.min(more);
    start..start + each + u32::from(part < more)
}

#[cfg(test)]
pub(crate) fn sample() -> Plan {
    Plan {
        examples: 103,
        batch_size: 10,
        shards: 4,
        partition: PartitionName::Shuffled,
        epochs: 3,
        max_steps: 0,
        evaluate_every_epochs: 1,
        slices: 5,
        checkpoint_every_epochs: 1,
        checkpoint_every_steps: 0,
        checkpoint_every: None,
        even: false,
        ring: false,
        in_advance: 0,
        catch_up: None,
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
                assert_eq!(sizes.iter().sum::<u32>(), plan.batch_len(step));
            }
        }
    }

    /// By hand: 7 examples in steps of 3 on 3 shards are 3 steps; the shards have 3, 2 and 2 examples.
    #[test]
    fn fixed_shards_give_even_shares_and_finish_together() {
        let partition = PartitionName::Interleaved;
        let plan = Plan { examples: 7, batch_size: 3, shards: 3, partition, ..sample() };
        let step = |step| [0, 1, 2].map(|shard| plan.shard(step, shard));
        assert_eq!(step(0), [0..1, 3..3, 5..5]);
        assert_eq!(step(1), [1..2, 3..4, 5..6]);
        assert_eq!(step(2), [2..3, 4..5, 6..7]);
        assert_eq!(step(3), step(0));
        assert_eq!([0, 1, 2].map(|s| (plan.leaves(s), plan.batch_len(s))), [(1, 1), (3, 3), (3, 3)]);
    }

    proptest::proptest! {
        #[test]
        fn fixed_shards_use_each_example_once_an_epoch(
            examples in 1..600_u32, shards in 1..40_u32, more in 0..60_u32, epoch in 0..3_u64,
        ) {
            let batch_size = shards + more;
            let plan = Plan { examples, batch_size, shards, partition: PartitionName::Contiguous, ..sample() };
            let mut used = vec![0; examples as usize];
            let steps = plan.steps_per_epoch();
            for step in epoch * steps..(epoch + 1) * steps {
                let ranges: Vec<_> = (0..shards).map(|shard| plan.shard(step, shard)).collect();
                ranges.iter().cloned().flatten().for_each(|place| used[place as usize] += 1);
                for (shard, range) in ranges.iter().enumerate() {
                    let share = plan.share(shard as u32);
                    assert!(range.is_empty() || (share.contains(&range.start) && range.end <= share.end));
                    // DESIGN.md: ⌊(s+1)·n/S⌋ − ⌊s·n/S⌋
                    let (n, s) = (share.len() as u64, step % steps);
                    assert_eq!(range.len() as u64, (s + 1) * n / steps - s * n / steps);
                }
                // the tree and the engine count on it: who has nothing stands behind all who have something
                let empty: Vec<bool> = ranges.iter().map(Range::is_empty).collect();
                assert!(empty.is_sorted(), "step {step}: {ranges:?}");
                assert_eq!(empty.iter().filter(|empty| !**empty).count() as u32, plan.leaves(step));
                assert!(plan.leaves(step) > 0, "a step without work would never end");
                assert_eq!(ranges.iter().map(|range| range.len() as u32).sum::<u32>(), plan.batch_len(step));
            }
            assert!(used.iter().all(|times| *times == 1), "{used:?}");
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
