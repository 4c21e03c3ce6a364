//! What a model makes of images: a probability for each class.

use crate::dataset::Batch;
use crate::model::{ComputeError, Mode, Model, Weights};

/// The probabilities of each image's classes (softmax of the logits, computed in f64 with our own exp), in evaluation mode:
/// running statistics, nothing dropped, no gradient. One list an image, as long as the model has classes, adding up to 1; the
/// labels of the batch do not matter.
///
/// # Errors
/// A batch that is empty, inconsistent or not the model's shape; logits that are not finite, with the number of the image.
pub fn predict(model: &Model, weights: &Weights, batch: &Batch) -> Result<Vec<Vec<f64>>, ComputeError> {
    batch.check(model)?;
    let pass = model.forward(weights, &batch.images, Mode::Evaluate)?;
    let logits: Vec<Vec<f32>> = pass.logits.to_vec2().map_err(ComputeError::at("logits"))?;
    if let Some(at) = logits.iter().position(|logits| logits.iter().any(|logit| !logit.is_finite())) {
        let text = format!("example {}: its logits are not finite: these weights diverged", batch.examples[at]);
        return Err(ComputeError::Batch(text));
    }
    Ok(logits.iter().map(|logits| softmax(logits)).collect())
}

fn softmax(logits: &[f32]) -> Vec<f64> {
    // less the greatest, so that nothing overflows
    let greatest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let powers: Vec<f64> = logits.iter().map(|&logit| libm::exp(f64::from(logit) - greatest)).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};
    use lockstep_proto::recipe::model::ModelSpec;

    use super::*;

    /// A model whose logits are half of its three input values less 1, behind a dropout that must not drop.
    fn model() -> (Model, Weights) {
        let text = "name = \"m\"\nlayers = [{ type = \"flatten\" }, { type = \"batch_norm\" }, { type = \"dropout\", p = 0.9 }]";
        let model = Model::new(&ModelSpec::parse(text, "test").expect("a readable file"), [3, 1, 1], 3).expect("fits");
        // running mean 1 and variance 4, weight 1 and bias −1: (x − 1) / 2 − 1 = x / 2 − 1.5
        let value = |name: &str| match name {
            "1.bias" => [-1.0; 3],
            "1.running_var" => [4.0; 3],
            _ => [1.0; 3],
        };
        let flat: Vec<f32> = model.schema().tensors().iter().flat_map(|tensor| value(&tensor.name)).collect();
        let weights = Weights::new(&model, &flat).expect("the model's own");
        (model, weights)
    }

    fn batch(values: Vec<f32>) -> Batch {
        let n = values.len() / 3;
        let images = Tensor::from_vec(values, (n, 3, 1, 1), &Device::Cpu).expect("images");
        Batch { images, labels: vec![0; n], examples: (0..n as u32).collect() }
    }

    #[test]
    fn probabilities_are_the_softmax_of_each_images_logits() {
        let (model, weights) = model();
        // by hand: logits 0, ln 4, ln 3 more than the first; powers 1, 4, 3 of 8
        let (a, b) = (2.0 * 4.0_f32.ln(), 2.0 * 3.0_f32.ln());
        let found = predict(&model, &weights, &batch(vec![3.0, 3.0 + a, 3.0 + b, 5.0, 5.0, 5.0])).expect("images");
        for (found, expected) in
            found.iter().flatten().zip([1.0 / 8.0, 0.5, 3.0 / 8.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0])
        {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
    }

    #[test]
    fn great_logits_do_not_overflow_and_others_are_named() {
        let (model, weights) = model();
        let found = predict(&model, &weights, &batch(vec![2e9, 0.0, 0.0])).expect("finite");
        assert_eq!(found, [[1.0, 0.0, 0.0]]);
        let text = predict(&model, &weights, &batch(vec![1.0, 1.0, 1.0, f32::NAN, 0.0, 0.0])).expect_err("NaN");
        assert!(text.to_string().contains("example 1"), "{text}");
    }
}
