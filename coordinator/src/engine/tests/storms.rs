//! Many schedules: none may break a promise, and every mutant must.

use super::super::mutant::Mutant;
use super::weather;

/// How many schedules: `LOCKSTEP_SCHEDULES` for a long run; debug builds are 20 times slower.
fn schedules() -> u64 {
    let asked = std::env::var("LOCKSTEP_SCHEDULES").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(if cfg!(debug_assertions) { 2_000 } else { 100_000 })
}

/// `LOCKSTEP_SEED=n LOCKSTEP_SCHEDULES=1` replays one.
fn first_seed() -> u64 {
    std::env::var("LOCKSTEP_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The schedules of `seeds`, on all cores; the first that breaks a promise.
fn in_weather(seeds: std::ops::Range<u64>, mutant: Option<Mutant>) -> Result<Vec<weather::End>, (u64, String)> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    std::thread::scope(|scope| {
        let run = |thread| {
            let mine = seeds.clone().skip(thread as usize).step_by(threads as usize);
            mine.map(|seed| weather::run(seed, mutant).map_err(|broken| (seed, broken))).collect::<Result<Vec<_>, _>>()
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let ended: Vec<_> = running.into_iter().map(|one| one.join().expect("no panic")).collect();
        let mut all = Vec::new();
        for one in ended {
            all.extend(one?);
        }
        Ok(all)
    })
}

#[test]
fn in_any_weather_the_run_comes_to_the_end_of_the_quiet_one() {
    let (first, count) = (first_seed(), schedules());
    let ends = match in_weather(first..first + count, None) {
        Ok(ends) => ends,
        Err((seed, broken)) => panic!("seed {seed}: {broken}; replay with LOCKSTEP_SEED={seed} LOCKSTEP_SCHEDULES=1"),
    };
    let sum = |count: fn(&weather::End) -> u64| ends.iter().map(count).sum::<u64>();
    let seen = [
        ("restarts", sum(|end| end.restarts)),
        ("pauses of the coordinator", sum(|end| end.gaps)),
        ("answers dropped", sum(|end| end.counts.dropped)),
        ("shards re-issued", sum(|end| end.counts.reissued)),
        ("answers refused", sum(|end| end.counts.refused)),
        ("copies", sum(|end| end.counts.copies)),
        ("audits", sum(|end| end.counts.audits)),
        ("disputes", sum(|end| end.counts.disputes)),
        ("late answers that agreed", sum(|end| end.counts.compared_late)),
        ("workers sent away", sum(|end| end.counts.quarantined)),
        ("steps in advance", sum(|end| end.counts.in_advance)),
        ("steps called back", sum(|end| end.counts.called_back)),
        ("steps that only a worker made", sum(|end| end.counts.behind)),
        ("steps made again", sum(|end| end.counts.rolled_back)),
        ("epochs begun again", sum(|end| end.counts.epochs_undone)),
    ];
    println!("{count} schedules from seed {first}: {seen:?}");
    if count >= 1_000 {
        // a simulator that never gets there proves nothing
        assert!(seen.iter().all(|(_, times)| *times >= count / 1_000), "{seen:?}");
    }
}

#[test]
fn in_any_weather_rings_form_again_and_each_step_is_made_once() {
    let (first, count) = (first_seed(), schedules() / 2);
    let mut ends = Vec::new();
    for seed in first..first + count {
        match weather::run_rings(seed, None) {
            Ok(end) => ends.push(end),
            Err(broken) => panic!("seed {seed}: {broken}; replay with LOCKSTEP_SEED={seed} LOCKSTEP_SCHEDULES=2"),
        }
    }
    let sum = |count: fn(&weather::End) -> u64| ends.iter().map(count).sum::<u64>();
    let seen = [
        ("rings", sum(|end| end.counts.rings)),
        ("rings dissolved", sum(|end| end.counts.dissolved)),
        ("rings broken", sum(|end| end.counts.broken)),
        ("answers dropped", sum(|end| end.counts.dropped)),
        ("shards re-issued", sum(|end| end.counts.reissued)),
        ("parts in advance", sum(|end| end.counts.in_advance)),
        ("steps that only a ring made", sum(|end| end.counts.behind)),
        ("ways back to what the coordinator has", sum(|end| end.counts.rolled_back)),
        ("ways back over the end of an epoch", sum(|end| end.counts.epochs_undone)),
        ("wrong steps of one rank", sum(|end| end.counts.drifted)),
        ("workers sent away", sum(|end| end.counts.quarantined)),
        ("answers refused", sum(|end| end.counts.refused)),
        ("restarts", sum(|end| end.restarts)),
        ("pauses of the coordinator", sum(|end| end.gaps)),
    ];
    println!("{count} schedules of rings from seed {first}: {seen:?}");
    if count >= 1_000 {
        assert!(seen.iter().all(|(_, times)| *times >= count / 1_000), "{seen:?}");
    }
}

/// Schedules that broke a promise once: a worker whose answer was refused was never asked to decide between two others. They have changed since;
/// the scene is `who_failed_once_may_decide_between_two_others`. And one whose own step was not used was not sent parameters for an evaluation;
/// one that was given a step in advance again that it had made by then was taken for one that can't make it.
#[test]
fn schedules_that_failed_once_end_well() {
    for seed in [14_721_899, 15_308_693, 62_441_246, 11_125_592] {
        if let Err(broken) = weather::run(seed, None) {
            panic!("seed {seed}: {broken}");
        }
    }
}

#[test]
fn the_simulator_finds_every_mutant() {
    const MOST: u64 = 20_000;
    for mutant in Mutant::ALL.into_iter().chain(Mutant::IN_ADVANCE) {
        let found = (0..MOST).find_map(|seed| Some((seed, weather::run(seed, Some(mutant)).err()?)));
        let Some((seed, broken)) = found else { panic!("{mutant:?} lives through {MOST} schedules") };
        println!("{mutant:?}: found by schedule {}: {broken}", seed + 1);
    }
    for mutant in Mutant::OF_RINGS {
        let found = (0..MOST).find_map(|seed| Some((seed, weather::run_rings(seed, Some(mutant)).err()?)));
        let Some((seed, broken)) = found else { panic!("{mutant:?} lives through {MOST} schedules") };
        println!("{mutant:?}: found by schedule {}: {broken}", seed + 1);
    }
}
