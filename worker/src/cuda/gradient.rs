//! The gradient of [`crate::node`] and the logits of [`crate::evaluate`], on a GPU.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::asked::Asked;
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
use crate::node::Summing;

/// What a node's shards are computed with.
pub(crate) struct Step<'a> {
    pub(crate) model: &'a Model,
    pub(crate) weights: &'a Packed,
    pub(crate) context: &'a StepContext,
}

/// Asks for the gradients of a node's shards, of `sizes` examples each, added along the tree on the device. Nobody waits: what is asked for
/// afterwards comes after them. `batch` makes a shard's, by its place in the node.
pub(crate) fn ask(
    Step { model, weights, context }: Step,
    summing: &Summing,
    sizes: &[usize],
    mut batch: impl FnMut(usize) -> Result<Batch, ComputeError>,
) -> Result<Asked, ComputeError> {
    let (gpu, layout) = (&weights.gpu, &weights.layout);
    let on_gpu = |error| ComputeError::at("on the GPU")(error);
    let joins = joins(summing.top, summing.leaves);
    let levels = joins.iter().map(|join| (join.depth - join.merges + 1) as usize).max().unwrap_or(0);
    let examples: usize = sizes.iter().sum();

    let prepared = (|| {
        gpu.bind()?;
        let groups = weights.groups(model, sizes, true)?;
        let mut lent = weights.room()?;
        let room = lent.room()?;
        room.reserve_sums(gpu, examples, levels, layout.len())?;
        room.reserve(groups.iter().flat_map(|group| &group.workspaces).map(|one| one.plan.inputs.len).sum())?;
        Ok((groups, lent))
    })();
    let (groups, mut lent) = prepared.map_err(on_gpu)?;
    let room = lent.room().map_err(on_gpu)?;

    let rounded = if summing.rounded { layout.parameters() as u32 } else { 0 };
    let (mut words, mut done, mut numbers) = (0, 0, sizes.iter().zip(&joins).enumerate());
    let mut labels = Vec::with_capacity(examples);
    for group in groups {
        let sums = room.sums().map_err(on_gpu)?;
        let (first, [group_losses, _]) = (sums.first(), sums.results(done));
        let mut images = Vec::with_capacity(group.workspaces.len());
        for (workspace, (number, (&size, &Join { depth, merges }))) in group.workspaces.iter().zip(&mut numbers) {
            let shard = batch(number)?;
            let count = check(model, &shard, context)?;
            if count != size {
                return Err(ComputeError::Batch(format!("a shard of {size} examples came with {count}")));
            }
            let [losses, predictions] = room.sums().map_err(on_gpu)?.results(done);
            let share = count as f32 / context.batch_size as f32;
            let (divisor, loss) = (context.batch_size as f64, context.loss);
            let head = Head { divisor, losses, predictions, sums: first, depth, merges, rounded, loss, share };
            let turn = Draws::training(context.seed, context.epoch, &shard.examples).turn();
            let plan = &workspace.plan;
            let words_of = &mut room.inputs.values_mut()[words..][..plan.inputs.len];
            inputs::write(words_of, plan, Some(&head), Some(turn), [&shard.examples, &shard.labels]);
            gpu.upload(&*words_of, workspace.at(plan.inputs)).map_err(on_gpu)?;
            images.push(on_device(gpu, &shard.images).map_err(on_gpu)?);
            words += plan.inputs.len;
            done += count;
            labels.extend(shard.labels);
        }
        let network = network(weights, &group, images, Behaviour::Train, group_losses);
        weights.var().apply_op1(network).and_then(|losses| losses.backward()).map_err(on_gpu)?;
    }
    Ok(Asked::new(lent, Arc::clone(layout), sizes.to_vec(), labels))
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
        let mut lent = weights.room()?;
        let room = lent.room()?;
        room.reserve(plan.inputs.len)?;
        if let Some(turn) = turn {
            let words = &mut room.inputs.values_mut()[..plan.inputs.len];
            inputs::write(words, plan, None, Some(turn), [numbers, &[]]);
            gpu.upload(&*words, workspace.at(plan.inputs))?;
        }
        let network = network(weights, group, vec![on_device(gpu, batch.images)?], behaviour, 0);
        let logits = weights.detached().apply_op1(network)?.to_device(&Device::Cpu);
        lent.wait()?;
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
    let (gpu, layout, transposed) =
        (Arc::clone(&weights.gpu), Arc::clone(&weights.layout), Arc::clone(&weights.transposed));
    Network { gpu, group: Arc::clone(group), images, layout, transposed, behaviour, losses }
}

fn on_device(gpu: &Gpu, images: &Tensor) -> candle_core::Result<Tensor> {
    images.to_device(gpu.device())?.contiguous()
}
