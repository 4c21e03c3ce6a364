//! The result of a run, in `summary.json`: what was trained, how well, how fast, and the hash that proves it.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::TelemetryError;
use super::format::bytes;
use super::replace::replace;

/// The file's name in a run's folder.
pub const FILE: &str = "summary.json";

/// What a run came to. Accuracies are fractions; what was not measured, or was not finite, is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Summary {
    pub model: String,
    pub data: String,
    pub workers: u32,
    pub shards: u32,
    pub batch_size: u32,
    pub epochs: u32,
    /// Optimizer steps that were made.
    pub steps: u64,
    pub seed: u64,
    /// Where the run does not promise one result there may be several, with ` + ` between them.
    pub device_class: String,
    /// The run promises one result: its recipe's `deterministic`.
    #[serde(default = "yes")]
    pub deterministic: bool,
    /// How gradients came together: `grpc` (each to the coordinator, through shared memory on its own host) or `nccl` (summed among the
    /// workers' GPUs). That of the last session, where a run was resumed.
    #[serde(default = "grpc")]
    pub plane: String,
    /// Mean over the last epoch, as it was trained (not measured again at its end).
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    /// The part of `train_loss` that is penalties; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_penalty: Option<f64>,
    /// The training images measured again: in evaluation mode, without augmentation. Where the recipe asks for it.
    pub train_eval_loss: Option<f64>,
    pub train_eval_accuracy: Option<f64>,
    /// On the training images that are held out; left out where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub test_images: u64,
    pub images_per_s: f64,
    pub seconds: f64,
    /// BLAKE3 over the schema and the parameters, hexadecimal.
    pub weights_hash: String,
    pub ledger: Ledger,

    /// As what gradients and parameters travelled: `f32` or `bf16`.
    #[serde(default)]
    pub wire: String,
    /// How layers behaved in evaluations: `eval` or `train`.
    pub evaluation_mode: String,
    pub traffic: Traffic,
    pub recipe: String,
    pub parameters: u64,
    pub data_hash: String,
    /// Best accuracy of any evaluation, and its step: in validation where images are held out, else in the test.
    pub best_accuracy: Option<f64>,
    pub best_step: Option<u64>,
    /// Of the last evaluation, in the order of the labels.
    pub per_class: Vec<ClassAccuracy>,
    /// `confusion[actual][predicted]` of the last evaluation, images.
    pub confusion: Vec<Vec<u32>>,
    /// Classes whose output is above 0 for no test image of the last evaluation: a last ReLU lets no gradient revive them.
    /// Left out where the model does not end in a ReLU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_outputs: Option<Vec<u32>>,
    /// The run's folder; empty where nothing was kept.
    pub folder: String,
    /// Stopped before its last step, by a signal or by `lockstep stop`.
    pub stopped_early: bool,
}

/// What summaries of before there was a choice mean.
fn yes() -> bool {
    true
}

/// All that there was before there was a choice.
fn grpc() -> String {
    "grpc".to_owned()
}

/// How often the images of one class were recognised.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ClassAccuracy {
    pub class: String,
    /// None for a class without images.
    pub accuracy: Option<f64>,
}

/// Bytes that passed between the coordinator and its workers, all sessions of the run together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// Over TCP, from workers: gradients, answers and heartbeats.
    pub received: u64,
    /// Over TCP, to workers: images, parameters and leases.
    pub sent: u64,
    /// Through memory that processes of one host share, both ways: gradients and parameters.
    pub shared: u64,
}

impl fmt::Display for Traffic {
    /// `2.50 MB sent, 1.50 kB received, 4 B through shared memory`; nothing where nothing was counted.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.sent.saturating_add(self.received) == 0 {
            return Ok(());
        }
        write!(f, "{} sent, {} received", bytes(self.sent), bytes(self.received))?;
        match self.shared {
            0 => Ok(()),
            shared => write!(f, ", {} through shared memory", bytes(shared)),
        }
    }
}

/// What became of the training examples, counted from accepted submissions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Examples that went into a committed step.
    pub used: u64,
    /// Of these, beyond once an epoch.
    pub repeated: u64,
    /// Due in an epoch and never used.
    pub lost: u64,
    /// Shards that were taken from a lost worker and given out again.
    pub reissued: u64,
    /// Examples whose gradient was computed again, and used once.
    pub recomputed: u64,
    /// Shards that an idle worker computed again because their holder was late.
    pub copied: u64,
    /// Shards that a second worker computed on purpose, to compare.
    pub audited: u64,
    /// Answers that could not be used: damaged, of the wrong length or version, not finite.
    pub refused: u64,
    /// Pieces of work of which two answers differed.
    pub disputed: u64,
}

impl Summary {
    /// Writes `summary.json` into `folder`: all of it or nothing, and durable.
    ///
    /// # Errors
    /// The file can't be written; an earlier one is then untouched.
    pub fn write(&self, folder: &Path) -> Result<PathBuf, TelemetryError> {
        let path = folder.join(FILE);
        replace(&path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })?;
        Ok(path)
    }

    /// Reads the `summary.json` of `folder`.
    ///
    /// # Errors
    /// The file can't be read or is no summary.
    pub fn read(folder: &Path) -> Result<Summary, TelemetryError> {
        let path = folder.join(FILE);
        let text = crate::regular::read(&path).map_err(TelemetryError::io("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| TelemetryError::io("read", &path)(error.into()))
    }
}

/// The recognised fraction of each class, from `confusion[actual][predicted]`.
pub fn accuracy_by_class(confusion: &[Vec<u32>]) -> Vec<Option<f64>> {
    let accuracy = |(class, row): (usize, &Vec<u32>)| {
        let images: u64 = row.iter().map(|&n| u64::from(n)).sum();
        let right = row.get(class).copied().unwrap_or(0);
        (images > 0).then(|| f64::from(right) / images as f64)
    };
    confusion.iter().enumerate().map(accuracy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote_and_leaves_no_other_file() {
        let folder = tempfile::tempdir().expect("folder");
        let summary = Summary {
            model: "lenet".into(),
            test_accuracy: Some(0.5983),
            seed: u64::MAX,
            per_class: vec![ClassAccuracy { class: "airplane".into(), accuracy: None }],
            ledger: Ledger { used: 50_000, ..Default::default() },
            ..Default::default()
        };
        summary.write(folder.path()).expect("write");
        summary.write(folder.path()).expect("write again");
        assert_eq!(Summary::read(folder.path()).expect("read"), summary);
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
    }

    #[test]
    fn has_the_keys_of_the_design_at_the_top() {
        let json = serde_json::to_value(Summary::default()).expect("serialise");
        for key in
            "model data workers shards batch_size epochs steps seed device_class train_loss train_accuracy train_eval_loss train_eval_accuracy test_loss \
                    test_accuracy test_images images_per_s seconds weights_hash ledger"
                .split_whitespace()
        {
            assert!(json.get(key).is_some(), "no {key}");
        }
        for key in ["used", "repeated", "lost", "reissued", "recomputed"] {
            assert!(json["ledger"].get(key).is_some(), "no ledger.{key}");
        }
    }

    #[test]
    fn a_torn_summary_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join(FILE), "{\"model\": \"le").expect("write");
        let error = Summary::read(folder.path()).expect_err("torn").to_string();
        assert!(error.contains("summary.json"), "{error}");
    }

    #[test]
    fn class_accuracy_is_the_diagonal_over_the_row() {
        let confusion = vec![vec![3, 1, 0], vec![0, 0, 0], vec![1, 1, 2]];
        assert_eq!(accuracy_by_class(&confusion), [Some(0.75), None, Some(0.5)]);
    }
}
