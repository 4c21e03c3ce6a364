//! Mean absolute error against the one-hot label, of the logits or of their softmax: `torch.nn.L1Loss`, whose mean is over
//! examples and classes. One example's loss is the mean over its classes.

use candle_core::{Result, Tensor};

use super::op::{Loss, fused};
use super::softmax::softmax;

/// Σ|logit − target| / classes, summed over the batch and divided by `divisor`. logits are (N, classes). Where a logit is its
/// target the slope is 0, as in PyTorch.
///
/// # Errors
/// As [`cross_entropy`](super::cross_entropy).
pub fn l1_logits(logits: &Tensor, labels: &[u32], divisor: f32) -> Result<Loss> {
    fused("l1_logits", logits, labels, divisor, |logits, label, slopes| {
        let classes = logits.len() as f64;
        let mut sum = 0.0;
        for (class, (slope, &logit)) in slopes.iter_mut().zip(logits).enumerate() {
            let error = f64::from(logit) - f64::from(u8::from(class == label));
            sum += error.abs();
            // NaN is its own slope: it must reach the gradient
            *slope = if error == 0.0 || error.is_nan() { error } else { error.signum() } / classes;
        }
        sum / classes
    })
}

/// Σ|softmax − target| / classes, summed over the batch and divided by `divisor`. logits are (N, classes). Computed in f64
/// with our own exp.
///
/// # Errors
/// As [`cross_entropy`](super::cross_entropy).
pub fn l1_softmax(logits: &Tensor, labels: &[u32], divisor: f32) -> Result<Loss> {
    fused("l1_softmax", logits, labels, divisor, |logits, label, slopes| {
        let classes = logits.len() as f64;
        softmax(logits, slopes);
        // no probability is above 1 or below 0, so that Σ|p − target| is Σ of the others' p, and 1 − p of the label's: the same
        // again. Summed, because 1 − p would lose the digits of a network that is sure of itself.
        let right = slopes[label];
        let others: f64 = slopes.iter().enumerate().filter(|(class, _)| *class != label).map(|(_, p)| p).sum();
        // the slope of 2·others: the label's p falls by p·p' with another logit, and rises by p·(1 − p) with its own
        for p in slopes.iter_mut() {
            *p *= 2.0 * right / classes;
        }
        slopes[label] = -2.0 * right * others / classes;
        2.0 * others / classes
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{check, var};
    use super::super::super::{operand, reference};
    use super::*;
    use candle_core::{Device, Var};

    /// Oracle: the definition in f64, and its gradient by central differences.
    #[test]
    fn agree_with_the_reference() {
        let labels = [3, 0, 9, 9, 4];
        let logits = [var(1, &[5, 10])];
        let f = |v: &[Vec<f64>]| vec![reference::l1(10, &v[0], &labels) / 8.0];
        let op = |v: &[Var]| Ok(l1_logits(&v[0], &labels, 8.0)?.loss);
        check(&logits, op, |v, dy| (f(v), reference::differences(f, v, dy)), 1e-6);

        let f = |v: &[Vec<f64>]| vec![reference::l1(10, &reference::softmax(10, &v[0]), &labels) / 8.0];
        let op = |v: &[Var]| Ok(l1_softmax(&v[0], &labels, 8.0)?.loss);
        check(&logits, op, |v, dy| (f(v), reference::differences(f, v, dy)), 1e-6);
    }

    /// By hand: |2 − 1| + |0 − 0| + |−3| = 4 over three classes; the hit has no slope.
    #[test]
    fn a_hit_has_no_slope_and_losses_are_means_over_classes() {
        let logits = Var::new(&[[2.0_f32, 0.0, -3.0]], &Device::Cpu).expect("1 × 3");
        let result = l1_logits(&logits, &[0], 2.0).expect("shapes that fit");
        assert_eq!((result.loss_sum, result.correct), (4.0 / 3.0, 1));
        let gradients = result.loss.backward().expect("a gradient");
        let slopes = operand::read("test", gradients.get(&logits).expect("of the logits"), |v| Ok(v.to_vec()));
        assert_eq!(slopes.expect("values"), [1.0_f32 / 6.0, 0.0, -1.0 / 6.0]);
    }

    #[test]
    fn nan_shows_and_huge_logits_are_no_trouble() {
        let nan = Tensor::new(&[[2.0_f32, f32::NAN, 9.0]], &Device::Cpu).expect("1 × 3");
        assert!(l1_logits(&nan, &[0], 1.0).expect("shapes that fit").loss_sum.is_nan());
        assert!(l1_softmax(&nan, &[0], 1.0).expect("shapes that fit").loss_sum.is_nan());
        let sure = Tensor::new(&[[1e30_f32, 0.0, -1e30]], &Device::Cpu).expect("1 × 3");
        assert_eq!(l1_softmax(&sure, &[0], 1.0).expect("shapes that fit").loss_sum, 0.0);
        assert_eq!(l1_softmax(&sure, &[1], 1.0).expect("shapes that fit").loss_sum, 2.0 / 3.0);
    }
}
