//! What `metrics.jsonl` tells of a run, as far as it can be read: finished, running, killed or damaged.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

use lockstep_coordinator::regular;
use lockstep_coordinator::telemetry::event::RunStarted;
use lockstep_coordinator::telemetry::{Event, Record, Split, jsonl};
use lockstep_proto::recipe::Recipe;

/// Bytes of a line at most: an evaluation of 256 classes has a matrix of 65,536 numbers. What is longer is damage.
const LONGEST_LINE: u64 = 4 << 20;

/// What an epoch came to. Accuracies are fractions; what is none was not measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epoch {
    /// As trained, the mean over the epoch.
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    /// Measured again at its end, in evaluation mode.
    pub train_eval_loss: Option<f64>,
    pub train_eval_accuracy: Option<f64>,
    pub validation_loss: Option<f64>,
    pub validation_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
    /// Of the test images.
    pub per_class: Vec<Option<f64>>,
}

impl Epoch {
    /// What a report's training loss is compared with: a recipe that measures the training images again does so because its
    /// report did. That loss has no penalties, so that of a [`penalised`] recipe is compared as trained.
    pub fn training_loss(&self, penalised: bool) -> Option<f64> {
        self.train_eval_loss.filter(|_| !penalised).or(self.train_loss)
    }

    /// As [`training_loss`](Self::training_loss); penalties have no accuracy.
    pub fn training_accuracy(&self) -> Option<f64> {
        self.train_eval_accuracy.or(self.train_accuracy)
    }
}

/// Whether the training loss of `recipe` has penalties in it.
pub fn penalised(recipe: &Recipe) -> bool {
    recipe.loss.l1 > 0.0 || recipe.loss.l2 > 0.0
}

/// A run's events, summed up.
#[derive(Debug, Default)]
pub struct History {
    /// What the run said when it began, or when it went on last.
    pub started: Option<RunStarted>,
    /// By number, counted from 1.
    pub epochs: BTreeMap<u32, Epoch>,
    /// `confusion[actual][predicted]` of the last evaluation of the test images.
    pub confusion: Vec<Vec<u32>>,
    /// The last step that was made.
    pub steps: u64,
    /// Seconds of the last event.
    pub seconds: f64,
    /// Workers that took part, sessions that came back included.
    pub joined: usize,
    /// Lines that are no events.
    pub unreadable: usize,
}

impl History {
    /// Reads the `metrics.jsonl` of `folder`; says why if it can't.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join(jsonl::FILE);
        let file = regular::open(&path).map_err(|error| format!("{}: {error}", jsonl::FILE))?;
        let mut history = Self::default();
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = lines.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
            match read.map_err(|error| format!("{}: {error}", jsonl::FILE))? {
                0 => return Ok(history),
                // what is left of a line that is too long comes next, and is no event either
                _ => history.take(&line),
            }
        }
    }

    fn take(&mut self, line: &[u8]) {
        let record = match serde_json::from_slice::<Record>(line) {
            Ok(record) => record,
            // an event that a later build knows, and this one does not, is no damage
            Err(_) if serde_json::from_slice::<Tagged>(line).is_ok() => return,
            Err(_) => {
                self.unreadable += 1;
                return;
            }
        };
        if record.seconds.is_finite() {
            self.seconds = record.seconds;
        }
        self.steps = record.event.step().unwrap_or(0).max(self.steps);
        match record.event {
            Event::RunStarted(run) => self.started = Some(run),
            Event::WorkerJoined { .. } => self.joined += 1,
            Event::EpochEnded { epoch, train_loss, train_accuracy, .. } => {
                let of = self.epochs.entry(epoch).or_default();
                (of.train_loss, of.train_accuracy) = (Some(train_loss), Some(train_accuracy));
            }
            Event::Evaluated { epoch, split, loss, accuracy, per_class, confusion, .. } => {
                let of = self.epochs.entry(epoch).or_default();
                match split {
                    Split::Test => {
                        (of.test_loss, of.test_accuracy) = (Some(loss), Some(accuracy));
                        of.per_class = per_class;
                        self.confusion = confusion;
                    }
                    Split::Validation => (of.validation_loss, of.validation_accuracy) = (Some(loss), Some(accuracy)),
                    Split::TrainEval => (of.train_eval_loss, of.train_eval_accuracy) = (Some(loss), Some(accuracy)),
                }
            }
            _ => {}
        }
    }

    /// Epoch and value of what `of` finds, ascending.
    pub fn curve(&self, of: impl Fn(&Epoch) -> Option<f64>) -> Vec<(f64, f64)> {
        self.epochs.iter().filter_map(|(epoch, values)| Some((f64::from(*epoch), of(values)?))).collect()
    }

    /// The last value of what `of` finds.
    pub fn last(&self, of: impl Fn(&Epoch) -> Option<f64>) -> Option<f64> {
        self.epochs.values().rev().find_map(of)
    }
}

