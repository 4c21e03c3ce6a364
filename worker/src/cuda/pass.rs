//! One pass over a network: forward, and in training the loss; then backward, and into the node's sums.

use candle_core::Result;

use super::gpu::Gpu;
use super::kernels::{JoinSums, LossRows};
use super::memory::Address;
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
    /// Asks for the way to the logits, in training to the losses. The images are where the plan has them, and the inputs too.
    pub(super) fn ask_forward(&self) -> Result<()> {
        self.workspace.forward_graph(self.behaviour).run(self.gpu, || {
            self.forward(&self.workspace.plan.steps)?;
            if self.workspace.training() { self.loss() } else { Ok(()) }
        })
    }

    /// Asks for the way back, and into the node's sums.
    pub(super) fn ask_backward(&self) -> Result<()> {
        self.workspace.backward_graph().run(self.gpu, || {
            let plan = &self.workspace.plan;
            self.backward(&plan.steps)?;
            let (inputs, gradient) = (self.at(plan.inputs), self.at(self.workspace.gradient()));
            let count = self.layout.len() as u32;
            self.gpu.kernels.launch(JoinSums { inputs, gradient, count }, count)
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
