//! The engine, scene by scene; and in any weather, under a simulator (`storms.rs`).

mod advance;
mod behind;
mod counts;
mod process;
mod ring_steps;
mod rings;
mod storms;
mod toy;
mod weather;
mod world;

use lockstep_proto::tree::Node;

use super::*;
use crate::plan::sample;

const START: Position = Position { version: 0, evaluation_owed: false };

/// An answer like everybody else's.
fn answered(worker: WorkerId, lease: LeaseId) -> Event {
    Event::Answered { worker, lease, finding: Finding::Bits(7) }
}

fn answered_with(worker: WorkerId, lease: LeaseId, bits: u64) -> Event {
    Event::Answered { worker, lease, finding: Finding::Bits(bits) }
}

fn join(engine: &mut Engine, worker: WorkerId) -> Vec<Command> {
    engine.handle(Duration::ZERO, Event::Joined { worker, makes_steps: true })
}

fn leases(commands: &[Command]) -> Vec<(WorkerId, LeaseId, Node)> {
    commands
        .iter()
        .filter_map(|command| match command {
            Command::Lease { worker, lease, work: Work::Shards { node, .. }, .. } => Some((*worker, *lease, *node)),
            _ => None,
        })
        .collect()
}

#[test]
fn one_worker_gets_the_root_and_two_get_halves() {
    let mut engine = Engine::new(sample(), START);
    assert_eq!(leases(&join(&mut engine, 7)), [(7, 1, Node { level: 2, index: 0 })]);
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    assert_eq!(join(&mut engine, 1), []);
    let halves = leases(&join(&mut engine, 2));
    assert_eq!(halves, [(1, 1, Node { level: 1, index: 0 }), (2, 2, Node { level: 1, index: 1 })]);
}

/// Lets time pass as the actor does, with a beat of each of `beating` every tick; returns the commands of the last tick,
/// and makes sure that none came before it.
fn pass(engine: &mut Engine, from: u64, to: u64, beating: &[WorkerId]) -> Vec<Command> {
    let mut last = Vec::new();
    for ms in (from..=to).step_by(100) {
        assert_eq!(last, [], "before {ms} ms");
        for worker in beating {
            last.extend(engine.handle(Duration::from_millis(ms), Event::Beat { worker: *worker }));
        }
        last.extend(engine.handle(Duration::from_millis(ms), Event::Tick));
    }
    last
}

#[test]
fn a_worker_that_leaves_finishes_what_it_has_in_hand() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    assert_eq!(engine.handle(Duration::ZERO, Event::Leaving { worker: 2 }), []);
    let last = engine.handle(Duration::ZERO, answered(2, 2));
    assert!(matches!(&last[0], Command::Sum { worker: 2, .. }), "{last:?}");
    assert!(matches!(&last[1], Command::Lost { worker: 2, reissued: 0, .. }), "{last:?}");
    assert!(matches!(&last[2], Command::Dismiss { worker: 2, may_return: true, .. }), "{last:?}");
    // the other one has the next step to itself
    let next = engine.handle(Duration::ZERO, answered(1, 1));
    assert_eq!(leases(&next), [(1, 3, Node { level: 2, index: 0 })]);
}

#[test]
fn a_silent_worker_loses_its_leases_to_the_others() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    engine.handle(Duration::ZERO, answered(1, 1));
    let commands = pass(&mut engine, 0, 2_100, &[1]);
    assert!(matches!(&commands[0], Command::Lost { worker: 2, reissued: 2, .. }), "{commands:?}");
    assert_eq!(leases(&commands), [(1, 3, Node { level: 1, index: 1 })]);
}

#[test]
fn a_worker_that_sounds_alive_and_never_answers_loses_its_lease() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    engine.handle(Duration::ZERO, answered(1, 1));
    // not a tick early
    let late = pass(&mut engine, 0, 60_100, &[1, 2]);
    assert!(matches!(&late[0], Command::Lost { worker: 2, reissued: 2, .. }), "{late:?}");
    assert_eq!(leases(&late), [(1, 3, Node { level: 1, index: 1 })]);
}

