//! Shards that are computed side by side: forward all of them, then backward all of them, then their gradients into the node's sums.

use std::sync::Arc;

use candle_core::Result;

use super::gpu::{Gpu, LANES};
use super::graph::Graph;
use super::kernels::JoinSums;
use super::lane::Lane;
use super::layout::Layout;
use super::memory::Address;
use super::pass::{Behaviour, Pass};
use super::transposed::Transposed;
use super::workspace::Workspace;

/// A shard has a lane and a workspace, by its place in the group.
pub(super) struct Group {
    pub(super) workspaces: Vec<Arc<Workspace>>,
    /// Forward as in training, forward as in evaluation, backward.
    graphs: [Graph; 3],
}

/// What all shards are computed with: addresses that stay, so that a graph may hold them.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) gpu: &'a Gpu,
    pub(super) behaviour: Behaviour,
    pub(super) layout: &'a Layout,
    pub(super) weights: Address,
    pub(super) transposed: &'a Transposed,
}

impl Group {
    /// At most [`LANES`].
    pub(super) fn new(gpu: &Gpu, workspaces: Vec<Arc<Workspace>>) -> Self {
        debug_assert!((1..=LANES).contains(&workspaces.len()));
        Self { workspaces, graphs: [(); 3].map(|()| Graph::new(gpu.graphs)) }
    }

    /// Whether a backward pass follows.
    pub(super) fn training(&self) -> bool {
        self.workspaces[0].training()
    }

    pub(super) fn examples(&self) -> usize {
        self.workspaces.iter().map(|workspace| workspace.plan.examples).sum()
    }

    /// Asks for the way to the logits, in training to the losses. The images are where the plans have them, and the inputs too.
    pub(super) fn ask_forward(&self, way: Way) -> Result<()> {
        let graph = match way.behaviour {
            Behaviour::Train => &self.graphs[0],
            Behaviour::Evaluate => &self.graphs[1],
        };
        graph.run(way.gpu, || self.side_by_side(way, |pass| pass.to_losses()))
    }

    /// Asks for the way back, and into the node's sums.
    pub(super) fn ask_backward(&self, way: Way) -> Result<()> {
        self.graphs[2].run(way.gpu, || {
            self.side_by_side(way, |pass| pass.backward(&pass.workspace.plan.steps))?;
            let (mut inputs, mut gradients) = ([0; LANES], [0; LANES]);
            for (number, workspace) in self.workspaces.iter().enumerate() {
                inputs[number] = workspace.at(workspace.plan.inputs);
                gradients[number] = workspace.at(workspace.gradient());
            }
            let (shards, count) = (self.workspaces.len() as u32, way.layout.len() as u32);
            let (transposed, tensors) = way.transposed.table();
            way.gpu.launch_each(JoinSums { inputs, gradients, transposed, tensors, shards, count }, count)
        })
    }

    fn side_by_side(&self, way: Way, ask: impl Fn(&Pass) -> Result<()>) -> Result<()> {
        let Way { gpu, behaviour, layout, weights, transposed } = way;
        gpu.side_by_side(self.workspaces.len(), |number, lane: &Lane| {
            ask(&Pass { lane, workspace: &self.workspaces[number], behaviour, layout, weights, transposed })
        })
    }
}
