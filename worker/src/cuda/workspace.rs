//! A plan with its memory.

use candle_core::Result;

use super::convolution::{Convolution, Room};
use super::groups::Maker;
use super::memory::{Address, Block};
use super::plan::Plan;
use super::regions::Region;

/// What a pass over so many examples needs, kept for the next one.
pub(super) struct Workspace {
    pub(super) plan: Plan,
    pub(super) convolutions: Vec<Convolution>,
    /// What the convolutions use beside.
    pub(super) room: Room,
    block: Block,
    training: bool,
    /// The gradient, laid out as the weights are; empty without training.
    gradient: Region,
}

impl Workspace {
    pub(super) fn new(maker: Maker, examples: usize) -> Result<Self> {
        let Maker { gpu, model, weights, format, trial, training } = maker;
        let plan = Plan::new(model, examples, training, format)?;
        let convolutions =
            plan.convolutions.iter().map(|window| Convolution::new(gpu, window, trial)).collect::<Result<Vec<_>>>()?;
        let bytes = convolutions.iter().map(Convolution::workspace).max().unwrap_or(0);
        let values = plan.regions.most();
        let gradient = Region { start: values, len: if training { weights } else { 0 } };
        let room = Region { start: values + gradient.len, len: bytes.div_ceil(4) };
        let block = Block::new(&gpu.stream, room.start + room.len)?;
        let room = Room { start: block.at(room), bytes };
        // once: every pass writes the same places anew, and what lies between them is never anything else
        if gradient.len > 0 {
            gpu.clear(block.at(gradient), gradient.len)?;
        }
        Ok(Self { plan, convolutions, room, block, training, gradient })
    }

    pub(super) fn at(&self, region: Region) -> Address {
        self.block.at(region)
    }

    /// Whether a backward pass follows.
    pub(super) fn training(&self) -> bool {
        self.training
    }

    pub(super) fn gradient(&self) -> Region {
        self.gradient
    }
}
