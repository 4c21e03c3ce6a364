//! A GPU: what is opened once.

#![allow(unsafe_code)] // handles of C libraries

use std::sync::{Arc, OnceLock};

use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaEvent, CudaStream, result};
use candle_core::{CudaDevice, Device, Error, Result};

use super::class::class;
use super::format::Format;
use super::graph;
use super::kernels::{Kernels, Parameters};
use super::lane::Lane;
use super::memory::{Address, Pool};
use super::trial::Trials;
use crate::model::plain;

/// Shards side by side, at most: `LANES` in sums.cu. Each has the memory of its pass.
pub(super) const LANES: usize = 8;

/// A GPU that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum GpuError {
    #[error("there is no GPU here: use --device cpu")]
    None,
    #[error("--device cuda:{asked}: this machine has {found}, counted from 0")]
    Number { asked: usize, found: String },
    #[error("--device cuda:{number} can't be opened: {problem}")]
    Open { number: usize, problem: String },
}

/// How many GPUs CUDA sees here (`CUDA_VISIBLE_DEVICES` hides some); 0 where there is no driver.
#[must_use]
pub fn count() -> usize {
    CudaContext::device_count().ok().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

/// An opened GPU. Its work is done on one stream, in the order in which it was asked for, but for what is asked for side by side and what is
/// on its way home.
pub struct Gpu {
    device: Device,
    cuda: CudaDevice,
    pub(super) stream: Arc<CudaStream>,
    /// What leaves the device, so that nothing waits for it to be gone.
    pub(super) homeward: Arc<CudaStream>,
    kernels: Arc<Kernels>,
    /// The lane on the stream, and those beside it, which come when they are asked for.
    first: Lane,
    others: [OnceLock<Lane>; LANES - 1],
    pub(super) tf32: bool,
    /// How images lie in a pass, if it was named.
    pub(super) format: Option<Format>,
    pub(super) trials: Trials,
    pool: Option<Pool>,
    /// Passes become CUDA graphs.
    pub(super) graphs: bool,
    class: String,
}

// SAFETY: CUDA's contexts, streams and modules may be used from any thread; a cuDNN or cuBLAS handle from one at a time, and
// a worker has one thread that computes, as have `eval` and `predict`: a session ends when its thread is gone, and not before
// (session/thread.rs).
unsafe impl Send for Gpu {}
unsafe impl Sync for Gpu {}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(&self.class).finish()
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // handles are given back to whichever GPU is the thread's
        let _ = self.bind();
    }
}

impl Gpu {
    /// Opens GPU `number`. `tf32`: convolutions may round their factors to 10 bits, as PyTorch lets them by default.
    ///
    /// # Errors
    /// There is no such GPU, or a library that does not start.
    pub fn open(number: usize, tf32: bool) -> std::result::Result<Self, GpuError> {
        match count() {
            0 => return Err(GpuError::None),
            found if number >= found => {
                let found = if found == 1 { "1 GPU".to_owned() } else { format!("{found} GPUs") };
                return Err(GpuError::Number { asked: number, found });
            }
            _ => {}
        }
        Format::wanted()
            .and_then(|format| Self::start(number, tf32, format))
            .map_err(|error| GpuError::Open { number, problem: plain(error).to_string() })
    }

    pub(super) fn start(number: usize, tf32: bool, format: Option<Format>) -> Result<Self> {
        let graphs = graph::wanted()?;
        let device = Device::new_cuda_with_stream(number)?;
        let cuda = device.as_cuda_device()?.clone();
        // SAFETY: the streams' order, lanes that wait for each other, and rooms that are at rest before they are used again, are all the
        // tracking that is needed
        unsafe { cuda.disable_event_tracking() };
        let stream = cuda.cuda_stream();
        let context = Arc::clone(stream.context());
        context.bind_to_thread().map_err(Error::wrap)?;
        let pool = Pool::of(&context)?;
        if let Some(pool) = &pool {
            pool.keep_freed()?;
        }
        let homeward = context.new_stream().map_err(Error::wrap)?;
        let kernels = Arc::new(Kernels::load(&context)?);
        // candle's own handle, for this stream
        let first = Lane::new(&stream, &kernels, cuda.cublas_handle())?;
        let class = class(&context, *first.blas.handle(), tf32, format)?;
        let others = [const { OnceLock::new() }; LANES - 1];
        let trials = Trials::default();
        Ok(Self { device, cuda, stream, homeward, kernels, first, others, tf32, format, trials, pool, graphs, class })
    }

