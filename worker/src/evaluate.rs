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
