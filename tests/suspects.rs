//! Workers that are late, and workers that are wrong.

use std::time::Duration;

use crate::support::Desk;
use crate::support::cluster::{Coordinator, worker};

const RUN: &[&str] = &["--max-steps", "40", "--batch-size", "48"];

fn ledger(desk: &Desk, key: &str) -> u64 {
    desk.summary("run")["ledger"][key].as_u64().expect("a count")
}

/// Flipping one bit is what broken memory does: two other computations show whose it is.
#[test]
fn a_worker_that_computes_one_bit_wrong_is_found_and_sent_away() {
    let desk = Desk::new();
    desk.train("quiet", RUN).ok();
    for plane in ["auto", "grpc"] {
        let _ = std::fs::remove_dir_all(desk.path("run"));
        let args = [RUN, &["--min-workers", "3", "--audit", "1", "--plane", plane]].concat();
        let coordinator = Coordinator::start(&desk, "run", &args);
        let address = coordinator.address.clone();
        let honest = [worker(&desk, &address, &["--name", "anna"]), worker(&desk, &address, &["--name", "ben"])];
        let broken = worker(&desk, &address, &["--name", "carl", "--lie-at-step", "9"]);
        broken.finish().refused(&["differs", "can't be trusted"]);
        let done = coordinator.finish().ok();
        honest.into_iter().for_each(|worker| drop(worker.finish().ok()));
        assert_eq!(desk.hash("run"), desk.hash("quiet"), "{plane}");
        assert!(done.stdout.contains("carl lost: its answer"), "{}", done.stdout);
        assert!(ledger(&desk, "audited") > 0, "{}", done.stdout);
    }
}

/// Everybody's answers are compared, and honest ones agree: over shared memory and gRPC, with rounding and without.
#[test]
fn an_audit_of_honest_workers_finds_nothing_and_changes_nothing() {
    let desk = Desk::new();
    for (out, more) in [
        ("f32", &["--plane", "grpc"][..]),
        ("bf16", &["--set", "wire=bf16"]),
        ("grpc", &["--set", "wire=bf16", "--plane", "grpc"]),
    ] {
        let audited = format!("{out}-audited");
        desk.train(out, &[RUN, more].concat()).ok();
        desk.train(&audited, &[RUN, more, &["--audit", "0.5", "--workers", "3"]].concat()).ok();
        assert_eq!(desk.hash(out), desk.hash(&audited));
        let ledger = &desk.summary(&audited)["ledger"];
        assert!(ledger["audited"].as_u64() > Some(20) && ledger["disputed"] == 0, "{ledger}");
        assert_eq!((ledger["lost"].as_u64(), ledger["repeated"].as_u64()), (Some(0), Some(0)), "{ledger}");
    }
}

/// A worker that stands still, and nobody has noticed yet: the others do not wait for it.
#[test]
fn the_shard_of_a_late_worker_is_computed_by_an_idle_one() {
    let desk = Desk::new();
    let long = ["--epochs", "60", "--batch-size", "48", "--set", "evaluation.every_epochs=0"];
    let patient = ["--worker-timeout", "600", "--min-workers", "2"];
    let mut coordinator = Coordinator::start(&desk, "run", &[&long[..], &patient].concat());
    let address = coordinator.address.clone();
    let (anna, ben) = (worker(&desk, &address, &["--name", "anna"]), worker(&desk, &address, &["--name", "ben"]));
    coordinator.running.wait_for(|line| line.contains(" 2/60").then_some(()));
    for _ in 0..3 {
        ben.signal("STOP");
        std::thread::sleep(Duration::from_millis(300));
        ben.signal("CONT");
        std::thread::sleep(Duration::from_millis(100));
    }
    coordinator.finish().ok();
    anna.finish().ok();
    ben.finish().ok();
    assert!(ledger(&desk, "copied") > 0, "nothing was copied");
    assert_eq!(ledger(&desk, "disputed"), 0);
    desk.train("quiet", &long).ok();
    assert_eq!(desk.hash("run"), desk.hash("quiet"));
}
