//! `lockstep reproduce`: recipes trained as `train` does, interrupted and resumed, beside their reports' numbers.

use std::fs;

use serde_json::Value;

use crate::support::{Desk, Running};

/// Two epochs of 16 steps.
const TINY: &str = "source = \"a report\"\nepochs = 2\nbatch_size = 40\nshards = 2\n[optimizer]\nlr = 0.05\n\
                    [[reported]]\nepoch = 2\ntest_accuracy = 0.5\ntrain_loss = 2.25\nnote = \"by hand\"\n";

const REPRODUCE: &[&str] = &["reproduce", "tiny.toml", "--seeds", "0,1", "--json", "--out", "rep"];

fn desk() -> Desk {
    let desk = Desk::new();
    fs::write(desk.path("tiny.toml"), TINY).expect("recipe");
    desk
}

/// Starts all and waits until the training with `seed` has made `step`.
fn start_until(desk: &Desk, seed: u64, step: u64) -> Running {
    let mut running = desk.start(&[REPRODUCE, &["--data", "images"]].concat());
    let record = |line: &str| serde_json::from_str::<Value>(line).ok();
    running.wait_for(|line| record(line).filter(|record| record["event"] == "run_started" && record["seed"] == seed));
    running.wait_for(|line| {
        record(line).filter(|record| record["event"] == "step" && record["step"].as_u64() >= Some(step))
    });
    running
}

#[test]
fn it_is_interrupted_and_goes_on_and_its_runs_are_those_of_train() {
    let desk = desk();
    let running = start_until(&desk, 1, 3);
    running.signal("TERM");
    let stopped = running.finish().ok();
    let way_on = "go on with: lockstep reproduce tiny.toml --seeds 0,1 --resume --out rep";
    assert!(stopped.stderr.contains("stopped by SIGTERM") && stopped.stderr.contains(way_on), "{}", stopped.stderr);
    let results = |desk: &Desk| -> Value {
        serde_json::from_str(&fs::read_to_string(desk.path("rep/results.json")).expect("results.json")).expect("JSON")
    };
    let runs = |value: &Value| value["experiments"][0]["runs"].as_array().map_or(0, Vec::len);
    assert_eq!(runs(&results(&desk)), 1, "only what is done counts");
    let first = fs::read(desk.path("rep/tiny/seed-0/metrics.jsonl")).expect("metrics");

    desk.run(&[REPRODUCE, &["--data", "images"]].concat()).refused(&["rep is there already", "--resume"]);
    // it knows where its images are
    let done = desk.run(&[REPRODUCE, &["--resume"]].concat()).ok().json();
    assert_eq!(done["event"], "reproduced");
    assert_eq!(done["experiments"], results(&desk)["experiments"]);
    assert_eq!(fs::read(desk.path("rep/tiny/seed-0/metrics.jsonl")).expect("metrics"), first, "not trained again");

    // oracle: the same trainings by hand
    let mut accuracies = Vec::new();
    for seed in ["0", "1"] {
        desk.train(seed, &["tiny.toml", "--seed", seed]).ok();
        assert_eq!(desk.hash(&format!("rep/tiny/seed-{seed}")), desk.hash(seed));
        accuracies.push(desk.summary(seed)["test_accuracy"].as_f64().expect("accuracy"));
    }
    let experiment = &done["experiments"][0];
    assert_eq!(experiment["runs"][1]["weights_hash"], desk.summary("1")["weights_hash"]);
    let figure = &experiment["figures"][0];
    assert_eq!((&figure["quantity"], &figure["reported"]), (&"test_accuracy".into(), &0.5.into()));
    assert_eq!(figure["ours"], serde_json::json!(accuracies));
    let mean = (accuracies[0] + accuracies[1]) / 2.0;
    assert!((figure["mean"].as_f64().expect("mean") - mean).abs() < 1e-12, "{figure}");
    assert!((figure["difference"].as_f64().expect("difference") - (mean - 0.5)).abs() < 1e-12, "{figure}");
    assert_eq!(experiment["figures"][1]["quantity"], "train_loss");

    let page = fs::read_to_string(desk.path("rep/results.md")).expect("results.md");
    for words in ["## a report", "| tiny | 2 | test accuracy (by hand) | 50.00% |", "| cifar10-like"] {
        assert!(page.contains(words), "no {words:?} in {page}");
    }

    // nothing is left to do, which the table shows without a training
    let again = desk.run(&["reproduce", "tiny.toml", "--seeds", "0,1", "--resume", "--out", "rep", "--plain"]).ok();
    let hash = desk.hash("1");
    for words in ["reproduce: 2 trainings on cifar10-like", "done", "50.00%", "train loss", &hash[..12]] {
        assert!(again.stdout.contains(words), "no {words:?} in {}", again.stdout);
    }
    assert!(!again.stdout.contains("worker-0 joined"), "{}", again.stdout);
}

