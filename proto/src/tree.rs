//! The fixed reduction tree: which sums are formed, whoever forms them.
//!
//! Node `(level, index)` covers shards `[index·2^level, (index+1)·2^level)` of a step with `leaves` shards. A lone child
//! passes through: adding 0.0 would turn −0.0 into 0.0. So the bits of the root depend on the shards alone.

use std::ops::Range;

use crate::tensors::add_assign;

/// A place in the tree. Level 0 holds the shards themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    pub level: u32,
    pub index: u32,
}

impl Node {
    /// The leaf of one shard.
    #[must_use]
    pub fn leaf(shard: u32) -> Self {
        Self { level: 0, index: shard }
    }

    /// The node over all `leaves` shards (at least one).
    #[must_use]
    pub fn root(leaves: u32) -> Self {
        Self { level: leaves.max(1).next_power_of_two().trailing_zeros(), index: 0 }
    }

    /// The shards below this node in a step of `leaves` shards.
    #[must_use]
    pub fn covers(self, leaves: u32) -> Range<u32> {
        let bound = |index: u64| u32::try_from(index << self.level.min(32)).unwrap_or(u32::MAX).min(leaves);
        bound(u64::from(self.index))..bound(u64::from(self.index) + 1)
    }

    /// The node above.
    #[must_use]
    pub fn parent(self) -> Self {
        Self { level: self.level + 1, index: self.index / 2 }
    }

    /// The other child of the node above.
    #[must_use]
    pub fn sibling(self) -> Self {
        Self { level: self.level, index: self.index ^ 1 }
    }

    /// True for the first of two children: it stands on the left of the sum.
    #[must_use]
    pub fn is_left(self) -> bool {
        self.index.is_multiple_of(2)
    }
}

/// Sums that wait for their other half.
#[derive(Debug)]
pub struct Reduction {
    leaves: u32,
    waiting: Vec<(Node, Vec<f32>)>,
    /// Vectors whose values are in another one now.
    spare: Vec<Vec<f32>>,
}

impl Reduction {
    /// An empty tree over `leaves` shards.
    #[must_use]
    pub fn new(leaves: u32) -> Self {
        Self { leaves, waiting: Vec::new(), spare: Vec::new() }
    }

    /// Adds the sum of `node` and whatever it completes. Returns the root's sum when it is the last.
    ///
    /// All sums have one length, and no shard is added twice: the engine sees to both.
    pub fn add(&mut self, node: Node, values: Vec<f32>) -> Option<Vec<f32>> {
        self.add_below(Node::root(self.leaves), node, values)
    }

    /// The vectors that were added into others: memory for what comes next.
    pub fn take_spare(&mut self) -> Vec<Vec<f32>> {
        std::mem::take(&mut self.spare)
    }

    /// As [`Reduction::add`], for the tree below `top`: what a worker sums before it sends.
    pub fn add_below(&mut self, top: Node, mut node: Node, mut values: Vec<f32>) -> Option<Vec<f32>> {
        while node != top {
            let sibling = node.sibling();
            if !sibling.covers(self.leaves).is_empty() {
                let Some(at) = self.waiting.iter().position(|(other, _)| *other == sibling) else {
                    self.waiting.push((node, values));
                    return None;
                };
                let (_, other) = self.waiting.swap_remove(at);
                // f32 addition is commutative to the bit, so the sum may go into either buffer.
                add_assign(&mut values, &other);
                self.spare.push(other);
            }
            node = node.parent();
        }
        Some(values)
    }
}

/// Cuts the sorted shards `free` into blocks of neighbours, as long as `shares` says, each written with as few nodes as
/// possible: what a worker holds alone it can sum alone, which saves wire.
#[must_use]
pub fn cut(free: &[u32], shares: &[usize], leaves: u32) -> Vec<Vec<Node>> {
    let mut rest = free;
    let mut blocks = Vec::with_capacity(shares.len());
    for share in shares {
        let (block, after) = rest.split_at((*share).min(rest.len()));
        blocks.push(nodes_of(block, leaves));
        rest = after;
    }
    blocks
}

/// An even cut of a step's shards over the ranks of a ring: neighbours, in rank order, and the first ones have one more where it does not
/// come out even.
#[must_use]
pub fn parts(leaves: u32, ranks: u32) -> Vec<Range<u32>> {
    let (each, more) = (leaves / ranks.max(1), leaves % ranks.max(1));
    let start = |rank: u32| rank * each + rank.min(more);
    (0..ranks).map(|rank| start(rank)..start(rank + 1)).collect()
}

/// The root's sum out of those of `nodes`, which cover all shards, in order: pairs of places in `nodes`, where what lies in the second is added
/// to what lies in the first. In the end it lies in the first of all. The sums are [`Reduction`]'s.
#[must_use]
pub fn additions(nodes: &[Node], leaves: u32) -> Vec<(usize, usize)> {
    let (mut waiting, mut pairs): (Vec<(Node, usize)>, _) = (Vec::new(), Vec::new());
    for (mut at, mut node) in nodes.iter().copied().enumerate() {
        while node != Node::root(leaves) {
            let sibling = node.sibling();
            if !sibling.covers(leaves).is_empty() {
                let Some((_, left)) = waiting.pop_if(|(other, _)| *other == sibling) else { break };
                pairs.push((left, at));
                at = left;
            }
            node = node.parent();
        }
        waiting.push((node, at));
    }
    pairs
}

