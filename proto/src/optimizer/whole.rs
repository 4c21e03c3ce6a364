//! A step of the whole flat vector: what the coordinator makes of a gradient, and a worker that goes on by itself.

use super::{Optimizer, clip, penalty};
use crate::recipe::Recipe;
use crate::schema::{Kind, Schema};

/// What was made of a gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Made {
    /// Of the parameters before the step; see [`penalty::add`].
    pub penalty: f64,
    /// The gradient's, with penalties, before it was clipped.
    pub norm: f64,
}

/// A gradient of which every part was finite, and whose norm is not.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("the gradient has the norm {0}")]
pub struct Diverged(pub f64);

/// Makes one optimizer step with the mean gradient and one update of each buffer with what the step observed, both in `sum`, in schema order.
/// `sum` is changed by penalties and clipping.
///
/// # Errors
/// The gradient's norm is not finite; `values` are as they were.
///
/// # Panics
/// If a slice has not the schema's length.
pub fn step(
    optimizer: &mut Optimizer,
    recipe: &Recipe,
    schema: &Schema,
    lr: f64,
    sum: &mut [f32],
    values: &mut [f32],
) -> Result<Made, Diverged> {
    let split = schema.parameters();
    // on the copy that the optimizer steps, as its weight decay, also where workers have a rounded one
    let penalty = penalty::add(&recipe.loss, &values[..split], &mut sum[..split]);
    let norm = clip::clip_by_norm(&mut sum[..split], recipe.optimizer.clip_grad_norm);
    if !norm.is_finite() {
        return Err(Diverged(norm));
    }
    optimizer.step(lr, &sum[..split], &mut values[..split]);
    for (tensor, range) in schema.iter() {
        let Kind::Buffer { momentum } = tensor.kind else { continue };
        // as torch.nn.functional.batch_norm: in double precision, rounded once
        for (value, observed) in values[range.clone()].iter_mut().zip(&sum[range]) {
            *value = ((1.0 - momentum) * f64::from(*value) + momentum * f64::from(*observed)) as f32;
        }
    }
    Ok(Made { penalty, norm })
}
