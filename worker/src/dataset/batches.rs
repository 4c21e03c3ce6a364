//! From example numbers to batches, as the recipe says.

use lockstep_proto::recipe::DataSettings;
use lockstep_proto::records::Split;

use super::{Augmenter, Batch, IMAGE, Normalise, Records};
use crate::layers;
use crate::model::ComputeError;

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Augmented, with the draws of this epoch.
    Train { epoch: u32 },
    /// As it is.
    Evaluate,
}

/// The recipe's pixels: augmentation and normalisation.
#[derive(Clone, Debug)]
pub struct Batches {
    augmenter: Option<Augmenter>,
    normalise: Option<Normalise>,
    #[cfg(feature = "cuda")]
    resident: Option<std::sync::Arc<crate::cuda::Resident>>,
}

impl Batches {
    #[must_use]
    pub fn new(settings: &DataSettings, seed: u64) -> Self {
        let (mean, std) = (settings.mean.map(|v| v as f32), settings.std.map(|v| v as f32));
        // (x − 0) / 1 is x: skipping it changes no bit
        let plain = mean == [0.0; 3] && std == [1.0; 3];
        let normalise = (!plain).then_some(Normalise { mean, std });
        Self {
            augmenter: Augmenter::new(settings, seed),
            normalise,
            #[cfg(feature = "cuda")]
            resident: None,
        }
    }

    /// Makes the batches of `resident`'s images on its GPU.
    #[cfg(feature = "cuda")]
    #[must_use]
    pub fn on(self, resident: std::sync::Arc<crate::cuda::Resident>) -> Self {
        Self { resident: Some(resident), ..self }
    }

    /// Gathers `examples` of `split`.
    pub fn batch(&self, split: &Split, examples: &[u32], purpose: Purpose) -> Result<Batch, ComputeError> {
        let records = Records { pixels: &split.pixels, labels: &split.labels, shape: IMAGE };
        let augmenter = match purpose {
            Purpose::Train { epoch } => self.augmenter.map(|augmenter| augmenter.in_epoch(epoch)),
            Purpose::Evaluate => None,
        };
        #[cfg(feature = "cuda")]
        if let Some(resident) = self.resident.as_ref().filter(|resident| resident.has(split)) {
            let images = resident.images(split, examples, augmenter.as_ref(), self.normalise.as_ref());
            let images = images.map_err(ComputeError::at("images"))?;
            let labels = examples.iter().map(|&example| u32::from(split.labels[example as usize])).collect();
            return Ok(Batch { images, labels, examples: examples.to_vec() });
        }
        Batch::gather(&records, examples, augmenter.as_ref(), self.normalise.as_ref())
    }

    /// Gathers several batches; none where one can't be made.
    pub fn all(&self, split: &Split, lists: &[&[u32]], purpose: Purpose) -> Vec<Option<Batch>> {
        #[cfg(feature = "cuda")]
        if let Some(made) = self.at_once(split, lists, purpose) {
            return made.into_iter().map(Some).collect();
        }
        layers::each_alone(lists.len(), |list| self.batch(split, lists[list], purpose).ok())
    }

    /// Small batches cost a GPU less as parts of one. None where there is no GPU, or a list has a mistake: the others do without it.
    #[cfg(feature = "cuda")]
    fn at_once(&self, split: &Split, lists: &[&[u32]], purpose: Purpose) -> Option<Vec<Batch>> {
        self.resident.as_ref().filter(|resident| resident.has(split) && lists.len() > 1)?;
        let whole = self.batch(split, &lists.concat(), purpose).ok()?;
        let mut start = 0;
        let part = |list: &&[u32]| {
            let (from, count) = (start, list.len());
            start += count;
            let images = whole.images.narrow(0, from, count).ok()?;
            Some(Batch { images, labels: whole.labels[from..][..count].to_vec(), examples: list.to_vec() })
        };
        lists.iter().map(part).collect()
    }
}
