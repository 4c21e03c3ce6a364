//! What a step is told of, on the device: the norm of its gradient and the penalty of the weights, with the coordinator's bits; and the scale
//! that the gradient is clipped by.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::CudaEvent;
use candle_core::{Error, Result};
use lockstep_proto::recipe::Recipe;
use lockstep_proto::schema::Schema;

use super::gpu::Gpu;
use super::kernels::{BLOCK, StepSums, StepTold};
use super::memory::{Address, Block, Pinned};
use super::regions::Region;
use super::weights::Packed;

/// Threads that add up a block of the gradient's values: `LANES` of `proto/src/optimizer/sums.rs`, which has the blocks' length, too.
const SUM_LANES: u32 = 16;
const SUM_BLOCK: usize = 4096;

/// Sums over all parameters, in the coordinator's order.
pub(super) struct StepNorm {
    gpu: Arc<Gpu>,
    /// The gradient is made.
    made: CudaEvent,
    /// `step_sums`' table, then what its blocks leave, `told` where nobody is told, and the clipped gradient's scale.
    block: Block,
    tensors: u32,
    count: u32,
    blocks: u32,
    /// The weights of the penalties.
    l1: f64,
    l2: f64,
    /// What gradients are clipped to; 0: they are not.
    most: f64,
}

impl StepNorm {
    /// For the steps of `recipe`.
    pub(super) fn new(weights: &Packed, schema: &Schema, recipe: &Recipe) -> Result<Self> {
        let (gpu, layout) = (&weights.gpu, &weights.layout);
        let parameters = schema.iter().map(|(_, range)| range.start).filter(|start| *start < schema.parameters());
        let mut table: Vec<u32> =
            parameters.flat_map(|start| [start, layout.place(start) - start]).map(|number| number as u32).collect();
        let (tensors, count) = (table.len() as u32 / 2, schema.parameters());
        table.extend([count as u32, 0]);
        let blocks = count.div_ceil(SUM_BLOCK) as u32;
        let block = Block::new(&gpu.stream, Self::len(tensors, blocks))?;
        let (l1, l2, most) = (recipe.loss.l1, recipe.loss.l2, recipe.optimizer.clip_grad_norm);
        let (gpu, made, count) = (Arc::clone(gpu), gpu.event()?, count as u32);
        let norm = Self { gpu, made, block, tensors, count, blocks, l1, l2, most };
        let mut staging = Pinned::new(table.len())?;
        staging.values_mut().copy_from_slice(&table);
        norm.gpu.upload(staging.values(), norm.table())?;
        // nothing is multiplied where nothing is clipped
        let mut one = Pinned::new(1)?;
        one.values_mut()[0] = 1.0_f32;
        norm.gpu.upload(one.values(), norm.scale())?;
        norm.gpu.wait()?;
        Ok(norm)
    }

    /// In words: the table, padded to whole doubles; three sums a block; two doubles; the scale.
    fn len(tensors: u32, blocks: u32) -> usize {
        2 * (tensors as usize + 1) + 6 * blocks as usize + 4 + 1
    }

    fn at(&self, start: usize) -> Address {
        self.block.at(Region { start, len: 1 })
    }

    fn table(&self) -> Address {
        self.at(0)
    }

    fn partial(&self) -> Address {
        self.at(2 * (self.tensors as usize + 1))
    }

    fn told(&self) -> Address {
        self.at(Self::len(self.tensors, self.blocks) - 5)
    }

    /// What the step's gradient is multiplied by.
    pub(super) fn scale(&self) -> Address {
        self.at(Self::len(self.tensors, self.blocks) - 1)
    }

