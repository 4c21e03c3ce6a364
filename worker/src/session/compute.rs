//! The computing thread: outside tokio's, so that a long product never holds up a message.

use std::time::{Duration, Instant};

use lockstep_proto::buffers::Buffers;
use lockstep_proto::recipe::Wire;
use lockstep_proto::tree::Node;
use lockstep_proto::wire::{
    self, Evaluation, Failed, FormRing, FromWorker, Gradient, GradientSummary, Lease, OptimizerState, ShardOutcome,
    ShardsWork, SliceWork, from_worker, lease,
};
use lockstep_proto::{codec, tensors};
use tokio::sync::mpsc::WeakUnboundedSender;

use super::Settings;
use super::ahead::Ahead;
use super::join::Prepared;
use super::node::Underway;
use super::plane::Plane;
use super::ring::{Dissolved, Seat};
use super::steps::OwnSteps;
use super::thread::{Inbox, Thread};
use crate::dataset::{Batches, Purpose};
use crate::device::Processor;
use crate::evaluate::{AsTrained, EvaluationContext, evaluate};
use crate::model::Weights;

/// How long a GPU's thread may take to end after its session. What it is at takes seconds at most: the shards of a node, or a model's first
/// pass, whose algorithms `--fast` has cuDNN try; and to leave a ring has a shorter deadline of its own. A GPU that has not answered by then
/// has failed.
pub(super) const LAST_JOB: Duration = Duration::from_secs(60);

/// Something for the thread to do, in the order in which it came.
#[derive(Debug)]
pub(super) enum Job {
    Parameters {
        version: u64,
        values: Vec<f32>,
    },
    /// Parameters that lie in shared memory.
    Shared {
        version: u64,
        slot: usize,
        digest: u64,
    },
    Lease(Box<Lease>),
    /// A part of the optimizer's state, for a worker that makes steps itself.
    State(OptimizerState),
    /// A place in a ring, and the end of one.
    Form(FormRing),
    Dissolve {
        generation: u64,
    },
}

/// The thread's own.
pub(super) struct Computer {
    pub(super) prepared: Prepared,
    pub(super) plane: Option<Plane>,
    pub(super) batches: Batches,
    pub(super) ahead: Ahead,
    pub(super) weights: Option<(u64, Weights)>,
    /// The values of the version that is held; kept, because fresh pages cost more than the copy.
    pub(super) flat: Vec<f32>,
    pub(super) steps: OwnSteps,
    pub(super) processor: Processor,
    pub(super) seat: Seat,
    /// Without computing: see [`Settings::wire_values`].
    wire_only: bool,
    pub(super) die_at_step: Option<u64>,
    pub(super) lie_at_step: Option<u64>,
    /// What a GPU was asked for last, until it is here; and when the last sum was sent.
    pub(super) underway: Option<Underway>,
    pub(super) sent_at: Instant,
    /// Weak: the session owns the way out.
    pub(super) outbound: WeakUnboundedSender<FromWorker>,
    /// Vectors that came and went: parameters over gRPC, gradients.
    pub(super) buffers: Buffers,
    pub(super) idle_since: Instant,
}

/// Starts the thread.
pub(super) fn start(
    prepared: Prepared,
    plane: Option<Plane>,
    outbound: WeakUnboundedSender<FromWorker>,
    buffers: Buffers,
    dissolved: Dissolved,
    settings: &Settings,
) -> std::io::Result<Thread<Job>> {
    let (die_at_step, lie_at_step) = (settings.die_at_step, settings.lie_at_step);
    let (wire_only, processor) = (settings.wire_values.is_some(), settings.processor.clone());
    Thread::start("compute", move |mut inbox| {
        let batches = Batches::new(&prepared.recipe.data, prepared.recipe.seed);
        #[cfg(feature = "cuda")]
        let batches = on(&processor, batches, &prepared);
        let idle_since = Instant::now();
        let (ahead, weights, flat, steps) = (Ahead::default(), None, Vec::new(), OwnSteps::default());
        let mut computer = Computer {
            prepared,
            plane,
            batches,
            ahead,
            weights,
            flat,
            steps,
            processor,
            seat: Seat::new(dissolved),
            wire_only,
            die_at_step,
            lie_at_step,
            underway: None,
            sent_at: idle_since,
            outbound,
            buffers,
            idle_since,
        };
        while let Some(job) = computer.next(&mut inbox) {
            computer.work(job);
        }
    })
}

/// The batches of a worker with a GPU are made there. Where its memory does not hold all images they are made here, and travel.
#[cfg(feature = "cuda")]
fn on(processor: &Processor, batches: Batches, prepared: &Prepared) -> Batches {
    let Processor::Gpu(gpu) = processor else { return batches };
    match crate::cuda::Resident::new(std::sync::Arc::clone(gpu), std::sync::Arc::clone(&prepared.records)) {
        Ok(resident) => batches.on(std::sync::Arc::new(resident)),
        Err(error) => {
            tracing::warn!("the images stay on the host: {}", crate::model::plain(error));
            batches
        }
    }
}

