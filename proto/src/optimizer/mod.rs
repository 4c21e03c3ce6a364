//! The optimizer's arithmetic, on flat `f32` slices in schema order. Plain IEEE, one operation one rounding, so that every
//! machine gets the same bits; element by element, so that no order matters and the compiler can vectorise.
//!
//! The scalars are computed in `f64` and rounded once to `f32`, as `torch.optim` does with Python's floats.

mod adam;
pub mod clip;
pub mod penalty;
mod sgd;
mod state;
mod sums;
pub mod whole;

#[cfg(test)]
mod oracle;

use adam::Adam;
pub use adam::AdamStep;
use sgd::Sgd;
pub use sgd::SgdStep;
pub use state::StateError;

use crate::recipe::{OptimizerName, OptimizerSettings};

/// Values that one thread takes at a time, where several work: element by element, so that the cut decides no bits.
const PART: usize = 1 << 16;

/// An optimizer and its state over `parameters` values. Penalties and clipping are not in it: see [`penalty`], [`clip`].
#[derive(Clone, Debug, PartialEq)]
pub struct Optimizer {
    rule: Rule,
    parameters: usize,
    steps: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Sgd(Sgd),
    Adam(Adam),
}

/// What one step does to each value: numbers that are computed in `f64` and rounded once. For whoever makes it elsewhere, on values and
/// state of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    Sgd(SgdStep),
    Adam(AdamStep),
}

impl Optimizer {
    /// An optimizer that has taken no step.
    #[must_use]
    pub fn new(settings: &OptimizerSettings, parameters: usize) -> Self {
        let rule = match settings.name {
            OptimizerName::Sgd => Rule::Sgd(Sgd::new(settings, parameters)),
            OptimizerName::Adam => Rule::Adam(Adam::new(settings, parameters, false)),
            OptimizerName::AdamW => Rule::Adam(Adam::new(settings, parameters, true)),
        };
        Self { rule, parameters, steps: 0 }
    }

    /// Changes `parameters` by one step against `gradient` at the rate `lr`.
    ///
    /// # Panics
    /// If a slice has not the length that [`Optimizer::new`] was given: what comes from outside was measured before it
    /// came here, and a step on part of the parameters would be silent.
    pub fn step(&mut self, lr: f64, gradient: &[f32], parameters: &mut [f32]) {
        assert_eq!((gradient.len(), parameters.len()), (self.parameters, self.parameters), "gradient and parameters");
        self.steps += 1;
        match &mut self.rule {
            Rule::Sgd(sgd) => sgd.step(sgd.next(self.steps == 1, lr), gradient, parameters),
            Rule::Adam(adam) => adam.step(adam.next(self.steps, lr), gradient, parameters),
        }
    }

    /// Counts a step that is made elsewhere, at the rate `lr`: what it does to each value. The state here stays as it is.
    pub fn next(&mut self, lr: f64) -> Step {
        self.steps += 1;
        match &self.rule {
            Rule::Sgd(sgd) => Step::Sgd(sgd.next(self.steps == 1, lr)),
            Rule::Adam(adam) => Step::Adam(adam.next(self.steps, lr)),
        }
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }
}
