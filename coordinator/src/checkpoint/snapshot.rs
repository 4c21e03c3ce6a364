//! What a checkpoint holds.

use lockstep_proto::schema::Schema;
use serde::{Deserialize, Serialize};

use crate::telemetry::{Ledger as Counts, Summary};

/// Sums over the running epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    pub loss_sum: f64,
    pub correct: u64,
    pub count: u64,
}

impl Epoch {
    /// Mean loss and accuracy so far, if there is anything to average.
    #[must_use]
    pub fn means(&self) -> Option<(f64, f64)> {
        let n = self.count as f64;
        (self.count > 0).then(|| (self.loss_sum / n, self.correct as f64 / n))
    }
}

/// Everything but the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimizer steps made.
    pub version: u64,
    /// The evaluation that follows them is still to be made.
    pub evaluation_owed: bool,
    /// The resolved recipe, TOML.
    pub recipe: String,
    pub schema_fingerprint: String,
    pub data_hash: String,
    pub data: String,
    /// Kernel set, maths functions and device of the workers; none before the first one came.
    pub device_class: Option<String>,
    /// The program's build.
    pub build: String,
    /// Steps that the optimizer counted.
    pub optimizer_steps: u64,
    pub epoch: Epoch,
    pub ledger: Counts,
    /// Best accuracy of an evaluation so far.
    pub best_accuracy: Option<f64>,
    pub best_step: Option<u64>,
    /// Seconds of work so far, all sessions.
    pub seconds: f64,
    /// What the run came to so far: last train and test figures.
    pub summary: Summary,
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub state: State,
    pub schema: Schema,
    /// Parameters and buffers, schema order.
    pub values: Vec<f32>,
    /// The optimizer's flat state by name, each as long as the parameters.
    pub optimizer: Vec<(String, Vec<f32>)>,
    /// How often each training example was used in the running epoch.
    pub used: Vec<u8>,
}
