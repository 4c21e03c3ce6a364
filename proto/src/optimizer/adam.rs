//! [`torch.optim.Adam`](https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html) (Kingma and Ba 2015) and
//! [`torch.optim.AdamW`](https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html) (Loshchilov and Hutter 2019), in
//! the order of operations of PyTorch's single-tensor path.

use rayon::prelude::*;

use super::{PART, normal};
use crate::recipe::OptimizerSettings;
use crate::tensors;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Adam {
    betas: [f64; 2],
    eps: f32,
    weight_decay: f64,
    /// AdamW: weight decay shrinks the parameters instead of joining the gradient.
    decoupled: bool,
    /// Running mean of the gradient.
    pub(super) exp_avg: Vec<f32>,
    /// Running mean of its square.
    pub(super) exp_avg_sq: Vec<f32>,
}

/// One step, bias corrections and all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Minus the learning rate over the mean's correction.
    pub rate: f32,
    /// The root of the squares' correction.
    pub root: f32,
    /// 1 − β₁ and 1 − β₂: what is new in the mean and in the squares; and what is old in the squares.
    pub new1: f32,
    pub new2: f32,
    pub old2: f32,
    /// AdamW's decay, a factor of the parameter; 1 without.
    pub shrink: f32,
    /// Adam's, which joins the gradient; 0: the gradient is not touched.
    pub decay: f32,
    pub eps: f32,
}

impl Adam {
    pub(super) fn new(settings: &OptimizerSettings, parameters: usize, decoupled: bool) -> Self {
        Self {
            betas: settings.betas,
            eps: settings.eps as f32,
            weight_decay: settings.weight_decay,
            decoupled,
            exp_avg: vec![0.0; parameters],
            exp_avg_sq: vec![0.0; parameters],
        }
    }

    /// `step` counts from 1.
    pub(super) fn next(&self, step: u64, lr: f64) -> AdamStep {
        let [beta1, beta2] = self.betas;
        // libm's pow and not the host's, which differs between C libraries
        let correction = |beta: f64| 1.0 - libm::pow(beta, step as f64);
        let rate = -(lr / correction(beta1)) as f32;
        let root = correction(beta2).sqrt() as f32;
        let (new1, new2, old2) = ((1.0 - beta1) as f32, (1.0 - beta2) as f32, beta2 as f32);
        let (shrink, decay) = match (self.weight_decay, self.decoupled) {
            (decay, true) => ((1.0 - lr * decay) as f32, 0.0),
            (decay, false) => (1.0, decay as f32),
        };
        AdamStep { rate, root, new1, new2, old2, shrink, decay, eps: self.eps }
    }

    pub(super) fn step(&mut self, step: AdamStep, gradient: &[f32], parameters: &mut [f32]) {
        type Part<'a> = ((&'a mut [f32], &'a [f32]), (&'a mut [f32], &'a mut [f32]));
        let update = |((parameters, gradient), (means, squares)): Part<'_>| {
            update(step, parameters, gradient, means, squares);
        };
        let (means, squares) = (&mut self.exp_avg[..], &mut self.exp_avg_sq[..]);
        if !tensors::parallel(parameters.len()) {
            return update(((parameters, gradient), (means, squares)));
        }
        let averages = means.par_chunks_mut(PART).zip(squares.par_chunks_mut(PART));
        parameters.par_chunks_mut(PART).zip(gradient.par_chunks(PART)).zip(averages).for_each(update);
    }
}

/// The step's numbers by value: behind a closure's reference they might be what a store has just changed, and are loaded for each value.
fn update(step: AdamStep, parameters: &mut [f32], gradient: &[f32], means: &mut [f32], squares: &mut [f32]) {
    let AdamStep { rate, root, new1, new2, old2, shrink, decay, eps } = step;
    for ((p, &g), (m, v)) in parameters.iter_mut().zip(gradient).zip(means.iter_mut().zip(squares)) {
        *p *= shrink;
        // a decay of 0 must not touch the gradient: 0 · ∞ is NaN
        let g = if decay == 0.0 { g } else { g + decay * *p };
        *m = normal(lerp(*m, g, new1));
        *v = normal(*v * old2 + new2 * g * g);
        *p += rate * *m / (v.sqrt() / root + eps);
    }
}

/// `torch.lerp`: from the nearer end, so that weight 1 gives `end` to the bit.
fn lerp(start: f32, end: f32, weight: f32) -> f32 {
    if weight < 0.5 { start + weight * (end - start) } else { end - (end - start) * (1.0 - weight) }
}
