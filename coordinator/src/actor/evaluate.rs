//! Evaluations: from the first slice to the figures.

use super::{Actor, Answer};
use crate::engine::Position;
use crate::evaluation::SplitResult;
use crate::telemetry::summary::accuracy_by_class;
use crate::telemetry::{self, ClassAccuracy, Split};

impl Actor {
    pub(super) fn begin_evaluation(&mut self, version: u64) {
        tracing::debug!(version, "evaluation begins");
        self.meter.pause();
        self.held.clear();
        self.tally = Some(self.run.tally());
    }

    /// Takes in a slice that the engine accepted.
    pub(super) fn count(&mut self, slice: u32, answer: Option<Answer>) {
        let (Some(tally), Some(Answer::Slice { counts, .. })) = (&mut self.tally, answer) else { return };
        tally.add(slice, counts);
        let done = tally.done();
        self.telemetry.emit(telemetry::Event::EvaluationProgress {
            step: self.parameters.version(),
            split: self.run.slices().examples(slice).0,
            done,
            images: self.run.slices().images(),
        });
    }

    pub(super) fn end_evaluation(&mut self, version: u64) {
        let Some(tally) = self.tally.take() else { return };
        let epoch = self.plan.epoch(version.saturating_sub(1)) + 1;
        let results = tally.results();
        // what is held out decides which checkpoint is best; without it, the test set does, as most scripts do
        let decides = results.first().map(|result| result.split);
        let mut improved = false;
        for result in results {
            let best =
                Some(result.split) == decides && self.best.is_none_or(|(accuracy, _)| result.accuracy > accuracy);
            if best {
                self.best = Some((result.accuracy, version));
            }
            improved |= best;
            self.tell_result(version, epoch, result, best);
        }
        if improved {
            // now, not with the next checkpoint: by then the weights have moved on
            self.keep(Position { version, evaluation_owed: false }, true);
        }
        self.meter.resume();
    }

    fn tell_result(&mut self, step: u64, epoch: u32, result: SplitResult, best: bool) {
        let per_class = accuracy_by_class(&result.confusion);
        if result.split == Split::Test {
            let summary = &mut self.summary;
            summary.test_loss = Some(result.loss);
            summary.test_accuracy = Some(result.accuracy);
            summary.test_images = result.images;
            summary.confusion.clone_from(&result.confusion);
            let named = self.run.dataset.classes.iter().zip(&per_class);
            summary.per_class =
                named.map(|(class, accuracy)| ClassAccuracy { class: class.clone(), accuracy: *accuracy }).collect();
            summary.dead_outputs.clone_from(&result.dead_outputs);
        }
        if result.split == Split::Validation {
            self.summary.validation_loss = Some(result.loss);
            self.summary.validation_accuracy = Some(result.accuracy);
        }
        if result.split == Split::TrainEval {
            self.summary.train_eval_loss = Some(result.loss);
            self.summary.train_eval_accuracy = Some(result.accuracy);
        }
        self.telemetry.emit(telemetry::Event::Evaluated {
            step,
            epoch,
            split: result.split,
            loss: result.loss,
            accuracy: result.accuracy,
            per_class,
            confusion: result.confusion,
            images: result.images,
            dead_outputs: result.dead_outputs,
            best,
        });
    }
}
