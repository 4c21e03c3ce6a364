//! A lease of shards: its node's sum is asked for, comes, and is sent. A GPU that makes the steps itself is asked for the next one before anybody
//! waits for this one, so that it computes while a sum goes home, is packed and sent.

use std::time::Instant;

use lockstep_proto::optimizer::whole::Made;
use lockstep_proto::recipe::Wire;
use lockstep_proto::tree::Node;
use lockstep_proto::wire::{self, Failed, GradientSummary, OwnStep, Report, ShardOutcome, ShardsWork, from_worker};

use super::compute::{Computer, check_examples, check_shards};
use crate::dataset::Purpose;
use crate::gradient::StepContext;
use crate::node::{self, Coming, Counts, Home, Summing};

/// The sum of a node's shards, and what each of them counted.
pub(super) struct NodeSum {
    pub(super) values: Vec<f32>,
    pub(super) outcomes: Vec<ShardOutcome>,
    /// On a GPU what was made of them.
    pub(super) made: Made,
}

/// What a GPU was asked for last.
pub(super) enum Underway {
    Node(Box<OfNode>),
    /// A rank's part of a step.
    #[cfg(feature = "nccl")]
    Part(Box<super::rank::OfPart>),
}

/// What a lease is answered with, when it is here.
pub(super) struct OfNode {
    lease: u64,
    version: u64,
    node: Node,
    shards: Vec<u32>,
    coming: Coming,
    answer: Answer,
    begun: Instant,
    wait_us: u64,
}

/// With what.
enum Answer {
    /// The sum.
    Sum,
    /// What was made of it: here, or on a GPU, from where that comes with what the shards counted.
    Made(Option<Made>),
}

impl Computer {
    /// A node's sum, sent when it is here; and the step that follows from it, if that is this worker's to make.
    pub(super) fn shards(
        &mut self,
        lease: u64,
        version: u64,
        mut work: ShardsWork,
        own: Option<OwnStep>,
        wait_us: u64,
    ) -> Result<(), String> {
        let begun = Instant::now();
        check_examples(&work, self.prepared.records.train.len())?;
        let (epoch, next) = (work.epoch, std::mem::take(&mut work.next));
        let shards = work.shards.iter().map(|shard| shard.shard).collect();
        let own = asked(own)?;
        let (node, mut coming) = self.ask_or_make_room(version, work)?;
        if !matches!(own, Some((_, Report::Counts | Report::State))) {
            coming.send_home(Home::Sum)?;
        }
        if let Some((_, report)) = own {
            coming = self.remember(coming, report)?;
        }
        let underway = OfNode { lease, version, node, shards, coming, answer: Answer::Sum, begun, wait_us };
        match own {
            Some((lr, Report::Gradient)) if !underway.coming.is_here() => {
                self.make_step_or_say(version, lr);
                self.bring_home();
                self.underway = Some(Underway::Node(Box::new(underway)));
            }
            None | Some((_, Report::Gradient)) => {
                self.bring_home();
                // first: its way is long, and the step is made meanwhile
                self.deliver(underway);
                if let Some((lr, _)) = own {
                    self.make_step_or_say(version, lr);
                }
            }
            Some((lr, report)) => self.make_and_tell(underway, lr, report)?,
        }
        self.prepare(epoch, &next);
        Ok(())
    }

    /// Makes the step, and sends what was made and not what it was made of.
    fn make_and_tell(&mut self, underway: OfNode, lr: f64, report: Report) -> Result<(), String> {
        let OfNode { lease, version, mut coming, .. } = underway;
        let made = self.make_step(version, lr)?;
        coming.send_home(Home::Made)?;
        self.bring_home();
        let here = coming.is_here();
        let underway = OfNode { coming, answer: Answer::Made(made), ..underway };
        if report == Report::State {
            self.send_state(lease, version + 1)?;
        } else if !here {
            self.underway = Some(Underway::Node(Box::new(underway)));
            return Ok(());
        }
        self.deliver(underway);
        Ok(())
    }

    /// A GPU may have no memory for two at once.
    pub(super) fn ask_or_make_room(&mut self, version: u64, work: ShardsWork) -> Result<(Node, Coming), String> {
        if self.underway.is_none() {
            return self.ask(version, work);
        }
        self.ask(version, work.clone()).or_else(|problem| {
            tracing::debug!("not beside the one before: {problem}");
            self.bring_home();
            self.ask(version, work)
        })
    }

