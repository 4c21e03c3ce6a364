//! A whole network as one candle op: images and weights in; out come each example's loss in training, and logits in evaluation.
//!
//! Its backward pass leaves the weights' gradient in the workspace, and adds it to its node's sums there: candle would clear and add as
//! much memory first, and the gradient is to go home once a node.

#![allow(unsafe_code)] // memory for what comes out

use std::sync::Arc;

use candle_core::cuda_backend::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Error, Layout as Strides, Result, Shape, Storage, Tensor, bail};

use super::gpu::Gpu;
use super::memory::{Address, address};
use super::pass::{Behaviour, Pass};
use super::weights::Layout;
use super::workspace::Workspace;

/// One pass, whose inputs are on the device, or are asked for before.
pub(super) struct Network {
    pub(super) gpu: Arc<Gpu>,
    pub(super) workspace: Arc<Workspace>,
    pub(super) layout: Arc<Layout>,
    pub(super) behaviour: Behaviour,
    /// In training: where the inputs have the losses go.
    pub(super) losses: Address,
}

impl Network {
    fn pass(&self, weights: Address) -> Pass<'_> {
        let Self { gpu, workspace, layout, behaviour, .. } = self;
        Pass { gpu, workspace, behaviour: *behaviour, layout, weights }
    }
}

/// Where a tensor of f32 lies, which must be contiguous.
fn place(storage: &CudaStorage, layout: &Strides) -> Result<Address> {
    let Some((start, _)) = layout.contiguous_offsets() else { bail!("a tensor with gaps on the GPU: {layout:?}") };
    Ok(address(storage.as_cuda_slice::<f32>()?) + 4 * start as Address)
}

impl CustomOp2 for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Strides, _: &CpuStorage, _: &Strides) -> Result<(CpuStorage, Shape)> {
        bail!("this network was planned for a GPU")
    }

    fn cuda_fwd(&self, x: &CudaStorage, xl: &Strides, w: &CudaStorage, wl: &Strides) -> Result<(CudaStorage, Shape)> {
        let (gpu, plan) = (&self.gpu, &self.workspace.plan);
        if xl.shape().elem_count() != plan.images.len {
            bail!("images of {:?} for a plan of {} values", xl.shape(), plan.images.len)
        }
        let pass = self.pass(place(w, wl)?);
        // to where the plan has them: candle's memory is elsewhere each time, and may be gone when the weights' gradient needs them
        gpu.copy(place(x, xl)?, pass.at(plan.images), plan.images.len)?;
        pass.ask_forward()?;
        if self.workspace.training() {
            // SAFETY: written by the copy that follows
            let losses = unsafe { gpu.stream.alloc::<f64>(plan.examples) }.map_err(Error::wrap)?;
            gpu.copy(self.losses, address(&losses), 2 * plan.examples)?;
            return Ok((CudaStorage::wrap_cuda_slice(losses, gpu.cuda().clone()), plan.examples.into()));
        }
        // SAFETY: as above
        let logits = unsafe { gpu.stream.alloc::<f32>(plan.logits.len) }.map_err(Error::wrap)?;
        gpu.copy(pass.at(plan.logits), address(&logits), plan.logits.len)?;
        Ok((CudaStorage::wrap_cuda_slice(logits, gpu.cuda().clone()), (plan.examples, plan.classes).into()))
    }

    fn bwd(&self, _: &Tensor, w: &Tensor, _: &Tensor, _: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (storage, layout) = w.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else { bail!("the GPU's weights are on the CPU") };
        // the losses' slopes are the forward pass's: it is their sum over the batch that is made smaller
        self.pass(place(storage, layout)?).ask_backward()?;
        Ok((None, None))
    }
}
