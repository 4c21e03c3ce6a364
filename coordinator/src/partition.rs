//! (seed, epoch, step) → the example numbers of each shard.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use lockstep_proto::keys::Key;
use lockstep_proto::recipe::PartitionName;

use crate::plan::Plan;

/// The order in which epochs use the examples.
#[derive(Debug)]
pub struct Partition {
    shuffle: Arc<Shuffle>,
    /// The orders of the epochs asked for last: steps in advance are of later ones before all of this one's are made.
    known: VecDeque<(u32, Vec<u32>)>,
    /// How many are remembered: an epoch may have one step.
    most: usize,
    /// That of the epoch after those, on its way: shuffling takes as long as several steps of a small network on a GPU.
    coming: Option<(u32, JoinHandle<Vec<u32>>)>,
}

impl Partition {
    /// Of `examples` of the training set, ascending, as many as the plan has.
    #[must_use]
    pub fn new(plan: &Plan, examples: Vec<u32>) -> Self {
        let (shuffle, most) = (Arc::new(Shuffle::new(plan, examples)), plan.in_advance as usize + 2);
        Self { shuffle, known: VecDeque::new(), most, coming: None }
    }

    /// The examples of `shard` in `step`, in the order in which the loss sums them.
    pub fn shard(&mut self, plan: &Plan, step: u64, shard: u32) -> &[u32] {
        let range = plan.shard(step, shard);
        let epoch = plan.epoch(step);
        let at = self.known.iter().position(|(known, _)| *known == epoch).unwrap_or_else(|| {
            self.learn(epoch, plan.epochs_begun());
            0
        });
        let (_, order) = &self.known[at];
        &order[range.start as usize..range.end as usize]
    }

    /// Puts the order of `epoch` in front, and has the next one's made, if there is one.
    fn learn(&mut self, epoch: u32, epochs: u32) {
        let come = self.coming.take_if(|(coming, _)| *coming == epoch).and_then(|(_, order)| order.join().ok());
        let order = come.unwrap_or_else(|| self.shuffle.order(epoch));
        self.known.truncate(self.most - 1);
        self.known.push_front((epoch, order));
        let (next, newest) = (epoch + 1, self.known.iter().map(|(known, _)| *known).max());
        if next < epochs && newest == Some(epoch) {
            let shuffle = Arc::clone(&self.shuffle);
            let thread = std::thread::Builder::new().name("order".to_owned());
            // where there is no thread it is made when it is wanted
            self.coming = thread.spawn(move || shuffle.order(next)).ok().map(|order| (next, order));
        }
    }
}

/// What makes orders.
#[derive(Debug)]
struct Shuffle {
    key: Key,
    /// Example numbers of the training set that this run uses: ascending, or those of each shard together.
    examples: Vec<u32>,
    /// Where those lie that are shuffled among themselves, each by a stream of its own.
    parts: Vec<Range<u32>>,
}

impl Shuffle {
    fn new(plan: &Plan, examples: Vec<u32>) -> Self {
        let shards = plan.shards as usize;
        let examples = match plan.partition {
            PartitionName::Shuffled | PartitionName::Contiguous => examples,
            PartitionName::Interleaved => {
                (0..shards).flat_map(|shard| examples.iter().skip(shard).step_by(shards)).copied().collect()
            }
        };
        let parts = match plan.partition {
            PartitionName::Shuffled => std::iter::once(0..examples.len() as u32).collect(),
            PartitionName::Interleaved | PartitionName::Contiguous => {
                (0..plan.shards).map(|shard| plan.share(shard)).collect()
            }
        };
        Self { key: Key::new(plan.seed, "order", ""), examples, parts }
    }

