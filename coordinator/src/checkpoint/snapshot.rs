//! What a checkpoint holds.

use lockstep_proto::schema::Schema;
use serde::{Deserialize, Serialize};

use crate::average::StepSum;
use crate::telemetry::{Ledger as Counts, Summary};

/// Sums over the running epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    pub loss_sum: f64,
    pub correct: u64,
    pub count: u64,
    /// The penalties of so many steps.
    #[serde(default)]
    pub penalty_sum: f64,
    #[serde(default)]
    pub steps: u64,
}

impl Epoch {
    /// Takes in a step and the penalty that its loss had.
    pub fn add(&mut self, step: &StepSum, penalty: f64) {
        self.loss_sum += step.loss_sum;
        self.correct += u64::from(step.correct);
        self.count += u64::from(step.count);
        self.penalty_sum += penalty;
        self.steps += 1;
    }

    /// Mean loss and accuracy so far, if there is anything to average. The loss is what was made smaller: the mean over the
    /// images, and the mean penalty over the steps.
    #[must_use]
    pub fn means(&self) -> Option<(f64, f64)> {
        let n = self.count as f64;
        let penalty = self.penalty().unwrap_or(0.0);
        (self.count > 0).then(|| (self.loss_sum / n + penalty, self.correct as f64 / n))
    }

    /// The mean of the steps' penalties, if they had any.
    #[must_use]
    pub fn penalty(&self) -> Option<f64> {
        (self.penalty_sum != 0.0).then(|| self.penalty_sum / self.steps.max(1) as f64)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: (6 + 2) / 4 images, and penalties of 0.5 and 1.5 over two steps, however many images each had.
    #[test]
    fn the_reported_loss_has_the_mean_penalty_of_its_steps() {
        let mut epoch = Epoch::default();
        assert_eq!((epoch.means(), epoch.penalty()), (None, None));
        for (loss_sum, count, penalty) in [(6.0, 3, 0.5), (2.0, 1, 1.5)] {
            epoch.add(&StepSum { values: Vec::new(), loss_sum, correct: 1, count }, penalty);
        }
        assert_eq!((epoch.means(), epoch.penalty()), (Some((3.0, 0.5)), Some(1.0)));
        let mut plain = Epoch::default();
        plain.add(&StepSum { values: Vec::new(), loss_sum: 6.0, correct: 1, count: 4 }, 0.0);
        assert_eq!((plain.means(), plain.penalty()), (Some((1.5, 0.25)), None));
    }
}