    /// What the step is made of. A sum that is made into one on the host is waited for.
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables, reason = "a CPU knows what it made"))]
    fn remember(&mut self, mut coming: Coming, report: Report) -> Result<Coming, String> {
        if self.steps.on_host() {
            let sum = coming.wait(&self.buffers).map_err(|error| error.to_string())?;
            self.steps.remember(&sum.flat);
            coming = Coming::Here(sum);
        }
        #[cfg(feature = "cuda")]
        if let Coming::OnGpu { asked, broken } = &mut coming {
            let told = report != Report::Gradient;
            // what is sent home is spoiled there
            let spoilt = if *broken && told { asked.spoil() } else { Ok(()) };
            let gradient = spoilt.and_then(|()| asked.gradient(told));
            self.steps.remember_on_device(gradient.map_err(|error| crate::model::plain(error).to_string())?);
        }
        Ok(coming)
    }

    /// Sends what is still on its way, when it is here.
    pub(super) fn bring_home(&mut self) {
        if let Some(underway) = self.underway.take() {
            match underway {
                Underway::Node(node) => self.deliver(*node),
                #[cfg(feature = "nccl")]
                Underway::Part(part) => self.deliver_part(*part),
            }
            self.idle_since = Instant::now();
        }
    }

    fn deliver(&mut self, OfNode { lease, version, node, shards, coming, answer, begun, wait_us }: OfNode) {
        let sum = match summed(coming, &shards, self) {
            Ok(sum) => sum,
            Err(reason) => return self.send(from_worker::Message::Failed(Failed { lease, reason })),
        };
        // what came before is counted there
        let compute_us = begun.max(self.sent_at).elapsed().as_micros() as u64;
        let node = wire::Node { level: node.level, index: node.index };
        let summary = GradientSummary { outcomes: sum.outcomes, compute_us, wait_us, ..GradientSummary::default() };
        match answer {
            Answer::Sum => self.send_gradient(lease, version, Some(node), sum.values, summary),
            Answer::Made(made) => {
                if made.is_some() {
                    // from a GPU there are none
                    self.buffers.give(sum.values);
                }
                let Made { penalty, norm } = made.unwrap_or(sum.made);
                let (node, summary) = (Some(node), Some(summary));
                self.send(from_worker::Message::Made(wire::Made { lease, version, node, summary, penalty, norm }));
            }
        }
        self.sent_at = Instant::now();
    }

    pub(super) fn ask(&mut self, version: u64, work: ShardsWork) -> Result<(Node, Coming), String> {
        if self.die_at_step.is_some_and(|step| work.step >= step) {
            // as a lost machine would: no farewell, no cleaning up
            std::process::abort();
        }
        let ready: Vec<_> = work.shards.iter().map(|shard| self.ahead.take(work.epoch, &shard.examples)).collect();
        let weights = self.weights(version)?;
        let (top, leaves) = check_shards(&work)?;
        let (seed, loss) = (self.prepared.recipe.seed, self.prepared.recipe.loss.name);
        let context = StepContext { seed, epoch: work.epoch, batch_size: work.batch_size as usize, loss };
        let (prepared, batches) = (&self.prepared, &self.batches);
        let gather =
            |examples: &[u32]| batches.batch(&prepared.records.train, examples, Purpose::Train { epoch: work.epoch });
        let summing = Summing {
            top,
            leaves,
            rounded: prepared.recipe.wire == Wire::Bf16,
            broken: self.lie_at_step.is_some_and(|step| work.step >= step),
        };
        let sizes: Vec<usize> = work.shards.iter().map(|shard| shard.examples.len()).collect();
        let batch = |number: usize| match &ready[number] {
            Some(batch) => Ok(batch.clone()),
            None => gather(&work.shards[number].examples),
        };
        let coming = node::sum(&prepared.model, weights, &context, &summing, &sizes, batch);
        Ok((top, coming.map_err(|error| error.to_string())?))
    }
}

/// The rate of an own step, and what is to be sent of it.
pub(super) fn asked(own: Option<OwnStep>) -> Result<Option<(f64, Report)>, String> {
    let Some(OwnStep { lr, report }) = own else { return Ok(None) };
    let report = Report::try_from(report)
        .map_err(|_| format!("an own step asks for report {report}, which this build does not know"))?;
    Ok(Some((lr, report)))
}

/// Waits for a sum.
pub(super) fn summed(coming: Coming, shards: &[u32], computer: &Computer) -> Result<NodeSum, String> {
    let sum = coming.wait(&computer.buffers).map_err(|error| error.to_string())?;
    let outcome = |(&shard, counts): (&u32, &Counts)| ShardOutcome {
        shard,
        loss_sum: counts.loss_sum,
        correct: counts.correct,
        count: counts.count,
        digest: counts.digest,
    };
    let outcomes = shards.iter().zip(&sum.shards).map(outcome).collect();
    Ok(NodeSum { values: sum.flat, outcomes, made: sum.made })
}
