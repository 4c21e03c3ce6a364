//! The next step's batches, prepared while this worker would wait for the others.

use lockstep_proto::wire::Shard;

use crate::dataset::Batch;
use crate::layers;

/// Batches of training examples, each whole and of one epoch.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    epoch: u32,
    batches: Vec<Batch>,
}

impl Ahead {
    /// Prepares `shards`, whose batches `batch` makes. One that can't be made is left to whoever asks for it, who can say so.
    pub(super) fn prepare<E>(
        epoch: u32,
        shards: &[Shard],
        batch: impl Fn(&[u32]) -> Result<Batch, E> + Sync + Send,
    ) -> Self {
        let made = layers::each_alone(shards.len(), |i| batch(&shards[i].examples).ok());
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

    fn batch(examples: &[u32]) -> Result<Batch, String> {
        if examples.contains(&99) {
            return Err("no such example".to_owned());
        }
        let images = Tensor::zeros(1, DType::F32, &Device::Cpu).expect("a tensor");
        Ok(Batch { images, labels: Vec::new(), examples: examples.to_vec() })
    }

    #[test]
    fn only_what_was_asked_for_is_used() {
        let shards = [vec![1, 2], vec![3, 99], vec![4]].map(|examples| Shard { shard: 0, examples });
        let mut ahead = Ahead::prepare(7, &shards, batch);
        assert!(ahead.take(7, &[1]).is_none() && ahead.take(8, &[1, 2]).is_none(), "other examples, another epoch");
        assert!(ahead.take(7, &[3, 99]).is_none(), "it could not be made");
        assert_eq!(ahead.take(7, &[4]).expect("prepared").examples, [4]);
        assert!(ahead.take(7, &[4]).is_none(), "once");
        assert!(ahead.take(7, &[1, 2]).is_some());
    }
}
