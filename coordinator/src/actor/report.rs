//! What the run says of itself: at the start, while it runs, at the end.

use std::time::{Duration, Instant};

use lockstep_proto::recipe::{EvaluationMode, Wire};
use lockstep_proto::wire::{StatusReply, StopReply, WorkerStatus};

use super::Actor;
use super::sessions::Farewell;
use crate::checkpoint::{self, Snapshot, State, Written};
use crate::engine::{Outcome, Position};
use crate::run::{Report, RingSum};
use crate::telemetry::event::RunStarted;
use crate::telemetry::{self, Event};

/// How often the workers' shares are told: often enough for a moving line, rarely enough to cost nothing.
const WORKER_STATS_EVERY: Duration = Duration::from_millis(500);

/// The share of a run's time that checkpoints may take without a word.
const MOST_FOR_CHECKPOINTS: f64 = 0.02;

/// A shorter run has its first and last checkpoint, and little else.
const WORTH_SAYING: Duration = Duration::from_secs(10);

/// A written checkpoint, or the reason why there is none, as an event.
pub(super) fn checkpoint_event(written: Written) -> Event {
    let Written { step, best, seconds, result } = written;
    match result {
        Ok(path) => Event::Checkpoint { step, path: path.display().to_string(), best, write_seconds: seconds },
        Err(error) => Event::Warning { text: format!("no checkpoint of step {step}: {error}") },
    }
}

impl Actor {
    pub(super) fn say_start(&self) {
        let (run, plan) = (&self.run, &self.plan);
        self.telemetry.emit(Event::RunStarted(RunStarted {
            run: run.name.clone(),
            model: run.recipe.model.name.clone(),
            data: run.dataset.name.clone(),
            classes: run.dataset.classes.clone(),
            workers: run.limits.min_workers as u32,
            shards: plan.shards,
            batch_size: plan.batch_size,
            epochs: plan.epochs_begun(),
            steps: plan.total_steps(),
            parameters: run.schema.parameters() as u64,
            seed: run.recipe.seed,
            device_class: self.device_class.clone().unwrap_or_default(),
            train_images: run.recipe.evaluation.train_images,
            resumed_from: run.resume.as_ref().map(|snapshot| snapshot.state.version),
        }));
        if run.recipe.wire == Wire::Bf16 {
            let text = "gradients and parameters travel as bf16 (wire = \"bf16\"): another result than with f32";
            self.telemetry.emit(Event::Notice { text: text.to_owned() });
        }
        if !run.recipe.deterministic {
            let text = "deterministic = false (--fast): the promise of one result is off; another run may come to other weights";
            self.telemetry.emit(Event::Notice { text: text.to_owned() });
        }
        if run.limits.nccl == Some(RingSum::AllReduce) {
            let text = "--plane nccl: gradients are summed among the GPUs; the order of a sum, and so its bits, depends on how many";
            self.telemetry.emit(Event::Notice { text: text.to_owned() });
        }
        if run.recipe.evaluation.mode == EvaluationMode::Train {
            let text = "evaluation.mode = \"train\": evaluations drop and normalise as training does, which is no fair measure";
            self.telemetry.emit(Event::Notice { text: text.to_owned() });
        }
        if let Some(text) = plan.imbalance(run.limits.min_workers) {
            self.telemetry.emit(Event::Notice { text });
        }
    }

    /// Says once that the run waits for workers, and for how long at most.
    pub(super) fn say_waiting(&mut self) {
        let waiting = self.engine.waiting_for();
        if let (Some(needed), false) = (waiting, self.waiting_told) {
            self.telemetry.emit(Event::Waiting {
                what: format!("{needed} more worker{}", if needed == 1 { "" } else { "s" }),
                deadline_seconds: self.plan.wait_for_workers.as_secs_f64(),
            });
        }
        self.waiting_told = waiting.is_some();
    }

