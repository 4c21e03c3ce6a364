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
    for (signal, step, workers) in [("TERM", 7, "1"), ("KILL", 9, "3"), ("INT", 20, "4"), ("HUP", 11, "2")] {
        let out = format!("{signal}-{step}");
        let running = start_until(&desk, &out, step);
        running.signal(signal);
        let done = running.finish();
        assert_eq!(done.code, (signal != "KILL").then_some(0), "{}", done.stderr);
        // it knows where its images are
        let args = ["train", "--plain", "--resume", "--out", &out, "--workers", workers];
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

/// Everything that a run adds up besides the gradients: penalties of the epoch, shards with images of their own, evaluations
/// that draw. It is stopped in the middle of an epoch, in an evaluation's step, and killed.
#[test]
fn penalties_partitions_and_evaluations_go_on_as_if_nothing_had_happened() {
    let desk = Desk::new();
    let settings = [
        "loss.name=l1-softmax",
        "loss.l1=1e-4",
        "loss.l2=1e-3",
        "data.partition=interleaved",
        "evaluation.mode=train",
        "evaluation.train_images=true",
        "evaluation.slice=64",
        "checkpoint.every_steps=4",
    ];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    desk.train("quiet", &[RUN, &settings[..]].concat()).ok();
    for (signal, step, workers) in [("TERM", 7, "3"), ("INT", 15, "1"), ("KILL", 21, "2")] {
        let out = format!("{signal}-{step}");
        let args = [&["train", "--data", "images", "--json", "--out", &out], RUN, &settings[..]].concat();
        let mut running = desk.start(&args);
        running.wait_for(|line| {
            let record: serde_json::Value = serde_json::from_str(line).ok()?;
            (record["event"] == "step" && record["step"].as_u64() >= Some(step)).then_some(())
        });
        running.signal(signal);
        drop(running.finish());
        desk.run(&["train", "--plain", "--resume", "--out", &out, "--workers", workers]).ok();
        let (ours, quiet) = (desk.summary(&out), desk.summary("quiet"));
        for key in [
            "weights_hash",
            "train_loss",
            "train_penalty",
            "train_accuracy",
            "train_eval_loss",
            "train_eval_accuracy",
            "test_loss",
            "confusion",
            "best_accuracy",
            "best_step",
        ] {
            assert_eq!(ours[key], quiet[key], "{signal}: {key}");
            assert!(!ours[key].is_null(), "{key}: {ours}");
        }
        for (event, keys) in
            [("step", ["step", "loss"]), ("epoch_ended", ["epoch", "train_loss"]), ("evaluated", ["split", "loss"])]
        {
            let told = |out: &str| -> Vec<Vec<serde_json::Value>> {
                let events = desk.events(out, event);
                events.iter().map(|event| keys.iter().map(|key| event[*key].clone()).collect()).collect()
            };
            assert_eq!(told(&out), told("quiet"), "{signal}: {event}");
        }
    }
}

#[test]
fn another_recipe_other_images_and_a_used_folder_are_refused_by_name() {
    let desk = Desk::new();
    desk.train("run", &["--max-steps", "6"]).ok();
    let resume = |args: &[&str]| desk.run(&[&["train", "--resume", "--out", "run", "--plain"], args].concat());
    resume(&["--data", "images", "--lr", "0.5"]).refused(&["optimizer.lr", "0.5", "0.01"]);
    let other = resume(&["--data", "images", "lenet-dropout"]);
    other.refused(&["model.name", "\"lenet\"", "\"lenet-dropout\"", "more differences"]);
    assert!(other.stderr.len() < 400, "only the first is told: {}", other.stderr);
    resume(&["--data", "builtin"]).refused(&["builtin", "cifar10-like", "same --data"]);
    desk.train("run", &["--max-steps", "6"]).refused(&["run is there already", "--resume"]);
    desk.run(&["train", "--data", "images", "--resume", "--out", "nowhere"]).refused(&["nowhere", "nothing to resume"]);
    assert!(!desk.path("nowhere").exists(), "a refusal leaves nothing behind");
}

#[test]
fn a_folder_has_one_writer_at_a_time() {
    let desk = Desk::new();
    let running = start_until(&desk, "run", 2);
    for command in [&["train"][..], &["coordinator", "--listen", "127.0.0.1:0"]] {
        let second = desk.run(&[command, &["--resume", "--out", "run", "--data", "images"]].concat());
        let process = format!("process {}", running.child.id());
        second.refused(&["run is being written by", &process, "--out"]);
    }
    running.signal("KILL");
    drop(running.finish());
    // a killed process holds nothing
    desk.run(&["train", "--resume", "--out", "run", "--plain"]).ok();
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

    // the recipe that is kept remembers them: it is no other run's
    let recipe = std::fs::read_to_string(desk.path("second/recipe.toml")).expect("recipe.toml");
    assert!(recipe.contains(&format!("init_hash = \"{}\"", desk.hash("first"))), "{recipe}");
    let kept = "second/recipe.toml";
    desk.train("cold", &[kept]).refused(&["begins with the weights", &desk.hash("first")[..12], "--init-from"]);
    desk.train("other", &[kept, "--init-from", "second/model.safetensors"]).refused(&["begins with the weights"]);
    // a run's folder stands for its last weights
    desk.train("again", &[kept, "--init-from", "first"]).ok();
    assert_eq!(desk.hash("again"), desk.hash("second"));
    // the built-in recipe that begins warm says what it misses
    let done = desk.train("warm", &["net6-lenet-sgd", "--max-steps", "1"]).ok();
    assert!(done.stderr.contains("to begin with the weights of net6-lenet"), "{}", done.stderr);
}

#[test]
fn a_finished_run_says_so_and_starts_no_worker() {
    let desk = Desk::new();
    desk.run(&["train", "--data", "images", "--max-steps", "6", "--quiet"]).ok();
    let metrics = std::fs::read_dir(desk.path("runs")).expect("runs").next().expect("one").expect("entry").path();
    let before = fs::read(metrics.join("metrics.jsonl")).expect("metrics");
    // neither folder is a run that could be resumed
    fs::create_dir_all(desk.path("runs/zzz/checkpoints")).expect("folder");
    fs::create_dir(desk.path("runs/empty")).expect("folder");
    for args in [&["train", "--resume"][..], &["train", "--resume", "--data", "images"], &["coordinator", "--resume"]] {
        let done = desk.run(args).ok();
        assert!(done.stderr.contains("is finished") && done.stderr.contains("6 steps"), "{}", done.stderr);
        assert_eq!(done.stdout, "");
    }
    assert_eq!(fs::read(metrics.join("metrics.jsonl")).expect("metrics"), before);
    fs::remove_dir_all(&metrics).expect("removed");
    desk.run(&["train", "--resume"]).refused(&["no run in runs/", "--out"]);
    desk.run(&["train", "--resume", "--out", "runs/zzz"]).refused(&["runs/zzz", "has no checkpoint"]);
}

#[test]
fn images_that_moved_are_asked_for() {
    let desk = Desk::new();
    let running = start_until(&desk, "run", 5);
    running.signal("TERM");
    running.finish().ok();
    fs::rename(desk.path("images"), desk.path("moved")).expect("renamed");
    desk.run(&["train", "--resume", "--out", "run"]).refused(&["images", "data.toml", "--data"]);
    desk.run(&["train", "--resume", "--out", "run", "--data", "moved", "--quiet"]).ok();
}

/// A coordinator nobody has joined: it stops at once, leaves no weights that nobody trained, and can be begun again.
#[test]
fn a_run_that_is_stopped_before_its_first_step_begins_again() {
    let desk = Desk::new();
    let args = ["coordinator", "--data", "images", "--listen", "127.0.0.1:0", "--out", "run", "--max-steps", "6"];
    let mut running = desk.start(&args);
    running.wait_for(|line| line.contains("waiting for").then_some(()));
    running.signal("INT");
    let done = running.finish().ok();
    assert!(
        done.stderr.contains("before the first step") && done.stderr.contains("--resume --out run"),
        "{}",
        done.stderr
    );
    assert!(!desk.path("run/model.safetensors").exists());
    desk.run(&["train", "--resume", "--out", "run", "--quiet"]).ok();
    desk.train("quiet", &["--max-steps", "6"]).ok();
    assert_eq!(desk.hash("run"), desk.hash("quiet"));
}

#[test]
fn the_container_script_begins_goes_on_and_ends() {
    let desk = Desk::new();
    let binaries = std::path::Path::new(env!("CARGO_BIN_EXE_lockstep")).parent().expect("a folder").to_owned();
    let script = crate::support::root().join("deploy/begin-or-resume.sh");
    let run = || {
        let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = std::process::Command::new("sh");
        command.arg(&script).args(["run", "lenet", "--data", "images", "--listen", "127.0.0.1:0", "--max-steps", "6"]);
        let output = command.args(["--wait-for-workers", "0.5"]).current_dir(desk.path(".")).env("PATH", path).output();
        let output = output.expect("sh runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // nobody joins: each time it goes on with the same folder
    for _ in 0..3 {
        assert_eq!(run().0, Some(2));
    }
    let unfinished = || {
        fs::read_dir(desk.path("."))
            .expect("list")
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().contains("unfinished"))
            .count()
    };
    assert_eq!(unfinished(), 0);
    // killed before its first checkpoint, twice
    for _ in 0..2 {
        fs::remove_dir_all(desk.path("run/checkpoints")).expect("removed");
        assert_eq!(run().0, Some(2));
    }
    assert_eq!(unfinished(), 1);
    desk.run(&["train", "--resume", "--out", "run", "--quiet"]).ok();
    let (code, text) = run();
    assert!(code == Some(0) && text.contains("is finished"), "{code:?} {text}");
}
