//! Workers that are lost, and a parent that is.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::Desk;
use crate::support::process::{alive, children};

#[test]
fn a_lost_worker_changes_the_ledger_and_not_the_weights() {
    let desk = Desk::new();
    let args = ["--max-steps", "20", "--batch-size", "48"];
    desk.train("quiet", &args).ok();
    let done = desk.train("loud", &[&args[..], &["--workers", "3", "--kill", "2@6", "--kill", "0@9"]].concat()).ok();
    assert_eq!(desk.hash("quiet"), desk.hash("loud"));
    let ledger = &desk.summary("loud")["ledger"];
    assert!(ledger["reissued"].as_u64() >= Some(2), "{ledger}");
    assert_eq!(
        (ledger["used"].as_u64(), ledger["lost"].as_u64(), ledger["repeated"].as_u64()),
        (Some(928), Some(0), Some(0))
    );
    assert!(done.stdout.contains("lost"), "a person should see it: {}", done.stdout);
}

#[test]
fn when_nobody_is_left_the_run_ends_with_2_and_says_how_to_go_on() {
    let desk = Desk::new();
    let args = ["--max-steps", "20", "--set", "checkpoint.every_steps=5", "--workers", "2", "--max-restarts", "0"];
    let done = desk.train("run", &[&args[..], &["--kill", "0@8", "--kill", "1@8"]].concat());
    assert_eq!(done.code, Some(2), "{}\n{}", done.stdout, done.stderr);
    assert!(done.stderr.contains("--resume --out run"), "{}", done.stderr);
    let again = desk.run(&["train", "--data", "images", "--plain", "--resume", "--out", "run"]).ok();
    desk.train("quiet", &["--max-steps", "20", "--set", "checkpoint.every_steps=5"]).ok();
    assert_eq!(desk.hash("run"), desk.hash("quiet"), "{}", again.stdout);
}

/// A worker that is asked to go, by an administrator or the kernel's memory keeper, is no end of the run.
#[test]
fn a_worker_that_leaves_politely_is_started_again() {
    let desk = Desk::new();
    let args =
        ["train", "--data", "images", "--json", "--out", "run", "--epochs", "30", "--set", "evaluation.every_epochs=0"];
    let mut running = desk.start(&args);
    running.wait_for(|line| line.contains("\"event\":\"step\"").then_some(()));
    for worker in children(running.child.id()) {
        assert!(Command::new("kill").args(["-TERM", &worker.to_string()]).status().expect("kill runs").success());
    }
    running.finish().ok();
    assert_eq!(desk.summary("run")["steps"], 300);
}

/// SIGKILL gives the parent no chance to clean up: its workers must notice by themselves.
#[test]
fn workers_do_not_outlive_a_killed_parent() {
    let desk = Desk::new();
    let marker = "--seed=918273";
    let mut running = desk.start(&[
        "train",
        "--data",
        "images",
        "--json",
        "--epochs",
        "100000",
        "--set",
        "evaluation.every_epochs=0",
        marker,
    ]);
    running.wait_for(|line| line.contains("\"event\":\"step\"").then_some(()));
    let address = children(running.child.id());
    assert_eq!(address.len(), 2, "two workers");
    running.signal("KILL");
    let start = Instant::now();
    while address.iter().any(|id| alive(*id)) {
        assert!(start.elapsed() < Duration::from_secs(10), "workers are still there");
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(running.finish());
}
