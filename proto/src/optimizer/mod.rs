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

/// `state`, or 0 where it is subnormal. What has no gradient any more (a ReLU that is dead) has a momentum that shrinks with each step, and ends
/// there after a thousand, where a processor takes a hundred times as long for each operation: as
/// [`torch.set_flush_denormal`](https://docs.pytorch.org/docs/stable/generated/torch.set_flush_denormal.html), but everywhere alike.
fn normal(state: f32) -> f32 {
    if state.abs() < f32::MIN_POSITIVE { 0.0 } else { state }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// What has no gradient any more: after a thousand steps its momentum is 0, and never a number that is slow to compute with.
    #[test]
    fn state_that_is_left_alone_ends_at_zero() {
        for (name, nesterov) in [(OptimizerName::Sgd, false), (OptimizerName::Sgd, true), (OptimizerName::Adam, false)]
        {
            let momentum = if name == OptimizerName::Sgd { 0.9 } else { 0.0 };
            let settings =
                OptimizerSettings { name, momentum, nesterov, betas: [0.9, 0.9], ..OptimizerSettings::default() };
            let (mut optimizer, mut parameters) = (Optimizer::new(&settings, 2), [1.0, 1.0]);
            optimizer.step(0.01, &[0.5, -0.5], &mut parameters);
            for _ in 0..1_000 {
                optimizer.step(0.01, &[0.0, 0.0], &mut parameters);
                let all = optimizer.state().into_iter().flat_map(|(_, values)| values);
                assert!(all.into_iter().all(|value| *value == 0.0 || value.is_normal()), "{:?}", optimizer.state());
            }
            assert!(optimizer.state().iter().all(|(_, values)| *values == [0.0, 0.0]), "{:?}", optimizer.state());
        }
        let subnormal = f32::MIN_POSITIVE / 2.0;
        assert_eq!([subnormal, -subnormal, -0.0, f32::MIN_POSITIVE].map(normal), [0.0, 0.0, 0.0, f32::MIN_POSITIVE]);
        assert!(normal(f32::NAN).is_nan());
    }
}
