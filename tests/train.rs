//! `lockstep train` and what it leaves behind.

use std::collections::BTreeMap;
use std::fs;

use crate::support::{Desk, python, root, skip};

/// Small enough to be quick, long enough for two epochs with a smaller last batch.
const SHORT: &[&str] = &["--epochs", "2", "--batch-size", "48", "--lr", "0.05"];

#[test]
fn a_run_leaves_everything_that_the_readme_promises() {
    let desk = Desk::new();
    let done = desk.train("run", SHORT).ok();
    let summary = desk.summary("run");
    assert!(done.stdout.contains(summary["weights_hash"].as_str().expect("hash")), "{}", done.stdout);
    for (key, expected) in [("workers", 2), ("shards", 4), ("batch_size", 48), ("epochs", 2), ("steps", 28)] {
        assert_eq!(summary[key], expected, "{key}");
    }
    assert_eq!(summary["test_images"], 100);
    assert_eq!(summary["data"], "cifar10-like (640 train / 100 test)");
    assert_eq!(summary["ledger"]["used"], 1280);
    for key in ["repeated", "lost", "reissued"] {
        assert_eq!(summary["ledger"][key], 0, "{key}");
    }
    // on a busy machine a worker may be late, and its shard computed twice
    assert!(summary["ledger"]["recomputed"] == 0 || summary["ledger"]["copied"] != 0, "{}", summary["ledger"]);
    let confusion = summary["confusion"].as_array().expect("rows");
    let cells = confusion.iter().flat_map(|row| row.as_array().expect("cells"));
    assert_eq!(cells.map(|cell| cell.as_u64().expect("count")).sum::<u64>(), 100);

    let folder = desk.path("run");
    for file in ["recipe.toml", "metrics.jsonl", "model.safetensors", "checkpoints/best.safetensors"] {
        assert!(folder.join(file).is_file(), "no {file}");
    }
    let names: Vec<_> = fs::read_dir(&folder).expect("list").map(|e| e.expect("entry").file_name()).collect();
    assert!(names.iter().any(|name| name.to_string_lossy().starts_with("events.out.tfevents.")), "{names:?}");
    assert_eq!(desk.events("run", "step").len(), 28);
    assert_eq!(desk.events("run", "evaluated").len(), 2);
    let resolved = desk.run(&["recipes", "run/recipe.toml"]).ok().stdout;
    assert_eq!(resolved, fs::read_to_string(folder.join("recipe.toml")).expect("recipe"), "it resolves to itself");
}

#[test]
fn the_network_learns() {
    let desk = Desk::new();
    desk.train("run", &["--epochs", "12", "--optimizer", "adam", "--lr", "0.002"]).ok();
    let summary = desk.summary("run");
    let accuracy = summary["test_accuracy"].as_f64().expect("accuracy");
    assert!(accuracy > 0.8, "ten plain patterns, and only {accuracy}: {summary}");
}

/// Whatever the cadence of checkpoints: the best weights are kept when they are found, not when the next one is due.
#[test]
fn the_best_checkpoint_holds_the_best_weights() {
    let desk = Desk::new();
    let args = ["--epochs", "8", "--optimizer", "adam", "--lr", "0.01", "--set", "checkpoint.every_epochs=0"];
    desk.train("run", &args).ok();
    let summary = desk.summary("run");
    let found = desk.run(&["eval", "run/checkpoints/best.safetensors", "--data", "images", "--json"]).ok().json();
    assert_eq!(found["test_accuracy"], summary["best_accuracy"]);
    let evaluated = desk.events("run", "evaluated");
    let best = evaluated.iter().find(|event| event["step"] == summary["best_step"]).expect("evaluated");
    assert_eq!(found["test_loss"], best["loss"]);
}

#[test]
fn eval_finds_what_the_run_found() {
    let desk = Desk::new();
    desk.train("run", SHORT).ok();
    let summary = desk.summary("run");
    let last = "run/checkpoints/step-00000028.safetensors";
    for file in ["run/model.safetensors", last] {
        // on the run's own images, unless told otherwise
        let found = desk.run(&["eval", file, "--json"]).ok().json();
        for key in ["test_accuracy", "test_loss", "confusion", "weights_hash"] {
            assert_eq!(found[key], summary[key], "{key} of {file}");
        }
    }
}

#[test]
fn eval_says_when_the_images_are_others_and_what_a_folder_lacks() {
    let desk = Desk::new();
    desk.train("run", &["--max-steps", "3"]).ok();
    for file in ["run/model.safetensors", "run/checkpoints/step-00000003.safetensors"] {
        let done = desk.run(&["eval", file, "--data", "builtin"]).ok();
        assert!(done.stderr.contains("warning") && done.stderr.contains("other images"), "{}", done.stderr);
    }
    assert_eq!(desk.run(&["eval", "run/model.safetensors"]).ok().stderr, "");
    desk.run(&["eval", "run"]).refused(&["run/checkpoints/best.safetensors"]);
    desk.run(&["eval", "images"]).refused(&["images is a folder", "not a run's"]);
    desk.run(&["eval", "gone.safetensors"]).refused(&["gone.safetensors", "no such file"]);
}

