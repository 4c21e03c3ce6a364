//! What differs from one pass of a plan to the next: `struct inputs` of kernel.h and what follows it, one block that one copy brings to
//! the device.

use lockstep_proto::recipe::LossName;

use super::memory::Address;
use super::plan::Plan;
use crate::model::Turn;

/// Words of [`Head`].
pub(super) const HEAD: usize = 14;

/// What one shard's pass adds to its node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// Of the loss's slopes.
    pub(super) divisor: f64,
    /// Where losses (f64) and answers (u32) go, one an example.
    pub(super) losses: Address,
    pub(super) predictions: Address,
    /// The first of the sums that wait.
    pub(super) sums: Address,
    /// How many of them wait, and how many this gradient completes.
    pub(super) depth: u32,
    pub(super) merges: u32,
    /// So many values are rounded to bf16.
    pub(super) rounded: u32,
    pub(super) loss: LossName,
    /// The shard's share of the batch, for running statistics.
    pub(super) share: f32,
}

impl Head {
    /// As C lays `struct inputs` out, little-endian.
    fn words(&self, turn: u32) -> [u32; HEAD] {
        let half = |wide: u64| [wide as u32, (wide >> 32) as u32];
        let [[d0, d1], [l0, l1], [p0, p1], [s0, s1]] =
            [self.divisor.to_bits(), self.losses, self.predictions, self.sums].map(half);
        // loss.cu's numbers
        let loss = match self.loss {
            LossName::CrossEntropy => 0,
            LossName::L1Logits => 1,
            LossName::L1Softmax => 2,
        };
        let Self { depth, merges, rounded, share, .. } = *self;
        [d0, d1, l0, l1, p0, p1, s0, s1, depth, merges, rounded, loss, turn, share.to_bits()]
    }
}

/// Writes a pass's inputs to `words`, which are as many as `plan.inputs` has. `head`: none in evaluation, which has no loss here. `turn`:
/// none where nothing is dropped.
pub(super) fn write(
    words: &mut [u32],
    plan: &Plan,
    head: Option<&Head>,
    turn: Option<Turn>,
    [numbers, labels]: [&[u32]; 2],
) {
    let number = turn.map_or(0, |turn| turn.number());
    let (front, rest) = words.split_at_mut(HEAD);
    front.copy_from_slice(&head.map_or([0; HEAD], |head| head.words(number)));
    front[12] = number;
    let (keys, rest) = rest.split_at_mut(2 * plan.dropouts.len());
    if let Some(turn) = turn {
        for (key, layer) in keys.chunks_mut(2).zip(&plan.dropouts) {
            key.copy_from_slice(&turn.key(layer).words());
        }
    }
    let (to_numbers, to_labels) = rest.split_at_mut(plan.examples);
    for (to, from) in [(to_numbers, numbers), (to_labels, labels)] {
        to[..from.len()].copy_from_slice(from);
    }
}
