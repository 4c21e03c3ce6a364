//! Host memory that one version's values are copied to the device from.

use candle_core::cuda_backend::cudarc::driver::CudaEvent;
use candle_core::{Error, Result};

use super::gpu::Gpu;
use super::memory::{Address, Pinned};

pub(super) struct Staging {
    values: Pinned<f32>,
    /// The device has read them.
    read: CudaEvent,
}

impl Staging {
    /// Room for `len` values, laid out. A context must be current.
    pub(super) fn new(gpu: &Gpu, len: usize) -> Result<Self> {
        Ok(Self { values: Pinned::new(len)?, read: gpu.event()? })
    }

    /// Asks for a copy `to` the device of what `lay_out` puts here.
    pub(super) fn upload(&mut self, gpu: &Gpu, to: Address, lay_out: impl FnOnce(&mut [f32])) -> Result<()> {
        self.read.synchronize().map_err(Error::wrap)?;
        lay_out(self.values.values_mut());
        gpu.upload(self.values.values(), to)?;
        self.read.record(&gpu.stream).map_err(Error::wrap)
    }
}