#[test]
fn nobody_there_ends_the_run_and_says_who_was_missing() {
    let mut engine = Engine::new(sample(), START);
    let commands = pass(&mut engine, 0, 60_000, &[]);
    let [Command::Finish { outcome: Outcome::NoWorkers { reason }, .. }] = &commands[..] else {
        panic!("{commands:?}");
    };
    assert_eq!(reason, "0 of 1 workers after waiting 60 s");
}

#[test]
fn a_worker_that_comes_and_dies_does_not_keep_a_run_waiting() {
    let mut engine = Engine::new(sample(), START);
    pass(&mut engine, 0, 50_000, &[]);
    engine.handle(Duration::from_millis(50_000), Event::Joined { worker: 1, makes_steps: true });
    let gone = Event::Left { worker: 1, reason: "killed".to_owned() };
    engine.handle(Duration::from_millis(50_100), gone);
    let commands = pass(&mut engine, 50_200, 60_000, &[]);
    assert!(matches!(&commands[..], [Command::Finish { outcome: Outcome::NoWorkers { .. }, .. }]), "{commands:?}");
}

#[test]
fn nobody_is_blamed_for_the_coordinators_own_pause() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    pass(&mut engine, 0, 1_000, &[1, 2]);
    // the process was stopped for a minute and a half: heartbeats wait to be read, the lease's time has not run out
    assert_eq!(pass(&mut engine, 91_000, 92_400, &[]), []);
    let late = pass(&mut engine, 92_500, 92_600, &[1]);
    assert!(matches!(&late[0], Command::Lost { worker: 2, reissued: 2, .. }), "{late:?}");
}

#[test]
fn a_refused_answer_is_counted_and_computed_by_somebody_else() {
    let refused = |worker, lease| Event::Refused { worker, lease, reason: "checksum".to_owned() };
    let mut engine = Engine::new(sample(), START);
    join(&mut engine, 1);
    let commands = engine.handle(Duration::ZERO, refused(1, 1));
    let Command::Reissue { worker: 1, shards: 4, reason } = &commands[0] else { panic!("{commands:?}") };
    assert!(reason.contains("checksum"), "{reason}");
    // nobody else is there
    assert_eq!(leases(&commands), [(1, 2, Node { level: 2, index: 0 })]);
    let mut engine = two_workers();
    assert_eq!(leases(&engine.handle(Duration::ZERO, refused(1, 1))), [], "the other one is busy");
    assert_eq!(leases(&engine.handle(Duration::ZERO, answered(2, 2))), [(2, 3, Node { level: 1, index: 0 })]);
}

#[test]
fn three_refused_answers_in_a_row_send_a_worker_away() {
    let mut engine = Engine::new(sample(), START);
    join(&mut engine, 1);
    for lease in [1, 2] {
        let refused = Event::Refused { worker: 1, lease, reason: "checksum".to_owned() };
        let commands = engine.handle(Duration::ZERO, refused);
        assert_eq!(leases(&commands).len(), 1, "{commands:?}");
    }
    let commands = engine.handle(Duration::ZERO, Event::Refused { worker: 1, lease: 3, reason: "length".to_owned() });
    let dismissed = commands.iter().find(|command| matches!(command, Command::Dismiss { .. }));
    let Some(Command::Dismiss { worker: 1, may_return: false, reason }) = dismissed else { panic!("{commands:?}") };
    assert!(reason.starts_with("3 of its answers") && reason.contains("length"), "{reason}");
}

