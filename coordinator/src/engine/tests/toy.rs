//! A model of one number, in which every loss, repetition, swap and stale input shows.

use lockstep_proto::tree::Node;

use super::super::Work;
use crate::plan::Plan;

/// Folds numbers into one, in order. (The finaliser is SplitMix64's.)
pub(super) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9E37_79B9_7F4A_7C15, |sum, part| {
        let mut z = (sum ^ part).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    })
}

/// The sum of two halves: not commutative, so that a wrong order shows.
pub(super) fn add(left: u64, right: u64) -> u64 {
    mix(&[2, left, right])
}

/// The gradient of one shard.
fn leaf(step: u64, shard: u32, value: u64) -> u64 {
    mix(&[1, step, shard.into(), value])
}

/// What a worker with the parameters `value` computes.
pub(super) fn compute(plan: &Plan, work: Work, value: u64) -> u64 {
    match work {
        Work::Shards { step, node } => {
            tree(node, plan.leaves(step), &mut |leaf| (leaf.level == 0).then(|| self::leaf(step, leaf.index, value)))
                .unwrap_or(0)
        }
        Work::Part { step, first, end, .. } => {
            (first..end).map(|shard| leaf(step, shard, value)).fold(0, u64::wrapping_add)
        }
        Work::Slice { version, slice } => mix(&[4, version, slice.into(), value]),
    }
}

/// The sum at `node`, of what `given` knows; a lone child passes through.
pub(super) fn tree(node: Node, leaves: u32, given: &mut dyn FnMut(Node) -> Option<u64>) -> Option<u64> {
    if let Some(value) = given(node) {
        return Some(value);
    }
    if node.level == 0 {
        return None;
    }
    let child = |index| Node { level: node.level - 1, index };
    let (left, right) = (child(node.index * 2), child(node.index * 2 + 1));
    if right.covers(leaves).is_empty() {
        return tree(left, leaves, given);
    }
    Some(add(tree(left, leaves, given)?, tree(right, leaves, given)?))
}

/// The optimizer step.
pub(super) fn update(value: u64, root: u64) -> u64 {
    mix(&[3, value, root])
}

/// The value after `steps` steps of a run in which nothing happens.
pub(super) fn undisturbed(plan: &Plan, steps: u64) -> u64 {
    (0..steps).fold(0, |value, step| {
        let leaves = plan.leaves(step);
        let whole = match plan.ring {
            // one rank has all of it
            true => Work::Part { step, generation: 1, rank: 0, first: 0, end: leaves },
            false => Work::Shards { step, node: Node::root(leaves) },
        };
        update(value, compute(plan, whole, value))
    })
}
