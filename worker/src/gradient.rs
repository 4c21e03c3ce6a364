//! The one gradient function: weights and a shard in, gradient and counts out, no network in sight.

use crate::dataset::Batch;
use crate::layers;
use crate::model::{ComputeError, Mode, Model, Weights};
use candle_core::{Storage, Tensor};

/// What a shard's computation depends on besides the weights and the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepContext {
    /// The run's seed, for dropout.
    pub seed: u64,
    /// The epoch, from 0, for dropout.
    pub epoch: u32,
    /// Examples in the step's whole batch, of which the shard is a part.
    pub batch_size: usize,
}

/// One shard's share of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradient {
    /// In schema order. Parameters: the gradient of (sum of the shard's losses) / batch size. Buffers: (shard / batch
    /// size) × the shard's mean or unbiased variance. So the plain sum over a batch's shards is the batch's gradient and
    /// the count-weighted mean of its statistics.
    pub flat: Vec<f32>,
    /// The sum of the shard's losses, in nats.
    pub loss_sum: f64,
    /// How many of the shard's examples the weights got right.
    pub correct: u32,
    /// Examples in the shard.
    pub count: u32,
}

/// Forward and backward over one shard.
///
/// # Errors
/// A shard that is empty, greater than its batch, inconsistent or not the model's shape, a label that is no class of the
/// model; a layer that can't compute (BatchNorm over a single value).
pub fn gradient(
    model: &Model,
    weights: &Weights,
    shard: &Batch,
    context: &StepContext,
) -> Result<Gradient, ComputeError> {
    let count = shard.check(model)?;
    let StepContext { seed, epoch, batch_size } = *context;
    if count > batch_size {
        let problem = format!("the shard has {count} examples, but the whole step only {batch_size}");
        return Err(ComputeError::Batch(problem));
    }
    let mode = Mode::Train { seed, epoch, examples: &shard.examples };
    let pass = model.forward(weights, &shard.images, mode)?;
    let in_loss = ComputeError::at("cross-entropy");
    let result = layers::cross_entropy(&pass.logits, &shard.labels, batch_size as f32).map_err(in_loss)?;
    let gradients = result.loss.backward().map_err(ComputeError::at("backward pass"))?;

    let mut flat = vec![0.0; model.schema().len()];
    for (slot, tensor) in model.tensors().iter().enumerate() {
        // what no path leads to (a buffer, a layer whose output is multiplied by nothing) keeps its zeros
        if let Some(gradient) = gradients.get(weights.var(slot)) {
            copy(gradient, &mut flat[tensor.range.clone()]).map_err(ComputeError::at(&tensor.name))?;
        }
    }
    let share = count as f32 / batch_size as f32;
    for ([mean, variance], statistics) in pass.statistics {
        for (slot, values) in [(mean, statistics.mean), (variance, statistics.variance)] {
            for (flat, value) in flat[model.tensors()[slot].range.clone()].iter_mut().zip(values) {
                *flat = share * value;
            }
        }
    }
    Ok(Gradient { flat, loss_sum: result.loss_sum, correct: result.correct, count: count as u32 })
}

/// Copies a tensor's values into `out`, which has as many.
fn copy(tensor: &Tensor, out: &mut [f32]) -> candle_core::Result<()> {
    if tensor.elem_count() != out.len() {
        candle_core::bail!("the gradient has shape {:?}, not {} values", tensor.dims(), out.len())
    }
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(values), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        candle_core::bail!("the gradient is not a contiguous tensor on the CPU")
    };
    out.copy_from_slice(&values.as_slice::<f32>()?[start..end]);
    Ok(())
}
