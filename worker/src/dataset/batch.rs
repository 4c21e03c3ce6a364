//! The tensors of a shard, from canonical records and example numbers.

use candle_core::{Device, Tensor};

use super::Augmenter;
use crate::model::{ComputeError, Model, Shape};

/// A data set's canonical records in memory: bytes, colours outermost, example after example.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// As many bytes an example as `shape` has places.
    pub pixels: &'a [u8],
    /// One class an example.
    pub labels: &'a [u8],
    /// Channels, height, width; 3×32×32 for CIFAR-10.
    pub shape: [usize; 3],
}

/// (value − mean) / std for each colour, on values in \[0, 1\] (torchvision's `Normalize`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalise {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

/// The examples of a shard or of a slice of the test set.
#[derive(Clone, Debug)]
pub struct Batch {
    /// (n, channels, height, width), f32.
    pub images: Tensor,
    /// n classes.
    pub labels: Vec<u32>,
    /// n example numbers, which dropout is keyed by.
    pub examples: Vec<u32>,
}

impl Batch {
    /// Gathers `examples` from the records: augmented (if asked), divided by 255 as torchvision's `ToTensor` does, then
    /// normalised (if asked).
    ///
    /// # Errors
    /// Records that are inconsistent, an example number beyond them, more numbers than examples, a deviation that is not positive.
    pub fn gather(
        records: &Records,
        examples: &[u32],
        augmenter: Option<&Augmenter>,
        normalise: Option<&Normalise>,
    ) -> Result<Self, ComputeError> {
        let [channels, height, width] = records.shape;
        let (plane, size) = (height * width, channels * height * width);
        let total = records.labels.len();
        if size == 0 || records.pixels.len() != total * size {
            return Err(ComputeError::Batch(format!(
                "{} bytes of pixels are not {total} images of {channels}×{height}×{width}",
                records.pixels.len()
            )));
        }
        if examples.len() > total {
            // an example is in a batch once, and memory is not asked for because somebody lists one a million times
            let asked = examples.len();
            return Err(ComputeError::Batch(format!("{asked} examples were asked for, but there are {total}")));
        }
        let tables = (0..channels).map(|channel| table(normalise, channel)).collect::<Result<Vec<_>, _>>()?;
        let mut values = Vec::with_capacity(examples.len() * size);
        let mut labels = Vec::with_capacity(examples.len());
        let (mut scratch, mut changed) = (vec![0; size], vec![0; size]);
        for &example in examples {
            let at = example as usize;
            let Some(&label) = records.labels.get(at) else {
                return Err(ComputeError::Batch(format!("example {example} was asked for, but there are {total}")));
            };
            labels.push(u32::from(label));
            let mut pixels = &records.pixels[at * size..][..size];
            if let Some(augmenter) = augmenter {
                augmenter.apply(pixels, records.shape, example, &mut scratch, &mut changed);
                pixels = &changed;
            }
            for (pixels, table) in pixels.chunks(plane).zip(&tables) {
                values.extend(pixels.iter().map(|&pixel| table[usize::from(pixel)]));
            }
        }
        let shape = (examples.len(), channels, height, width);
        let images = Tensor::from_vec(values, shape, &Device::Cpu).map_err(ComputeError::at("batch"))?;
        Ok(Self { images, labels, examples: examples.to_vec() })
    }

    /// How many examples there are, if they fit each other and the model.
    pub(crate) fn check(&self, model: &Model) -> Result<usize, ComputeError> {
        let problem = |text| Err(ComputeError::Batch(text));
        let Shape::Image { channels, height, width } = model.input() else {
            return problem(format!("model {:?} does not take images", model.name()));
        };
        let count = self.labels.len();
        if count == 0 {
            return problem("it is empty: there is nothing to compute".to_owned());
        }
        let (found, wanted) = (self.images.dims(), [count, channels, height, width]);
        if found != wanted || self.examples.len() != count {
            let examples = self.examples.len();
            return problem(format!(
                "{count} labels and {examples} example numbers go with images of shape {wanted:?}, not {found:?}"
            ));
        }
        let classes = model.classes();
        if let Some(at) = self.labels.iter().position(|&label| label as usize >= classes) {
            let (example, label, name) = (self.examples[at], self.labels[at], model.name());
            return problem(format!(
                "example {example} has label {label}, but model {name:?} has classes 0 to {}",
                classes - 1
            ));
        }
        Ok(count)
    }
}

