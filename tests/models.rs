//! The built-in networks: weights go into the PyTorch classes that they come from.

use lockstep_proto::recipe::catalogue::MODELS;

use crate::support::{Desk, python, root};

/// A few steps on few images: enough for weights that are not the initial ones, and for BatchNorm's running statistics.
const SHORT: &[&str] = &["--max-steps", "2", "--batch-size", "8", "--lr", "0.001"];

/// Oracle: PyTorch's own strict loader, and its own forward pass.
#[test]
fn pytorch_loads_the_weights_of_every_model_strictly_and_agrees() {
    let Some(python) = python() else { return };
    let desk = Desk::new();
    for model in MODELS.iter().map(|file| file.name) {
        desk.train(model, &[&["--model", model], SHORT].concat()).ok();
        let output = std::process::Command::new(&python)
            .arg(root().join("tests/oracle/load_weights.py"))
            .arg(model)
            .args([desk.path(model).join("model.safetensors"), desk.path("images")])
            .output()
            .expect("python runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{model}: {text}\n{}", String::from_utf8_lossy(&output.stderr));
        let found: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let summary = desk.summary(model);
        let right = summary["test_accuracy"].as_f64().map(|accuracy| (accuracy * 100.0).round() as u64);
        assert_eq!(found["correct"].as_u64(), right, "{model}");
        let (theirs, ours) = (found["loss"].as_f64().expect("loss"), summary["test_loss"].as_f64().expect("loss"));
        assert!((theirs - ours).abs() < 1e-5 * ours, "{model}: PyTorch {theirs}, ours {ours}");
    }
}

/// Oracle: the report, whose normalisation with mean 0 and deviation 1 changes nothing.
#[test]
fn a_normalisation_that_changes_nothing_gives_the_same_weights() {
    let desk = Desk::new();
    for (plain, normalised) in [("lenet5", "lenet5-normalised"), ("lenet5-augmented", "lenet5-normalised-augmented")] {
        for recipe in [plain, normalised] {
            desk.train(recipe, &[recipe, "--max-steps", "20"]).ok();
        }
        assert_eq!(desk.hash(plain), desk.hash(normalised));
    }
    assert_ne!(desk.hash("lenet5"), desk.hash("lenet5-augmented"));
}
