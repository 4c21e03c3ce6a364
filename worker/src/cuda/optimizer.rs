//! The optimizer on the device: a worker that makes the step itself has parameters, gradient and state there, and sends nothing to and fro.

use std::sync::Arc;

use candle_core::Result;
use lockstep_proto::optimizer::{Optimizer, Step};
use lockstep_proto::recipe::Recipe;
use lockstep_proto::schema::{Kind, Schema};

use super::kernels::{AdamStep, Observe, SgdStep};
use super::memory::{Address, Block, Pinned};
use super::regions::Region;
use super::step_norm::StepNorm;
use super::weights::Packed;

/// Buffers that lie one behind the other and are updated alike.
#[derive(Clone, Copy, Debug)]
struct Run {
    start: usize,
    end: usize,
    momentum: f64,
}

/// Where a step's gradient lies, and where what is told of the step goes, if somebody is told: penalty and norm, in double precision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gradient {
    pub(crate) sum: Address,
    pub(crate) told: Option<Address>,
}

/// An optimizer's state on the device, laid out as the weights are.
pub(crate) struct OnDevice {
    /// Counts steps, and knows their numbers. Its own vectors are those that the state began with.
    optimizer: Optimizer,
    vectors: Vec<Block>,
    buffers: Vec<Run>,
    norm: StepNorm,
    /// The weights of the penalties.
    l1: f64,
    l2: f64,
    /// What leaves the device.
    staging: Pinned<f32>,
}

impl std::fmt::Debug for OnDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OnDevice").field(&self.optimizer.steps()).finish()
    }
}

impl OnDevice {
    /// The state of `optimizer`, there, for the steps of `recipe`.
    pub(crate) fn new(weights: &Packed, schema: &Schema, recipe: &Recipe, optimizer: Optimizer) -> Result<Self> {
        let (gpu, layout) = (&weights.gpu, &weights.layout);
        gpu.bind()?;
        let mut staging = Pinned::new(layout.len())?;
        let mut flat = vec![0.0; schema.len()];
        let mut vectors = Vec::new();
        for (_, values) in optimizer.state() {
            flat[..values.len()].copy_from_slice(values);
            layout.spread(&flat, staging.values_mut());
            let block = Block::new(&gpu.stream, layout.len())?;
            gpu.upload(staging.values(), block.at(whole(layout.len())))?;
            gpu.wait()?;
            vectors.push(block);
        }
        let mut buffers: Vec<Run> = Vec::new();
        for (tensor, range) in schema.iter() {
            let Kind::Buffer { momentum } = tensor.kind else { continue };
            let start = layout.place(range.start);
            let end = start + range.len();
            match buffers.last_mut().filter(|last| last.momentum == momentum) {
                // what lies between is 0 in the gradient, too
                Some(last) => last.end = end,
                None => buffers.push(Run { start, end, momentum }),
            }
        }
        let norm = StepNorm::new(weights, schema, recipe)?;
        Ok(Self { optimizer, vectors, buffers, norm, l1: recipe.loss.l1, l2: recipe.loss.l2, staging })
    }

    /// Asks for the step that follows from `gradient`, which is all of a step's and was asked for before, at the rate `lr`.
    pub(crate) fn step(&mut self, weights: &Packed, gradient: Gradient, lr: f64) -> Result<()> {
        let (gpu, layout) = (Arc::clone(&weights.gpu), &weights.layout);
        gpu.bind()?;
        let Gradient { sum: g, told } = gradient;
        let (w, l1, l2, scale) = (weights.start(), self.l1, self.l2, self.norm.scale());
        self.norm.ask(weights, g, told)?;
        let state = |number: usize| self.vectors.get(number).map_or(0, |block| block.at(whole(layout.len())));
        let count = layout.parameters() as u32;
        match self.optimizer.next(lr) {
            Step::Sgd(step) => {
                let (first, nesterov) = (u32::from(step.first), u32::from(step.nesterov));
                let (rate, momentum, taken, decay) = (step.rate, step.momentum, step.taken, step.weight_decay);
                let m = state(0);
                let step = SgdStep { w, m, g, scale, count, first, nesterov, rate, momentum, taken, decay, l1, l2 };
                gpu.launch(step, count)?;
            }
            Step::Adam(step) => {
                let lockstep_proto::optimizer::AdamStep { rate, root, new1, new2, old2, shrink, decay, eps } = step;
                let (m, v) = (state(0), state(1));
                gpu.launch(
                    AdamStep { w, m, v, g, scale, count, rate, root, new1, new2, old2, shrink, decay, eps, l1, l2 },
                    count,
                )?;
            }
        }
        for &Run { start, end, momentum } in &self.buffers {
            let at = |base: Address| base + 4 * start as Address;
            let count = (end - start) as u32;
            gpu.launch(Observe { w: at(w), g: at(g), count, momentum }, count)?;
        }
        weights.changed()
    }
}

impl OnDevice {
    /// Optimizer steps made.
    pub(crate) fn steps(&self) -> u64 {
        self.optimizer.steps()
    }

    /// How many vectors [`OnDevice::fetch`] knows.
    pub(crate) fn vectors(&self) -> usize {
        1 + self.vectors.len()
    }

    /// Waits for one of them, in the memory of `values`: the flat vector is the first and has no name, the state's come after it.
    pub(crate) fn fetch(
        &mut self,
        weights: &Packed,
        vector: usize,
        values: Vec<f32>,
    ) -> Result<(&'static str, Vec<f32>)> {
        let (gpu, layout) = (&weights.gpu, &weights.layout);
        let own = vector.checked_sub(1);
        let from = own.map_or(weights.start(), |own| self.vectors[own].at(whole(layout.len())));
        gpu.bind()?;
        gpu.download(&gpu.stream, from, self.staging.values_mut())?;
        gpu.wait()?;
        let mut values = layout.gather(self.staging.values(), values);
        let Some(own) = own else { return Ok(("", values)) };
        let (name, begun) = self.optimizer.state()[own];
        values.truncate(begun.len());
        Ok((name, values))
    }
}

fn whole(len: usize) -> Region {
    Region { start: 0, len }
}