/// What people read says how far the run goes, and who computes, in the words of the logs.
#[test]
fn the_screen_tells_the_run_as_it_is() {
    let desk = Desk::new();
    let done = desk.train("run", &["--max-steps", "5", "--epochs", "20"]).ok();
    for words in ["run      run", "length   1 epoch, 5 steps", "worker-0 joined", "worker-1 joined"] {
        assert!(done.stdout.contains(words), "no {words:?} in {}", done.stdout);
    }
    assert_eq!(desk.summary("run")["epochs"], 1);
}

#[test]
fn bench_trains_what_train_trains() {
    let desk = Desk::new();
    let line = desk
        .run(&[
            "bench",
            "--model",
            "lenet",
            "--workers",
            "2",
            "--batch-size",
            "48",
            "--steps",
            "20",
            "--data",
            "images",
            "--json",
        ])
        .ok()
        .json();
    for key in ["peer", "model", "workers", "batch", "layout", "steps", "images_per_s", "seconds", "loss"] {
        assert!(!line[key].is_null(), "no {key} in {line}");
    }
    desk.train("run", &["--batch-size", "48", "--max-steps", "20"]).ok();
    assert_eq!(line["weights_hash"], desk.hash("run"));
}

#[test]
fn settings_reach_the_run_in_order_of_precedence() {
    let desk = Desk::new();
    fs::write(desk.path("mine.toml"), "epochs = 1\nbatch_size = 40\nshards = 2\n[optimizer]\nlr = 0.5\n")
        .expect("recipe");
    let args = ["mine.toml", "--set", "batch_size=80", "--set", "optimizer.lr=0.25", "--lr", "0.125"];
    let shown = desk.run(&["recipes", "mine.toml", "--set", "batch_size=80"]).ok().stdout;
    assert!(shown.contains("batch_size = 80") && shown.contains("lr = 0.5"), "{shown}");
    desk.train("run", &args).ok();
    let step = &desk.events("run", "step")[0];
    assert_eq!((step["lr"].as_f64(), step["images"].as_u64()), (Some(0.125), Some(80)));
    assert_eq!(desk.summary("run")["shards"], 2);
}

#[test]
fn adam_schedules_clipping_and_a_validation_split_work_together() {
    let desk = Desk::new();
    let settings = [
        "lenet-dropout-bn",
        "--epochs",
        "4",
        "--optimizer",
        "adam",
        "--lr",
        "0.002",
        "--set",
        "schedule.name=cosine",
        "--set",
        "schedule.warmup_steps=5",
        "--set",
        "optimizer.clip_grad_norm=1.0",
        "--set",
        "data.validation=0.1",
        "--set",
        "data.horizontal_flip=0.5",
        "--set",
        "data.subset=even",
    ];
    desk.train("run", &settings).ok();
    let evaluated = desk.events("run", "evaluated");
    let splits: Vec<_> = evaluated.iter().map(|event| (event["split"].as_str(), event["images"].as_u64())).collect();
    assert_eq!(splits[..2], [(Some("validation"), Some(32)), (Some("test"), Some(100))]);
    let rates: Vec<f64> = desk.events("run", "step").iter().map(|step| step["lr"].as_f64().expect("lr")).collect();
    assert!(rates[0] < rates[4] && rates.last() < rates.get(5), "{rates:?}");
}

/// A run that reports as scripts do that never call `eval()`, and how the same weights do in evaluation mode.
#[test]
fn an_evaluation_as_in_training_is_found_again_and_put_right() {
    let desk = Desk::new();
    let settings =
        ["lenet-dropout-bn", "--epochs", "2", "--set", "evaluation.mode=train", "--set", "loss.name=l1-softmax"];
    let done = desk.train("run", &settings).ok();
    assert!(done.stdout.contains("no fair measure") && done.stdout.contains("in training mode"), "{}", done.stdout);
    let summary = desk.summary("run");
    assert_eq!(summary["evaluation_mode"], "train");
    for file in ["run/model.safetensors", "run/checkpoints/step-00000020.safetensors"] {
        let found = desk.run(&["eval", file, "--json"]).ok().json();
        for key in ["test_loss", "confusion", "evaluation_mode"] {
            assert_eq!(found[key], summary[key], "{file}: {key}");
        }
    }
    let right = desk.run(&["eval", "run/model.safetensors", "--mode", "eval", "--json"]).ok().json();
    assert_ne!(right["test_loss"], summary["test_loss"]);
    // weights of a name alone know nothing of a recipe: they are evaluated in evaluation mode, and by cross-entropy
    fs::copy(desk.path("run/model.safetensors"), desk.path("bare.safetensors")).expect("copied");
    let args = ["eval", "bare.safetensors", "--model", "lenet-dropout-bn", "--data", "images", "--json"];
    let bare = desk.run(&args).ok().json();
    assert_eq!(bare["confusion"], right["confusion"]);
    assert_ne!(bare["test_loss"], right["test_loss"]);
}