/// What each of the 256 bytes becomes in one channel: the same f32 operations as on the whole image, done once.
fn table(normalise: Option<&Normalise>, channel: usize) -> Result<[f32; 256], ComputeError> {
    let unit = |byte: usize| byte as f32 / 255.0;
    let Some(normalise) = normalise else { return Ok(std::array::from_fn(unit)) };
    let pair = normalise.mean.get(channel).zip(normalise.std.get(channel));
    let Some((&mean, &std)) = pair else {
        return Err(ComputeError::Batch(format!("normalisation has 3 colours, the images have a channel {channel}")));
    };
    if !(mean.is_finite() && std.is_finite() && std > 0.0) {
        let problem = format!("normalisation of channel {channel}: mean {mean}, std {std}: std must be positive");
        return Err(ComputeError::Batch(problem));
    }
    Ok(std::array::from_fn(|byte| (unit(byte) - mean) / std))
}

#[cfg(test)]
mod tests {
    use lockstep_proto::recipe::DataSettings;

    use super::*;

    const SHAPE: [usize; 3] = [3, 2, 2];

    fn pixels() -> Vec<u8> {
        (0..36).map(|i| (i * 7 + 3) as u8).collect()
    }

    fn values(batch: &Batch) -> Vec<f32> {
        batch.images.flatten_all().and_then(|t| t.to_vec1()).expect("f32 on the CPU")
    }

    #[test]
    fn examples_come_in_the_order_asked_for_colours_outermost() {
        let pixels = pixels();
        let records = Records { pixels: &pixels, labels: &[4, 5, 6], shape: SHAPE };
        let batch = Batch::gather(&records, &[2, 0], None, None).expect("in range");
        assert_eq!((batch.labels.as_slice(), batch.examples.as_slice()), (&[6, 4][..], &[2, 0][..]));
        assert_eq!(batch.images.dims(), [2, 3, 2, 2]);
        let expected: Vec<f32> = pixels[24..].iter().chain(&pixels[..12]).map(|&p| f32::from(p) / 255.0).collect();
        assert_eq!(values(&batch), expected);
    }

    /// Oracle: torch.tensor([3, 255], dtype=uint8).to(float32).div(255).sub_(0.4914).div_(0.247), PyTorch 2.15.
    #[test]
    fn normalisation_is_torchvisions_to_the_bit() {
        let normalise = Normalise { mean: [0.4914; 3], std: [0.247; 3] };
        let records = Records { pixels: &[3, 255, 3], labels: &[0], shape: [3, 1, 1] };
        let batch = Batch::gather(&records, &[0], None, Some(&normalise)).expect("in range");
        assert_eq!(values(&batch), [-1.941_843_4, 2.059_109_4, -1.941_843_4]);
        let bad = Normalise { mean: [0.0; 3], std: [0.0; 3] };
        let error = Batch::gather(&records, &[0], None, Some(&bad)).expect_err("std 0").to_string();
        assert!(error.contains("std 0"), "{error}");
    }

    #[test]
    fn augmentation_is_applied_before_anything_else() {
        let pixels = pixels();
        let records = Records { pixels: &pixels, labels: &[4, 5, 6], shape: SHAPE };
        let settings = DataSettings { horizontal_flip: 1.0, ..DataSettings::default() };
        let augmenter = Augmenter::new(&settings, 1);
        let batch = Batch::gather(&records, &[1], augmenter.as_ref(), None).expect("in range");
        let flipped = pixels[12..24].chunks(2).flat_map(|row| [row[1], row[0]]);
        assert_eq!(values(&batch), flipped.map(|p| f32::from(p) / 255.0).collect::<Vec<_>>());
    }

    #[test]
    fn bad_numbers_are_named() {
        let pixels = pixels();
        let records = Records { pixels: &pixels, labels: &[4, 5, 6], shape: SHAPE };
        let error = Batch::gather(&records, &[3], None, None).expect_err("beyond").to_string();
        assert!(error.contains("example 3") && error.contains("there are 3"), "{error}");
        let error = Batch::gather(&records, &[0; 4], None, None).expect_err("twice").to_string();
        assert!(error.contains("4 examples were asked for, but there are 3"), "{error}");
        let short = Records { pixels: &pixels[1..], ..records };
        let error = Batch::gather(&short, &[0], None, None).expect_err("short").to_string();
        assert!(error.contains("35 bytes") && error.contains("3 images of 3×2×2"), "{error}");
    }
}
