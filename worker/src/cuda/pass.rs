//! One pass over a network: forward, and in training the loss, backward, and into the node's sums.

use candle_core::{Result, Storage, Tensor, bail};

use super::gpu::Gpu;
use super::kernels::{JoinSums, LossRows};
use super::memory::{Address, address};
use super::regions::Region;
use super::weights::Layout;
use super::workspace::Workspace;

/// How layers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Train,
    Evaluate,
}

/// What a pass is asked with: addresses that stay, so that a graph may hold them.
pub(super) struct Pass<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) workspace: &'a Workspace,
    pub(super) behaviour: Behaviour,
    pub(super) layout: &'a Layout,
    pub(super) weights: Address,
}

impl Pass<'_> {
    /// Asks for the pass, whose inputs are on the device, or are asked for before. In training it leaves losses, answers and
    /// the gradient where the inputs say, in evaluation the logits in the workspace.
    pub(super) fn run(&self, images: &Tensor) -> Result<()> {
        let plan = &self.workspace.plan;
        let images = images.to_device(self.gpu.device())?.contiguous()?;
        if images.elem_count() != plan.images.len {
            bail!("images of {:?} for a plan of {} values", images.shape(), plan.images.len)
        }
        // to where the plan has them: candle's memory is elsewhere each time
        self.gpu.copy(place(&images)?, self.at(plan.images), plan.images.len)?;
        self.workspace.graph(self.behaviour).run(self.gpu, || {
            self.forward(&plan.steps)?;
            if self.workspace.training() {
                self.loss()?;
                self.backward(&plan.steps)?;
                let (inputs, gradient) = (self.at(plan.inputs), self.at(self.workspace.gradient()));
                let count = self.layout.len() as u32;
                self.gpu.kernels.launch(JoinSums { inputs, gradient, count }, count)?;
            }
            Ok(())
        })
    }

    /// Each example's loss, its slopes, and the answer.
    fn loss(&self) -> Result<()> {
        let plan = &self.workspace.plan;
        let [inputs, logits, labels, gradient] =
            [plan.inputs, plan.logits, plan.labels, plan.dlogits].map(|region| self.at(region));
        let (rows, classes) = (plan.examples as u32, plan.classes as u32);
        self.gpu.kernels.launch(LossRows { inputs, logits, labels, gradient, rows, classes }, rows)
    }

    pub(super) fn at(&self, region: Region) -> Address {
        self.workspace.at(region)
    }

    pub(super) fn weight(&self, slot: usize) -> Address {
        self.layout.at(self.weights, slot)
    }

    pub(super) fn gradient(&self, slot: usize) -> Address {
        self.layout.at(self.at(self.workspace.gradient()), slot)
    }
}

/// Where a tensor of f32 lies, which must be contiguous.
fn place(tensor: &Tensor) -> Result<Address> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cuda(storage), Some((start, _))) => {
            Ok(address(storage.as_cuda_slice::<f32>()?) + 4 * start as Address)
        }
        _ => bail!("a tensor of the GPU without gaps is needed, not {layout:?}"),
    }
}