#[test]
fn a_shard_that_fails_on_two_workers_is_the_models_own_fault() {
    let mut engine = two_workers();
    let failed = |worker, lease| Event::Failed { worker, lease, reason: "out of memory".to_owned() };
    engine.handle(Duration::ZERO, failed(1, 1));
    engine.handle(Duration::ZERO, answered(2, 2));
    let second = engine.handle(Duration::ZERO, failed(2, 3));
    let Some(Command::Finish { outcome: Outcome::Failed { reason }, .. }) = second.last() else { panic!("{second:?}") };
    assert!(reason.contains("shards 0 to 1 of step 1") && reason.contains("out of memory"), "{reason}");
    assert!(!second.iter().any(|c| matches!(c, Command::Checkpoint { .. })), "the last good one stays");
}

#[test]
fn what_is_not_finite_twice_ends_the_run_and_once_does_not() {
    let nan = |worker, lease| Event::Answered {
        worker,
        lease,
        finding: Finding::NotFinite("its gradient has NaN in tensor net.0.weight".to_owned()),
    };
    let mut engine = two_workers();
    let first = engine.handle(Duration::ZERO, nan(1, 1));
    assert!(matches!(&first[..], [Command::Hold { worker: 1, lease: 1, .. }]), "{first:?}");
    let asked = engine.handle(Duration::ZERO, answered(2, 2));
    assert_eq!(leases(&asked), [(2, 3, Node { level: 1, index: 0 })]);
    let mut diverged = engine.handle(Duration::ZERO, nan(2, 3));
    let Some(Command::Finish { outcome: Outcome::Failed { reason }, .. }) = diverged.pop() else {
        panic!("{diverged:?}")
    };
    assert!(reason.contains("shards 0 to 1 of step 1: its gradient has NaN in tensor net.0.weight"), "{reason}");
    assert!(reason.contains("optimizer.lr"), "{reason}");

    let mut engine = two_workers();
    join(&mut engine, 3);
    engine.handle(Duration::ZERO, nan(1, 1));
    // one says NaN and one does not: one more decides, and the first is sent away
    engine.handle(Duration::ZERO, answered(3, 3));
    engine.handle(Duration::ZERO, answered(2, 2));
    let last = engine.handle(Duration::ZERO, answered(2, 4));
    assert!(last.iter().any(|c| matches!(c, Command::Dismiss { worker: 1, may_return: false, .. })), "{last:?}");
    assert!(last.iter().any(|c| matches!(c, Command::Step { step: 0 })), "{last:?}");
}

/// Two workers have a half each, the first of them has done so many steps that it is known what is late.
fn practised() -> (Engine, u64, LeaseId) {
    let mut engine = Engine::new(Plan { min_workers: 2, examples: 10_000, epochs: 1, ..sample() }, START);
    let mut open = [join(&mut engine, 1), join(&mut engine, 2)].concat();
    let mut ms = 0;
    for _ in 0..8 {
        ms += 10;
        let now = Duration::from_millis(ms);
        let halves = leases(&open);
        assert_eq!(halves.len(), 2, "{open:?}");
        open = halves.iter().flat_map(|(w, l, _)| engine.handle(now, answered(*w, *l))).collect();
    }
    let first = leases(&open)[0].1;
    (engine, ms, first)
}

/// Worker 1 answers, worker 2 is late, and worker 1 gets a copy: its lease.
fn copied() -> (Engine, Duration, LeaseId, LeaseId) {
    let (mut engine, ms, first) = practised();
    assert_eq!(leases(&engine.handle(Duration::from_millis(ms + 10), answered_with(1, first, 1))), []);
    let now = Duration::from_millis(ms + 101);
    assert_eq!(leases(&engine.handle(Duration::from_millis(ms + 99), Event::Tick)), [], "not a tick early");
    let commands = engine.handle(now, Event::Tick);
    let [Command::Lease { worker: 1, lease, purpose: Purpose::Copy, work, .. }] = &commands[..] else {
        panic!("{commands:?}")
    };
    assert!(matches!(work, Work::Shards { node: Node { level: 1, index: 1 }, .. }), "{work}");
    (engine, now, first + 1, *lease)
}

