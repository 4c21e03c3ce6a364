//! Coordinator and workers by hand.

use crate::support::{Desk, Running};

const RUN: &[&str] = &["--max-steps", "20", "--batch-size", "48"];

fn coordinator(desk: &Desk, out: &str, args: &[&str]) -> (Running, String) {
    let fixed = ["coordinator", "--data", "images", "--plain", "--listen", "127.0.0.1:0", "--out", out];
    let mut running = desk.start(&[&fixed[..], args].concat());
    let line = running.wait_for_error("join with");
    let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
    (running, address)
}

fn worker(desk: &Desk, address: &str, args: &[&str]) -> Running {
    desk.start(&[&["worker", "--join", address, "--threads", "1"], args].concat())
}

#[test]
fn three_terminals_give_the_hash_of_train() {
    let desk = Desk::new();
    desk.train("train", RUN).ok();
    let (coordinator, address) = coordinator(&desk, "roles", &[RUN, &["--min-workers", "2"]].concat());
    let workers =
        [worker(&desk, &address, &["--name", "one"]), worker(&desk, &address, &["--data", "images", "--no-cache"])];
    coordinator.finish().ok();
    for worker in workers {
        let done = worker.finish().ok();
        assert!(done.stderr.contains("done: every step is made"), "{}", done.stderr);
        assert!(done.stderr.contains("joined roles: lenet on 640 training and 100 test images"), "{}", done.stderr);
    }
    assert_eq!(desk.hash("roles"), desk.hash("train"));
}

#[test]
fn status_tells_and_stop_keeps_a_checkpoint_to_go_on_from() {
    let desk = Desk::new();
    let long = ["--epochs", "4000", "--batch-size", "48", "--set", "evaluation.every_epochs=0"];
    let (mut running, address) = coordinator(&desk, "run", &long);
    let waiting = desk.run(&["status", &address, "--json"]).ok().json();
    assert_eq!((waiting["phase"].as_str(), waiting["step"].as_u64()), (Some("waiting"), Some(0)));
    let worker = worker(&desk, &address, &["--name", "anna"]);
    running.wait_for(|line| line.contains("   2/4000").then_some(()));
    let status = desk.run(&["status", &address, "--json"]).ok().json();
    assert_eq!(status["phase"], "training");
    assert_eq!(status["workers"][0]["name"], "anna");
    let stopped = desk.run(&["stop", &address, "--json"]).ok().json();
    let step = stopped["step"].as_u64().expect("step");
    assert!(step > 14, "{stopped}");
    running.finish().ok();
    worker.finish().ok();
    assert!(desk.path(&format!("run/checkpoints/step-{step:08}.safetensors")).is_file());
    assert_eq!(desk.summary("run")["stopped_early"], true);
}

#[test]
fn a_worker_without_a_coordinator_gives_up_with_2_and_other_images_are_refused() {
    let desk = Desk::new();
    let done = desk.run(&["worker", "--join", "127.0.0.1:9", "--reconnect", "0.3"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("127.0.0.1:9") && done.stderr.contains("lockstep coordinator"), "{}", done.stderr);

    let (running, address) = coordinator(&desk, "run", RUN);
    let other = desk.path("other");
    std::fs::create_dir(&other).expect("folder");
    for name in ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"] {
        std::fs::copy(desk.path("images/data_batch_1.bin"), other.join(name)).expect("copied");
    }
    std::fs::copy(desk.path("images/test_batch.bin"), other.join("test_batch.bin")).expect("copied");
    desk.run(&["worker", "--join", &address, "--data", "other"]).refused(&["hash", "same images"]);
    // the refused one did no harm: an honest worker still finishes the run
    worker(&desk, &address, &[]).finish().ok();
    running.finish().ok();
}

#[test]
fn another_device_class_is_refused_with_the_way_out() {
    let desk = Desk::new();
    let (running, address) = coordinator(&desk, "run", &[RUN, &["--min-workers", "2"]].concat());
    let first = worker(&desk, &address, &["--kernels", "portable"]);
    while desk.run(&["status", &address, "--json"]).ok().json()["workers"].as_array().is_none_or(Vec::is_empty) {}
    let refused = desk.run(&["worker", "--join", &address, "--threads", "1"]);
    if refused.code == Some(0) {
        return; // this processor has only the portable kernels
    }
    refused.refused(&["device class", "--kernels portable"]);
    let second = worker(&desk, &address, &["--kernels", "portable"]);
    running.finish().ok();
    first.finish().ok();
    second.finish().ok();
}

