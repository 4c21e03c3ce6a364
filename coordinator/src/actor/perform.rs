//! Doing what the engine says.

use std::ops::Range;
use std::time::Instant;

use lockstep_proto::optimizer::whole::{Diverged, Made};
use lockstep_proto::recipe::Wire;
use lockstep_proto::tree::Node;
use lockstep_proto::wire::{self, FormRing, Lease, OwnStep, ShardOutcome, ShardsWork, SliceWork, lease, to_worker};

use super::sessions::{Farewell, Stats};
use super::{Actor, Answer};
use crate::average::{Average, StepSum};
use crate::engine::{Command, LeaseId, Outcome, Position, Purpose, Report, Work, WorkerId};
use crate::replica;
use crate::run::RingSum;
use crate::telemetry::{self, Split};

/// Between two classes that took part in one run.
const CLASSES: &str = " + ";

impl Actor {
    /// Does the commands in order. `answer` is what they follow from, if it is an answer.
    pub(super) fn perform(&mut self, commands: Vec<Command>, mut answer: Option<(LeaseId, Answer)>) {
        for command in commands {
            match command {
                Command::Lease { worker, lease, work, purpose, own } => {
                    tracing::trace!(worker, lease, %work, %purpose, ?own, "lease");
                    self.lease(worker, lease, work, purpose, own);
                }
                Command::CallBack { worker, lease } => {
                    tracing::debug!(worker, lease, "called back");
                    self.sessions.doubt(worker);
                }
                Command::Doubt { worker } => self.sessions.doubt(worker),
                Command::RollBack { version, shards, reason } => self.roll_back(version, shards, &reason),
                Command::Hold { worker, lease, reason } => self.hold(worker, lease, &reason, &mut answer),
                Command::Sum { worker, lease, node } => {
                    let answer = self.find(lease, &mut answer);
                    self.sum(worker, node, answer);
                }
                Command::Count { lease, slice, .. } => {
                    let answer = self.find(lease, &mut answer);
                    self.count(slice, answer);
                }
                Command::Part { worker, lease, made } => {
                    let Some(answer) = self.find(lease, &mut answer) else { continue };
                    if made { self.note_part_made(worker, answer) } else { self.add_part(worker, answer) }
                }
                Command::Form { worker, generation, rank, size, id } => {
                    self.form(worker, FormRing { generation, rank, size, id: id.unwrap_or_default() });
                }
                Command::Dissolve { generation, members, reissued, reason } => {
                    self.dissolve(generation, &members, reissued, &reason);
                }
                Command::Drop { worker, lease, reason } => {
                    tracing::debug!(worker, lease, %reason, "answer dropped");
                    let (values, outcomes) = match self.find(lease, &mut answer) {
                        Some(Answer::Gradient { outcomes, values, .. }) => (Some(values), outcomes),
                        Some(Answer::Part { outcomes, values, .. }) => (values, outcomes),
                        Some(Answer::Made { outcomes, .. }) => (None, outcomes),
                        _ => continue,
                    };
                    values.into_iter().for_each(|values| self.buffers.give(values));
                    self.ledger.recompute(outcomes.iter().map(|outcome| outcome.count).sum());
                }
                Command::Dispute { work, first, second } => {
                    self.ledger.dispute();
                    let (first, second) = (self.sessions.name(first), self.sessions.name(second));
                    self.warn(format!("{first} and {second} differ in {work}; a third computation decides"));
                }
                Command::Reopen { step } => self.reopen(step),
                Command::Keep { .. } => self.parameters.keep(),
                Command::Forget { version } => self.parameters.forget(version),
                Command::Taint { version, workers } => self.taint(version, &workers),
                Command::Step { step } => self.step(step),
                Command::EndEpoch { epoch } => self.end_epoch(epoch),
                Command::Evaluate { version } => self.begin_evaluation(version),
                Command::Evaluated { version } => self.end_evaluation(version),
                Command::Checkpoint { position, reason } => self.checkpoint(position, &reason),
                Command::Lost { worker, reissued, reason } => self.lost(worker, reissued, &reason),
                Command::Reissue { worker, shards, reason } => {
                    self.sessions.doubt(worker);
                    self.ledger.refuse();
                    self.ledger.reissue(shards);
                    self.warn(format!("refused an answer of {}: {reason}", self.sessions.name(worker)));
                }
                Command::Dismiss { worker, reason, may_return } => {
                    let farewell = if may_return { Farewell::MayReturn } else { Farewell::StayAway };
                    self.sessions.close(worker, &reason, farewell);
                }
                Command::Finish { outcome, .. } => self.outcome = Some(outcome),
            }
        }
    }

