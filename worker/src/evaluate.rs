//! Loss, correct answers and confusion of one slice of a test set, in evaluation mode.

use crate::dataset::Batch;
use crate::layers;
use crate::model::{ComputeError, Mode, Model, Weights};

/// What one slice is worth. Slices add up field by field.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The sum of the examples' losses, in nats.
    pub loss_sum: f64,
    /// How many answers are right.
    pub correct: u32,
    /// classes × classes counts, row-major: row = the true class, column = the answer.
    pub confusion: Vec<u32>,
}

/// Forward over one slice: running statistics, nothing dropped, no gradient.
///
/// # Errors
/// A batch that is empty, inconsistent or not the model's shape, a label that is no class of the model.
pub fn evaluate(model: &Model, weights: &Weights, batch: &Batch) -> Result<Evaluation, ComputeError> {
    let count = batch.check(model)?;
    let pass = model.forward(weights, &batch.images, Mode::Evaluate)?;
    let in_loss = ComputeError::at("cross-entropy");
    let result = layers::cross_entropy(&pass.logits, &batch.labels, count as f32).map_err(in_loss)?;
    let classes = model.classes();
    let mut confusion = vec![0; classes * classes];
    for (&label, &answer) in batch.labels.iter().zip(&result.predictions) {
        confusion[label as usize * classes + answer as usize] += 1;
    }
    Ok(Evaluation { loss_sum: result.loss_sum, correct: result.correct, confusion })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use lockstep_proto::recipe::model::ModelSpec;

    /// A model whose logits are its three input values, behind a dropout that must not drop.
    #[test]
    fn rows_are_true_classes_and_nothing_is_dropped() {
        let text = "name = \"m\"\nlayers = [{ type = \"flatten\" }, { type = \"batch_norm\" }, { type = \"dropout\", p = 0.9 }]";
        let spec = ModelSpec::parse(text, "test").expect("a readable file");
        let model = Model::new(&spec, [3, 1, 1], 3).expect("a model that fits");
        // running mean 1 and variance 4 make (x − 1) / 2 of x, which keeps the order
        let flat: Vec<f32> = model
            .schema()
            .tensors()
            .iter()
            .flat_map(|tensor| match tensor.name.as_str() {
                "1.bias" => [0.0; 3],
                "1.running_var" => [4.0; 3],
                _ => [1.0; 3],
            })
            .collect();
        let weights = Weights::new(&model, &flat).expect("the model's own");
        let values = vec![5.0_f32, 1.0, 1.0, 1.0, 1.0, 5.0, 1.0, 1.0, 5.0, 1.0, 5.0, 1.0];
        let images = Tensor::from_vec(values, (4, 3, 1, 1), &Device::Cpu).expect("4 images");
        let batch = Batch { images, labels: vec![0, 1, 2, 1], examples: vec![0, 1, 2, 3] };
        let result = evaluate(&model, &weights, &batch).expect("a good batch");
        assert_eq!(result.confusion, [1, 0, 0, 0, 1, 1, 0, 0, 1]);
        assert_eq!(result.correct, 3);
        // by hand: logits are 2, 0, 0 in some order
        let right = (2.0_f64.exp() + 2.0).ln() - 2.0;
        let expected = 3.0 * right + (right + 2.0);
        assert!((result.loss_sum - expected).abs() < 1e-4, "{} {expected}", result.loss_sum);
    }
}
