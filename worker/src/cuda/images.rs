//! The data set on the GPU, as bytes: what leaves the host for a batch is which examples, and what was drawn for each.

#![allow(unsafe_code)] // memory for the images

use std::sync::Arc;

use candle_core::cuda_backend::CudaStorage;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DeviceRepr};
use candle_core::op::BackpropOp;
use candle_core::{Error, Result, Storage, Tensor, bail};
use lockstep_proto::records::{Records, Split};

use super::gpu::Gpu;
use super::kernels::Images;
use super::memory::address;
use crate::dataset::{Adjustment, Augmenter, Draw, IMAGE, Normalise};

/// All images of a run, training and test.
pub struct Resident {
    gpu: Arc<Gpu>,
    /// Keeps the addresses by which a split is known.
    records: Arc<Records>,
    train: CudaSlice<u8>,
    test: CudaSlice<u8>,
}

impl std::fmt::Debug for Resident {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Resident").field(&self.gpu).finish()
    }
}

/// `struct draw` of images.cu.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Drawn {
    top: i32,
    left: i32,
    flags: u32,
    adjustments: u32,
    across: [f32; 3],
    down: [f32; 3],
    kinds: [u32; 4],
    factors: [f32; 4],
}

// SAFETY: numbers, laid out as C does
unsafe impl DeviceRepr for Drawn {}

const MIRRORED: u32 = 1;
const UPSIDE_DOWN: u32 = 2;
const AFFINE: u32 = 4;

impl From<Draw> for Drawn {
    fn from(draw: Draw) -> Self {
        let flag = |is, flag| if is { flag } else { 0 };
        let flags =
            flag(draw.mirrored, MIRRORED) | flag(draw.upside_down, UPSIDE_DOWN) | flag(draw.affine.is_some(), AFFINE);
        let [across, down] = draw.affine.unwrap_or_default();
        // a corner further out than the image is as black as one at its edge
        let corner = |at: i64| at.clamp(-(IMAGE[1] as i64), IMAGE[1] as i64) as i32;
        let mut drawn = Self { top: corner(draw.top), left: corner(draw.left), flags, across, down, ..Self::default() };
        for (number, (adjustment, factor)) in draw.adjustments.into_iter().flatten().enumerate() {
            drawn.kinds[number] = match adjustment {
                Adjustment::Brightness => 0,
                Adjustment::Contrast => 1,
                Adjustment::Saturation => 2,
                Adjustment::Hue => 3,
            };
            drawn.factors[number] = factor;
            drawn.adjustments = number as u32 + 1;
        }
        drawn
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        // the images are, to whichever GPU is the thread's
        let _ = self.gpu.bind();
    }
}

impl Resident {
    /// Copies the images to the GPU: 184 MB for CIFAR-10.
    ///
    /// # Errors
    /// The GPU's memory does not hold them.
    pub fn new(gpu: Arc<Gpu>, records: Arc<Records>) -> Result<Self> {
        gpu.bind()?;
        let copy = |split: &Split| {
            // SAFETY: written by the copy that follows
            let slice = unsafe { gpu.stream.alloc::<u8>(split.pixels.len().max(1)) }.map_err(Error::wrap)?;
            gpu.upload(&split.pixels[..], address(&slice))?;
            Ok::<_, Error>(slice)
        };
        let (train, test) = (copy(&records.train)?, copy(&records.test)?);
        gpu.wait()?;
        Ok(Self { gpu, records, train, test })
    }

    /// Whether `split` is one of the two.
    pub(crate) fn has(&self, split: &Split) -> bool {
        [&self.records.train, &self.records.test].into_iter().any(|one| std::ptr::eq(one, split))
    }