/// Any event.
#[derive(serde::Deserialize)]
struct Tagged {
    #[serde(rename = "event")]
    _event: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: &str = r#"{"time":1,"seconds":2.5,"event":"epoch_ended","epoch":1,"step":7,"train_loss":null,"train_accuracy":0.5,"images_per_s":1,"lr":0.1}"#;
    const TEST: &str = r#"{"time":1,"seconds":3,"event":"evaluated","step":7,"epoch":1,"split":"test","loss":2,"accuracy":0.25,"per_class":[0.25,null],"confusion":[[1,3],[0,0]],"images":4,"best":true}"#;

    fn history(text: &[u8]) -> History {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join(jsonl::FILE), text).expect("written");
        History::read(folder.path()).expect("read")
    }

    #[test]
    fn epochs_are_put_together_from_their_events() {
        let other = TEST.replace("\"test\"", "\"validation\"").replace("0.25", "0.75");
        let again = TEST.replace("\"test\"", "\"train_eval\"").replace("0.25", "0.625");
        let found = history(format!("{ENDED}\n{TEST}\n{other}\n{again}\n").as_bytes());
        assert_eq!((found.steps, found.seconds, found.confusion), (7, 3.0, vec![vec![1, 3], vec![0, 0]]));
        let epoch = &found.epochs[&1];
        assert!(epoch.train_loss.is_some_and(f64::is_nan));
        assert_eq!((epoch.train_accuracy, epoch.test_loss, epoch.test_accuracy), (Some(0.5), Some(2.0), Some(0.25)));
        assert_eq!((epoch.validation_accuracy, epoch.training_accuracy()), (Some(0.75), Some(0.625)));
        assert_eq!(epoch.per_class, [Some(0.25), None]);
        // a loss with penalties is not that of an evaluation, which has none
        let (again, trained) = (epoch.training_loss(false), epoch.training_loss(true));
        assert!(again == Some(2.0) && trained.is_some_and(f64::is_nan), "{again:?} {trained:?}");
        let mut recipe = Recipe::default();
        assert!(!penalised(&recipe));
        recipe.loss.l2 = 1e-4;
        assert!(penalised(&recipe));
        let folder = tempfile::tempdir().expect("folder");
        assert!(History::read(folder.path()).expect_err("missing").contains("metrics.jsonl"));
    }

    #[test]
    fn what_is_torn_is_counted_and_what_is_new_is_passed_over() {
        let text =
            [ENDED.as_bytes(), b"\n\xff\xfe\n{\"event\":\"dreamt\",\"of\":1}\n", &TEST.as_bytes()[..50]].concat();
        let found = history(&text);
        assert_eq!((found.unreadable, found.epochs.len(), found.confusion.len()), (2, 1, 0));
        assert_eq!(history(&vec![b'a'; 9 << 20]).unreadable, 3);
    }
}
