//! A whole network as one candle op on its weights: out come each example's loss in training, and logits in evaluation. In training the
//! examples are those of several shards, each of which is computed alone.
//!
//! Its backward pass leaves the weights' gradient in the workspace, and adds it to its node's sums there: candle would clear and add as
//! much memory first, and the gradient is to go home once a node.

#![allow(unsafe_code)] // memory for what comes out

use std::sync::Arc;

use candle_core::cuda_backend::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Error, Layout as Strides, Result, Shape, Storage, Tensor, bail};

use super::format::Format;
use super::gpu::Gpu;
use super::group::{Group, Way};
use super::kernels::Transpose;
use super::layout::Layout;
use super::memory::{Address, address};
use super::pass::Behaviour;
use super::transposed::Transposed;

/// One pass over a group, whose inputs are on the device, or are asked for before.
pub(super) struct Network {
    pub(super) gpu: Arc<Gpu>,
    pub(super) group: Arc<Group>,
    /// Each shard's, on the device.
    pub(super) images: Vec<Tensor>,
    pub(super) layout: Arc<Layout>,
    pub(super) transposed: Arc<Transposed>,
    pub(super) behaviour: Behaviour,
    /// In training: where the inputs have the losses go.
    pub(super) losses: Address,
}

impl Network {
    fn way(&self, weights: Address) -> Way<'_> {
        let Self { gpu, behaviour, layout, transposed, .. } = self;
        Way { gpu, behaviour: *behaviour, layout, weights, transposed }
    }

    /// To where the plans have them, and as they do: candle's memory is elsewhere each time, and may be gone when the weights' gradient needs them.
    fn place_images(&self) -> Result<()> {
        for (images, workspace) in self.images.iter().zip(&self.group.workspaces) {
            let plan = &workspace.plan;
            if images.elem_count() != plan.images.len {
                bail!("images of {:?} for a plan of {} values", images.shape(), plan.images.len)
            }
            let (storage, layout) = images.storage_and_layout();
            let (x, y, count) = (place(on_gpu(&storage)?, layout)?, workspace.at(plan.images), plan.images.len);
            match (plan.format, images.dims()) {
                (Format::ChannelsLast, &[_, channels, height, width]) => {
                    let [count, rows, columns] = [count, channels, height * width].map(|number| number as u32);
                    self.gpu.launch(Transpose { x, y, count, rows, columns }, count)?;
                }
                _ => self.gpu.copy(x, y, count)?,
            }
        }
        Ok(())
    }
}

fn on_gpu(storage: &Storage) -> Result<&CudaStorage> {
    match storage {
        Storage::Cuda(storage) => Ok(storage),
        _ => bail!("a tensor of the GPU's network is elsewhere"),
    }
}

/// Where a tensor of f32 lies, which must be contiguous.
fn place(storage: &CudaStorage, layout: &Strides) -> Result<Address> {
    let Some((start, _)) = layout.contiguous_offsets() else { bail!("a tensor with gaps on the GPU: {layout:?}") };
    Ok(address(storage.as_cuda_slice::<f32>()?) + 4 * start as Address)
}

impl CustomOp1 for Network {
    fn name(&self) -> &'static str {
        "network"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Strides) -> Result<(CpuStorage, Shape)> {
        bail!("this network was planned for a GPU")
    }

    fn cuda_fwd(&self, w: &CudaStorage, wl: &Strides) -> Result<(CudaStorage, Shape)> {
        let (gpu, group) = (&self.gpu, &self.group);
        self.place_images()?;
        group.ask_forward(self.way(place(w, wl)?))?;
        if group.training() {
            let examples = group.examples();
            // SAFETY: written by the copy that follows
            let losses = unsafe { gpu.stream.alloc::<f64>(examples) }.map_err(Error::wrap)?;
            gpu.copy(self.losses, address(&losses), 2 * examples)?;
            return Ok((CudaStorage::wrap_cuda_slice(losses, gpu.cuda().clone()), examples.into()));
        }
        let [workspace] = &group.workspaces[..] else {
            bail!("{} batches to evaluate at once", group.workspaces.len())
        };
        let plan = &workspace.plan;
        // SAFETY: as above
        let logits = unsafe { gpu.stream.alloc::<f32>(plan.logits.len) }.map_err(Error::wrap)?;
        gpu.copy(workspace.at(plan.logits), address(&logits), plan.logits.len)?;
        Ok((CudaStorage::wrap_cuda_slice(logits, gpu.cuda().clone()), (plan.examples, plan.classes).into()))
    }

    fn bwd(&self, w: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let (storage, layout) = w.storage_and_layout();
        // the losses' slopes are the forward pass's: it is their sum over the batch that is made smaller
        self.group.ask_backward(self.way(place(on_gpu(&storage)?, layout)?))?;
        Ok(None)
    }
}
