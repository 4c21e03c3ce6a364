//! A whole network as one candle op: images and weights in, logits out.

#![allow(unsafe_code)] // memory for the logits

use std::sync::Arc;

use candle_core::cuda_backend::CudaStorage;
use candle_core::{CpuStorage, CustomOp2, Error, Layout as Strides, Result, Shape, Storage, Tensor, bail};

use super::gpu::Gpu;
use super::memory::{Address, address};
use super::regions::Region;
use super::weights::Layout;
use super::workspace::Workspace;
use crate::model::Turn;

/// How layers behave.
#[derive(Clone, Copy, Debug)]
pub(super) enum Behaviour {
    /// As in training. `share`: of the batch, for the running statistics ([`Gradient`](crate::gradient::Gradient)); none: they
    /// go nowhere.
    Train {
        turn: Turn,
        share: Option<f32>,
    },
    Evaluate,
}

/// One pass. Its backward pass leaves the weights' gradient in the workspace, where one copy takes all of it home: candle would
/// clear and add as much memory first.
pub(super) struct Network {
    pub(super) gpu: Arc<Gpu>,
    pub(super) workspace: Arc<Workspace>,
    pub(super) layout: Arc<Layout>,
    pub(super) behaviour: Behaviour,
}

/// [`Network`] with the address of its weights.
pub(super) struct Pass<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) workspace: &'a Workspace,
    pub(super) behaviour: Behaviour,
    layout: &'a Layout,
    weights: Address,
}

impl Pass<'_> {
    pub(super) fn at(&self, region: Region) -> Address {
        self.workspace.at(region)
    }

    pub(super) fn weight(&self, slot: usize) -> Address {
        self.layout.at(self.weights, slot)
    }

    pub(super) fn gradient(&self, slot: usize) -> Address {
        self.layout.at(self.workspace.gradient(), slot)
    }
}

impl Network {
    fn pass(&self, weights: Address) -> Pass<'_> {
        let Self { gpu, workspace, layout, behaviour } = self;
        Pass { gpu, workspace, behaviour: *behaviour, layout, weights }
    }
}

/// Where a tensor of f32 lies, which must be contiguous and begin its memory.
pub(super) fn place(storage: &CudaStorage, layout: &Strides) -> Result<Address> {
    let Some((0, _)) = layout.contiguous_offsets() else { bail!("a tensor with gaps on the GPU: {layout:?}") };
    Ok(address(storage.as_cuda_slice::<f32>()?))
}

/// The same of a tensor.
pub(super) fn place_of(tensor: &Tensor) -> Result<Address> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => place(storage, layout),
        _ => bail!("a tensor of the GPU is needed, and this one is on the CPU"),
    }
}

impl CustomOp2 for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Strides, _: &CpuStorage, _: &Strides) -> Result<(CpuStorage, Shape)> {
        bail!("this network was planned for a GPU")
    }

    fn cuda_fwd(&self, x: &CudaStorage, xl: &Strides, w: &CudaStorage, wl: &Strides) -> Result<(CudaStorage, Shape)> {
        let plan = &self.workspace.plan;
        if xl.shape().elem_count() != plan.images.len {
            bail!("images of {:?} for a plan of {} values", xl.shape(), plan.images.len)
        }
        let pass = self.pass(place(w, wl)?);
        // the plan keeps the images: the weights' gradient needs them, and candle's tensor may be gone by then
        self.gpu.copy(place(x, xl)?, pass.at(plan.images), plan.images.len)?;
        pass.forward(&plan.steps)?;
        // SAFETY: written by the copy that follows
        let logits = unsafe { self.gpu.stream.alloc::<f32>(plan.logits.len) }.map_err(Error::wrap)?;
        self.gpu.copy(pass.at(plan.logits), address(&logits), plan.logits.len)?;
        let logits = CudaStorage::wrap_cuda_slice(logits, self.gpu.cuda().clone());
        Ok((logits, (plan.examples, plan.classes).into()))
    }

    fn bwd(&self, _: &Tensor, w: &Tensor, _: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let plan = &self.workspace.plan;
        let pass = self.pass(place_of(w)?);
        let dy = dy.contiguous()?;
        self.gpu.copy(place_of(&dy)?, pass.at(plan.dlogits), plan.dlogits.len)?;
        pass.backward(&plan.steps)?;
        Ok((None, None))
    }
}
