//! What a run measured after each epoch, from its `metrics.jsonl`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use lockstep_coordinator::telemetry::jsonl;
use serde_json::Value;

/// One epoch's numbers. Accuracies are fractions; what was not measured, or is not finite, is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Epoch {
    /// As trained, the mean over the epoch.
    pub train_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    /// Measured again at its end, in evaluation mode.
    pub train_eval_loss: Option<f64>,
    pub train_eval_accuracy: Option<f64>,
    pub validation_accuracy: Option<f64>,
    pub test_loss: Option<f64>,
    pub test_accuracy: Option<f64>,
    pub per_class: Vec<Option<f64>>,
}

/// By epoch, from 1.
pub type Curve = BTreeMap<u32, Epoch>;

/// The curve of the run in `folder`; empty where it has none. Lines that are no record are passed over: a run that was killed
/// may have torn its last one.
pub fn read(folder: &Path) -> Curve {
    let Ok(file) = File::open(folder.join(jsonl::FILE)) else { return Curve::new() };
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let mut curve = Curve::new();
    // steps are many, and tell nothing here
    let records = lines.filter(|line| !line.contains("\"event\":\"step\""));
    for record in records.filter_map(|line| serde_json::from_str(&line).ok()) {
        take(&mut curve, &record);
    }
    curve
}

fn take(curve: &mut Curve, record: &Value) {
    let Some(number) = record["epoch"].as_u64().and_then(|epoch| u32::try_from(epoch).ok()) else { return };
    let (loss, accuracy) = (record["loss"].as_f64(), record["accuracy"].as_f64());
    match (record["event"].as_str(), record["split"].as_str()) {
        (Some("epoch_ended"), _) => {
            let epoch = curve.entry(number).or_default();
            epoch.train_loss = record["train_loss"].as_f64();
            epoch.train_accuracy = record["train_accuracy"].as_f64();
        }
        (Some("evaluated"), Some("test")) => {
            let epoch = curve.entry(number).or_default();
            (epoch.test_loss, epoch.test_accuracy) = (loss, accuracy);
            let classes = record["per_class"].as_array().map_or(&[][..], Vec::as_slice);
            epoch.per_class = classes.iter().map(Value::as_f64).collect();
        }
        (Some("evaluated"), Some("train_eval")) => {
            let epoch = curve.entry(number).or_default();
            (epoch.train_eval_loss, epoch.train_eval_accuracy) = (loss, accuracy);
        }
        (Some("evaluated"), Some("validation")) => curve.entry(number).or_default().validation_accuracy = accuracy,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_and_evaluations_are_read_and_the_rest_is_passed_over() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(read(folder.path()), Curve::new());
        let lines = r#"{"event":"run_started","epochs":2}
{"event":"step","step":1,"epoch":1,"loss":9.0}
{"time":1,"seconds":1,"event":"epoch_ended","epoch":1,"step":4,"train_loss":null,"train_accuracy":0.1,"lr":0.1}
{"event":"evaluated","epoch":1,"split":"validation","loss":1.0,"accuracy":0.4}
{"event":"evaluated","epoch":1,"split":"test","loss":2.0,"accuracy":0.5,"per_class":[0.5,null]}
{"event":"evaluated","epoch":1,"split":"train_eval","loss":0.5,"accuracy":0.875}
{"event":"epoch_ended","epoch":2,"train_loss":1.5,"train_accuracy":0.25}
{"event":"evaluated","epoch":2,"split":"te"#;
        std::fs::write(folder.path().join(jsonl::FILE), lines).expect("written");
        let curve = read(folder.path());
        let first = Epoch {
            train_accuracy: Some(0.1),
            train_eval_loss: Some(0.5),
            train_eval_accuracy: Some(0.875),
            validation_accuracy: Some(0.4),
            test_loss: Some(2.0),
            test_accuracy: Some(0.5),
            per_class: vec![Some(0.5), None],
            ..Epoch::default()
        };
        let second = Epoch { train_loss: Some(1.5), train_accuracy: Some(0.25), ..Epoch::default() };
        assert_eq!(curve, Curve::from([(1, first), (2, second)]));
    }
}
