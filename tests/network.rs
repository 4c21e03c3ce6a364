//! Networks that are slow, cut, partitioned or corrupt: the hash stays that of a quiet run.

use std::time::Duration;

use crate::support::cluster::{Coordinator, worker};
use crate::support::hosts::Hosts;
use crate::support::proxy::{Faults, Proxy};
use crate::support::{Desk, Running};

const RUN: &[&str] = &["--max-steps", "24", "--batch-size", "48", "--plane", "grpc"];

/// The hash of the run without trouble. Its worker leaves the images in the desk's cache, so that later ones fetch none.
fn quiet(desk: &Desk, run: &[&str]) -> String {
    let coordinator = Coordinator::start(desk, "quiet", run);
    let worker = worker(desk, &coordinator.address, &[]);
    coordinator.finish().ok();
    worker.finish().ok();
    desk.hash("quiet")
}

/// A run over a proxy with `faults`, and why workers were lost in it.
fn over(desk: &Desk, run: &[&str], faults: Faults) -> Vec<String> {
    let coordinator = Coordinator::start(desk, "run", &[run, &["--min-workers", "2"]].concat());
    let proxy = Proxy::start(&coordinator.address, faults);
    let workers = ["one", "two"].map(|name| worker(desk, &proxy.address, &["--name", name]));
    coordinator.finish().ok();
    let done = proxy.faults();
    // the last of it may be lost on the way, and a worker that has no coordinator waits for one
    drop(proxy);
    workers.into_iter().for_each(stop);
    assert_eq!(done, faults.most, "the run was over before all that was to go wrong did");
    let left = desk.events("run", "worker_left");
    left.iter().map(|event| event["reason"].as_str().expect("a reason").to_owned()).collect()
}

fn stop(worker: Running) {
    worker.signal("TERM");
    drop(worker.finish());
}

#[test]
fn a_network_that_delays_and_cuts_costs_time_alone() {
    let desk = Desk::new();
    let hash = quiet(&desk, RUN);
    let delay = Duration::from_millis(2);
    let faults = Faults { delay, cut_within: Some(600_000), most: 12, seed: 1, ..Faults::default() };
    let reasons = over(&desk, RUN, faults);
    assert_eq!(desk.hash("run"), hash);
    assert!(!reasons.is_empty(), "no cut cost a session");
}

#[test]
fn a_slow_network_costs_time_alone() {
    let desk = Desk::new();
    let run = ["--max-steps", "6", "--batch-size", "48", "--plane", "grpc"];
    let hash = quiet(&desk, &run);
    let reasons = over(&desk, &run, Faults { bytes_per_second: Some(1 << 20), ..Faults::default() });
    assert_eq!(desk.hash("run"), hash);
    assert_eq!(reasons, [""; 0], "a slow worker is not a lost one");
}

#[test]
fn flipped_bits_in_messages_are_noticed() {
    let desk = Desk::new();
    let hash = quiet(&desk, RUN);
    let reasons = over(&desk, RUN, Faults { flip_data_within: Some(600_000), most: 12, seed: 2, ..Faults::default() });
    assert_eq!(desk.hash("run"), hash);
    assert!(reasons.iter().any(|reason| reason.contains("changed on the way")), "{reasons:?}");
}

#[test]
fn flipped_bits_in_frames_are_survived() {
    let desk = Desk::new();
    let run = [RUN, &["--lease-timeout", "5"]].concat();
    let hash = quiet(&desk, &run);
    let reasons = over(&desk, &run, Faults { flip_header_within: Some(400), most: 6, seed: 3, ..Faults::default() });
    assert_eq!(desk.hash("run"), hash);
    assert!(!reasons.is_empty(), "no flipped bit cost a session");
}

/// Three hosts on a slow network, and the cable of one is pulled for three seconds in the middle of the run.
#[test]
fn a_partitioned_host_loses_its_work_and_comes_back() {
    let Some(hosts) = Hosts::new(3) else { return };
    let Some(()) = hosts.slow_down(16) else { return };
    let desk = Desk::new();
    // long enough that the lost host is back before the other one has done it all
    let run = ["--max-steps", "56", "--epochs", "4", "--batch-size", "48", "--plane", "grpc"];
    let hash = quiet(&desk, &run);

    let start = |host: usize, args: &[&str]| {
        let before = hosts.on(host);
        desk.start_under(&before.each_ref().map(String::as_str), args)
    };
    let address = format!("{}:7077", hosts.address(0));
    let fixed =
        ["coordinator", "--data", "images", "--json", "--listen", &address, "--out", "run", "--min-workers", "2"];
    let mut coordinator = Coordinator::watch(start(0, &[&fixed[..], &run].concat()));
    let workers = [1, 2].map(|host| start(host, &["worker", "--join", &address, "--threads", "1"]));
    let event =
        |name: &'static str| move |line: &str| line.contains(&format!("\"event\":\"{name}\"")).then(|| line.to_owned());
    coordinator.running.wait_for(|line| line.contains("\"step\":3,").then_some(()));
    hosts.plug(1, false);
    let left = coordinator.running.wait_for(event("worker_left"));
    assert!(left.contains("no heartbeat for 2.0 s"), "{left}");
    std::thread::sleep(Duration::from_secs(1));
    hosts.plug(1, true);
    coordinator.running.wait_for(event("worker_joined"));
    coordinator.finish().ok();
    for worker in workers {
        worker.finish().ok();
    }
    assert_eq!(desk.hash("run"), hash);
    let ledger = &desk.summary("run")["ledger"];
    assert!(ledger["reissued"].as_u64() >= Some(1), "{ledger}");
}