    pub(super) fn report_workers(&mut self, step: u64) {
        // the last of it, too: a run may be over before it is told of once
        if self.meter.told_workers.elapsed() < WORKER_STATS_EVERY && step < self.plan.total_steps() {
            return;
        }
        self.meter.told_workers = Instant::now();
        for session in self.sessions.iter_mut() {
            let stats = std::mem::take(&mut session.since_stats);
            self.telemetry.emit(Event::WorkerStats {
                worker: session.slot,
                step,
                shards: stats.shards,
                images: stats.images,
                compute_seconds: stats.compute_us as f64 / 1e6,
                wait_seconds: stats.wait_us as f64 / 1e6,
            });
        }
    }

    pub(super) fn status(&self) -> StatusReply {
        let (loss, accuracy) = self.epoch.means().unwrap_or((f64::NAN, f64::NAN));
        let version = self.version();
        StatusReply {
            run: self.run.name.clone(),
            phase: self.engine.phase().to_owned(),
            step: version,
            steps: self.plan.total_steps(),
            epoch: self.plan.epoch(version).min(self.plan.epochs_begun() - 1),
            epochs: self.plan.epochs_begun(),
            images_per_s: self.meter.average(),
            train_loss: loss,
            train_accuracy: accuracy,
            test_accuracy: self.summary.test_accuracy.unwrap_or(-1.0),
            workers: self
                .sessions
                .iter()
                .map(|(worker, session)| WorkerStatus {
                    worker,
                    name: session.name.clone(),
                    device_class: session.device_class.clone(),
                    shards: session.shards,
                    leases: self.engine.leases_of(worker) as u32,
                })
                .collect(),
            folder: self.folder(),
        }
    }

    fn folder(&self) -> String {
        self.run.folder.as_ref().map_or_else(String::new, |folder| folder.display().to_string())
    }

    /// What the run came to so far.
    fn fill_summary(&mut self) {
        let earlier = self.run.resume.as_ref().map(|snapshot| &snapshot.state);
        let seconds = earlier.map_or(0.0, |state| state.seconds) + self.now().as_secs_f64();
        let traffic = self.traffic.since(earlier.map(|state| state.summary.traffic).unwrap_or_default());
        let folder = self.folder();
        let (run, plan, summary) = (&self.run, &self.plan, &mut self.summary);
        summary.model.clone_from(&run.recipe.model.name);
        summary.data.clone_from(&run.dataset.name);
        summary.recipe.clone_from(&run.recipe.name);
        if self.meter.steps > 0 {
            // a resumed run that had nothing left to do keeps what it knew
            summary.workers = self.sessions.accepted.values().filter(|shards| **shards > 0).count() as u32;
            summary.images_per_s = self.meter.average();
        }
        summary.shards = plan.shards;
        summary.wire = run.recipe.wire.word().to_owned();
        run.recipe.evaluation.mode.word().clone_into(&mut summary.evaluation_mode);
        summary.batch_size = plan.batch_size;
        summary.epochs = plan.epochs_begun();
        summary.steps = self.parameters.version();
        summary.seed = run.recipe.seed;
        summary.device_class = self.device_class.clone().unwrap_or_default();
        summary.deterministic = run.recipe.deterministic;
        run.plane().clone_into(&mut summary.plane);
        summary.parameters = run.schema.parameters() as u64;
        summary.data_hash.clone_from(&self.data_hash);
        summary.weights_hash = self.parameters.hash();
        summary.ledger = self.ledger.counts();
        summary.best_accuracy = self.best.map(|(accuracy, _)| accuracy);
        summary.best_step = self.best.map(|(_, step)| step);
        summary.seconds = seconds;
        summary.traffic = traffic;
        summary.folder = folder;
        if let Some((loss, accuracy)) = self.epoch.means() {
            summary.train_loss = Some(loss);
            summary.train_accuracy = Some(accuracy);
            summary.train_penalty = self.epoch.penalty();
        }
    }

