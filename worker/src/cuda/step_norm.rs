//! What a step is told of, on the device: the norm of its gradient and the penalty of the weights, with the coordinator's bits; and the scale
//! that the gradient is clipped by.

use candle_core::Result;
use lockstep_proto::recipe::Recipe;
use lockstep_proto::schema::Schema;

use super::kernels::{BLOCK, StepSums, StepTold};
use super::memory::{Address, Block, Pinned};
use super::regions::Region;
use super::weights::Packed;

/// Threads that add up a block of the gradient's values: `LANES` of `proto/src/optimizer/sums.rs`, which has the blocks' length, too.
const SUM_LANES: u32 = 16;
const SUM_BLOCK: usize = 4096;

/// Sums over all parameters, in the coordinator's order.
pub(super) struct StepNorm {
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
        let norm = Self { block, tensors, count: count as u32, blocks, l1, l2, most };
        let mut staging = Pinned::new(table.len())?;
        staging.values_mut().copy_from_slice(&table);
        gpu.upload(staging.values(), norm.table())?;
        // nothing is multiplied where nothing is clipped
        let mut one = Pinned::new(1)?;
        one.values_mut()[0] = 1.0_f32;
        gpu.upload(one.values(), norm.scale())?;
        gpu.wait()?;
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
        let &Self { tensors, count, blocks, l1, l2, most, .. } = self;
        let (gpu, w, told) = (&weights.gpu, weights.start(), told.unwrap_or_else(|| self.told()));
        let (table, partial, scale) = (self.table(), self.partial(), self.scale());
        gpu.launch(StepSums { w, g, table, partial, tensors, count, blocks, l1, l2 }, blocks * SUM_LANES)?;
        gpu.launch(StepTold { partial, told, scale, blocks, l1, l2, most }, BLOCK)
    }
}
