//! Host memory that the device copies from and to, and what a node's shards leave on the device.

use candle_core::Result;

use super::gpu::Gpu;
use super::memory::{Address, Pinned};
use super::sums::Sums;

pub(super) struct Staging {
    /// One version's values, laid out.
    pub(super) weights: Pinned<f32>,
    /// The inputs of every pass that is asked for before somebody waits.
    pub(super) inputs: Pinned<u32>,
    /// What comes back.
    pub(super) home: Pinned<f32>,
    sums: Option<Sums>,
    /// The device may still read the weights.
    uploading: bool,
    /// It may still read the inputs and write what comes back: a node that failed half-way waited for nothing.
    passing: bool,
}

impl Staging {
    /// A context must be current.
    pub(super) fn new(weights: usize) -> Result<Self> {
        let (weights, inputs, home) = (Pinned::new(weights)?, Pinned::new(0)?, Pinned::new(0)?);
        Ok(Self { weights, inputs, home, sums: None, uploading: false, passing: false })
    }

    /// Before the weights change: waits, unless somebody has since they were last uploaded. They are uploaded next.
    pub(super) fn before_weights(&mut self, gpu: &Gpu) -> Result<()> {
        if self.uploading {
            self.wait(gpu)?;
        }
        self.uploading = true;
        Ok(())
    }

    /// Before passes are asked for.
    pub(super) fn before_passes(&mut self, gpu: &Gpu) -> Result<()> {
        if self.passing {
            self.wait(gpu)?;
        }
        self.passing = true;
        Ok(())
    }

    /// Waits for all that was asked for.
    pub(super) fn wait(&mut self, gpu: &Gpu) -> Result<()> {
        gpu.wait()?;
        (self.uploading, self.passing) = (false, false);
        Ok(())
    }

    /// Makes room for so many words that go and come.
    pub(super) fn reserve(&mut self, inputs: usize, home: usize) -> Result<()> {
        if self.inputs.values().len() < inputs {
            self.inputs = Pinned::new(inputs)?;
        }
        if self.home.values().len() < home {
            self.home = Pinned::new(home)?;
        }
        Ok(())
    }

    /// Device memory for a node of so many examples, `levels` of whose sums wait at once.
    pub(super) fn reserve_sums(&mut self, gpu: &Gpu, examples: usize, levels: usize, values: usize) -> Result<Sums> {
        match self.sums.take().filter(|sums| sums.holds(examples, levels)) {
            Some(sums) => Ok(sums),
            None => Sums::new(&gpu.stream, examples, levels, values),
        }
    }

    /// The last node's sum, on the device.
    pub(super) fn sum(&self) -> Option<Address> {
        self.sums.as_ref().map(Sums::first)
    }

    /// Keeps it for the next node.
    pub(super) fn keep(&mut self, sums: Sums) {
        self.sums = Some(sums);
    }
}