    /// The answer to `lease`: the one that came now, or one that was put aside.
    fn find(&mut self, lease: LeaseId, now: &mut Option<(LeaseId, Answer)>) -> Option<Answer> {
        match now.take_if(|(this, _)| *this == lease) {
            Some((_, answer)) => Some(answer),
            None => self.held.remove(&lease),
        }
    }

    fn hold(&mut self, worker: WorkerId, lease: LeaseId, reason: &str, now: &mut Option<(LeaseId, Answer)>) {
        let Some((lease, answer)) = now.take_if(|(this, _)| *this == lease) else { return };
        // a part of a ring waits for the others, and nothing is wrong with it
        if !matches!(answer, Answer::Part { .. } | Answer::Made { node: None, .. }) {
            self.sessions.doubt(worker);
        }
        if matches!(answer, Answer::NotFinite { .. }) {
            self.ledger.refuse();
            self.warn(format!("{}, {reason}; it is computed again", self.sessions.name(worker)));
        } else {
            tracing::debug!(worker, lease, %reason, "answer put aside");
        }
        self.held.insert(lease, answer);
    }

    /// Begins the sums of the open step again.
    fn reopen(&mut self, step: u64) {
        self.warn(format!("step {} is computed again: one of its answers can't be trusted", step + 1));
        self.average = Average::new(self.run.reducer, self.plan.leaves(step), self.buffers.clone());
        self.accepted.clear();
        self.held.clear();
    }

    fn taint(&mut self, version: u64, workers: &[WorkerId]) {
        let names = workers.iter().map(|worker| self.sessions.name(*worker)).collect::<Vec<_>>().join(" and ");
        self.warn(format!("{names} computed wrong in step {}; checkpoints after it are set aside", version + 1));
        self.tainted = Some(version);
    }

    fn lease(&mut self, worker: WorkerId, lease: LeaseId, work: Work, purpose: Purpose, own: Option<Report>) {
        let version = match work {
            Work::Shards { step, .. } | Work::Part { step, .. } => step,
            Work::Slice { version, .. } => version,
        };
        // evaluation is of the master copy; training is on what the recipe lets travel
        let wire = if matches!(work, Work::Slice { .. }) { Wire::F32 } else { self.run.recipe.wire };
        // all ranks come to the same, and the first one sends it; the others its digest, where that is compared
        let others = matches!(work, Work::Part { rank: 1.., .. }) && !self.run.compares_ranks();
        let work = match work {
            Work::Shards { step, node } => {
                self.ledger.second(purpose, node.covers(self.plan.leaves(step)).len() as u32);
                let node_of = Some(wire::Node { level: node.level, index: node.index });
                let shards = |leaves| node.covers(leaves);
                lease::Work::Shards(ShardsWork { node: node_of, ..self.shards_work(step, shards) })
            }
            Work::Part { step, generation, first, end, .. } => {
                let shards = |leaves| first.min(leaves)..end.min(leaves);
                let ordered = self.run.limits.nccl == Some(RingSum::Ordered);
                let leaves = if ordered { self.plan.leaves(step) } else { 0 };
                lease::Work::Shards(ShardsWork { ring: generation, leaves, ..self.shards_work(step, shards) })
            }
            Work::Slice { version, slice } => {
                let (split, examples) = self.run.slices().examples(slice);
                let (test, as_trained) = (split == Split::Test, self.run.evaluates_as_trained(split));
                lease::Work::Slice(SliceWork { evaluation: version, slice, test, examples, as_trained })
            }
        };
        let own = own.map(|report| OwnStep {
            lr: self.schedule.lr(version, u64::from(self.plan.epoch(version))),
            report: match report {
                Report::Gradient => wire::Report::Gradient,
                Report::Counts => wire::Report::Counts,
                Report::State if others => wire::Report::Counts,
                Report::State => wire::Report::State,
            }
            .into(),
        });
        let Some(session) = self.sessions.get_mut(worker) else { return };
        // to what is not here yet the worker comes by itself
        let in_advance = version > self.parameters.version();
        if session.holds != Some((version, wire)) && !in_advance {
            session.holds = Some((version, wire));
            let start = Instant::now();
            // what is not current is not in shared memory either
            let shared = session.shared && version == self.parameters.version();
            match shared.then(|| self.parameters.shared_message(&mut self.plane, wire)).flatten() {
                Some(message) => {
                    self.traffic.share(self.run.schema.len());
                    session.send_all(vec![message]);
                }
                None => session.send_all(self.parameters.messages(version, wire)),
            }
            self.meter.published(start.elapsed());
        }
        if own.is_some() {
            if session.replica != Some(version) && !in_advance {
                // one copy for all ranks of a ring
                let kept = self.replica.take_if(|(of, _)| *of == version);
                let (_, messages) =
                    self.replica.insert(kept.unwrap_or_else(|| (version, replica::messages(&self.optimizer, version))));
                session.send_all(messages.clone());
            }
            (session.holds, session.replica) = (Some((version + 1, wire)), Some(version + 1));
        }
        session.send(to_worker::Message::Lease(Lease { lease, version, work: Some(work), own }));
    }

