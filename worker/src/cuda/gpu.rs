//! A GPU: what is opened once, and what tells its bits from another's.

#![allow(unsafe_code)] // handles of C libraries

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaSlice, CudaStream, result, sys};
use candle_core::cuda_backend::cudarc::{cublas, cudnn};
use candle_core::{CudaDevice, Device, Error, Result};

use super::graph;
use super::kernels::Kernels;
use super::memory::{Address, address};

/// The version of our kernels and of the table of algorithms. Raise it with any change that moves a bit of a result.
const KERNELS: u32 = 1;

/// What cuBLAS may use: fixed, because its choice of algorithm depends on it. 32 MiB is what cuBLAS takes on its own on recent GPUs.
const BLAS_WORKSPACE: usize = 32 << 20;

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

/// An opened GPU. Its work is done on one stream, in the order in which it was asked for.
pub struct Gpu {
    device: Device,
    cuda: CudaDevice,
    pub(super) stream: Arc<CudaStream>,
    pub(super) kernels: Kernels,
    pub(super) blas: Arc<cublas::CudaBlas>,
    pub(super) dnn: cudnn::sys::cudnnHandle_t,
    pub(super) tf32: bool,
    /// Passes become CUDA graphs.
    pub(super) graphs: bool,
    class: String,
    _blas_workspace: CudaSlice<u8>,
}

// SAFETY: CUDA's contexts, streams and modules may be used from any thread; a cuDNN or cuBLAS handle from one at a time, and
// a worker has one thread that computes (session/compute.rs), as have `eval` and `predict`.
unsafe impl Send for Gpu {}
unsafe impl Sync for Gpu {}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(&self.class).finish()
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
        // candle adds a backtrace where one is asked for; the first line says what is wrong
        let problem = |error: Error| error.to_string().lines().next().unwrap_or_default().to_owned();
        Self::start(number, tf32).map_err(|error| GpuError::Open { number, problem: problem(error) })
    }

    fn start(number: usize, tf32: bool) -> Result<Self> {
        let graphs = graph::wanted()?;
        let device = Device::new_cuda_with_stream(number)?;
        let cuda = device.as_cuda_device()?.clone();
        // SAFETY: there is one stream; its order is all the tracking that is needed
        unsafe { cuda.disable_event_tracking() };
        let stream = cuda.cuda_stream();
        let context = Arc::clone(stream.context());
        context.bind_to_thread().map_err(Error::wrap)?;
        keep_freed_memory(&context)?;
        let kernels = Kernels::load(&context, &stream)?;
        let blas = cuda.cublas_handle();
        // SAFETY: cuBLAS writes it before it reads it
        let workspace = unsafe { stream.alloc::<u8>(BLAS_WORKSPACE) }.map_err(Error::wrap)?;
        // SAFETY: the handle is candle's, alive as long as `cuda`; the workspace is kept beside it
        let status = unsafe {
            cublas::sys::cublasSetWorkspace_v2(*blas.handle(), address(&workspace) as *mut _, BLAS_WORKSPACE)
        };
        status.result().map_err(Error::debug)?;
        let dnn = cudnn::result::create_handle().map_err(Error::wrap)?;
        // SAFETY: both were made just now
        unsafe { cudnn::result::set_stream(dnn, stream.cu_stream().cast()) }.map_err(Error::wrap)?;
        let class = class(&context, *blas.handle(), tf32)?;
        Ok(Self { device, cuda, stream, kernels, blas, dnn, tf32, graphs, class, _blas_workspace: workspace })
    }

    /// `cuda/NVIDIA H100 80GB HBM3/cublas13.0.2/cudnn9.10.2/tf32/kernels1`: what two workers must have in common for their bits to agree.
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

    /// Waits for all that was asked for.
    pub(super) fn wait(&self) -> Result<()> {
        self.stream.synchronize().map_err(Error::wrap)
    }

    /// Asks for a copy to the device; `from` must stay as it is until [`Gpu::wait`].
    pub(super) fn upload<T>(&self, from: &[T], to: Address) -> Result<()> {
        // SAFETY: the caller's region has as many values
        unsafe { result::memcpy_htod_async(to, from, self.stream.cu_stream()) }.map_err(Error::wrap)
    }

    /// Asks for a copy from the device, which is there after [`Gpu::wait`].
    pub(super) fn download<T>(&self, from: Address, to: &mut [T]) -> Result<()> {
        // SAFETY: the caller's region has as many values
        unsafe { result::memcpy_dtoh_async(to, from, self.stream.cu_stream()) }.map_err(Error::wrap)
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

impl Drop for Gpu {
    fn drop(&mut self) {
        // SAFETY: made by create_handle, destroyed once; at the end an error changes nothing
        let _ = unsafe { cudnn::result::destroy_handle(self.dnn) };
    }
}

/// CUDA gives freed memory back to the system at each synchronisation, unless told to keep it.
fn keep_freed_memory(context: &CudaContext) -> Result<()> {
    let mut most = u64::MAX;
    let what = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    if !context.has_async_alloc() {
        return Ok(());
    }
    // SAFETY: the attribute is a 64-bit number
    unsafe {
        let mut pool = std::mem::zeroed();
        sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()).result().map_err(Error::wrap)?;
        sys::cuMemPoolSetAttribute(pool, what, (&raw mut most).cast()).result().map_err(Error::wrap)
    }
}

/// The toolkit's and cuDNN's versions choose the libraries' kernels; the driver only compiles ours, whose instructions have one
/// meaning.
fn class(context: &CudaContext, handle: cublas::sys::cublasHandle_t, tf32: bool) -> Result<String> {
    let name = context.name().map_err(Error::wrap)?.replace('/', "-");
    let mut cublas = 0;
    // SAFETY: writes one int
    unsafe { cublas::sys::cublasGetVersion_v2(handle, &mut cublas) }.result().map_err(Error::debug)?;
    let dnn = cudnn::result::get_version();
    let (dnn, rest) = (dnn / 10_000, dnn % 10_000);
    let products = if tf32 { "tf32" } else { "f32" };
    let blas = format!("{}.{}.{}", cublas / 10_000, cublas / 100 % 100, cublas % 100);
    let dnn = format!("{dnn}.{}.{}", rest / 100, rest % 100);
    Ok(format!("cuda/{name}/cublas{blas}/cudnn{dnn}/{products}/kernels{KERNELS}"))
}
