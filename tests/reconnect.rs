//! Coordinators and workers that are started by hand, go away, and come back.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::Desk;
use crate::support::watched::{Cluster, Said};

/// Not over before it is stopped.
const LONG: &[&str] = &["--epochs", "100000", "--batch-size", "160", "--set", "evaluation.every_epochs=0"];

/// The hash of a run that nothing happens to.
fn quiet(desk: &Desk, recipe: &[&str]) -> String {
    desk.train("quiet", recipe).ok();
    desk.hash("quiet")
}

/// Ends the run, and compares it with a quiet one of as many steps.
fn stop_and_compare(desk: &Desk, cluster: Cluster<'_>, recipe: &[&str]) {
    cluster.coordinator.signal(Signal::TERM);
    cluster.finish();
    let steps = desk.summary("run")["steps"].to_string();
    assert_eq!(desk.hash("run"), quiet(desk, &[recipe, &["--max-steps", &steps]].concat()));
}

/// Five times, each when a checkpoint has been begun and does not stand yet.
#[test]
fn a_coordinator_that_is_killed_while_it_writes_a_checkpoint_can_be_resumed() {
    let desk = Desk::new();
    let recipe = ["lenet-dropout-bn", "--max-steps", "60", "--batch-size", "45", "--set", "checkpoint.every_steps=1"];
    let expected = quiet(&desk, &recipe);
    let mut cluster = Cluster::start(&desk, "run", &recipe);
    let _workers = [cluster.worker("anna", None), cluster.worker("ben", None)];
    let checkpoints = desk.path("run/checkpoints");
    let half_written = || {
        let entries = std::fs::read_dir(&checkpoints).into_iter().flatten().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "tmp")).count()
    };
    let mut torn = 0;
    for kill in 1..=5 {
        assert!(cluster.wait("a step", |said| said.step >= kill * 8), "the run ended before the kill");
        // a writer that is always ahead of this look would be a reason to give up, not to hang
        let start = Instant::now();
        while half_written() == 0 && start.elapsed() < Duration::from_secs(2) {}
        cluster.kill();
        torn += half_written();
        cluster.resume(&[]);
    }
    cluster.finish();
    assert_eq!(desk.hash("run"), expected);
    assert_eq!(half_written(), 0, "what was torn is cleared away");
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "5 coordinators killed, {torn} of them with a checkpoint half written");
}

#[test]
fn a_frozen_worker_is_missed_and_comes_back() {
    let desk = Desk::new();
    let mut cluster = Cluster::start(&desk, "run", LONG);
    let (anna, _ben) = (cluster.worker("anna", None), cluster.worker("ben", None));
    cluster.wait("both", |said| said.step > 5 && said.is_present("anna") && said.is_present("ben"));
    anna.signal(Signal::STOP);
    assert!(cluster.wait("the loss", |said| said.lost.iter().any(|(name, _)| name == "anna")));
    anna.signal(Signal::CONT);
    assert!(cluster.wait("the return", |said| said.is_present("anna")), "{}", cluster.log("anna"));
    let log = cluster.log("anna");
    assert!(log.contains("lost the coordinator at") && log.contains("--reconnect"), "{log}");
    assert!(log.contains("back in run"), "{log}");
    stop_and_compare(&desk, cluster, LONG);
}

/// Longer than workers let a silent connection live: they drop it, look for the coordinator, and find it when it goes on.
#[test]
fn a_frozen_coordinator_goes_on_where_it_was() {
    let desk = Desk::new();
    let mut cluster = Cluster::start(&desk, "run", LONG);
    let _workers = [cluster.worker("anna", None), cluster.worker("ben", None)];
    // one that has not joined by then has no coordinator to lose
    cluster.wait("both", |said| said.step > 5 && said.is_present("anna") && said.is_present("ben"));
    cluster.coordinator.signal(Signal::STOP);
    let start = Instant::now();
    while !["anna", "ben"].iter().all(|name| cluster.log(name).contains("lost the coordinator at")) {
        assert!(start.elapsed() < Duration::from_secs(60), "anna: {}ben: {}", cluster.log("anna"), cluster.log("ben"));
        std::thread::sleep(Duration::from_millis(20));
    }
    cluster.coordinator.signal(Signal::CONT);
    cluster.listen();
    let then = cluster.said.step;
    assert!(cluster.wait("more steps", |said| said.step > then + 5), "{}", cluster.log("anna"));
    stop_and_compare(&desk, cluster, LONG);
}

#[test]
fn a_worker_that_joins_in_the_middle_gets_work() {
    let desk = Desk::new();
    let mut cluster = Cluster::start(&desk, "run", LONG);
    let _anna = cluster.worker("anna", None);
    let works = |name: &'static str| move |said: &Said| said.step >= 10 && said.shards.get(name) > Some(&0);
    assert!(cluster.wait("some steps", works("anna")));
    let _ben = cluster.worker("ben", None);
    assert!(cluster.wait("work for the second", works("ben")));
    assert!(cluster.said.lost.is_empty(), "and nobody lost any for it: {:?}", cluster.said);
}
