//! The loss as a candle op on the GPU: one loss an example, their slopes, and the answers.

#![allow(unsafe_code)] // memory for what it makes

use std::sync::{Arc, OnceLock};

use candle_core::cuda_backend::CudaStorage;
use candle_core::{CpuStorage, CustomOp1, Error, Layout as Strides, Result, Shape, Storage, Tensor, bail};
use lockstep_proto::recipe::LossName;

use super::gpu::Gpu;
use super::kernels::LossRows;
use super::memory::address;
use super::network::place;
use super::workspace::Workspace;

/// Each example's loss, in f64. Their sum's `backward()` is that of all: candle begins with ones. The slopes are divided by
/// `divisor`, and the losses are not.
pub(super) struct Loss {
    pub(super) gpu: Arc<Gpu>,
    /// Has the labels, and gets the answers.
    pub(super) workspace: Arc<Workspace>,
    pub(super) name: LossName,
    pub(super) divisor: f64,
    /// Set by the forward pass, which has no other way to hand it to the backward pass.
    pub(super) slopes: OnceLock<Tensor>,
}

impl CustomOp1 for Loss {
    fn name(&self) -> &'static str {
        self.name.word()
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Strides) -> Result<(CpuStorage, Shape)> {
        bail!("this loss was planned for a GPU")
    }

    fn cuda_fwd(&self, logits: &CudaStorage, layout: &Strides) -> Result<(CudaStorage, Shape)> {
        let (gpu, workspace, plan) = (&self.gpu, &self.workspace, &self.workspace.plan);
        let (rows, classes) = layout.shape().dims2()?;
        // SAFETY: the kernel writes both, every value
        let (slopes, losses) = unsafe {
            let slopes = gpu.stream.alloc::<f32>(rows * classes).map_err(Error::wrap)?;
            (slopes, gpu.stream.alloc::<f64>(rows).map_err(Error::wrap)?)
        };
        let parameters = LossRows {
            logits: place(logits, layout)?,
            labels: workspace.at(plan.labels),
            gradient: address(&slopes),
            losses: address(&losses),
            predictions: workspace.at(plan.predictions),
            rows: rows as u32,
            classes: classes as u32,
            kind: match self.name {
                LossName::CrossEntropy => 0,
                LossName::L1Logits => 1,
                LossName::L1Softmax => 2,
            },
            divisor: self.divisor,
        };
        gpu.kernels.launch(parameters, rows as u32)?;
        let slopes = CudaStorage::wrap_cuda_slice(slopes, gpu.cuda().clone());
        let none = candle_core::op::BackpropOp::none();
        let _ = self.slopes.set(Tensor::from_storage(Storage::Cuda(slopes), (rows, classes), none, false));
        Ok((CudaStorage::wrap_cuda_slice(losses, gpu.cuda().clone()), rows.into()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let Some(slopes) = self.slopes.get() else { bail!("{}: backward before forward", self.name.word()) };
        Ok(Some(slopes.clone()))
    }
}
