//! Stop and go on: the weights are those of the run that never stopped.

use std::fs;

use crate::support::{Desk, Running};

const RUN: &[&str] = &["lenet-dropout-bn", "--epochs", "3", "--batch-size", "45"];

/// Starts a run and waits until `step` is made.
fn start_until(desk: &Desk, out: &str, step: u64) -> Running {
    let args =
        [&["train", "--data", "images", "--json", "--out", out, "--set", "checkpoint.every_steps=4"], RUN].concat();
    let mut running = desk.start(&args);
    running.wait_for(|line| {
        let record: serde_json::Value = serde_json::from_str(line).ok()?;
        (record["event"] == "step" && record["step"].as_u64() >= Some(step)).then_some(())
    });
    running
}

#[test]
fn a_run_that_is_stopped_and_resumed_anywhere_ends_with_the_same_weights() {
    let desk = Desk::new();
    let same = ["--set", "checkpoint.every_steps=4"];
    desk.train("quiet", &[RUN, &same].concat()).ok();
    // politely in the middle of an epoch, and with SIGKILL, at three worker counts
    for (signal, step, workers) in [("TERM", 7, "1"), ("KILL", 9, "3"), ("INT", 20, "4")] {
        let out = format!("{signal}-{step}");
        let running = start_until(&desk, &out, step);
        running.signal(signal);
        let done = running.finish();
        assert_eq!(done.code, (signal != "KILL").then_some(0), "{}", done.stderr);
        let args = ["train", "--data", "images", "--plain", "--resume", "--out", &out, "--workers", workers];
        let resumed = desk.run(&args).ok();
        assert_eq!(desk.hash(&out), desk.hash("quiet"), "{signal}: {}", resumed.stdout);
        let (ours, quiet) = (desk.summary(&out), desk.summary("quiet"));
        for key in ["train_loss", "train_accuracy", "test_loss", "confusion", "steps", "best_step"] {
            assert_eq!(ours[key], quiet[key], "{signal}: {key}");
        }
        for key in ["used", "repeated", "lost"] {
            assert_eq!(ours["ledger"][key], quiet["ledger"][key], "{signal}: ledger {key}");
        }
        let steps: Vec<_> = desk.events(&out, "step").iter().map(|step| step["step"].as_u64()).collect();
        let all: Vec<_> = (1..=45).map(Some).collect();
        assert_eq!(steps, all, "{signal}: metrics are cut back and go on");
    }
}

#[test]
fn another_recipe_other_images_and_a_used_folder_are_refused_by_name() {
    let desk = Desk::new();
    desk.train("run", &["--max-steps", "6"]).ok();
    let resume = |args: &[&str]| desk.run(&[&["train", "--resume", "--out", "run", "--plain"], args].concat());
    resume(&["--data", "images", "--lr", "0.5"]).refused(&["optimizer.lr", "0.5", "0.01"]);
    resume(&["--data", "images", "lenet-dropout"]).refused(&["model"]);
    resume(&["--data", "builtin"]).refused(&["builtin", "cifar10-like", "same --data"]);
    desk.train("run", &["--max-steps", "6"]).refused(&["run is there already", "--resume"]);
    desk.run(&["train", "--data", "images", "--resume", "--out", "nowhere"]).refused(&["nowhere", "nothing to resume"]);
    assert!(!desk.path("nowhere").exists(), "a refusal leaves nothing behind");
}

#[test]
fn a_damaged_checkpoint_is_found_and_an_older_one_taken() {
    let desk = Desk::new();
    desk.train("run", &["--max-steps", "8", "--set", "checkpoint.every_steps=4"]).ok();
    let quiet = desk.hash("run");
    let newest = desk.path("run/checkpoints/step-00000008.safetensors");
    let mut bytes = fs::read(&newest).expect("checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, &bytes).expect("damaged");
    desk.run(&["eval", "run/checkpoints/step-00000008.safetensors", "--data", "images"])
        .refused(&["damaged", "checksum"]);
    let damaged = newest.display().to_string();
    desk.train("other", &["--init-from", &damaged]).refused(&["damaged", "checksum"]);
    assert!(!desk.path("other").exists(), "a refusal leaves nothing behind");
    let done = desk.run(&["train", "--data", "images", "--plain", "--resume", "--out", "run"]).ok();
    assert!(done.stderr.contains("damaged"), "{}", done.stderr);
    assert_eq!(desk.hash("run"), quiet);
}

#[test]
fn a_run_can_begin_with_the_weights_of_another() {
    let desk = Desk::new();
    desk.train("first", &["--epochs", "10", "--optimizer", "adam", "--lr", "0.002"]).ok();
    let from = ["--init-from", "first/model.safetensors", "--epochs", "1", "--lr", "0.001"];
    desk.train("second", &from).ok();
    let first_loss = desk.events("second", "step")[0]["loss"].as_f64().expect("loss");
    assert!(first_loss < 1.5, "ln 10 = 2.3 is where fresh weights start, and these at {first_loss}");
    desk.train("third", &["lenet-dropout-bn", "--init-from", "first/model.safetensors"])
        .refused(&["another model", "net."]);
}