fn has(commands: &[Command], wanted: impl Fn(&Command) -> bool) -> bool {
    commands.iter().any(wanted)
}

#[test]
fn a_late_shard_is_copied_and_the_first_answer_counts() {
    let (mut engine, now, late, copy) = copied();
    let step = engine.handle(now, answered_with(1, copy, 2));
    assert!(has(&step, |c| matches!(c, Command::Sum { worker: 1, .. })), "{step:?}");
    let keep = step.iter().position(|c| matches!(c, Command::Keep { version: 8 }));
    assert!(keep < step.iter().position(|c| matches!(c, Command::Step { step: 8 })), "{step:?}");
    // the one that was late says the same, and its old parameters are needed no more
    let same = engine.handle(now, answered_with(2, late, 2));
    assert!(
        has(&same, |c| matches!(c, Command::Drop { worker: 2, reason, .. } if reason.contains("agrees"))),
        "{same:?}"
    );
    assert!(has(&same, |c| matches!(c, Command::Forget { version: 8 })), "{same:?}");
}

#[test]
fn two_answers_that_differ_after_the_step_are_decided_by_a_third() {
    for (third, fault) in [(2, 2), (3, 1)] {
        let (mut engine, now, late, copy) = copied();
        join(&mut engine, 3);
        engine.handle(now, answered_with(1, copy, 2));
        let dispute = engine.handle(now, answered_with(2, late, 3));
        assert!(has(&dispute, |c| matches!(c, Command::Dispute { first: 1, second: 2, .. })), "{dispute:?}");
        // worker 3 is busy with the step that followed
        let busy = engine.leases.iter().find(|(_, lease)| lease.worker == 3).map(|(number, _)| *number);
        let decide = engine.handle(now, answered(3, busy.expect("a lease")));
        let lease = decide.iter().find_map(|command| match command {
            Command::Lease { worker: 3, lease, purpose: Purpose::Decide, .. } => Some(*lease),
            _ => None,
        });
        let verdict = engine.handle(now, answered_with(3, lease.expect("asked"), third));
        if fault == 2 {
            let sent_away = |c: &Command| matches!(c, Command::Dismiss { worker: 2, may_return: false, .. });
            assert!(has(&verdict, sent_away), "{verdict:?}");
        } else {
            assert!(
                has(&verdict, |c| matches!(c, Command::Taint { version: 8, workers } if *workers == [1])),
                "{verdict:?}"
            );
            let failed = |c: &Command| matches!(c, Command::Finish { outcome: Outcome::Failed { .. }, .. });
            assert!(has(&verdict, failed), "{verdict:?}");
        }
    }
}

#[test]
fn a_wrong_answer_found_before_the_step_begins_it_again() {
    let mut engine = Engine::new(Plan { min_workers: 3, audit: 1.0, ..sample() }, START);
    for worker in [1, 2, 3] {
        join(&mut engine, worker);
    }
    let mut wrong = 0;
    let mut said = Vec::new();
    // worker 1 lies in its first answer: everything is computed twice, so that two others show it
    for turn in 0..40 {
        let Some((lease, worker)) = engine.leases.iter().map(|(lease, held)| (*lease, held.worker)).next() else {
            break;
        };
        let lie = worker == 1 && wrong == 0;
        wrong += u32::from(lie);
        said.extend(engine.handle(Duration::from_millis(turn), answered_with(worker, lease, if lie { 9 } else { 7 })));
        if has(&said, |c| matches!(c, Command::Step { step: 0 })) {
            break;
        }
    }
    assert!(has(&said, |c| matches!(c, Command::Hold { .. })), "{said:?}");
    assert!(has(&said, |c| matches!(c, Command::Dismiss { worker: 1, may_return: false, .. })), "{said:?}");
    assert!(has(&said, |c| matches!(c, Command::Step { step: 0 })), "{said:?}");
}