    /// `cuda/NVIDIA H100 80GB HBM3/132sm/cublas13.0.2/cudnn9.10.2/tf32/kernels2-3fa29c`: what two workers must have in common for their bits
    /// to agree.
    #[must_use]
    pub fn class(&self) -> &str {
        &self.class
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn cuda(&self) -> &CudaDevice {
        &self.cuda
    }

    /// Makes the GPU this thread's.
    pub(super) fn bind(&self) -> Result<()> {
        self.stream.context().bind_to_thread().map_err(Error::wrap)
    }

    /// Lane `number`, below [`LANES`].
    pub(super) fn lane(&self, number: usize) -> Result<&Lane> {
        let Some(place) = number.checked_sub(1).map(|other| &self.others[other]) else { return Ok(&self.first) };
        if let Some(found) = place.get() {
            return Ok(found);
        }
        let made = self.first.beside()?;
        Ok(place.get_or_init(|| made))
    }

    /// Whether there is memory for another lane: half of it is for evaluation, and for others who share the GPU.
    pub(super) fn has_room(&self) -> Result<bool> {
        self.bind()?;
        let half_is_free = || result::mem_get_info().map(|(free, total)| free > total / 2).map_err(Error::wrap);
        if half_is_free()? {
            return Ok(true);
        }
        let Some(pool) = &self.pool else { return Ok(false) };
        // what was freed and kept counts as used, and is given back as far as the stream has come
        self.wait()?;
        pool.trim()?;
        half_is_free()
    }

    /// Asks for `count` things that do not wait for each other, each by `ask` in a lane of its own. They wait for all that was asked for
    /// before, and what is asked for afterwards waits for them.
    pub(super) fn side_by_side(&self, count: usize, ask: impl Fn(usize, &Lane) -> Result<()>) -> Result<()> {
        let lanes = (0..count).map(|number| self.lane(number)).collect::<Result<Vec<_>>>()?;
        let Some((first, others)) = lanes.split_first() else { return Ok(()) };
        others.iter().try_for_each(|other| other.wait_for(first))?;
        let asked = lanes.iter().enumerate().try_for_each(|(number, lane)| ask(number, lane));
        // after an error, too: what the others were asked for touches memory that is given back
        let joined = others.iter().try_for_each(|other| first.wait_for(other));
        asked.and(joined)
    }

    /// A thread for each of `threads`.
    pub(super) fn launch<P: Parameters>(&self, parameters: P, threads: u32) -> Result<()> {
        self.kernels.launch(&self.stream, parameters, threads)
    }

    /// A thread for several values, of so many.
    pub(super) fn launch_each<P: Parameters>(&self, parameters: P, values: u32) -> Result<()> {
        self.kernels.launch_each(&self.stream, parameters, values)
    }

    /// A thread for each of `threads`, in the order of what goes home.
    pub(super) fn launch_homeward<P: Parameters>(&self, parameters: P, threads: u32) -> Result<()> {
        self.kernels.launch(&self.homeward, parameters, threads)
    }

    /// So many blocks.
    pub(super) fn launch_blocks<P: Parameters>(&self, parameters: P, blocks: (u32, u32)) -> Result<()> {
        self.kernels.launch_blocks(&self.stream, parameters, blocks)
    }

    /// A mark in a stream, which counts as passed until it is set.
    pub(super) fn event(&self) -> Result<CudaEvent> {
        self.stream.context().new_event(None).map_err(Error::wrap)
    }

    /// Waits for all that was asked for, but for what is on its way home.
    pub(super) fn wait(&self) -> Result<()> {
        self.stream.synchronize().map_err(Error::wrap)
    }

    /// Waits for that, too.
    pub(super) fn wait_for_all(&self) -> Result<()> {
        // both, whatever comes of the first: memory is given back afterwards
        let (here, home) = (self.wait(), self.homeward.synchronize().map_err(Error::wrap));
        here.and(home)
    }

    /// Asks for a copy to the device; `from` must stay as it is until that is done.
    pub(super) fn upload<T>(&self, from: &[T], to: Address) -> Result<()> {
        // SAFETY: the caller's region has as many values
        unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) }.map_err(Error::wrap)
    }

    /// Asks `stream` for a copy from the device; `to` is the device's until that is done.
    pub(super) fn download<T>(&self, stream: &CudaStream, from: Address, to: &mut [T]) -> Result<()> {
        // SAFETY: the caller's region has as many values
        unsafe { result::memcpy_dtoh_async(to, from, stream.cu_stream()) }.map_err(Error::wrap)
    }

    /// Asks for a copy on the device.
    pub(super) fn copy(&self, from: Address, to: Address, values: usize) -> Result<()> {
        // SAFETY: the caller's regions have as many values
        unsafe { result::memcpy_dtod_async(to, from, values * 4, self.stream.cu_stream()) }.map_err(Error::wrap)
    }

    /// Asks for zeros.
    pub(super) fn clear(&self, at: Address, values: usize) -> Result<()> {
        // SAFETY: the caller's region has as many values
        unsafe { result::memset_d8_async(at, 0, values * 4, self.stream.cu_stream()) }.map_err(Error::wrap)
    }
}
