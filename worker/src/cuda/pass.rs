//! One shard's pass over a network: forward, and in training the loss; then backward.

use candle_core::Result;

use super::kernels::LossRows;
use super::lane::Lane;
use super::layout::Layout;
use super::memory::Address;
use super::regions::Region;
use super::transposed::Transposed;
use super::workspace::Workspace;

/// How layers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Train,
    Evaluate,
}

/// What a pass is asked with.
pub(super) struct Pass<'a> {
    pub(super) lane: &'a Lane,
    pub(super) workspace: &'a Workspace,
    pub(super) behaviour: Behaviour,
    pub(super) layout: &'a Layout,
    pub(super) weights: Address,
    pub(super) transposed: &'a Transposed,
}

impl Pass<'_> {
    /// To the logits, in training to the losses.
    pub(super) fn to_losses(&self) -> Result<()> {
        self.forward(&self.workspace.plan.steps)?;
        if self.workspace.training() { self.loss() } else { Ok(()) }
    }

    /// Each example's loss, its slopes, and the answer.
    fn loss(&self) -> Result<()> {
        let plan = &self.workspace.plan;
        let [inputs, logits, labels, gradient] =
            [plan.inputs, plan.logits, plan.labels, plan.dlogits].map(|region| self.at(region));
        let (rows, classes) = (plan.examples as u32, plan.classes as u32);
        self.lane.launch(LossRows { inputs, logits, labels, gradient, rows, classes }, rows)
    }

    pub(super) fn at(&self, region: Region) -> Address {
        self.workspace.at(region)
    }

    pub(super) fn weight(&self, slot: usize) -> Address {
        self.layout.at(self.weights, slot)
    }

    /// A convolution's weight, as its images lie.
    pub(super) fn filters(&self, slot: usize) -> Address {
        self.transposed.at(slot).unwrap_or_else(|| self.weight(slot))
    }

    pub(super) fn gradient(&self, slot: usize) -> Address {
        self.layout.at(self.at(self.workspace.gradient()), slot)
    }
}
