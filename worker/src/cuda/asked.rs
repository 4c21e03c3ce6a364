//! A node's sum that the GPU was asked for.

use std::sync::Arc;

use candle_core::{Error, Result};
use lockstep_proto::buffers::Buffers;

use super::layout::Layout;
#[cfg(feature = "nccl")]
use super::memory::Address;
use super::optimizer::Gradient;
use super::rooms::Lent;
use super::sums::Rest;
use crate::model::ComputeError;
use crate::node::{Counts, Home, NOTHING, Sum};

/// It is on the device, on its way home, or there. Dropped, it is waited for.
pub(crate) struct Asked {
    lent: Lent,
    layout: Arc<Layout>,
    /// Each shard's examples, and their labels.
    sizes: Vec<usize>,
    labels: Vec<u32>,
    /// What of it was sent home.
    home: Option<Home>,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Asked").field(&self.sizes).finish()
    }
}

impl Asked {
    pub(super) fn new(lent: Lent, layout: Arc<Layout>, sizes: Vec<usize>, labels: Vec<u32>) -> Self {
        Self { lent, layout, sizes, labels, home: None }
    }

    /// Asks for it at home, once, after all that is to be there.
    pub(crate) fn send_home(&mut self, home: Home) -> Result<()> {
        self.home = Some(home);
        self.lent.send_home(home)
    }

    /// Where it is on the device, for the step that is asked for next, as long as this value is there; and, if that is `told` of, where.
    pub(crate) fn gradient(&mut self, told: bool) -> Result<Gradient> {
        let sums = self.lent.room()?.sums()?;
        Ok(Gradient { sum: sums.first(), told: told.then(|| sums.told()) })
    }

    /// For tests: puts a wrong value into it, as broken memory would have it.
    pub(crate) fn spoil(&mut self) -> Result<()> {
        let at = self.lent.room()?.sums()?.first();
        self.lent.copy(at + 4, at, 1)
    }

    /// Waits until it is there; where it lies, and how many values it has, as laid out.
    #[cfg(feature = "nccl")]
    pub(crate) fn there(&mut self) -> Result<(Address, usize)> {
        let at = self.lent.room()?.sums()?.first();
        self.lent.settle()?;
        Ok((at, self.layout.len()))
    }

    /// Waits until what was sent is at home, a sum in a vector of `buffers`.
    ///
    /// # Errors
    /// The GPU failed.
    pub(crate) fn wait(mut self, buffers: &Buffers) -> std::result::Result<Sum, ComputeError> {
        let Self { lent, layout, sizes, labels, home } = &mut self;
        let mut read = || {
            let home = home.ok_or_else(|| Error::msg("a node that nobody sent home"))?;
            let room = lent.arrive()?;
            let sums = room.sums()?;
            let (results, rest) = sums.read(&room.home.values()[..sums.home(home).len]);
            let shards = counts(sizes, results.zip(labels.iter().copied()));
            Ok(match rest {
                Rest::Sum(packed) => Sum { flat: layout.gather(packed, buffers.take()), shards, made: NOTHING },
                Rest::Made(made) => Sum { flat: Vec::new(), shards, made },
            })
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
