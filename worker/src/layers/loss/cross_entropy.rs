//! The loss of a classifier, fused with its gradient.

use super::operand;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// What a batch's logits are worth.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Scalar: `loss_sum / divisor`, what `backward()` starts from.
    pub loss: Tensor,
    /// The sum of the examples' losses, in nats, added in order.
    pub loss_sum: f64,
    /// How many predictions are right.
    pub correct: u32,
    /// The class with the greatest logit, the first of equals (the first NaN, if there is one).
    pub predictions: Vec<u32>,
}

/// −ln softmax(logits)\[label\], summed over the batch and divided by `divisor` (`torch.nn.CrossEntropyLoss` with
/// `reduction="sum"`). logits are (N, classes). Computed in f64 with our own exp and ln: host maths differ.
///
/// # Errors
/// Shapes or labels that do not fit, a divisor that is not positive and finite, or not f32 on the CPU.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], divisor: f32) -> Result<CrossEntropy> {
    let &[rows, classes] = logits.dims() else {
        bail!("cross_entropy: the logits have shape {:?}: they must be (N, classes)", logits.dims())
    };
    if rows != labels.len() {
        bail!("cross_entropy: {} labels for {rows} rows of logits: give one a row", labels.len())
    }
    if let Some(at) = labels.iter().position(|&label| label as usize >= classes) {
        bail!("cross_entropy: the label of example {at} is {}: it must be below {classes}", labels[at])
    }
    if !(divisor > 0.0 && divisor.is_finite()) {
        bail!("cross_entropy: the divisor is {divisor}: it must be positive, as a batch size is")
    }
    let mut loss_sum = 0.0;
    let mut predictions = Vec::with_capacity(rows);
    let mut gradient = vec![0.0; rows * classes];
    operand::read("cross_entropy", logits, |logits| {
        let examples = logits.chunks(classes.max(1)).zip(gradient.chunks_mut(classes.max(1)));
        let mut softmax = vec![0.0; classes];
        for ((logits, gradient), &label) in examples.zip(labels) {
            predictions.push(argmax(logits) as u32);
            loss_sum += example(logits, label as usize, &mut softmax);
            for (class, (gradient, &p)) in gradient.iter_mut().zip(&softmax).enumerate() {
                let target = f64::from(u8::from(class == label as usize));
                *gradient = ((p - target) / f64::from(divisor)) as f32;
            }
        }
        Ok(())
    })?;
    let correct = predictions.iter().zip(labels).filter(|(p, label)| p == label).count() as u32;
    let gradient = operand::tensor_like(gradient, logits)?;
    let loss = (loss_sum / f64::from(divisor)) as f32;
    let loss = logits.contiguous()?.apply_op1(Fused { loss, gradient })?;
    Ok(CrossEntropy { loss, loss_sum, correct, predictions })
}

/// The loss of one example; `softmax` gets its probabilities.
fn example(logits: &[f32], label: usize, softmax: &mut [f64]) -> f64 {
    let greatest = f64::from(logits[argmax(logits)]);
    let mut sum = 0.0;
    for (p, &logit) in softmax.iter_mut().zip(logits) {
        *p = libm::exp(f64::from(logit) - greatest);
        sum += *p;
    }
    for p in softmax.iter_mut() {
        *p /= sum;
    }
    libm::log(sum) - (f64::from(logits[label]) - greatest)
}

fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, &value) in values.iter().enumerate() {
        if value > values[best] || (value.is_nan() && !values[best].is_nan()) {
            best = i;
        }
    }
    best
}

struct Fused {
    loss: f32,
    gradient: Tensor,
}

impl CustomOp1 for Fused {
    fn name(&self) -> &'static str {
        "cross_entropy"
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
    use super::super::reference;
    use super::super::testing::{check, var, wide};
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn agrees_with_the_reference() {
        let labels = [3, 0, 9, 9, 4];
        let logits = var(1, &[5, 10]);
        let f = |v: &[Vec<f64>]| vec![reference::cross_entropy(10, &v[0], &labels) / 8.0];
        let op = |v: &[Var]| Ok(cross_entropy(&v[0], &labels, 8.0)?.loss);
        check(std::slice::from_ref(&logits), op, |v, dy| (f(v), reference::differences(f, v, dy)), 1e-6);
        let result = cross_entropy(&logits, &labels, 8.0).expect("shapes that fit");
        assert!((result.loss_sum - reference::cross_entropy(10, &wide(&logits), &labels)).abs() < 1e-9);
    }

    /// candle-nn's own, which has the same mean over the batch.
    #[test]
    fn agrees_with_candle_nn() {
        let labels = [3_u32, 0, 9, 9, 4];
        let logits = var(1, &[5, 10]);
        let targets = Tensor::new(&labels, &Device::Cpu).expect("five labels");
        let theirs = candle_nn::loss::cross_entropy(&logits, &targets).expect("shapes that fit");
        let ours = cross_entropy(&logits, &labels, 5.0).expect("shapes that fit").loss;
        let gradient = |loss: &Tensor| {
            let gradients = loss.backward().expect("a gradient");
            gradients.get(&logits).and_then(|g| g.flatten_all().ok()?.to_vec1::<f32>().ok()).expect("of the logits")
        };
        for (ours, theirs) in gradient(&ours).into_iter().zip(gradient(&theirs)) {
            assert!((ours - theirs).abs() < 1e-7, "{ours} {theirs}");
        }
        let value = |loss: &Tensor| loss.to_scalar::<f32>().expect("one value");
        assert!((value(&ours) - value(&theirs)).abs() < 1e-6);
    }

    #[test]
    fn the_first_of_equals_is_predicted_and_huge_logits_are_no_trouble() {
        let logits = [[1.0_f32, 5.0, 5.0], [-1e30, 1e30, 0.0], [2.0, f32::NAN, 9.0], [0.0, 0.0, 0.0]];
        let logits = Tensor::new(&logits, &Device::Cpu).expect("4 × 3");
        let result = cross_entropy(&logits.narrow(0, 0, 2).expect("two rows"), &[2, 1], 1.0).expect("shapes that fit");
        assert_eq!((result.predictions, result.correct), (vec![1, 1], 1));
        let exact = (2.0_f64 + (-4.0_f64).exp()).ln();
        assert!((result.loss_sum - exact).abs() < 1e-12, "{}", result.loss_sum);
        let result = cross_entropy(&logits, &[0, 0, 0, 0], 4.0).expect("shapes that fit");
        assert_eq!((result.predictions, result.correct), (vec![1, 1, 1, 0], 1));
        assert!(result.loss_sum.is_nan());
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let logits = var(1, &[2, 3]);
        let error = |labels: &[u32], divisor| cross_entropy(&logits, labels, divisor).expect_err("wrong").to_string();
        assert!(error(&[0, 3], 1.0).contains("label of example 1 is 3: it must be below 3"));
        assert!(error(&[0], 1.0).contains("1 labels for 2 rows"));
        assert!(error(&[0, 1], 0.0).contains("divisor is 0"));
        assert!(error(&[0, 1], f32::NAN).contains("divisor is NaN"));
    }
}
