//! The next step's batches, prepared while this worker would wait for the others.

use crate::dataset::Batch;

/// Batches of training examples, each whole and of one epoch.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    epoch: u32,
    batches: Vec<Batch>,
}

impl Ahead {
    /// Keeps what was made for `epoch`. What can't be made is left to whoever asks for it, who can say so.
    pub(super) fn new(epoch: u32, made: Vec<Option<Batch>>) -> Self {
        Self { epoch, batches: made.into_iter().flatten().collect() }
    }

    /// The batch of exactly these examples in this epoch, if it is here. What was only expected is never used.
    pub(super) fn take(&mut self, epoch: u32, examples: &[u32]) -> Option<Batch> {
        let at = self.batches.iter().position(|batch| batch.examples == examples)?;
        (self.epoch == epoch).then(|| self.batches.swap_remove(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device, Tensor};

    fn batch(examples: &[u32]) -> Option<Batch> {
        let images = Tensor::zeros(1, DType::F32, &Device::Cpu).expect("a tensor");
        (!examples.contains(&99)).then(|| Batch { images, labels: Vec::new(), examples: examples.to_vec() })
    }

    #[test]
    fn only_what_was_asked_for_is_used() {
        let made = [&[1, 2][..], &[3, 99], &[4]].map(batch);
        let mut ahead = Ahead::new(7, made.to_vec());
        assert!(ahead.take(7, &[1]).is_none() && ahead.take(8, &[1, 2]).is_none(), "other examples, another epoch");
        assert!(ahead.take(7, &[3, 99]).is_none(), "it could not be made");
        assert_eq!(ahead.take(7, &[4]).expect("prepared").examples, [4]);
        assert!(ahead.take(7, &[4]).is_none(), "once");
        assert!(ahead.take(7, &[1, 2]).is_some());
    }
}
