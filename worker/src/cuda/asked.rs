//! A node's sum that the GPU was asked for.

use std::sync::Arc;

use candle_core::Result;
use lockstep_proto::buffers::Buffers;

use super::layout::Layout;
use super::memory::Address;
use super::rooms::Lent;
use crate::model::ComputeError;
use crate::node::{Counts, Sum};

/// It is on its way home, or there. Dropped, it is waited for.
pub(crate) struct Asked {
    lent: Lent,
    layout: Arc<Layout>,
    /// Each shard's examples, and their labels.
    sizes: Vec<usize>,
    labels: Vec<u32>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Asked").field(&self.sizes).finish()
    }
}

impl Asked {
    pub(super) fn new(lent: Lent, layout: Arc<Layout>, sizes: Vec<usize>, labels: Vec<u32>) -> Self {
        Self { lent, layout, sizes, labels }
    }

    /// Where it is on the device, for what is asked for next, as long as this value is there.
    pub(crate) fn address(&mut self) -> Result<Address> {
        Ok(self.lent.room()?.sums()?.first())
    }

    /// Waits until it is at home, in a vector of `buffers`.
    ///
    /// # Errors
    /// The GPU failed.
    pub(crate) fn wait(mut self, buffers: &Buffers) -> std::result::Result<Sum, ComputeError> {
        let Self { lent, layout, sizes, labels } = &mut self;
        let mut read = || {
            let room = lent.arrive()?;
            let sums = room.sums()?;
            let (results, packed) = sums.read(&room.home.values()[..sums.home().len]);
            let shards = counts(sizes, results.zip(labels.iter().copied()));
            Ok(Sum { flat: layout.gather(packed, buffers.take()), shards })
        };
        read().map_err(ComputeError::at("on the GPU"))
    }
}

/// Each shard's, from every example's (loss, answer) and label.
fn counts(sizes: &[usize], mut examples: impl Iterator<Item = ((f64, u32), u32)>) -> Vec<Counts> {
    let of = |&size: &usize| {
        let mut counts = Counts { loss_sum: 0.0, correct: 0, count: size as u32, digest: 0 };
        for ((loss, answer), label) in examples.by_ref().take(size) {
            counts.loss_sum += loss;
            counts.correct += u32::from(answer == label);
        }
        counts
    };
    sizes.iter().map(of).collect()
}