    pub(super) fn snapshot(&mut self, position: Position) -> Snapshot {
        self.fill_summary();
        Snapshot {
            state: State {
                version: position.version,
                evaluation_owed: position.evaluation_owed,
                recipe: self.run.recipe.to_toml(),
                schema_fingerprint: self.run.schema.fingerprint(),
                data_hash: self.data_hash.clone(),
                data: self.run.dataset.name.clone(),
                device_class: self.device_class.clone(),
                build: self.run.build.clone(),
                optimizer_steps: self.optimizer.steps(),
                epoch: self.epoch,
                ledger: self.ledger.counts(),
                best_accuracy: self.best.map(|(accuracy, _)| accuracy),
                best_step: self.best.map(|(_, step)| step),
                seconds: self.summary.seconds,
                summary: self.summary.clone(),
            },
            schema: self.run.schema.clone(),
            values: self.parameters.values().to_vec(),
            optimizer: self.optimizer.state().into_iter().map(|(name, v)| (name.to_owned(), v.to_vec())).collect(),
            used: self.ledger.epoch().to_vec(),
        }
    }

    /// Checkpoints that come so often that they slow the run down are somebody's choice, but maybe not a wanted one.
    fn say_cost_of_checkpoints(&self) {
        let (spent, total) = (self.meter.snapshots, self.now());
        if total > WORTH_SAYING && spent > total.mul_f64(MOST_FOR_CHECKPOINTS) {
            let share = spent.as_secs_f64() / total.as_secs_f64();
            self.warn(format!(
                "checkpoints took {:.1} s of {:.0} s, {:.1}% of the time: more than {:.0}%; raise checkpoint.every_steps or \
                 checkpoint.every_seconds",
                spent.as_secs_f64(),
                total.as_secs_f64(),
                share * 100.0,
                MOST_FOR_CHECKPOINTS * 100.0
            ));
        }
    }

    /// Everything that is left to do once the run is over.
    pub(super) fn finish(mut self) -> Report {
        let outcome = self.outcome.take().unwrap_or(Outcome::Complete);
        let complete = outcome == Outcome::Complete;
        self.fill_summary();
        self.say_cost_of_checkpoints();
        let workers: Vec<_> = self.sessions.iter().map(|(worker, _)| worker).collect();
        for worker in workers {
            self.sessions.close(worker, &outcome.to_string(), Farewell::RunOver { complete });
        }
        self.summary.stopped_early = !complete;
        let mut path = String::new();
        let (kept, lost) = self.writer.take().map(checkpoint::Writer::finish).unwrap_or_default();
        let mut kept = kept;
        if let (Some(version), Some(store)) = (self.tainted, &self.store) {
            kept = store.set_aside_after(version);
        }
        let mut lost = lost.map(|error| error.to_string());
        if let Some(folder) = &self.run.folder {
            let weights = folder.join("model.safetensors");
            let (version, values) = (self.parameters.version(), self.parameters.values());
            // before the first step there is nothing that anybody would want to load
            if version > 0
                && self.tainted.is_none()
                && let Err(error) = checkpoint::write_weights(&self.run.schema, values, version, &weights)
            {
                lost = Some(error.to_string());
            }
            if let Err(error) = self.summary.write(folder) {
                lost = Some(error.to_string());
            }
            path = folder.join("checkpoints").display().to_string();
        }
        for reply in self.stops.drain(..) {
            let _ = reply.send(StopReply { step: self.parameters.version(), checkpoint: path.clone() });
        }
        self.telemetry.emit(telemetry::Event::RunEnded { summary: Box::new(self.summary.clone()) });
        self.warnings.extend(self.telemetry.finish());
        Report {
            outcome,
            summary: self.summary,
            shards: self.sessions.accepted,
            trace: self.trace,
            steady_images_per_s: self.meter.steady(),
            shared_memory: self.sessions.shared,
            timing: self.meter.timing(),
            warnings: self.warnings,
            // without a later one it is that of the start
            kept: kept.or(self.run.resume.map(|snapshot| snapshot.state.version)).or(self.run.folder.map(|_| 0)),
            lost,
        }
    }
}
