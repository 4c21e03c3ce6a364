//! A loss as a candle op: the checks, the predictions and the gradient that all losses share.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use lockstep_proto::recipe::LossName;

use super::super::operand;
use super::softmax::argmax;
use super::{cross_entropy, l1_logits, l1_softmax};

/// What a batch's logits are worth.
#[derive(Clone, Debug)]
pub struct Loss {
    /// Scalar: `loss_sum / divisor`, what `backward()` starts from.
    pub loss: Tensor,
    /// The sum of the examples' losses, added in order.
    pub loss_sum: f64,
    /// How many predictions are right.
    pub correct: u32,
    /// The class with the greatest logit, the first of equals (the first NaN, if there is one).
    pub predictions: Vec<u32>,
}

/// The loss that a recipe calls `name`, summed over the batch and divided by `divisor`. logits are (N, classes).
///
/// # Errors
/// Shapes or labels that do not fit, a divisor that is not positive and finite, or not f32 on the CPU.
pub fn loss(name: LossName, logits: &Tensor, labels: &[u32], divisor: f32) -> Result<Loss> {
    match name {
        LossName::CrossEntropy => cross_entropy(logits, labels, divisor),
        LossName::L1Logits => l1_logits(logits, labels, divisor),
        LossName::L1Softmax => l1_softmax(logits, labels, divisor),
    }
}

/// A loss from that of one example: `example(logits, label, slopes)` gives it and fills `slopes` with its gradient.
pub(super) fn fused(
    op: &'static str,
    logits: &Tensor,
    labels: &[u32],
    divisor: f32,
    example: impl Fn(&[f32], usize, &mut [f64]) -> f64,
) -> Result<Loss> {
    let &[rows, classes] = logits.dims() else {
        bail!("{op}: the logits have shape {:?}: they must be (N, classes)", logits.dims())
    };
    if rows != labels.len() {
        bail!("{op}: {} labels for {rows} rows of logits: give one a row", labels.len())
    }
    if let Some(at) = labels.iter().position(|&label| label as usize >= classes) {
        bail!("{op}: the label of example {at} is {}: it must be below {classes}", labels[at])
    }
    if !(divisor > 0.0 && divisor.is_finite()) {
        bail!("{op}: the divisor is {divisor}: it must be positive, as a batch size is")
    }
    let mut loss_sum = 0.0;
    let mut predictions = Vec::with_capacity(rows);
    let mut gradient = vec![0.0; rows * classes];
    operand::read(op, logits, |logits| {
        let examples = logits.chunks(classes.max(1)).zip(gradient.chunks_mut(classes.max(1)));
        let mut slopes = vec![0.0; classes];
        for ((logits, gradient), &label) in examples.zip(labels) {
            predictions.push(argmax(logits) as u32);
            loss_sum += example(logits, label as usize, &mut slopes);
            for (gradient, &slope) in gradient.iter_mut().zip(&slopes) {
                *gradient = (slope / f64::from(divisor)) as f32;
            }
        }
        Ok(())
    })?;
    let correct = predictions.iter().zip(labels).filter(|(p, label)| p == label).count() as u32;
    let gradient = operand::tensor_like(gradient, logits)?;
    let loss = (loss_sum / f64::from(divisor)) as f32;
    let loss = logits.contiguous()?.apply_op1(Fused { op, loss, gradient })?;
    Ok(Loss { loss, loss_sum, correct, predictions })
}

struct Fused {
    op: &'static str,
    loss: f32,
    gradient: Tensor,
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, _logits: &CpuStorage, _layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![self.loss]), ().into()))
    }

    fn bwd(&self, _logits: &Tensor, _loss: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        let upstream = upstream.to_scalar::<f32>()?;
        // backward() starts from 1, and the loss is seldom part of more
        if upstream == 1.0 { Ok(Some(self.gradient.clone())) } else { (&self.gradient * f64::from(upstream)).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::var;
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let logits = var(1, &[2, 3]);
        for (name, op) in
            [LossName::CrossEntropy, LossName::L1Logits, LossName::L1Softmax].into_iter().zip(["cross", "l1_l", "l1_s"])
        {
            let error = |labels: &[u32], divisor| loss(name, &logits, labels, divisor).expect_err("wrong").to_string();
            assert!(error(&[0, 3], 1.0).contains("label of example 1 is 3: it must be below 3"));
            assert!(error(&[0], 1.0).contains("1 labels for 2 rows") && error(&[0], 1.0).contains(op));
            assert!(error(&[0, 1], 0.0).contains("divisor is 0"));
            assert!(error(&[0, 1], f32::NAN).contains("divisor is NaN"));
        }
    }
}