/// The node that `work` is for, if its shards are those below it, in order; and how many shards that takes a step to have. The sum
/// climbs from each shard to the node: it would never arrive at one that is not above.
pub(super) fn check_shards(work: &ShardsWork) -> Result<(Node, u32), String> {
    /// A step has at most 4096 shards (a rule of the recipe), which are 12 levels.
    const MOST_LEVELS: u32 = 12;
    let node = work.node.ok_or("a lease without a node")?;
    let top = Node { level: node.level, index: node.index };
    // the node's shards end where the step's do, so this is what `covers` needs to know of the rest
    let leaves = work.shards.last().map_or(0, |shard| shard.shard.saturating_add(1));
    let found = || work.shards.iter().map(|shard| shard.shard);
    if top.level > MOST_LEVELS || leaves == 0 || !found().eq(top.covers(leaves)) {
        let some: Vec<u32> = found().take(8).collect();
        return Err(format!(
            "a lease of node {top:?} has {} shards, beginning with {some:?}: not those below it",
            work.shards.len()
        ));
    }
    Ok((top, leaves))
}

/// An epoch has each of its `total` examples once: a lease that lists more would fill the memory with their tensors, 12 KB for a byte
/// of the lease.
pub(super) fn check_examples(work: &ShardsWork, total: usize) -> Result<(), String> {
    for (what, shards) in [("shards", &work.shards), ("shards to come", &work.next)] {
        let asked: usize = shards.iter().map(|shard| shard.examples.len()).sum();
        if asked > total {
            return Err(format!("a lease lists {asked} examples in its {what}, and there are {total}"));
        }
    }
    Ok(())
}

impl Computer {
    /// The next job; what is on its way is brought home rather than waiting for one.
    fn next(&mut self, inbox: &mut Inbox<Job>) -> Option<Job> {
        if self.underway.is_some() {
            if let Some(job) = inbox.waiting() {
                return Some(job);
            }
            self.bring_home();
        }
        inbox.next()
    }

    fn work(&mut self, job: Job) {
        if !matches!(job, Job::Lease(_)) {
            // a lease is asked for first, and says itself when
            self.bring_home();
        }
        match job {
            Job::Parameters { version, values } => {
                self.take(version, &values);
                let before = std::mem::replace(&mut self.flat, values);
                self.buffers.give(before);
            }
            Job::State(part) => self.begin_steps(part),
            Job::Shared { version, slot, digest } => self.pick_up(version, slot, digest),
            Job::Lease(lease) => self.answer(*lease),
            Job::Form(form) => self.form(&form),
            Job::Dissolve { generation } => self.seat.leave(generation),
        }
    }

    /// Copies parameters out of shared memory.
    fn pick_up(&mut self, version: u64, slot: usize, digest: u64) {
        let mut flat = std::mem::take(&mut self.flat);
        flat.resize(self.prepared.schema.len(), 0.0);
        let found = self.plane.as_ref().and_then(|plane| plane.parameters.read(slot, &mut flat));
        if found.is_some_and(|found| found.digest == digest) {
            self.take(version, &flat);
        } else {
            // overwritten already: this worker is late, and the leases that follow say so
            tracing::debug!("parameters of version {version} are no longer in shared memory");
            self.weights = None;
        }
        self.flat = flat;
    }

    pub(super) fn take(&mut self, version: u64, values: &[f32]) {
        if self.wire_only {
            return;
        }
        let result = match &mut self.weights {
            Some((held, weights)) => weights.set(&self.prepared.model, values).map(|()| *held = version),
            None => Weights::with(&self.processor, &self.prepared.model, values, self.prepared.recipe.deterministic)
                .map(|weights| self.weights = Some((version, weights))),
        };
        if let Err(error) = result {
            // the leases that follow find no such version, and say so
            tracing::error!("parameters of version {version}: {error}");
            self.weights = None;
        }
    }

    fn answer(&mut self, lease: Lease) {
        let number = lease.lease;
        let wait_us = self.idle_since.elapsed().as_micros() as u64;
        let result = match lease.work {
            Some(lease::Work::Shards(work)) if self.wire_only => self.echo(number, lease.version, work),
            Some(lease::Work::Shards(work)) if work.ring == 0 => {
                self.shards(number, lease.version, work, lease.own, wait_us)
            }
            #[cfg(feature = "nccl")]
            Some(lease::Work::Shards(work)) => self.part(number, lease.version, work, lease.own, wait_us),
            #[cfg(not(feature = "nccl"))]
            Some(lease::Work::Shards(_)) => Err("it is for a ring, and this build has no NCCL".to_owned()),
            Some(lease::Work::Slice(work)) => {
                self.bring_home();
                self.slice(number, lease.version, work)
            }
            None => Err("a lease without work".to_owned()),
        };
        if let Err(reason) = result {
            self.bring_home();
            self.send(from_worker::Message::Failed(Failed { lease: number, reason }));
        }
        self.idle_since = Instant::now();
    }

