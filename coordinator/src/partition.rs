//! (seed, epoch, step) → the example numbers of each shard.

use lockstep_proto::keys::Key;

use crate::plan::Plan;

/// The order in which epochs use the examples.
#[derive(Debug)]
pub struct Partition {
    key: Key,
    /// Example numbers of the training set that this run uses, ascending.
    examples: Vec<u32>,
    /// The order of the epoch asked for last: steps of one epoch follow one another.
    cached: Option<(u32, Vec<u32>)>,
}

impl Partition {
    #[must_use]
    pub fn new(seed: u64, examples: Vec<u32>) -> Self {
        Self { key: Key::new(seed, "order", ""), examples, cached: None }
    }

    /// The examples of `shard` in `step`, in the order in which the loss sums them.
    pub fn shard(&mut self, plan: &Plan, step: u64, shard: u32) -> &[u32] {
        let range = plan.shard(step, shard);
        &self.order(plan.epoch(step))[range.start as usize..range.end as usize]
    }

    /// All examples of `step`.
    #[cfg(test)]
    fn batch(&mut self, plan: &Plan, step: u64) -> &[u32] {
        let range = plan.batch(step);
        &self.order(plan.epoch(step))[range.start as usize..range.end as usize]
    }

    fn order(&mut self, epoch: u32) -> &[u32] {
        if self.cached.as_ref().is_none_or(|(cached, _)| *cached != epoch) {
            let mut order = self.examples.clone();
            self.key.stream(epoch, 0, 0).shuffle(&mut order);
            self.cached = Some((epoch, order));
        }
        self.cached.as_ref().map_or(&[], |(_, order)| order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample;

    #[test]
    fn an_epoch_uses_every_example_once_however_it_is_cut() {
        let examples: Vec<u32> = (0..206).step_by(2).collect();
        let mut by_shards = Vec::new();
        for shards in [1, 4, 7] {
            let plan = Plan { shards, ..sample() };
            let mut partition = Partition::new(5, examples.clone());
            let mut used = Vec::new();
            for step in 0..plan.steps_per_epoch() {
                for shard in 0..shards {
                    used.extend_from_slice(partition.shard(&plan, step, shard));
                }
            }
            by_shards.push(used.clone());
            used.sort_unstable();
            assert_eq!(used, examples);
        }
        assert_eq!(by_shards[0], by_shards[1], "the number of shards does not change the batches");
        assert_eq!(by_shards[0], by_shards[2]);
    }

    #[test]
    fn epochs_and_seeds_differ_and_can_be_asked_in_any_order() {
        let plan = sample();
        let mut one = Partition::new(5, (0..103).collect());
        let first = one.batch(&plan, 0).to_vec();
        let later = one.batch(&plan, 11).to_vec();
        assert_ne!(first, later);
        assert_eq!(one.batch(&plan, 0), first);
        assert_ne!(Partition::new(6, (0..103).collect()).batch(&plan, 0), first);
    }
}
