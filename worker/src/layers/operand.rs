//! Between candle's tensors and the slices that kernels work on.

use candle_core::{CpuStorage, Device, Layout, Result, Storage, Tensor, bail};

/// Elementwise work is cut into parts of this many elements: large enough to be worth handing to a thread.
pub(super) const ELEMENTS: usize = 1 << 14;

/// The elements of a contiguous f32 operand.
pub(super) fn slice<'a>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(all) = storage else {
        bail!("{op}: elements are {:?}, it computes on f32: convert the tensor", storage_dtype(storage))
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&all[start..end]),
        None => bail!("{op}: the operand of shape {:?} is not contiguous: call contiguous() first", layout.shape()),
    }
}

fn storage_dtype(storage: &CpuStorage) -> candle_core::DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

/// Calls `body` with the elements of `tensor`, in row-major order.
pub(super) fn read<T>(op: &str, tensor: &Tensor, body: impl FnOnce(&[f32]) -> Result<T>) -> Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => body(slice(op, storage, layout)?),
        _ => bail!("{op}: the tensor is on {:?}, this build computes on the CPU", tensor.device().location()),
    }
}

/// A fresh tensor of `like`'s shape.
pub(super) fn tensor_like(values: Vec<f32>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(values, like.shape(), &Device::Cpu)
}