    /// Asks for the norm of the gradient `g` and the penalty of the weights as they are, if somebody is `told` or the gradient is clipped.
    pub(super) fn ask(&self, weights: &Packed, g: Address, told: Option<Address>) -> Result<()> {
        if told.is_none() && self.most == 0.0 {
            return Ok(());
        }
        let Self { gpu, made, .. } = self;
        let &Self { tensors, count, blocks, l1, l2, most, .. } = self;
        let (w, told) = (weights.start(), told.unwrap_or_else(|| self.told()));
        let (table, partial, scale) = (self.table(), self.partial(), self.scale());
        let sums = StepSums { w, g, table, partial, tensors, count, blocks, l1, l2 };
        let all = StepTold { partial, told, scale, blocks, l1, l2, most };
        if (l1, l2, most) == (0.0, 0.0, 0.0) {
            // the step does not wait for it, since the scale is 1 and stays so, and changes nothing that it reads: on the way home, beside
            // the next pass
            made.record(&gpu.stream).map_err(Error::wrap)?;
            gpu.homeward.wait(made).map_err(Error::wrap)?;
            gpu.launch_homeward(sums, blocks * SUM_LANES)?;
            return gpu.launch_homeward(all, BLOCK);
        }
        gpu.launch(sums, blocks * SUM_LANES)?;
        gpu.launch(all, BLOCK)
    }
}

impl Drop for StepNorm {
    fn drop(&mut self) {
        // its memory is given back in the order of the GPU's own stream, which what goes home is not in
        let _ = self.gpu.wait_for_all();
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::keys::Key;
    use lockstep_proto::optimizer::{clip, penalty};

    use super::super::tests::{flat, gpu, model};
    use super::*;
    use crate::dataset::IMAGE;

    /// 1,297,953 values in 317 blocks, which are 20 of the device's and two rounds of their sum, the last of all of them short; tensors of odd
    /// lengths in between. Oracle: what the coordinator makes of the flat vectors.
    #[test]
    fn norm_penalty_and_scale_are_the_coordinators_to_the_bit() {
        let Some(gpu) = gpu() else { return };
        let text = "name = \"wide\"
            layers = [{ type = \"flatten\" }, { type = \"linear\", out_features = 421 }, { type = \"linear\", out_features = 10 }]";
        let model = model(text, IMAGE);
        let (schema, parameters) = (model.schema(), flat(&model));
        let mut draws = Key::new(3, "test", "gradient").stream(0, 0, 0);
        let gradient: Vec<f32> = parameters.iter().map(|_| draws.range(-1.0, 1.0)).collect();
        let weights = Packed::new(&gpu, &model, &parameters, false).expect("room");
        let mut staging = Pinned::new(weights.layout.len()).expect("memory");
        weights.layout.spread(&gradient, staging.values_mut());
        let block = Block::new(&gpu.stream, weights.layout.len()).expect("room");
        let g = block.at(Region { start: 0, len: weights.layout.len() });
        gpu.upload(staging.values(), g).expect("a copy");
        for (l1, l2, most) in [(0.0, 0.0, 0.0), (1e-4, 1e-3, 0.5), (0.0, 1e-2, 1e9), (1e-3, 0.0, 600.0)] {
            let mut recipe = Recipe::default();
            (recipe.loss.l1, recipe.loss.l2, recipe.optimizer.clip_grad_norm) = (l1, l2, most);
            let norm = StepNorm::new(&weights, schema, &recipe).expect("room");
            norm.ask(&weights, g, Some(norm.told())).expect("launched");
            gpu.wait_for_all().expect("no error");
            let (mut told, mut scale) =
                (Pinned::<f64>::new(2).expect("memory"), Pinned::<f32>::new(1).expect("memory"));
            gpu.download(&gpu.stream, norm.told(), told.values_mut()).expect("a copy");
            gpu.download(&gpu.stream, norm.scale(), scale.values_mut()).expect("a copy");
            gpu.wait().expect("no error");
            let mut expected = gradient.clone();
            let penalty = penalty::add(&recipe.loss, &parameters, &mut expected);
            let before = expected.clone();
            let length = clip::clip_by_norm(&mut expected, most);
            assert_eq!(told.values(), [penalty, length], "{l1} {l2} {most}");
            let scaled: Vec<f32> = before.iter().map(|g| g * scale.values()[0]).collect();
            assert!(scaled == expected, "{l1} {l2} {most}: scaled by {}", scale.values()[0]);
            assert_eq!(scale.values()[0] < 1.0, most > 0.0 && most < length, "{l1} {l2} {most}");
        }
    }
}
