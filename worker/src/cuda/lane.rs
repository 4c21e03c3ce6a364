//! A lane: a stream, and the libraries' handles for it. What does not wait for each other runs side by side in lanes: a small shard's
//! kernels leave most of a GPU idle.

#![allow(unsafe_code)] // handles of C libraries

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaSlice, CudaStream, result};
use candle_core::cuda_backend::cudarc::{cublas, cudnn};
use candle_core::{Error, Result};

use super::kernels::{Kernels, Parameters};
use super::memory::{Address, address};

/// What cuBLAS may use: fixed, because its choice of algorithm depends on it, and one a lane, because results depend on streams that
/// share one. 32 MiB is what cuBLAS takes on its own on recent GPUs.
const BLAS_WORKSPACE: usize = 32 << 20;

pub(super) struct Lane {
    stream: Arc<CudaStream>,
    kernels: Arc<Kernels>,
    /// All that was asked for so far: what other lanes wait for.
    so_far: CudaEvent,
    pub(super) blas: Arc<cublas::CudaBlas>,
    pub(super) dnn: cudnn::sys::cudnnHandle_t,
    _blas_workspace: CudaSlice<u8>,
}

impl Lane {
    /// On a stream, and cuBLAS's handle for it.
    pub(super) fn new(stream: &Arc<CudaStream>, kernels: &Arc<Kernels>, blas: Arc<cublas::CudaBlas>) -> Result<Self> {
        // SAFETY: cuBLAS writes it before it reads it
        let workspace = unsafe { stream.alloc::<u8>(BLAS_WORKSPACE) }.map_err(Error::wrap)?;
        // SAFETY: the workspace is kept beside the handle
        let status = unsafe {
            cublas::sys::cublasSetWorkspace_v2(*blas.handle(), address(&workspace) as *mut _, BLAS_WORKSPACE)
        };
        status.result().map_err(Error::debug)?;
        let so_far = stream.context().new_event(None).map_err(Error::wrap)?;
        let dnn = cudnn::result::create_handle().map_err(Error::wrap)?;
        let (stream, kernels) = (Arc::clone(stream), Arc::clone(kernels));
        let lane = Self { stream, kernels, so_far, blas, dnn, _blas_workspace: workspace };
        // SAFETY: both are alive
        unsafe { cudnn::result::set_stream(lane.dnn, lane.stream.cu_stream().cast()) }.map_err(Error::wrap)?;
        Ok(lane)
    }

    /// A lane beside this one.
    pub(super) fn beside(&self) -> Result<Self> {
        let stream = self.stream.context().new_stream().map_err(Error::wrap)?;
        let blas = cublas::CudaBlas::new(Arc::clone(&stream)).map_err(Error::wrap)?;
        Self::new(&stream, &self.kernels, Arc::new(blas))
    }

    /// What is asked for next waits for all that `other` was asked for.
    pub(super) fn wait_for(&self, other: &Self) -> Result<()> {
        other.so_far.record(&other.stream).map_err(Error::wrap)?;
        self.stream.wait(&other.so_far).map_err(Error::wrap)
    }

    /// A thread for each of `threads`.
    pub(super) fn launch<P: Parameters>(&self, parameters: P, threads: u32) -> Result<()> {
        self.kernels.launch(&self.stream, parameters, threads)
    }

    /// A thread for several values, of so many.
    pub(super) fn launch_each<P: Parameters>(&self, parameters: P, values: u32) -> Result<()> {
        self.kernels.launch_each(&self.stream, parameters, values)
    }

    /// So many blocks.
    pub(super) fn launch_blocks<P: Parameters>(&self, parameters: P, blocks: (u32, u32)) -> Result<()> {
        self.kernels.launch_blocks(&self.stream, parameters, blocks)
    }

    /// Asks for a copy on the device.
    pub(super) fn copy(&self, from: Address, to: Address, values: usize) -> Result<()> {
        // SAFETY: the caller's regions have as many values
        unsafe { result::memcpy_dtod_async(to, from, values * 4, self.stream.cu_stream()) }.map_err(Error::wrap)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // SAFETY: made by create_handle, destroyed once; at the end an error changes nothing
        let _ = unsafe { cudnn::result::destroy_handle(self.dnn) };
    }
}