/// With a last ReLU and a rate that kills units, some class has no output above 0 for any image. Oracle: the confusion matrix,
/// where a dead class is answered for no image unless all ten outputs are 0 (then the first of equals is).
#[test]
fn dead_outputs_are_told_where_a_relu_ends_the_model() {
    let desk = Desk::new();
    let net = "name = \"ends-in-relu\"\nprefix = \"net\"\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out_features = 10 }, \
               { type = \"relu\" }]";
    fs::write(desk.path("net.toml"), net).expect("written");
    desk.train("run", &["--model", "./net.toml", "--epochs", "1", "--lr", "1"]).ok();
    let summary = desk.summary("run");
    let dead: Vec<u64> =
        summary["dead_outputs"].as_array().expect("a list").iter().filter_map(|c| c.as_u64()).collect();
    assert!(!dead.is_empty(), "a rate of 1 kills some of ten units: {summary}");
    for class in dead.iter().filter(|class| **class > 0) {
        let answered: u64 = (0..10).filter_map(|row| summary["confusion"][row][*class as usize].as_u64()).sum();
        assert_eq!(answered, 0, "class {class} is dead and answered: {summary}");
    }
    assert_eq!(desk.events("run", "evaluated")[0]["dead_outputs"], summary["dead_outputs"]);
    let found = desk.run(&["eval", "run/model.safetensors", "--json"]).ok().json();
    assert_eq!(found["dead_outputs"], summary["dead_outputs"]);
    desk.train("other", &["--max-steps", "3"]).ok();
    assert!(desk.summary("other").get("dead_outputs").is_none(), "no ReLU ends LeNet");
}

/// Oracle: TensorBoard's own reader, on what a real run wrote.
#[test]
fn tensorboard_reads_the_curves_of_a_run() {
    let Some(python) = python() else { return };
    let desk = Desk::new();
    desk.train("run", SHORT).ok();
    let script = root().join("tests/oracle/read_events.py");
    let output = std::process::Command::new(python).arg(script).arg(desk.path("run")).output().expect("python runs");
    if output.status.code() == Some(77) {
        skip("LOCKSTEP_PYTHON has no tensorboard");
        return;
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let curves: BTreeMap<String, Vec<(u64, f32)>> = serde_json::from_slice(&output.stdout).expect("JSON");
    for (event, key, tags) in [
        ("epoch_ended", "train_loss", ["Loss_cifar10-like/train", "Loss train"]),
        ("epoch_ended", "train_accuracy", ["Accuracy_cifar10-like/train", "Train Accuracy"]),
        ("evaluated", "loss", ["Loss_cifar10-like/test", "Loss test"]),
        ("evaluated", "accuracy", ["Accuracy_cifar10-like/test", "Test Accuracy"]),
    ] {
        let told = desk.events("run", event);
        // TensorBoard's scalars are f32
        let value = |record: &serde_json::Value| record[key].as_f64().expect("a number") as f32;
        let points: Vec<_> =
            told.iter().map(|record| (record["epoch"].as_u64().expect("epoch"), value(record))).collect();
        assert_eq!(points.iter().map(|point| point.0).collect::<Vec<_>>(), [1, 2], "{event}");
        for tag in tags {
            assert_eq!(curves.get(tag), Some(&points), "{tag}");
        }
    }
    // how long the first step took is not known
    for (tag, first) in [("Learning rate", 1), ("Gradient norm", 1), ("Throughput/images_per_s", 2)] {
        let points = curves.get(tag).unwrap_or_else(|| panic!("no {tag} in {:?}", curves.keys()));
        assert_eq!(points.iter().map(|point| point.0).collect::<Vec<_>>(), (first..=28).collect::<Vec<u64>>(), "{tag}");
        assert!(points.iter().all(|point| point.1 > 0.0), "{tag}: {points:?}");
    }
    for kind in ["compute", "wait"] {
        let tag = format!("Worker {kind} seconds per step/worker ");
        assert_eq!(curves.keys().filter(|found| found.starts_with(&tag)).count(), 2, "{tag}: {:?}", curves.keys());
    }
}