#[test]
fn what_was_killed_before_its_first_checkpoint_is_put_aside_and_begins_again() {
    let desk = desk();
    let running = start_until(&desk, 0, 2);
    running.signal("KILL");
    drop(running.finish());
    // as if it had been killed before it wrote the first one, of step 0
    fs::remove_dir_all(desk.path("rep/tiny/seed-0/checkpoints")).expect("removed");
    desk.run(&[REPRODUCE, &["--resume"]].concat()).ok();
    desk.train("0", &["tiny.toml"]).ok();
    assert_eq!(desk.hash("rep/tiny/seed-0"), desk.hash("0"));
    assert!(desk.path("rep/tiny/seed-0.torn-1/metrics.jsonl").exists(), "nothing is deleted");
}

#[test]
fn what_can_not_stand_in_one_table_is_refused() {
    let desk = desk();
    let reproduce = |args: &[&str]| desk.run(&[&["reproduce", "--data", "images", "--out", "rep"], args].concat());
    reproduce(&["tiny.toml", "--resume"]).refused(&["rep is not there", "without --resume"]);
    reproduce(&["tinny"]).refused(&["tinny", "there are lenet"]);
    reproduce(&[]).refused(&["NAME"]);
    reproduce(&["tiny.toml", "--seeds", "0,x"]).refused(&["--seeds", "x"]);
    assert!(!desk.path("rep").exists(), "a refusal leaves nothing behind");
    reproduce(&["tiny.toml", "--quiet"]).ok();
    let builtin = ["reproduce", "tiny.toml", "--resume", "--out", "rep", "--data", "builtin"];
    let kept = fs::read_to_string(desk.path("rep/data.toml")).expect("kept");
    desk.run(&builtin).refused(&["rep holds runs on", "images", "builtin", "leave out --data", "another --out"]);
    desk.run(&[&builtin[..], &["--seeds", "5"]].concat()).refused(&["rep holds runs on"]);
    assert_eq!(fs::read_to_string(desk.path("rep/data.toml")).expect("kept"), kept, "rewritten");
    fs::write(desk.path("tiny.toml"), TINY.replace("epochs = 2", "epochs = 3")).expect("recipe");
    reproduce(&["tiny.toml", "--resume"]).refused(&["rep/tiny/seed-0", "epochs was 2, and is 3 now", "--out"]);
    // under another seed it is trained, and what was there is in no mean
    let done = reproduce(&["tiny.toml", "--resume", "--seeds", "1", "--json"]).ok();
    assert!(done.stderr.contains("tiny/seed-0 was another recipe (epochs 2, not 3): left out"), "{}", done.stderr);
    assert_eq!(done.json()["experiments"][0]["runs"].as_array().map(Vec::len), Some(1));
}

/// A training that fails is a result too: the others are trained all the same.
#[test]
fn one_that_diverges_does_not_keep_the_others_waiting() {
    let desk = desk();
    fs::write(desk.path("wild.toml"), "extends = \"tiny.toml\"\n[optimizer]\nlr = 1e6\n").expect("recipe");
    let done = desk.run(&["reproduce", "wild.toml", "tiny.toml", "--data", "images", "--out", "rep", "--plain"]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    for words in ["1 training failed: wild with seed 0", "optimizer.lr"] {
        assert!(done.stderr.contains(words), "no {words:?} in {}", done.stderr);
    }
    assert!(done.stdout.contains("not run"), "{}", done.stdout);
    assert_eq!(desk.summary("rep/tiny/seed-0")["steps"], 32);
}
