//! One step's sums: the gradient along the fixed tree, and the counts of its shards.

use lockstep_proto::buffers::Buffers;
use lockstep_proto::tensors::add_assign;
use lockstep_proto::tree::{Node, Reduction};
use lockstep_proto::wire::ShardOutcome;

/// In which order the answers of a step are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reducer {
    /// Along the fixed tree: the result does not depend on who answers when.
    #[default]
    Tree,
    /// As they come. **For tests only**: it breaks the promise, and `verify` must notice.
    Arrival,
}

/// What all shards of a step came to.
#[derive(Debug)]
pub struct StepSum {
    /// Mean gradient of the parameters, then the buffers' observed statistics.
    pub values: Vec<f32>,
    pub loss_sum: f64,
    pub correct: u32,
    pub count: u32,
}

impl StepSum {
    /// `values`, and what `outcomes` counted.
    #[must_use]
    pub fn of(values: Vec<f32>, mut outcomes: Vec<ShardOutcome>) -> Self {
        // f64 sums in the order of the shards, so that reported losses do not depend on who answered first either
        outcomes.sort_by_key(|outcome| outcome.shard);
        Self {
            values,
            loss_sum: outcomes.iter().map(|outcome| outcome.loss_sum).sum(),
            correct: outcomes.iter().map(|outcome| outcome.correct).sum(),
            count: outcomes.iter().map(|outcome| outcome.count).sum(),
        }
    }
}

/// The sums of the open step.
#[derive(Debug)]
pub struct Average {
    reducer: Reducer,
    buffers: Buffers,
    leaves: u32,
    tree: Reduction,
    arrival: Option<Vec<f32>>,
    root: Option<Vec<f32>>,
    outcomes: Vec<ShardOutcome>,
}

impl Average {
    #[must_use]
    pub fn new(reducer: Reducer, leaves: u32, buffers: Buffers) -> Self {
        Self { reducer, buffers, leaves, tree: Reduction::new(leaves), arrival: None, root: None, outcomes: Vec::new() }
    }

    /// Adds the sum of `node`'s shards and what they counted.
    pub fn add(&mut self, node: Node, values: Vec<f32>, outcomes: Vec<ShardOutcome>) {
        self.outcomes.extend(outcomes);
        match self.reducer {
            Reducer::Tree => {
                if let Some(root) = self.tree.add(node, values) {
                    self.root = Some(root);
                }
                self.tree.take_spare().into_iter().for_each(|spare| self.buffers.give(spare));
            }
            Reducer::Arrival => {
                match &mut self.arrival {
                    Some(sum) => add_assign(sum, &values),
                    None => self.arrival = Some(values),
                }
                if self.outcomes.len() as u32 == self.leaves {
                    self.root = self.arrival.take();
                }
            }
        }
    }

    /// Adds what a member of a ring counted; from one of them comes the sum of all.
    pub fn add_part(&mut self, sum: Option<Vec<f32>>, outcomes: Vec<ShardOutcome>) {
        self.outcomes.extend(outcomes);
        self.root = sum.or(self.root.take());
    }

    /// What the parts of a step counted whose sum is elsewhere.
    pub fn into_outcomes(self) -> Vec<ShardOutcome> {
        self.outcomes
    }

    /// The whole step, once every shard is in.
    pub fn finish(self) -> Option<StepSum> {
        Some(StepSum::of(self.root?, self.outcomes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(shard: u32) -> ShardOutcome {
        ShardOutcome { shard, loss_sum: 0.1 * f64::from(shard), correct: shard, count: 2, digest: 0 }
    }

    fn sum(reducer: Reducer, order: [u32; 3]) -> u32 {
        let leaves = [1.0e8_f32, -1.0e8, 1.0];
        let mut average = Average::new(reducer, 3, Buffers::keeping(8));
        for shard in order {
            average.add(Node::leaf(shard), vec![leaves[shard as usize]], vec![outcome(shard)]);
        }
        let sum = average.finish().expect("complete");
        assert_eq!((sum.correct, sum.count), (3, 6));
        sum.values[0].to_bits()
    }

    #[test]
    fn the_tree_forgets_the_order_and_arrival_does_not() {
        assert_eq!(sum(Reducer::Tree, [0, 1, 2]), sum(Reducer::Tree, [2, 1, 0]));
        assert_ne!(sum(Reducer::Arrival, [0, 1, 2]), sum(Reducer::Arrival, [0, 2, 1]));
    }

    #[test]
    fn an_open_step_has_no_sum() {
        let mut average = Average::new(Reducer::Tree, 2, Buffers::keeping(8));
        average.add(Node::leaf(0), vec![1.0], vec![outcome(0)]);
        assert!(average.finish().is_none());
    }
}