    /// The shards of `step` that `shards` picks out of so many, and those of the next step.
    fn shards_work(&mut self, step: u64, shards: impl Fn(u32) -> Range<u32>) -> ShardsWork {
        let mut shards_of = |step| -> Vec<_> {
            shards(self.plan.leaves(step))
                .map(|shard| wire::Shard { shard, examples: self.partition.shard(&self.plan, step, shard).to_vec() })
                .collect()
        };
        let shards = shards_of(step);
        // most workers get the same node again; of another epoch it would need another epoch's augmentation, too
        let soon = step + 1 < self.plan.total_steps() && self.plan.epoch(step + 1) == self.plan.epoch(step);
        let next = if soon { shards_of(step + 1) } else { Vec::new() };
        ShardsWork {
            step,
            epoch: self.plan.epoch(step),
            batch_size: self.plan.batch_len(step),
            shards,
            next,
            ..ShardsWork::default()
        }
    }

    fn sum(&mut self, worker: WorkerId, node: Node, answer: Option<Answer>) {
        let Some(Answer::Gradient { values, outcomes, compute_us, encode_us, wait_us, .. }) = answer else {
            return answer.into_iter().for_each(|answer| self.note_made(worker, answer));
        };
        self.credit(worker, &outcomes, compute_us, wait_us);
        self.meter.answered(worker, compute_us, encode_us);
        let start = Instant::now();
        self.average.add(node, values, outcomes);
        self.meter.summed(start.elapsed());
    }

    /// Notes what an accepted answer used, and whose it is.
    pub(super) fn credit(&mut self, worker: WorkerId, outcomes: &[ShardOutcome], compute_us: u64, wait_us: u64) {
        let images = outcomes.iter().map(|outcome| u64::from(outcome.count)).sum();
        let step = self.version();
        for outcome in outcomes {
            self.accepted.extend_from_slice(self.partition.shard(&self.plan, step, outcome.shard));
        }
        self.pin(worker);
        self.sessions.credit(worker, &Stats { shards: outcomes.len() as u32, images, compute_us, wait_us });
    }

    /// The first accepted shard pins the run to its worker's class. Without the promise there may be several, in the order in which
    /// they gave something.
    fn pin(&mut self, worker: WorkerId) {
        let Some(class) = self.sessions.get(worker).filter(|s| !s.foreign).map(|s| s.device_class.as_str()) else {
            return;
        };
        match &mut self.device_class {
            None => self.device_class = Some(class.to_owned()),
            Some(known) if self.run.recipe.deterministic || known.split(CLASSES).any(|one| one == class) => {}
            Some(known) => *known += &format!("{CLASSES}{class}"),
        }
    }

