//! Where a node's shards leave what they made: losses, answers, and the sums of their gradients along the reduction tree.

use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use lockstep_proto::optimizer::whole::Made;
use lockstep_proto::tree::Node;

use super::memory::{Address, Block};
use super::regions::Region;
use crate::node::Home;

/// What a shard does with the sums that wait when its turn comes: `depth` of them wait, and it completes `merges`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Join {
    pub(super) depth: u32,
    pub(super) merges: u32,
}

/// For each shard of `top`, in order. The sums are those of [`Reduction`](lockstep_proto::tree::Reduction): a shard climbs until its
/// sibling is still to come, and a lone child passes through. In the end one sum is left, and it is the first.
pub(super) fn joins(top: Node, leaves: u32) -> Vec<Join> {
    let mut waiting = Vec::new();
    let mut join = |shard| {
        let (depth, mut merges, mut node) = (waiting.len() as u32, 0, Node::leaf(shard));
        while node != top {
            let sibling = node.sibling();
            if !sibling.covers(leaves).is_empty() {
                if waiting.last() != Some(&sibling) {
                    break;
                }
                waiting.pop();
                merges += 1;
            }
            node = node.parent();
        }
        waiting.push(node);
        Join { depth, merges }
    };
    top.covers(leaves).map(&mut join).collect()
}

/// What came home beside each example's loss and answer.
pub(super) enum Rest<'a> {
    Sum(&'a [f32]),
    Made(Made),
}

/// Device memory for one node: what is told of a step that is made of it, losses and answers of its examples, then the sums.
pub(super) struct Sums {
    block: Block,
    /// Examples and sums that there is room for, and values of a sum.
    examples: usize,
    levels: usize,
    values: usize,
}

/// Words of what is told of a step: penalty and norm, 8 bytes each.
const TOLD: usize = 4;

/// Sums begin where the libraries would like it, though only our kernels touch them.
const ALIGNMENT: usize = 64;

impl Sums {
    /// Room for `levels` sums of `values` values: at most one more than the tree has levels wait at once.
    pub(super) fn new(stream: &Arc<CudaStream>, examples: usize, levels: usize, values: usize) -> Result<Self> {
        let block = Block::new(stream, Self::front(examples) + levels * values)?;
        Ok(Self { block, examples, levels, values })
    }

    pub(super) fn holds(&self, examples: usize, levels: usize) -> bool {
        examples <= self.examples && levels <= self.levels
    }

    /// Words before the sums: 8 bytes a loss, 4 an answer.
    fn front(examples: usize) -> usize {
        (TOLD + 3 * examples).next_multiple_of(ALIGNMENT)
    }

    /// Where the loss and the answer of example number `at` of the node go.
    pub(super) fn results(&self, at: usize) -> [Address; 2] {
        let start = |start| self.block.at(Region { start, len: 1 });
        [start(TOLD + 2 * at), start(TOLD + 2 * self.examples + at)]
    }

    /// Where penalty and norm go.
    pub(super) fn told(&self) -> Address {
        self.block.at(Region { start: 0, len: TOLD })
    }

    pub(super) fn first(&self) -> Address {
        self.block.at(Region { start: Self::front(self.examples), len: self.values })
    }

    /// What goes home, in words: everything before the sums, or up to the first one's end.
    pub(super) fn home(&self, home: Home) -> Region {
        let sum = if home == Home::Sum { self.values } else { 0 };
        Region { start: 0, len: Self::front(self.examples) + sum }
    }

    pub(super) fn at(&self, region: Region) -> Address {
        self.block.at(region)
    }

    /// Takes what came home apart: each example's loss and answer (beyond the node's last example anything), and the rest of it.
    pub(super) fn read<'a>(&self, home: &'a [f32]) -> (impl Iterator<Item = (f64, u32)> + use<'a>, Rest<'a>) {
        let (told, results) = home.split_at(TOLD);
        let (losses, answers) = results.split_at(2 * self.examples);
        let losses = losses.chunks(2).map(double);
        let rest = match home.get(Self::front(self.examples)..).and_then(|sums| sums.get(..self.values)) {
            Some(sum) => Rest::Sum(sum),
            None => Rest::Made(Made { penalty: double(&told[..2]), norm: double(&told[2..]) }),
        };
        (losses.zip(answers.iter().map(|value| value.to_bits())), rest)
    }
}

/// Eight bytes as the device has them.
fn double(halves: &[f32]) -> f64 {
    let word = |value: &f32| u64::from(value.to_bits());
    f64::from_bits(word(&halves[0]) | word(&halves[1]) << 32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_proto::tree::{Reduction, nodes_of};

    /// Oracle: the tree that adds on the CPU, on values whose sums differ with the order.
    #[test]
    fn shards_join_as_the_tree_adds() {
        for leaves in 1..=40 {
            for first in 0..leaves {
                let shards: Vec<u32> = (first..leaves).collect();
                for top in nodes_of(&shards, leaves) {
                    check(top, leaves);
                }
            }
        }
    }

    fn check(top: Node, leaves: u32) {
        let value = |shard: u32| (shard as f32 + 0.1).sin() * 10f32.powi(shard as i32 % 7 - 3);
        let (mut tree, mut expected) = (Reduction::new(leaves), None);
        let mut waiting: Vec<f32> = Vec::new();
        let joins = joins(top, leaves);
        for (shard, join) in top.covers(leaves).zip(&joins) {
            expected = tree.add_below(top, Node::leaf(shard), vec![value(shard)]);
            assert_eq!(waiting.len(), join.depth as usize, "{top:?} of {leaves}, shard {shard}");
            let mut sum = value(shard);
            for _ in 0..join.merges {
                sum += waiting.pop().expect("what is merged waits");
            }
            waiting.push(sum);
        }
        let expected = expected.expect("the node is complete")[0];
        assert_eq!(waiting.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>(), [expected.to_bits()]);
        let levels = joins.iter().map(|join| join.depth - join.merges + 1).max();
        assert!(levels <= Some(top.level + 1), "{levels:?} sums at once for {top:?}");
    }
}
