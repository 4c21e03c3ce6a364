//! What happens in a run, as data. One JSON object an event, tagged `event`; the same words everywhere.

use serde::{Deserialize, Deserializer, Serialize};

use super::summary::Summary;

/// An event and when it happened. This is a line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Seconds since 1970, UTC. Advances with the monotonic clock, so that a corrected wall clock can't reverse a run.
    pub time: f64,
    /// Seconds since the run began, earlier sessions of a resumed run included.
    pub seconds: f64,
    #[serde(flatten)]
    pub event: Event,
}

/// Which images an evaluation used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    Test,
    Validation,
    /// The images that are trained on, in evaluation mode and without augmentation.
    TrainEval,
}

/// Everything that a run reports.
///
/// `step` counts the optimizer steps that are behind the parameters: the first step reports 1. `epoch` counts from 1.
/// Accuracies are fractions. A loss that is not finite is `null` in JSON and NaN when read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    RunStarted(RunStarted),
    WorkerJoined {
        worker: u32,
        /// What the worker calls itself, and people are shown.
        #[serde(default)]
        name: String,
        device_class: String,
        threads: u32,
    },
    WorkerLeft {
        worker: u32,
        reason: String,
        /// Shards that were taken back and given to others.
        reissued: u32,
    },
    /// An optimizer step is committed.
    Step {
        step: u64,
        epoch: u32,
        lr: f64,
        /// Mean over the step's images, before the step.
        #[serde(deserialize_with = "nan_if_null")]
        loss: f64,
        #[serde(deserialize_with = "nan_if_null")]
        accuracy: f64,
        images: u64,
        /// This step's images over this step's time.
        #[serde(deserialize_with = "nan_if_null")]
        images_per_s: f64,
        /// L2 norm of the whole averaged gradient, before clipping.
        #[serde(deserialize_with = "nan_if_null")]
        gradient_norm: f64,
    },
    EpochEnded {
        epoch: u32,
        step: u64,
        #[serde(deserialize_with = "nan_if_null")]
        train_loss: f64,
        #[serde(deserialize_with = "nan_if_null")]
        train_accuracy: f64,
        #[serde(deserialize_with = "nan_if_null")]
        images_per_s: f64,
        lr: f64,
    },
    /// For the screen only: how far the running evaluation is. Not in `metrics.jsonl`.
    EvaluationProgress {
        step: u64,
        split: Split,
        done: u64,
        images: u64,
    },
    Evaluated {
        step: u64,
        epoch: u32,
        split: Split,
        #[serde(deserialize_with = "nan_if_null")]
        loss: f64,
        accuracy: f64,
        /// Fraction of each class's images that were recognised; none for a class without images.
        per_class: Vec<Option<f64>>,
        /// `confusion[actual][predicted]`, images.
        confusion: Vec<Vec<u32>>,
        images: u64,
        /// Classes whose output is above 0 for no image; left out where the model does not end in a ReLU.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dead_outputs: Option<Vec<u32>>,
        /// The best accuracy of the run so far.
        best: bool,
    },
    /// What a worker did since its last `WorkerStats`, sent at any cadence.
    WorkerStats {
        worker: u32,
        /// The last step that it worked on.
        step: u64,
        shards: u32,
        images: u64,
        compute_seconds: f64,
        wait_seconds: f64,
    },
    Checkpoint {
        step: u64,
        path: String,
        best: bool,
        /// How long writing took.
        write_seconds: f64,
    },
    /// The run waits, for what, and for how long at most. For the screen; ends with the next step or evaluation.
    Waiting {
        what: String,
        deadline_seconds: f64,
    },
    Notice {
        text: String,
    },
    Warning {
        text: String,
    },
    RunEnded {
        summary: Box<Summary>,
    },
}

/// What a run is, said once at its start (and again when it is resumed).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// The run's name or folder.
    pub run: String,
    pub model: String,
    /// The data set, its name first: `cifar10 (binary)`, `builtin (procedural)`. TensorBoard's tags take the first word.
    pub data: String,
    /// Class names in the order of the labels.
    pub classes: Vec<String>,
    pub workers: u32,
    pub shards: u32,
    pub batch_size: u32,
    pub epochs: u32,
    pub steps: u64,
    pub parameters: u64,
    pub seed: u64,
    pub device_class: String,
    /// Each evaluation measures the training images again, too.
    #[serde(default)]
    pub train_images: bool,
    /// The step of the checkpoint that this session continues from.
    pub resumed_from: Option<u64>,
}

impl Event {
    /// The step that the event belongs to, where it belongs to one.
    pub fn step(&self) -> Option<u64> {
        match self {
            Event::Step { step, .. }
            | Event::EpochEnded { step, .. }
            | Event::EvaluationProgress { step, .. }
            | Event::Evaluated { step, .. }
            | Event::WorkerStats { step, .. }
            | Event::Checkpoint { step, .. } => Some(*step),
            _ => None,
        }
    }

    /// Whether it comes so often that one may be left out when a sink can't keep up.
    pub fn is_frequent(&self) -> bool {
        matches!(self, Event::Step { .. } | Event::WorkerStats { .. } | Event::EvaluationProgress { .. })
    }

    /// Whether it tells only what is going on now, so that files have no use for it.
    pub fn is_transient(&self) -> bool {
        matches!(self, Event::EvaluationProgress { .. } | Event::Waiting { .. })
    }
}

/// JSON has no NaN: `serde_json` writes `null` for it, and this reads it back.
fn nan_if_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(loss: f64) -> Record {
        Record {
            time: 1_700_000_000.5,
            seconds: 1.5,
            event: Event::Step {
                step: 7,
                epoch: 1,
                lr: 0.01,
                loss,
                accuracy: 0.25,
                images: 64,
                images_per_s: 5000.0,
                gradient_norm: 1.0,
            },
        }
    }

    #[test]
    fn a_record_is_one_flat_object() {
        let json = serde_json::to_string(&step(2.5)).expect("serialise");
        assert_eq!(
            json,
            r#"{"time":1700000000.5,"seconds":1.5,"event":"step","step":7,"epoch":1,"lr":0.01,"loss":2.5,"accuracy":0.25,"images":64,"images_per_s":5000.0,"gradient_norm":1.0}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&json).expect("parse"), step(2.5));
    }

    #[test]
    fn a_diverged_loss_is_null_and_reads_back_as_nan() {
        let json = serde_json::to_string(&step(f64::INFINITY)).expect("serialise");
        assert!(json.contains(r#""loss":null"#), "{json}");
        let read: Record = serde_json::from_str(&json).expect("parse");
        let Event::Step { loss, accuracy, .. } = read.event else { panic!("another event: {read:?}") };
        assert!(loss.is_nan());
        assert_eq!(accuracy, 0.25);
    }

    #[test]
    fn a_missing_field_is_an_error() {
        assert!(serde_json::from_str::<Record>(r#"{"time":0,"seconds":0,"event":"step","step":7}"#).is_err());
    }

    #[test]
    fn newtype_and_unit_parts_keep_the_tag() {
        let event = Event::RunStarted(RunStarted { model: "lenet".into(), ..Default::default() });
        let json = serde_json::to_value(&event).expect("serialise");
        assert_eq!(json["event"], "run_started");
        assert_eq!(json["model"], "lenet");
        assert_eq!(serde_json::from_value::<Event>(json).expect("parse"), event);
    }
}
