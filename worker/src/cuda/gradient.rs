//! The gradient of [`crate::node`] and the logits of [`crate::evaluate`], on a GPU.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use lockstep_proto::buffers::Buffers;

use super::gpu::Gpu;
use super::group::Group;
use super::inputs::{self, Head};
use super::memory::Address;
use super::network::Network;
use super::pass::Behaviour;
use super::sums::{Join, joins};
use super::weights::Packed;
use crate::dataset::Batch;
use crate::gradient::{StepContext, check};
use crate::model::{ComputeError, Draws, Mode, Model};
use crate::node::{Counts, Sum, Summing};

/// What a node's shards are computed with.
pub(crate) struct Step<'a> {
    pub(crate) model: &'a Model,
    pub(crate) weights: &'a Packed,
    pub(crate) context: &'a StepContext,
    /// Where the sum's vector comes from.
    pub(crate) buffers: &'a Buffers,
}

/// The gradients of a node's shards, of `sizes` examples each, added along the tree on the device. All shards are asked for, then
/// somebody waits, once. `batch` makes a shard's, by its place in the node.
pub(crate) fn sum(
    Step { model, weights, context, buffers }: Step,
    summing: &Summing,
    sizes: &[usize],
    mut batch: impl FnMut(usize) -> Result<Batch, ComputeError>,
) -> Result<Sum, ComputeError> {
    let (gpu, layout) = (&weights.gpu, &weights.layout);
    let on_gpu = |error| ComputeError::at("on the GPU")(error);
    let joins = joins(summing.top, summing.leaves);
    let levels = joins.iter().map(|join| (join.depth - join.merges + 1) as usize).max().unwrap_or(0);
    let examples: usize = sizes.iter().sum();

    let mut staging = weights.staging();
    let prepared = (|| {
        gpu.bind()?;
        let groups = weights.groups(model, sizes, true)?;
        staging.before_passes(gpu)?;
        let sums = staging.reserve_sums(gpu, examples, levels, layout.len())?;
        let inputs = groups.iter().flat_map(|group| &group.workspaces).map(|one| one.plan.inputs.len).sum();
        staging.reserve(inputs, sums.home().len)?;
        Ok((groups, sums))
    })();
    let (groups, sums) = prepared.map_err(on_gpu)?;

    let rounded = if summing.rounded { layout.parameters() as u32 } else { 0 };
    let (mut words, mut done, mut numbers) = (0, 0, sizes.iter().zip(&joins).enumerate());
    let mut labels = Vec::with_capacity(examples);
    for group in groups {
        let (mut images, [losses, _]) = (Vec::with_capacity(group.workspaces.len()), sums.results(done));
        for (workspace, (number, (&size, &Join { depth, merges }))) in group.workspaces.iter().zip(&mut numbers) {
            let shard = batch(number)?;
            let count = check(model, &shard, context)?;
            if count != size {
                return Err(ComputeError::Batch(format!("a shard of {size} examples came with {count}")));
            }
            let [losses, predictions] = sums.results(done);
            let share = count as f32 / context.batch_size as f32;
            let (divisor, loss) = (context.batch_size as f64, context.loss);
            let head = Head { divisor, losses, predictions, sums: sums.first(), depth, merges, rounded, loss, share };
            let turn = Draws::training(context.seed, context.epoch, &shard.examples).turn();
            let plan = &workspace.plan;
            let room = &mut staging.inputs.values_mut()[words..][..plan.inputs.len];
            inputs::write(room, plan, Some(&head), Some(turn), [&shard.examples, &shard.labels]);
            gpu.upload(&*room, workspace.at(plan.inputs)).map_err(on_gpu)?;
            images.push(on_device(gpu, &shard.images).map_err(on_gpu)?);
            words += plan.inputs.len;
            done += count;
            labels.extend(shard.labels);
        }
        let network = network(weights, &group, images, Behaviour::Train, losses);
        weights.var().apply_op1(network).and_then(|losses| losses.backward()).map_err(on_gpu)?;
    }

    let home = sums.home();
    let come = (|| {
        gpu.download(sums.at(home), &mut staging.home.values_mut()[..home.len])?;
        staging.wait(gpu)
    })();
    come.map_err(on_gpu)?;
    let (results, packed) = sums.read(&staging.home.values()[..home.len]);
    let sum = Sum { shards: counts(sizes, results.zip(labels)), flat: layout.gather(packed, buffers.take()) };
    staging.keep(sums);
    Ok(sum)
}

/// Each shard's, from every example's (loss, answer) and label.
fn counts(sizes: &[usize], mut examples: impl Iterator<Item = ((f64, u32), u32)>) -> Vec<Counts> {
    let of = |&size: &usize| {
        let mut counts = Counts { loss_sum: 0.0, correct: 0, count: size as u32, digest: 0 };
        for ((loss, answer), label) in examples.by_ref().take(size) {
            counts.loss_sum += loss;
            counts.correct += u32::from(answer == label);
        }
        counts
    };
    sizes.iter().map(of).collect()
}

/// Images, and how layers behave.
pub(crate) struct Examples<'a> {
    pub(crate) images: &'a Tensor,
    pub(crate) mode: &'a Mode<'a>,
}

/// The logits of checked images, on the CPU.
pub(crate) fn logits(model: &Model, weights: &Packed, batch: &Examples) -> Result<Tensor, ComputeError> {
    let gpu = &weights.gpu;
    let (behaviour, turn, numbers) = match batch.mode {
        Mode::Evaluate => (Behaviour::Evaluate, None, &[][..]),
        Mode::EvaluateAsTrained { draws } | Mode::Train { draws, .. } => {
            (Behaviour::Train, Some(draws.turn()), draws.examples())
        }
    };
    let run = || {
        gpu.bind()?;
        let count = batch.images.dims().first().copied().unwrap_or(0);
        let groups = weights.groups(model, &[count], false)?;
        let [group] = &groups[..] else { candle_core::bail!("{} groups for one batch", groups.len()) };
        let (workspace, plan) = (&group.workspaces[0], &group.workspaces[0].plan);
        let mut staging = weights.staging();
        staging.before_passes(gpu)?;
        staging.reserve(plan.inputs.len, 0)?;
        if let Some(turn) = turn {
            let room = &mut staging.inputs.values_mut()[..plan.inputs.len];
            inputs::write(room, plan, None, Some(turn), [numbers, &[]]);
            gpu.upload(&*room, workspace.at(plan.inputs))?;
        }
        let network = network(weights, group, vec![on_device(gpu, batch.images)?], behaviour, 0);
        let logits = weights.detached().apply_op1(network)?.to_device(&Device::Cpu);
        staging.wait(gpu)?;
        logits
    };
    run().map_err(ComputeError::at("on the GPU"))
}

fn network(
    weights: &Packed,
    group: &Arc<Group>,
    images: Vec<Tensor>,
    behaviour: Behaviour,
    losses: Address,
) -> Network {
    let (gpu, layout, group) = (Arc::clone(&weights.gpu), Arc::clone(&weights.layout), Arc::clone(group));
    Network { gpu, group, images, layout, behaviour, losses }
}

fn on_device(gpu: &Gpu, images: &Tensor) -> candle_core::Result<Tensor> {
    images.to_device(gpu.device())?.contiguous()
}
