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