/// The largest nodes that cover exactly the sorted shards.
#[must_use]
pub fn nodes_of(shards: &[u32], leaves: u32) -> Vec<Node> {
    let mut nodes = Vec::new();
    let mut at = 0;
    while at < shards.len() {
        let mut node = Node::leaf(shards[at]);
        let mut len = 1;
        while node.is_left() && node != Node::root(leaves) {
            let cover = node.parent().covers(leaves);
            let width = cover.len();
            // shards are sorted and unique: the right number of them up to the last one means all of them
            if shards.get(at + width - 1).is_none_or(|last| *last != cover.end - 1) {
                break;
            }
            node = node.parent();
            len = width;
        }
        nodes.push(node);
        at += len;
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, written as a recursion over ranges: the oracle of the incremental one.
    fn by_definition(leaves: &[f32], start: usize, width: usize) -> Option<f32> {
        if start >= leaves.len() {
            return None;
        }
        if width == 1 {
            return Some(leaves[start]);
        }
        let left = by_definition(leaves, start, width / 2);
        let right = by_definition(leaves, start + width / 2, width / 2);
        match (left, right) {
            (Some(l), Some(r)) => Some(l + r),
            (one, other) => one.or(other),
        }
    }

    #[test]
    fn minus_zero_passes_a_lone_child() {
        let mut tree = Reduction::new(3);
        assert_eq!(tree.add(Node::leaf(0), vec![-0.0]), None);
        assert_eq!(tree.add(Node::leaf(2), vec![-0.0]), None);
        let root = tree.add(Node::leaf(1), vec![-0.0]).expect("complete");
        assert_eq!(root[0].to_bits(), (-0.0_f32).to_bits());
    }

    #[test]
    fn covers_is_cut_at_the_last_shard() {
        assert_eq!(Node { level: 2, index: 1 }.covers(6), 4..6);
        assert_eq!(Node { level: 1, index: 3 }.covers(6), 6..6);
        assert_eq!(Node::root(6), Node { level: 3, index: 0 });
        assert_eq!(Node::root(1), Node::leaf(0));
        assert!(Node { level: 40, index: 7 }.covers(6).is_empty());
    }

    #[test]
    fn six_shards_for_two_workers_are_three_each() {
        let blocks = cut(&[0, 1, 2, 3, 4, 5], &[3, 3], 6);
        let node = |level, index| Node { level, index };
        assert_eq!(blocks, [vec![node(1, 0), node(0, 2)], vec![node(0, 3), node(2, 1)]]);
        assert_eq!(cut(&[0, 1, 2, 3, 4, 5], &[6], 6), [vec![node(3, 0)]]);
        assert_eq!(cut(&[1, 2], &[0, 1, 1], 4), [vec![], vec![node(0, 1)], vec![node(0, 2)]]);
    }

    #[test]
    fn a_ring_is_cut_evenly_in_rank_order() {
        assert_eq!(parts(5, 3), [0..2, 2..4, 4..5]);
        assert_eq!(parts(2, 3), [0..1, 1..2, 2..2]);
        assert_eq!(parts(0, 2), [0..0, 0..0]);
        assert!(parts(3, 0).is_empty());
    }

    proptest! {
        #[test]
        fn any_order_of_any_cut_gives_the_bits_of_the_definition(
            leaves in prop::collection::vec(-1e6_f32..1e6, 1..40),
            shares in prop::collection::vec(0_usize..9, 1..12),
            turn in any::<usize>(),
            backwards in any::<bool>(),
        ) {
            let n = leaves.len() as u32;
            let expected = by_definition(&leaves, 0, leaves.len().next_power_of_two()).expect("not empty");
            let all: Vec<u32> = (0..n).collect();
            let rest = all.len().saturating_sub(shares.iter().sum());
            let mut nodes: Vec<Node> = cut(&all, &[shares, vec![rest]].concat(), n).concat();
            let len = nodes.len();
            nodes.rotate_left(turn % len);
            if backwards { nodes.reverse(); }
            let mut tree = Reduction::new(n);
            let mut root = None;
            for node in nodes {
                // a worker sums a node with the same tree, from its leaves
                let mut local = Reduction::new(n);
                let mut sum = None;
                let cover = node.covers(n);
                for shard in cover.clone() {
                    sum = local.add_below(node, Node::leaf(shard), vec![leaves[shard as usize]]);
                }
                prop_assert!(root.is_none());
                root = tree.add(node, sum.expect("node complete"));
            }
            prop_assert_eq!(root.expect("root complete")[0].to_bits(), expected.to_bits());
        }

        /// Oracle: the tree that takes nodes as they come.
        #[test]
        fn the_parts_of_a_ring_are_added_to_the_trees_sum(leaves in prop::collection::vec(-1e6_f32..1e6, 1..40), ranks in 1_u32..12) {
            let n = leaves.len() as u32;
            let (mut nodes, mut values, mut tree, mut expected) = (Vec::new(), Vec::new(), Reduction::new(n), None);
            for part in parts(n, ranks) {
                for node in nodes_of(&part.collect::<Vec<_>>(), n) {
                    let (mut local, mut sum) = (Reduction::new(n), None);
                    for shard in node.covers(n) {
                        sum = local.add_below(node, Node::leaf(shard), vec![leaves[shard as usize]]);
                    }
                    let sum = sum.expect("node complete");
                    values.push(sum[0]);
                    nodes.push(node);
                    expected = tree.add(node, sum);
                }
            }
            for (to, from) in additions(&nodes, n) {
                prop_assert!(to < from);
                values[to] += values[from];
            }
            prop_assert_eq!(values[0].to_bits(), expected.expect("root complete")[0].to_bits());
        }

        #[test]
        fn nodes_of_covers_exactly_what_it_was_given(mask in any::<u32>(), leaves in 1_u32..32) {
            let shards: Vec<u32> = (0..leaves).filter(|s| mask >> s & 1 == 1).collect();
            let covered: Vec<u32> = nodes_of(&shards, leaves).into_iter().flat_map(|n| n.covers(leaves)).collect();
            prop_assert_eq!(covered, shards);
        }
    }
}