    pub(super) fn weights(&self, version: u64) -> Result<&Weights, String> {
        match &self.weights {
            Some((held, weights)) if *held == version => Ok(weights),
            Some((held, _)) => Err(format!("version {version} of the parameters is asked for, and {held} is here")),
            None => Err(format!("version {version} of the parameters never came")),
        }
    }

    /// Makes the batches that will probably be asked for next.
    pub(super) fn prepare(&mut self, epoch: u32, next: &[wire::Shard]) {
        let next: Vec<&[u32]> = next.iter().map(|shard| &shard.examples[..]).collect();
        let made = self.batches.all(&self.prepared.records.train, &next, Purpose::Train { epoch });
        self.ahead = Ahead::new(epoch, made);
    }

    /// The wire alone: as many values as a gradient would have.
    fn echo(&mut self, lease: u64, version: u64, work: ShardsWork) -> Result<(), String> {
        let node = work.node.ok_or("a lease without a node")?;
        let outcome = |shard: &wire::Shard| ShardOutcome {
            shard: shard.shard,
            count: shard.examples.len() as u32,
            ..ShardOutcome::default()
        };
        let summary =
            GradientSummary { outcomes: work.shards.iter().map(outcome).collect(), ..GradientSummary::default() };
        let mut values = self.buffers.take();
        values.resize(self.prepared.schema.len(), 1e-3);
        self.send_gradient(lease, version, Some(node), values, summary);
        Ok(())
    }

    /// Sends a node's values, or a ring's, and what goes with them, through shared memory if there is room.
    pub(super) fn send_gradient(
        &self,
        lease: u64,
        version: u64,
        node: Option<wire::Node>,
        values: Vec<f32>,
        mut summary: GradientSummary,
    ) {
        if let Some((plane, slot)) = self.plane.as_ref().and_then(|plane| Some((plane, plane.gradients.claim()?))) {
            let start = Instant::now();
            summary.digest = plane.gradients.write(slot, &values);
            summary.encode_us = start.elapsed().as_micros() as u64;
            let (summary, slot) = (Some(summary), Some(slot as u32));
            let gradient = Gradient { lease, version, node, summary, slot, ..Gradient::default() };
            self.send(from_worker::Message::Gradient(gradient));
            return self.buffers.give(values);
        }
        let start = Instant::now();
        // a lone shard's values are bf16 already; a sum of several is not
        let bf16 = self.prepared.recipe.wire == Wire::Bf16 && summary.outcomes.len() == 1 && node.is_some();
        let values = if bf16 { codec::pack(&values, self.prepared.schema.parameters()) } else { values };
        summary.digest = tensors::digest_values(&values);
        summary.encode_us = start.elapsed().as_micros() as u64;
        let bytes = self.buffers.lend(values);
        let mut summary = Some(summary);
        for part in tensors::parts(bytes.len()) {
            let last = part.end == bytes.len();
            self.send(from_worker::Message::Gradient(Gradient {
                lease,
                version,
                node,
                offset: (part.start / 4) as u64,
                data: bytes.slice(part),
                summary: if last { summary.take() } else { None },
                slot: None,
                bf16,
            }));
        }
    }

    fn slice(&self, lease: u64, version: u64, work: SliceWork) -> Result<(), String> {
        let weights = self.weights(version)?;
        let records = if work.test { &self.prepared.records.test } else { &self.prepared.records.train };
        let batch =
            self.batches.batch(records, &work.examples, Purpose::Evaluate).map_err(|error| error.to_string())?;
        let recipe = &self.prepared.recipe;
        let draws = AsTrained { seed: recipe.seed, test: work.test, steps: work.evaluation };
        let context = EvaluationContext { loss: recipe.loss.name, as_trained: work.as_trained.then_some(draws) };
        let found = evaluate(&self.prepared.model, weights, &batch, &context).map_err(|error| error.to_string())?;
        self.send(from_worker::Message::Evaluation(Evaluation {
            lease,
            version,
            loss_sum: found.loss_sum,
            correct: found.correct,
            count: work.examples.len() as u32,
            confusion: found.confusion,
            alive: if recipe.model.ends_in_relu() { found.alive } else { Vec::new() },
        }));
        Ok(())
    }

    pub(super) fn send(&self, message: from_worker::Message) {
        say(&self.outbound, message);
    }
}

/// Fails only when the session is over, and then nobody waits for the answer.
pub(super) fn say(outbound: &WeakUnboundedSender<FromWorker>, message: from_worker::Message) {
    if let Some(outbound) = outbound.upgrade() {
        let _ = outbound.send(FromWorker { message: Some(message) });
    }
}
