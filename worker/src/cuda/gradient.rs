//! The gradient function and the logits of [`crate::gradient`] and [`crate::evaluate`], on a GPU.

use std::sync::{Arc, OnceLock};

use candle_core::{Device, Tensor};

use super::loss::Loss;
use super::network::{Behaviour, Network};
use super::weights::Packed;
use super::workspace::Workspace;
use crate::dataset::Batch;
use crate::gradient::{Gradient, StepContext};
use crate::model::{ComputeError, Draws, Mode, Model};

/// Forward and backward over one shard, which has been checked.
pub(crate) fn gradient(
    model: &Model,
    weights: &Packed,
    shard: &Batch,
    context: &StepContext,
) -> Result<Gradient, ComputeError> {
    let (gpu, count) = (&weights.gpu, shard.labels.len());
    let share = count as f32 / context.batch_size as f32;
    let turn = Draws::training(context.seed, context.epoch, &shard.examples).turn();
    let numbers = [&shard.examples[..], &shard.labels];
    let prepared = prepare(model, weights, &shard.images, numbers, count, true);
    let (workspace, images) = prepared.map_err(ComputeError::at("on the GPU"))?;
    let slopes = OnceLock::new();
    let (name, divisor) = (context.loss, context.batch_size as f64);
    let loss = Loss { gpu: Arc::clone(gpu), workspace: Arc::clone(&workspace), name, divisor, slopes };
    let network = network(weights, &workspace, Behaviour::Train { turn, share: Some(share) });
    let run = || {
        gpu.clear(workspace.gradient(), weights.layout.len())?;
        let losses = images.apply_op2(weights.var(), network)?.apply_op1(loss)?;
        losses.backward()?;
        let mut host = workspace.host();
        gpu.download(workspace.gradient(), host.gradient.values_mut())?;
        gpu.download(workspace.at(workspace.plan.predictions), host.predictions.values_mut())?;
        // waits for everything before it, too
        let losses = losses.to_vec1::<f64>()?;
        gpu.wait()?;
        let answers = host.predictions.values().iter().zip(&shard.labels);
        let correct = answers.filter(|(answer, label)| answer == label).count() as u32;
        let flat = weights.layout.gather(model, host.gradient.values());
        Ok(Gradient { flat, loss_sum: losses.iter().sum(), correct, count: count as u32 })
    };
    run().map_err(ComputeError::at("on the GPU"))
}

/// Images, and how layers behave.
pub(crate) struct Examples<'a> {
    pub(crate) images: &'a Tensor,
    pub(crate) mode: &'a Mode<'a>,
}

/// The logits of checked images, on the CPU.
pub(crate) fn logits(model: &Model, weights: &Packed, batch: &Examples) -> Result<Tensor, ComputeError> {
    let (behaviour, numbers) = match batch.mode {
        Mode::Evaluate => (Behaviour::Evaluate, &[][..]),
        Mode::EvaluateAsTrained { draws } | Mode::Train { draws, .. } => {
            (Behaviour::Train { turn: draws.turn(), share: None }, draws.examples())
        }
    };
    let run = || {
        let count = batch.images.dims().first().copied().unwrap_or(0);
        let (workspace, images) = prepare(model, weights, batch.images, [numbers, &[]], count, false)?;
        let network = network(weights, &workspace, behaviour);
        let logits = images.apply_op2(&weights.detached(), network)?.to_device(&Device::Cpu);
        weights.gpu.wait()?;
        logits
    };
    run().map_err(ComputeError::at("on the GPU"))
}

fn network(weights: &Packed, workspace: &Arc<Workspace>, behaviour: Behaviour) -> Network {
    let (gpu, layout) = (Arc::clone(&weights.gpu), Arc::clone(&weights.layout));
    Network { gpu, workspace: Arc::clone(workspace), layout, behaviour }
}

/// A workspace, and images on the device; there with them example numbers and labels, as far as there are any.
fn prepare(
    model: &Model,
    weights: &Packed,
    images: &Tensor,
    [numbers, labels]: [&[u32]; 2],
    count: usize,
    training: bool,
) -> candle_core::Result<(Arc<Workspace>, Tensor)> {
    let gpu = &weights.gpu;
    gpu.bind()?;
    let workspace = weights.workspace(model, count, training)?;
    let mut host = workspace.host();
    let plan = &workspace.plan;
    // pinned memory, so that the copies need nobody; whoever used it last has waited for its pass
    let pinned = host.numbers.values_mut();
    for (values, region, start) in [(numbers, plan.numbers, 0), (labels, plan.labels, count)] {
        pinned[start..][..values.len()].copy_from_slice(values);
        gpu.upload(&pinned[start..][..values.len()], workspace.at(region))?;
    }
    drop(host);
    let images = images.to_device(gpu.device())?.contiguous()?;
    Ok((workspace, images))
}
