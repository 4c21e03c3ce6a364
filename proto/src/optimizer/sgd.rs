//! Stochastic gradient descent with momentum, dampening, Nesterov and weight decay, as
//! [`torch.optim.SGD`](https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html).

use rayon::prelude::*;

use super::{PART, normal};
use crate::recipe::OptimizerSettings;
use crate::tensors;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sgd {
    momentum: f32,
    /// 1 − dampening.
    taken: f32,
    nesterov: bool,
    weight_decay: f32,
    /// Empty without momentum.
    pub(super) momentum_buffer: Vec<f32>,
}

/// One step. Without momentum there is no buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// The buffer is the gradient itself, without dampening.
    pub first: bool,
    /// Minus the learning rate.
    pub rate: f32,
    pub momentum: f32,
    /// 1 − dampening.
    pub taken: f32,
    pub nesterov: bool,
    /// 0: the gradient is not touched.
    pub weight_decay: f32,
}

impl Sgd {
    pub(super) fn new(settings: &OptimizerSettings, parameters: usize) -> Self {
        let buffered = settings.momentum != 0.0;
        Self {
            momentum: settings.momentum as f32,
            taken: (1.0 - settings.dampening) as f32,
            nesterov: settings.nesterov,
            weight_decay: settings.weight_decay as f32,
            momentum_buffer: vec![0.0; if buffered { parameters } else { 0 }],
        }
    }

    pub(super) fn next(&self, first: bool, lr: f64) -> SgdStep {
        let Self { momentum, taken, nesterov, weight_decay, .. } = *self;
        SgdStep { first, rate: -lr as f32, momentum, taken, nesterov, weight_decay }
    }

    pub(super) fn step(&mut self, step: SgdStep, gradient: &[f32], parameters: &mut [f32]) {
        let momentum_buffer = &mut self.momentum_buffer;
        let plain = |(parameters, gradient): (&mut [f32], &[f32])| plain(step, parameters, gradient);
        let buffered = |((parameters, gradient), buffer): ((&mut [f32], &[f32]), &mut [f32])| {
            buffered(step, parameters, gradient, buffer);
        };
        match (momentum_buffer.is_empty(), tensors::parallel(parameters.len())) {
            (true, false) => plain((parameters, gradient)),
            (false, false) => buffered(((parameters, gradient), momentum_buffer)),
            (true, true) => parameters.par_chunks_mut(PART).zip(gradient.par_chunks(PART)).for_each(plain),
            (false, true) => parameters
                .par_chunks_mut(PART)
                .zip(gradient.par_chunks(PART))
                .zip(momentum_buffer.par_chunks_mut(PART))
                .for_each(buffered),
        }
    }
}

/// A decay of 0 must not touch the gradient: 0 · ∞ is NaN, and −0 + 0 is +0.
fn decayed(g: f32, p: f32, weight_decay: f32) -> f32 {
    if weight_decay == 0.0 { g } else { g + weight_decay * p }
}

// The step's numbers by value: behind a closure's reference they might be what a store has just changed, and are loaded for each value.

fn plain(step: SgdStep, parameters: &mut [f32], gradient: &[f32]) {
    for (p, &g) in parameters.iter_mut().zip(gradient) {
        *p += step.rate * decayed(g, *p, step.weight_decay);
    }
}

fn buffered(step: SgdStep, parameters: &mut [f32], gradient: &[f32], buffer: &mut [f32]) {
    let SgdStep { first, rate, momentum, taken, nesterov, weight_decay } = step;
    for ((p, &g), buffer) in parameters.iter_mut().zip(gradient).zip(buffer) {
        let g = decayed(g, *p, weight_decay);
        *buffer = normal(if first { g } else { momentum * *buffer + taken * g });
        let direction = if nesterov { g + momentum * *buffer } else { *buffer };
        *p += rate * direction;
    }
}
