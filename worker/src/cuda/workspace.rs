//! A plan with its memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Result;

use super::convolution::{Convolution, Room};
use super::gpu::Gpu;
use super::memory::{Address, Block, Pinned};
use super::plan::Plan;
use super::regions::Region;
use crate::model::Model;

/// What a pass over so many examples needs, kept for the next one.
pub(super) struct Workspace {
    pub(super) plan: Plan,
    pub(super) convolutions: Vec<Convolution>,
    /// What the convolutions use beside.
    pub(super) room: Room,
    block: Block,
    /// The gradient, laid out as the weights are; empty without training.
    gradient: Region,
    /// A lock because workspaces are shared; one thread computes.
    host: Mutex<Host>,
}

/// Pinned memory for what goes there and comes back.
pub(super) struct Host {
    pub(super) gradient: Pinned<f32>,
    /// Example numbers, then labels.
    pub(super) numbers: Pinned<u32>,
    pub(super) predictions: Pinned<u32>,
}

impl Workspace {
    /// `weights`: values of the weights' layout. `trial`: of convolutions' algorithms.
    pub(super) fn new(
        gpu: &Gpu,
        model: &Model,
        weights: usize,
        examples: usize,
        training: bool,
        trial: bool,
    ) -> Result<Self> {
        let plan = Plan::new(model, examples, training)?;
        let convolutions =
            plan.convolutions.iter().map(|window| Convolution::new(gpu, window, trial)).collect::<Result<Vec<_>>>()?;
        let bytes = convolutions.iter().map(Convolution::workspace).max().unwrap_or(0);
        let values = plan.regions.most();
        let gradient = Region { start: values, len: if training { weights } else { 0 } };
        let room = Region { start: values + gradient.len, len: bytes.div_ceil(4) };
        let block = Block::new(&gpu.stream, room.start + room.len)?;
        let room = Room { start: block.at(room), bytes };
        let numbers = plan.numbers.len + plan.labels.len;
        let host = Mutex::new(Host {
            gradient: Pinned::new(gradient.len)?,
            numbers: Pinned::new(numbers)?,
            predictions: Pinned::new(examples)?,
        });
        Ok(Self { plan, convolutions, room, block, gradient, host })
    }

    pub(super) fn at(&self, region: Region) -> Address {
        self.block.at(region)
    }

    pub(super) fn gradient(&self) -> Address {
        self.block.at(self.gradient)
    }

    pub(super) fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