    fn step(&mut self, step: u64) {
        let version = step + 1;
        self.replica = None;
        let next = Average::new(
            self.run.reducer,
            if version < self.plan.total_steps() { self.plan.leaves(version) } else { 0 },
            self.buffers.clone(),
        );
        let average = std::mem::replace(&mut self.average, next);
        let (epoch, start) = (self.plan.epoch(step), Instant::now());
        let lr = self.schedule.lr(step, u64::from(epoch));
        let made = match self.elsewhere.take() {
            Some(elsewhere) => Ok(self.close_elsewhere(elsewhere, average)),
            None => self.make(version, lr, average),
        };
        let (sum, Made { penalty, norm }) = match made {
            Ok(made) => made,
            Err(reason) => {
                self.outcome = Some(Outcome::Failed { reason });
                return;
            }
        };
        let took = start.elapsed();
        self.epoch.add(&sum, penalty);
        self.ledger.commit(&std::mem::take(&mut self.accepted));
        if self.run.trace {
            // nobody here has seen the parameters of a step that only a worker made
            self.trace.push(if self.mark.is_none() { self.parameters.digests() } else { Vec::new() });
        }
        let images = u64::from(sum.count);
        let images_per_s = self.meter.step(images, took);
        let n = f64::from(sum.count.max(1));
        let (loss, accuracy) = (sum.loss_sum / n + penalty, f64::from(sum.correct) / n);
        self.buffers.give(sum.values);
        if self.is_told(version, loss, accuracy) {
            return;
        }
        self.telemetry.emit(telemetry::Event::Step {
            step: version,
            epoch: epoch + 1,
            lr,
            loss,
            accuracy,
            images,
            images_per_s,
            gradient_norm: norm,
        });
        self.report_workers(version);
    }

    /// Makes the step of the gradient that was summed here.
    fn make(&mut self, version: u64, lr: f64, average: Average) -> Result<(StepSum, Made), String> {
        if self.parameters.version() + 1 != version {
            let here = self.parameters.version();
            return Err(format!("step {version} with the parameters of step {here}; this is a fault of the program"));
        }
        // the engine counts shards, so a step is complete when it says so
        let mut sum = average.finish().ok_or_else(|| {
            format!("step {version} was declared complete without all its shards; this is a fault of the program")
        })?;
        let made = self.parameters.step(&mut self.optimizer, &self.run.recipe, lr, &mut sum.values);
        match made {
            Ok(made) => Ok((sum, made)),
            // every shard was finite, their sum is not: nothing is wrong with a worker
            Err(Diverged(norm)) => Err(format!(
                "the gradient of step {version} has the norm {norm}: the training diverged at learning rate {lr}; lower \
                 optimizer.lr or set optimizer.clip_grad_norm"
            )),
        }
    }

    fn end_epoch(&mut self, epoch: u32) {
        let version = self.version();
        if let Some((loss, accuracy)) = self.epoch.means() {
            self.summary.train_loss = Some(loss);
            self.summary.train_accuracy = Some(accuracy);
            self.summary.train_penalty = self.epoch.penalty();
            let images_per_s = self.meter.end_epoch();
            // one that ends again, since its last steps were lost, comes to the same; where it does not, `is_told` noticed
            if self.epochs_told <= epoch {
                self.epochs_told = epoch + 1;
                self.telemetry.emit(telemetry::Event::EpochEnded {
                    epoch: epoch + 1,
                    step: version,
                    train_loss: loss,
                    train_accuracy: accuracy,
                    images_per_s,
                    lr: self.schedule.lr(version - 1, u64::from(epoch)),
                });
            }
        }
        if version.is_multiple_of(self.plan.steps_per_epoch()) {
            self.ledger.end_epoch(&self.run.selection.train);
            self.epoch = crate::checkpoint::Epoch::default();
        }
    }

    fn checkpoint(&mut self, position: Position, reason: &str) {
        tracing::debug!(step = position.version, %reason, "checkpoint");
        self.keep(position, false);
    }

    /// Hands a snapshot of now to the writer, if the run keeps anything.
    pub(super) fn keep(&mut self, position: Position, best: bool) {
        if self.writer.is_none() {
            return;
        }
        let start = Instant::now();
        let snapshot = self.snapshot(position);
        self.meter.snapshots += start.elapsed();
        if let Some(writer) = &self.writer {
            writer.save(snapshot, best);
        }
    }

    fn lost(&mut self, worker: WorkerId, reissued: u32, reason: &str) {
        self.ledger.reissue(reissued);
        if let Some(session) = self.sessions.get(worker).filter(|session| session.ready) {
            let event = telemetry::Event::WorkerLeft { worker: session.slot, reason: reason.to_owned(), reissued };
            self.telemetry.emit(event);
        }
    }
}
