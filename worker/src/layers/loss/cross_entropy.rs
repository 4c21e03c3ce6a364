//! Cross-entropy of the softmax.

use candle_core::{Result, Tensor};

use super::op::{Loss, fused};
use super::softmax::softmax;

/// −ln softmax(logits)\[label\] in nats, summed over the batch and divided by `divisor` (`torch.nn.CrossEntropyLoss` with
/// `reduction="sum"`). logits are (N, classes). Computed in f64 with our own exp and ln: host maths differ.
///
/// # Errors
/// Shapes or labels that do not fit, a divisor that is not positive and finite, or not f32 on the CPU.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], divisor: f32) -> Result<Loss> {
    fused("cross_entropy", logits, labels, divisor, |logits, label, slopes| {
        let (greatest, sum) = softmax(logits, slopes);
        slopes[label] -= 1.0;
        libm::log(sum) - (f64::from(logits[label]) - greatest)
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::reference;
    use super::super::super::testing::{check, var, wide};
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
}