    /// The images of `examples`, which are numbers of `split`'s, (n, 3, 32, 32).
    pub(crate) fn images(
        &self,
        split: &Split,
        examples: &[u32],
        augmenter: Option<&Augmenter>,
        normalise: Option<&Normalise>,
    ) -> Result<Tensor> {
        let gpu = &self.gpu;
        gpu.bind()?;
        if let Some(example) = examples.iter().find(|&&example| example as usize >= split.labels.len()) {
            bail!("example {example} was asked for, but there are {}", split.labels.len())
        }
        let (n, size) = (examples.len(), IMAGE.iter().product::<usize>());
        let pixels = if std::ptr::eq(split, &self.records.test) { &self.test } else { &self.train };
        let draws: Option<Vec<Drawn>> = augmenter.map(|augmenter| {
            examples.iter().map(|&example| augmenter.draw(example, [IMAGE[1], IMAGE[2]]).into()).collect()
        });
        // SAFETY: the copies and the kernel that follow write every byte
        let (numbers, drawn, out) = unsafe {
            let numbers = gpu.stream.alloc::<u32>(n.max(1)).map_err(Error::wrap)?;
            let drawn = draws.as_ref().map(|draws| gpu.stream.alloc::<Drawn>(draws.len().max(1))).transpose();
            (numbers, drawn.map_err(Error::wrap)?, gpu.stream.alloc::<f32>((n * size).max(1)).map_err(Error::wrap)?)
        };
        // from memory that may be paged: CUDA copies it aside before it returns
        gpu.upload(examples, address(&numbers))?;
        if let Some((draws, drawn)) = draws.as_ref().zip(drawn.as_ref()) {
            gpu.upload(draws, address(drawn))?;
        }
        let plain = Normalise { mean: [0.0; 3], std: [1.0; 3] };
        let Normalise { mean, std: deviation } = *normalise.unwrap_or(&plain);
        let parameters = Images {
            pixels: address(pixels),
            examples: address(&numbers),
            draws: drawn.as_ref().map_or(0, address),
            out: address(&out),
            mean,
            deviation,
            plain: u32::from(normalise.is_none()),
        };
        gpu.launch_blocks(parameters, (n as u32, 1))?;
        let out = CudaStorage::wrap_cuda_slice(out, gpu.cuda().clone());
        let shape = (n, IMAGE[0], IMAGE[1], IMAGE[2]);
        Ok(Tensor::from_storage(Storage::Cuda(out), shape, BackpropOp::none(), false))
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::keys::Key;
    use lockstep_proto::recipe::DataSettings;

    use super::super::tests::{SEED, gpu};
    use super::*;
    use crate::dataset::{Batch, Batches, Purpose};

    /// Oracle: the CPU's, which have PyTorch's for an oracle.
    #[test]
    fn images_are_the_cpus_to_the_bit() {
        let Some(gpu) = gpu() else { return };
        let mut draws = Key::new(SEED, "test", "pixels").stream(0, 0, 0);
        let mut split = |n: usize| Split {
            pixels: (0..n * 3072).map(|_| draws.bits() as u8).collect(),
            labels: (0..n).map(|i| (i % 10) as u8).collect(),
        };
        let (train, test) = (split(40), split(9));
        let records = Arc::new(Records { classes: (0..10).map(|i| i.to_string()).collect(), train, test });
        let resident = Arc::new(Resident::new(gpu, Arc::clone(&records)).expect("it fits"));
        let off = DataSettings::default();
        let normalised = DataSettings { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616], ..off.clone() };
        let all = DataSettings {
            crop_padding: 4,
            horizontal_flip: 0.5,
            vertical_flip: 0.2,
            rotation: 30.0,
            translate: [0.1, 0.3],
            scale: [0.8, 1.2],
            brightness: 0.4,
            contrast: 0.6,
            saturation: 0.7,
            hue: 0.3,
            ..normalised.clone()
        };
        let colours = DataSettings { brightness: 0.5, contrast: 0.5, saturation: 0.5, hue: 0.5, ..off.clone() };
        let far = DataSettings { crop_padding: 100, ..off.clone() };
        for (name, settings) in
            [("off", off), ("normalised", normalised), ("all", all), ("colours", colours), ("far", far)]
        {
            let here = Batches::new(&settings, SEED);
            let there = here.clone().on(Arc::clone(&resident));
            for epoch in 0..4 {
                let examples: Vec<u32> = (0..40).rev().collect();
                let purpose = Purpose::Train { epoch };
                let [expected, found] = [&here, &there]
                    .map(|batches| batches.batch(&records.train, &examples, purpose).expect("good examples"));
                assert!(found.images.device().is_cuda() && found.labels == expected.labels, "{name}");
                let values =
                    |batch: &Batch| batch.images.flatten_all().and_then(|v| v.to_vec1::<f32>()).expect("values");
                let (expected, found) = (values(&expected), values(&found));
                let off = expected.iter().zip(&found).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
                assert_eq!(off, 0, "{name}, epoch {epoch}: values that differ");
            }
            // several at once are parts of one, unless one has a mistake
            let lists = [&[3, 1, 2][..], &[7], &[0, 39, 5, 6]];
            for (lists, has) in [(lists, true), ([lists[0], &[40], lists[2]], false)] {
                let all = there.all(&records.train, &lists, Purpose::Train { epoch: 1 });
                for ((batch, list), last) in all.iter().zip(lists).zip([true, has, true]) {
                    let alone = here.batch(&records.train, list, Purpose::Train { epoch: 1 }).ok();
                    assert!(batch.is_some() == last && alone.is_some() == last, "{name}");
                    let values =
                        |batch: &Batch| batch.images.flatten_all().and_then(|v| v.to_vec1::<f32>()).expect("values");
                    let seen = |batch: &Batch| (batch.labels.clone(), batch.examples.clone(), values(batch));
                    assert!(batch.as_ref().map(seen) == alone.as_ref().map(seen), "{name}");
                }
            }
            let found = there.batch(&records.test, &[8, 0], Purpose::Evaluate).expect("good examples");
            assert_eq!(found.labels, [8, 0]);
            assert!(there.batch(&records.test, &[9], Purpose::Evaluate).is_err(), "there are nine");
        }
    }
}