    fn order(&self, epoch: u32) -> Vec<u32> {
        let mut order = self.examples.clone();
        for (part, range) in (0..).zip(&self.parts) {
            self.key.stream(epoch, part, 0).shuffle(&mut order[range.start as usize..range.end as usize]);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample;
    use proptest::prelude::*;

    const FIXED: [PartitionName; 2] = [PartitionName::Interleaved, PartitionName::Contiguous];

    /// All examples of `step`, shard after shard.
    fn batch(partition: &mut Partition, plan: &Plan, step: u64) -> Vec<u32> {
        (0..plan.shards).flat_map(|shard| partition.shard(plan, step, shard).to_vec()).collect()
    }

    #[test]
    fn an_epoch_uses_every_example_once_however_it_is_cut() {
        let examples: Vec<u32> = (0..206).step_by(2).collect();
        let mut by_shards = Vec::new();
        for shards in [1, 4, 7] {
            let plan = Plan { shards, ..sample() };
            let mut partition = Partition::new(&plan, examples.clone());
            let mut used: Vec<u32> =
                (0..plan.steps_per_epoch()).flat_map(|step| batch(&mut partition, &plan, step)).collect();
            by_shards.push(used.clone());
            used.sort_unstable();
            assert_eq!(used, examples);
        }
        assert_eq!(by_shards[0], by_shards[1], "the number of shards does not change the batches");
        assert_eq!(by_shards[0], by_shards[2]);
    }

    #[test]
    fn epochs_and_seeds_differ_and_can_be_asked_in_any_order() {
        for partition in [&FIXED[..], &[PartitionName::Shuffled]].concat() {
            let plan = Plan { seed: 5, partition, ..sample() };
            let mut one = Partition::new(&plan, (0..103).collect());
            let first = batch(&mut one, &plan, 0);
            let later = batch(&mut one, &plan, 11);
            assert_ne!(first, later);
            assert_eq!(batch(&mut one, &plan, 0), first);
            let other = Plan { seed: 6, ..plan };
            assert_ne!(batch(&mut Partition::new(&other, (0..103).collect()), &other, 0), first);
        }
    }

    /// Steps in advance, what is noted of those that were made, and a way back. Oracle: a partition that was asked for nothing else.
    #[test]
    fn steps_of_several_epochs_may_be_asked_for_in_turn() {
        for steps in 1..=3 {
            let plan = Plan { batch_size: 103_u32.div_ceil(steps), epochs: 12, in_advance: 3, ..sample() };
            let mut partition = Partition::new(&plan, (0..103).collect());
            let last = plan.total_steps() - 1;
            let there = (0..=last).flat_map(|step| [(step + 4).min(last), step]);
            let back = [last, 2, 3, 0, last];
            for step in there.chain(back) {
                let alone = batch(&mut Partition::new(&plan, (0..103).collect()), &plan, step);
                assert_eq!(batch(&mut partition, &plan, step), alone, "{steps} steps an epoch, step {step}");
                assert!(partition.known.len() <= 5);
            }
        }
    }

    /// One shard has all examples, in the order of its epoch: three names for the same, where the batch size divides them.
    #[test]
    fn with_one_shard_all_partitions_are_the_same() {
        let orders = [PartitionName::Shuffled, FIXED[0], FIXED[1]].map(|partition| {
            let plan = Plan { examples: 100, shards: 1, partition, ..sample() };
            let mut partition = Partition::new(&plan, (0..100).collect());
            (0..30).map(|step| batch(&mut partition, &plan, step)).collect::<Vec<_>>()
        });
        assert_eq!(orders[0], orders[1]);
        assert_eq!(orders[0], orders[2]);
    }

    proptest! {
        /// Oracle: which shard an example is in, from the words of the recipe's documentation alone.
        #[test]
        fn fixed_shards_never_mix(examples in 1..300_u32, stride in 1..4_usize, shards in 1..12_u32, more in 0..20_u32, seed in any::<u64>()) {
            for name in FIXED {
                let plan = Plan { examples, batch_size: shards + more, shards, partition: name, seed, ..sample() };
                let selected: Vec<u32> = (7..).step_by(stride).take(examples as usize).collect();
                let mut partition = Partition::new(&plan, selected.clone());
                for epoch in 0..2 {
                    let mut used = Vec::new();
                    for step in epoch * plan.steps_per_epoch()..(epoch + 1) * plan.steps_per_epoch() {
                        for shard in 0..shards {
                            for example in partition.shard(&plan, step, shard).to_vec() {
                                let place = selected.binary_search(&example).expect("one that is selected") as u32;
                                let runs = (0..shards).map(|r| examples / shards + u32::from(r < examples % shards));
                                let run = runs.scan(0, |end, len| { *end += len; Some(*end) }).position(|end| place < end);
                                let home = match name {
                                    PartitionName::Interleaved => place % shards,
                                    _ => run.expect("in one of the runs") as u32,
                                };
                                prop_assert_eq!(shard, home, "example {} of {:?}", example, name);
                                used.push(example);
                            }
                        }
                    }
                    used.sort_unstable();
                    prop_assert_eq!(&used, &selected, "each once an epoch");
                }
            }
        }
    }
}