/// Worker 1's answer is refused, 2 and 3 differ: 1 is busy for long, but then it decides, however idle the others are.
#[test]
fn who_failed_once_may_decide_between_two_others() {
    let mut engine = Engine::new(Plan { min_workers: 3, audit: 1.0, ..sample() }, START);
    let open = [1, 2, 3].map(|worker| join(&mut engine, worker)).concat();
    let (_, first, disputed) = leases(&open)[0];
    let damaged = Event::Refused { worker: 1, lease: first, reason: "checksum".to_owned() };
    let mut said = engine.handle(Duration::ZERO, damaged);
    for turn in 1..100 {
        let held = engine.leases.iter().map(|(lease, held)| (held.worker == 1, *lease, held.worker, held.work));
        let Some((_, lease, worker, work)) = held.min_by_key(|(last, lease, ..)| (*last, *lease)) else { break };
        let about_it = matches!(work, Work::Shards { step: 0, node } if node == disputed);
        let bits = if about_it && worker == 2 { 8 } else { 7 };
        said.extend(engine.handle(Duration::from_millis(turn), answered_with(worker, lease, bits)));
        if has(&said, |c| matches!(c, Command::Step { step: 0 })) {
            break;
        }
    }
    let decided = |c: &Command| matches!(c, Command::Lease { worker: 1, purpose: Purpose::Decide, .. });
    assert!(has(&said, decided), "{said:?}");
    assert!(has(&said, |c| matches!(c, Command::Dismiss { worker: 2, may_return: false, .. })), "{said:?}");
    assert!(has(&said, |c| matches!(c, Command::Step { step: 0 })), "{said:?}");
}

#[test]
fn a_faster_worker_gets_more_shards() {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    let open = [join(&mut engine, 1), join(&mut engine, 2)].concat();
    let (mine, theirs) = (leases(&open)[0].1, leases(&open)[1].1);
    engine.handle(Duration::from_millis(10), answered(1, mine));
    let mut next = leases(&engine.handle(Duration::from_millis(30), answered(2, theirs)));
    let shares: Vec<_> = next.iter().map(|(worker, _, node)| (*worker, node.covers(4).len())).collect();
    assert_eq!(shares, [(1, 2), (1, 1), (2, 1)]);
    // one that was so slow that it gets nothing is tried again after a while: it may have been a neighbour's fault
    let (mut now, mut theirs) = (30, 0);
    for step in 0..30 {
        now += if next.iter().any(|(worker, ..)| *worker == 2) && step == 0 { 300 } else { 10 };
        next = next
            .iter()
            .flat_map(|(w, l, _)| leases(&engine.handle(Duration::from_millis(now), answered(*w, *l))))
            .collect();
        theirs += u32::from(step > 0 && next.iter().any(|(worker, ..)| *worker == 2));
    }
    assert!(theirs > 0, "starved");
}

fn two_workers() -> Engine {
    let mut engine = Engine::new(Plan { min_workers: 2, ..sample() }, START);
    join(&mut engine, 1);
    join(&mut engine, 2);
    engine
}

#[test]
fn a_stop_in_an_evaluation_leaves_it_owed() {
    let plan = Plan { examples: 10, ..sample() };
    let mut engine = Engine::new(plan.clone(), START);
    join(&mut engine, 1);
    engine.handle(Duration::ZERO, answered(1, 1));
    let commands = engine.handle(Duration::ZERO, Event::Stop { reason: "Ctrl-C".to_owned() });
    let owed = Position { version: 1, evaluation_owed: true };
    assert!(matches!(&commands[0], Command::Checkpoint { position, .. } if *position == owed), "{commands:?}");
    let mut resumed = Engine::new(plan, owed);
    let again = join(&mut resumed, 1);
    assert!(matches!(again[0], Command::Lease { work: Work::Slice { version: 1, slice: 0 }, .. }), "{again:?}");
}