#[test]
fn without_the_promise_device_classes_mix_and_nothing_that_compares_bits_is_offered() {
    let desk = Desk::new();
    let args = [RUN, &["--fast", "--set", "evaluation.every_epochs=0", "--min-workers", "2"]].concat();
    let (running, address) = coordinator(&desk, "run", &args);
    let workers = [worker(&desk, &address, &["--kernels", "portable"]), worker(&desk, &address, &[])];
    let done = running.finish().ok();
    workers.into_iter().for_each(|worker| drop(worker.finish().ok()));
    assert!(done.stdout.contains("the promise of one result is off"), "{}", done.stdout);
    assert!(done.stdout.contains("of this run alone"), "{}", done.stdout);
    let summary = desk.summary("run");
    assert_eq!((&summary["deterministic"], &summary["workers"]), (&false.into(), &2.into()));
    let classes = summary["device_class"].as_str().expect("class").split(" + ").count();
    let sets = desk.run(&["bench", "--steps", "20", "--workers", "1", "--json"]).ok().json();
    let alone = sets["device_class"].as_str().expect("class").contains("portable");
    assert_eq!(classes, if alone { 1 } else { 2 }, "{summary}");
    desk.run(&["verify", "lenet", "--fast", "--data", "images"]).refused(&["--fast", "compares bits"]);
    desk.train("audit", &[RUN, &["--fast", "--audit", "0.5"]].concat()).refused(&["--audit 0.5", "--fast"]);
}

#[test]
fn sums_among_gpus_are_refused_under_the_promise_and_to_workers_without_one() {
    let desk = Desk::new();
    let nccl = [RUN, &["--plane", "nccl", "--set", "evaluation.every_epochs=0"]].concat();
    let out = ["coordinator", "--data", "images", "--listen", "127.0.0.1:0", "--out", "no"];
    desk.run(&[&out[..], &nccl].concat()).refused(&["--plane nccl", "one result", "--fast", "leave --plane nccl out"]);
    desk.train("no", &[&nccl[..], &["--fast", "--device", "cpu"]].concat())
        .refused(&["--plane nccl", "leave --plane out"]);
    let (running, address) = coordinator(&desk, "run", &[&nccl[..], &["--fast", "--min-workers", "1"]].concat());
    let cpu = desk.run(&["worker", "--join", &address, "--device", "cpu", "--threads", "1"]);
    cpu.refused(&["by NCCL", "--features nccl", "--device cuda"]);
    desk.run(&["stop", &address]).ok();
    let done = running.finish().ok();
    assert!(done.stdout.contains("gradients are summed among the GPUs"), "{}", done.stdout);
}

#[test]
fn a_worker_that_is_asked_to_stop_finishes_its_shard_and_says_so() {
    let desk = Desk::new();
    let (mut running, address) = coordinator(&desk, "run", &["--epochs", "300", "--set", "evaluation.every_epochs=0"]);
    let (anna, ben) = (worker(&desk, &address, &["--name", "anna"]), worker(&desk, &address, &["--name", "ben"]));
    running.wait_for(|line| line.contains("  2/300").then_some(()));
    anna.signal("TERM");
    let left = anna.finish().ok();
    assert!(left.stderr.contains("asked to stop"), "{}", left.stderr);
    let done = running.finish().ok();
    ben.finish().ok();
    assert!(done.stdout.contains("it was asked to stop"), "{}", done.stdout);
    let ledger = &desk.summary("run")["ledger"];
    assert_eq!(ledger["reissued"], 0, "{ledger}");
}

/// Something that listens and never answers, as a port of another program may.
#[test]
fn a_port_that_says_nothing_is_given_up() {
    let desk = Desk::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("address").to_string();
    for command in ["status", "stop"] {
        let done = desk.run(&[command, &address]);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(&address) && done.stderr.contains("is it a coordinator?"), "{}", done.stderr);
    }
}

#[test]
fn an_ipv6_address_is_told_in_brackets() {
    let desk = Desk::new();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return; // this machine has no IPv6
    }
    let args = ["coordinator", "--data", "images", "--listen", "[::1]:0", "--out", "run", "--max-steps", "6"];
    let mut running = desk.start(&args);
    let line = running.wait_for_error("join with");
    let address = line.trim().rsplit(' ').next().expect("an address").to_owned();
    assert!(address.starts_with("[::1]:"), "{line}");
    worker(&desk, &address, &[]).finish().ok();
    running.finish().ok();
}
