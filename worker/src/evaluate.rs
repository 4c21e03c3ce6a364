//! Loss, correct answers and confusion of one slice of a test set.

use lockstep_proto::recipe::LossName;

use crate::dataset::Batch;
use crate::layers;
use crate::model::{ComputeError, Draws, Mode, Model, Weights};

/// How a slice is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluationContext {
    pub loss: LossName,
    /// None: as `model.eval()` has it.
    pub as_trained: Option<AsTrained>,
}

/// Layers behave as in training: dropout drops, and BatchNorm uses the slice's own statistics, which go nowhere. What dropout
/// draws by:
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsTrained {
    /// The run's seed.
    pub seed: u64,
    /// Examples of the test set, or such as are held out of the training set.
    pub test: bool,
    /// The optimizer steps that the evaluation follows.
    pub steps: u64,
}

/// What one slice is worth. Slices add up field by field.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// The sum of the examples' losses, without penalties.
    pub loss_sum: f64,
    /// How many answers are right.
    pub correct: u32,
    /// classes × classes counts, row-major: row = the true class, column = the answer.
    pub confusion: Vec<u32>,
    /// Of each class, how many examples have a logit above 0 (or NaN).
    pub alive: Vec<u32>,
}

/// Forward over one slice, without a gradient. The weights, running statistics among them, stay as they are.
///
/// # Errors
/// A batch that is empty, inconsistent or not the model's shape, a label that is no class of the model; a layer that can't
/// compute (BatchNorm over a single value, as in training).
pub fn evaluate(
    model: &Model,
    weights: &Weights,
    batch: &Batch,
    context: &EvaluationContext,
) -> Result<Evaluation, ComputeError> {
    let count = batch.check(model)?;
    let EvaluationContext { loss, as_trained } = *context;
    let mode = as_trained.map_or(Mode::Evaluate, |AsTrained { seed, test, steps }| Mode::EvaluateAsTrained {
        draws: Draws::evaluation(seed, test, steps, &batch.examples),
    });
    let pass = model.forward(weights, &batch.images, mode)?;
    let result =
        layers::loss(loss, &pass.logits, &batch.labels, count as f32).map_err(ComputeError::at(loss.word()))?;
    let classes = model.classes();
    let mut confusion = vec![0; classes * classes];
    for (&label, &answer) in batch.labels.iter().zip(&result.predictions) {
        confusion[label as usize * classes + answer as usize] += 1;
    }
    let mut alive = vec![0; classes];
    for row in pass.logits.to_vec2::<f32>().map_err(ComputeError::at("logits"))? {
        for (alive, logit) in alive.iter_mut().zip(row) {
            *alive += u32::from(logit > 0.0 || logit.is_nan());
        }
    }
    Ok(Evaluation { loss_sum: result.loss_sum, correct: result.correct, confusion, alive })
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};
    use lockstep_proto::recipe::model::ModelSpec;

    const PLAIN: EvaluationContext = EvaluationContext { loss: LossName::CrossEntropy, as_trained: None };

    fn model(layers: &str) -> Model {
        let text = format!("name = \"m\"\nlayers = [{{ type = \"flatten\" }}, {layers}]");
        let spec = ModelSpec::parse(&text, "test").expect("a readable file");
        Model::new(&spec, [3, 1, 1], 3).expect("a model that fits")
    }

    /// Four images of three values, with example numbers `examples`.
    fn batch(values: [[f32; 3]; 4], examples: [u32; 4]) -> Batch {
        let images = Tensor::new(&values, &Device::Cpu).and_then(|t| t.reshape((4, 3, 1, 1))).expect("4 images");
        Batch { images, labels: vec![0, 1, 2, 1], examples: examples.to_vec() }
    }

    /// Weights of a BatchNorm whose running mean is 1 and whose variance is 4, without gain and offset.
    fn weights(model: &Model) -> Weights {
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
        Weights::new(model, &flat).expect("the model's own")
    }

    const VALUES: [[f32; 3]; 4] = [[5.0, 1.0, 1.0], [1.0, 1.0, 5.0], [1.0, 1.0, 5.0], [1.0, 5.0, 1.0]];

    /// A model whose logits are its three input values, behind a dropout that must not drop.
    #[test]
    fn rows_are_true_classes_and_nothing_is_dropped() {
        let model = model("{ type = \"batch_norm\" }, { type = \"dropout\", p = 0.9 }");
        // running mean 1 and variance 4 make (x − 1) / 2 of x, which keeps the order
        let batch = batch(VALUES, [0, 1, 2, 3]);
        let result = evaluate(&model, &weights(&model), &batch, &PLAIN).expect("a good batch");
        assert_eq!(result.confusion, [1, 0, 0, 0, 1, 1, 0, 0, 1]);
        assert_eq!(result.correct, 3);
        assert_eq!(result.alive, [1, 1, 2]);
        // by hand: logits are 2, 0, 0 in some order
        let right = (2.0_f64.exp() + 2.0).ln() - 2.0;
        let expected = 3.0 * right + (right + 2.0);
        assert!((result.loss_sum - expected).abs() < 1e-4, "{} {expected}", result.loss_sum);
        // and as mean absolute errors: 2 − 1 where it is right, 2 + 1 where it is not
        let absolute = EvaluationContext { loss: LossName::L1Logits, ..PLAIN };
        let result = evaluate(&model, &weights(&model), &batch, &absolute).expect("a good batch");
        assert!((result.loss_sum - (3.0 * 1.0 + 3.0) / 3.0).abs() < 1e-4, "{}", result.loss_sum);
    }

    /// Oracle: the slice's mean and biased variance, by hand.
    #[test]
    fn as_trained_the_slices_own_statistics_are_used_and_go_nowhere() {
        let model = model("{ type = \"batch_norm\" }");
        let weights = weights(&model);
        let as_trained = Some(AsTrained { seed: 1, test: true, steps: 7 });
        let context = EvaluationContext { loss: LossName::L1Logits, as_trained };
        let batch = batch(VALUES, [0, 1, 2, 3]);
        let before = evaluate(&model, &weights, &batch, &PLAIN).expect("a good batch");
        let found = evaluate(&model, &weights, &batch, &context).expect("a good batch").loss_sum;
        // the running statistics' gain and offset are 1 and 0 as in PyTorch, eps is 1e-5
        let mut expected = 0.0;
        for channel in 0..3 {
            let values = VALUES.map(|row| f64::from(row[channel]));
            let mean = values.iter().sum::<f64>() / 4.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 4.0;
            for (value, label) in values.iter().zip(&batch.labels) {
                let target = f64::from(u8::from(*label as usize == channel));
                expected += ((value - mean) / (variance + 1e-5).sqrt() - target).abs() / 3.0;
            }
        }
        assert!((found - expected).abs() < 1e-5, "{found}, not {expected}");
        assert_eq!(evaluate(&model, &weights, &batch, &PLAIN).expect("a good batch"), before);
    }

    #[test]
    fn as_trained_masks_go_with_example_evaluation_split_and_seed() {
        let model = model("{ type = \"dropout\", p = 0.5 }, { type = \"relu\" }");
        let weights = Weights::new(&model, &[]).expect("no weights at all");
        let alive = |examples, as_trained| {
            let context = EvaluationContext { loss: LossName::CrossEntropy, as_trained: Some(as_trained) };
            evaluate(&model, &weights, &batch([[1.0; 3]; 4], examples), &context).expect("a good batch").loss_sum
        };
        let one = AsTrained { seed: 1, test: true, steps: 100 };
        assert_eq!(alive([1, 2, 3, 4], one).to_bits(), alive([1, 2, 3, 4], one).to_bits());
        let others: Vec<f64> = (0..20)
            .flat_map(|n| {
                let examples = [4 * n, 4 * n + 1, 4 * n + 2, 4 * n + 3];
                [one, AsTrained { steps: 101, ..one }, AsTrained { test: false, ..one }, AsTrained { seed: 2, ..one }]
                    .map(|draws| alive(examples, draws))
            })
            .collect();
        // each of the four coordinates changes some of twenty slices of twelve draws
        for at in 1..4 {
            assert!(others.chunks(4).any(|slice| slice[0] != slice[at]), "coordinate {at} changes nothing");
        }
    }
}
