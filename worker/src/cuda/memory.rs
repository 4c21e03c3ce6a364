//! Memory of the device, where it comes from, and memory of the host that the device reads and writes by itself.

#![allow(unsafe_code)] // what CUDA hands out is addresses

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaSlice, CudaStream, DevicePtr, DeviceRepr, result, sys,
};
use candle_core::{Error, Result};

use super::regions::Region;

/// An address on the device.
pub(crate) type Address = u64;

/// The address of a whole allocation. It holds as long as the allocation does: work is on one stream, in order, or waited for (`rooms`).
pub(super) fn address<T>(slice: &CudaSlice<T>) -> Address {
    let stream = Arc::clone(slice.stream());
    slice.device_ptr(&stream).0
}

/// Where a device's memory comes from, and where it goes when it is freed. CUDA's own, which lives as long as the process.
pub(super) struct Pool(sys::CUmemoryPool);

impl Pool {
    /// None where the device has no pools: memory comes from the system then, and goes back to it.
    pub(super) fn of(context: &CudaContext) -> Result<Option<Self>> {
        if !context.has_async_alloc() {
            return Ok(None);
        }
        let mut pool = std::ptr::null_mut();
        // SAFETY: writes one handle
        unsafe { sys::cuDeviceGetDefaultMemPool(&mut pool, context.cu_device()) }.result().map_err(Error::wrap)?;
        Ok(Some(Self(pool)))
    }

    /// CUDA gives freed memory back to the system at each synchronisation, unless told to keep it.
    pub(super) fn keep_freed(&self) -> Result<()> {
        let mut most = u64::MAX;
        let what = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the attribute is a 64-bit number
        unsafe { sys::cuMemPoolSetAttribute(self.0, what, (&raw mut most).cast()) }.result().map_err(Error::wrap)
    }

    /// Gives back what is kept all the same.
    pub(super) fn trim(&self) -> Result<()> {
        // SAFETY: the device's own pool
        unsafe { sys::cuMemPoolTrimTo(self.0, 0) }.result().map_err(Error::wrap)
    }
}

/// One block of values.
pub(super) struct Block {
    /// Keeps it allocated.
    _slice: CudaSlice<f32>,
    start: Address,
    len: usize,
}

impl Block {
    /// `len` values, whatever they are.
    pub(super) fn new(stream: &Arc<CudaStream>, len: usize) -> Result<Self> {
        // SAFETY: nothing is read before a kernel, a copy or a library has written it; tests fill it with NaN to see that
        let slice = unsafe { stream.alloc::<f32>(len.max(1)) }.map_err(|error| {
            Error::msg(format!(
                "{} MB of the GPU's memory can't be had: {error}; take smaller batches or more shards",
                len * 4 / 1_000_000
            ))
        })?;
        let start = address(&slice);
        Ok(Self { _slice: slice, start, len })
    }

    pub(super) fn at(&self, region: Region) -> Address {
        debug_assert!(region.start + region.len <= self.len, "{region:?} of {}", self.len);
        self.start + 4 * region.start as Address
    }
}

/// Host memory that is never paged out, so that the device copies from and to it without the processor's help.
pub(super) struct Pinned<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: it is memory, owned by this value alone.
unsafe impl<T: Send> Send for Pinned<T> {}

impl<T: DeviceRepr + Copy> Pinned<T> {
    /// `len` values, all bytes zero. A context must be current.
    pub(super) fn new(len: usize) -> Result<Self> {
        let bytes = len.max(1) * size_of::<T>();
        // SAFETY: CUDA gives as many bytes as asked for, or an error; they are written before anybody reads them
        let start = unsafe {
            let start = result::malloc_host(bytes, 0).map_err(Error::wrap)?.cast::<T>();
            start.cast::<u8>().write_bytes(0, bytes);
            start
        };
        Ok(Self { start, len })
    }

    pub(super) fn values(&self) -> &[T] {
        // SAFETY: `len` values were allocated and zeroed, and all bytes are values of T (DeviceRepr)
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }

    pub(super) fn values_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and this value owns them
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        // SAFETY: it came from malloc_host, once; an error leaves it allocated, which is all that can be done
        let _ = unsafe { result::free_host(self.start.cast()) };
    }
}
