//! Rings, scene by scene.

use super::*;

/// Two GPUs or more, four shards.
pub(super) fn plan(workers: usize) -> Plan {
    Plan { ring: true, min_workers: workers, ..sample() }
}

fn engine(workers: u64) -> Engine {
    let mut engine = Engine::new(plan(workers as usize), START);
    for worker in 1..=workers {
        join(&mut engine, worker);
    }
    engine
}

pub(super) fn tell(engine: &mut Engine, event: Event) -> Vec<Command> {
    engine.handle(Duration::ZERO, event)
}

fn named(worker: WorkerId, generation: u64) -> Event {
    Event::Named { worker, generation, id: vec![9] }
}

fn formed(worker: WorkerId, generation: u64) -> Event {
    Event::Formed { worker, generation }
}

fn broken(worker: WorkerId, generation: u64) -> Event {
    Event::Broken { worker, generation, reason: "no route".to_owned() }
}

/// Who is to take which place in which ring.
pub(super) fn places(commands: &[Command]) -> Vec<(WorkerId, u64, u32, u32)> {
    let place = |command: &Command| match command {
        Command::Form { worker, generation, rank, size, .. } => Some((*worker, *generation, *rank, *size)),
        _ => None,
    };
    commands.iter().filter_map(place).collect()
}

/// Who gets which lease of which shards.
pub(super) fn parts(commands: &[Command]) -> Vec<(WorkerId, LeaseId, u32, u32)> {
    let part = |command: &Command| match command {
        Command::Lease { worker, lease, work: Work::Part { first, end, .. }, .. } => {
            Some((*worker, *lease, *first, *end))
        }
        _ => None,
    };
    commands.iter().filter_map(part).collect()
}

/// Has the members of ring `generation` find each other; what follows.
pub(super) fn gather(engine: &mut Engine, generation: u64, members: &[WorkerId]) -> Vec<Command> {
    let told = places(&tell(engine, named(members[0], generation)));
    let (rest, size) = (&members[1..], members.len() as u32);
    let expected: Vec<_> = (1..).zip(rest).map(|(rank, worker)| (*worker, generation, rank, size)).collect();
    assert_eq!(told, expected, "the others hear the name");
    let mut last = Vec::new();
    for worker in members {
        assert_eq!(parts(&last), [], "not before all are there");
        last = tell(engine, formed(*worker, generation));
    }
    last
}

#[test]
fn a_step_begins_when_the_ring_is_formed_and_ends_when_all_have_answered() {
    let mut engine = Engine::new(plan(2), START);
    assert_eq!(join(&mut engine, 1), []);
    assert_eq!(places(&join(&mut engine, 2)), [(1, 1, 0, 2)], "rank 0 makes the name");
    let commands = gather(&mut engine, 1, &[1, 2]);
    assert_eq!(parts(&commands), [(1, 1, 0, 2), (2, 2, 2, 4)]);
    let first = tell(&mut engine, answered(2, 2));
    assert!(matches!(&first[..], [Command::Hold { worker: 2, lease: 2, .. }]), "{first:?}");
    let second = tell(&mut engine, answered(1, 1));
    let [Command::Part { lease: 2, .. }, Command::Part { lease: 1, .. }, Command::Step { step: 0 }, rest @ ..] =
        &second[..]
    else {
        panic!("{second:?}");
    };
    assert_eq!(parts(rest), [(1, 3, 0, 2), (2, 4, 2, 4)], "in the same ring");
}

#[test]
fn a_lost_member_dissolves_the_ring_and_the_step_begins_again_with_those_who_are_left() {
    let mut engine = engine(3);
    assert_eq!(parts(&gather(&mut engine, 1, &[1, 2, 3])), [(1, 1, 0, 2), (2, 2, 2, 3), (3, 3, 3, 4)]);
    tell(&mut engine, answered(1, 1));
    let commands = tell(&mut engine, Event::Left { worker: 2, reason: "killed".to_owned() });
    let [Command::Lost { worker: 2, reissued: 1, .. }, Command::Drop { worker: 1, lease: 1, .. }, rest @ ..] =
        &commands[..]
    else {
        panic!("{commands:?}");
    };
    // the two shards that were answered, and the one that was still in hand
    let [Command::Dissolve { generation: 1, members, reissued: 3, .. }, rest @ ..] = rest else { panic!("{rest:?}") };
    assert_eq!((&members[..], places(rest)), (&[1, 3][..], vec![(1, 2, 0, 2)]));
    let late = tell(&mut engine, answered(3, 3));
    assert!(matches!(&late[..], [Command::Drop { worker: 3, lease: 3, .. }]), "{late:?}");
    assert_eq!(tell(&mut engine, broken(3, 1)), [], "what is said of an old ring counts no more");
    let again = gather(&mut engine, 2, &[1, 3]);
    assert!(matches!(again[0], Command::Lease { purpose: Purpose::Again, .. }), "{again:?}");
    assert_eq!(parts(&again), [(1, 4, 0, 2), (3, 5, 2, 4)]);
}

#[test]
fn who_joins_waits_for_the_next_step_and_no_more_take_part_than_there_are_shards() {
    let mut engine = engine(1);
    gather(&mut engine, 1, &[1]);
    for worker in 2..=5 {
        assert_eq!(join(&mut engine, worker), []);
    }
    let commands = tell(&mut engine, answered(1, 1));
    assert_eq!(places(&commands), [(1, 2, 0, 4)]);
    assert!(commands.iter().any(|one| matches!(one, Command::Dissolve { generation: 1, reissued: 0, .. })));
    assert_eq!(parts(&gather(&mut engine, 2, &[1, 2, 3, 4])).len(), 4);
    // and the one that stood by takes the place of one that goes
    let commands = tell(&mut engine, Event::Left { worker: 3, reason: "killed".to_owned() });
    assert_eq!(places(&commands), [(1, 3, 0, 4)]);
    gather(&mut engine, 3, &[1, 2, 4, 5]);
}

#[test]
fn rings_that_fail_while_everybody_stays_are_formed_again_after_a_while_and_not_for_ever() {
    let mut engine = engine(2);
    let mut now = Duration::ZERO;
    for generation in 1..=4 {
        let commands = engine.handle(now, broken(2, generation));
        assert!(matches!(&commands[..], [Command::Dissolve { .. }]), "{commands:?}");
        // meanwhile a member that is gone would be found silent
        let commands = pass(&mut engine, now.as_millis() as u64, now.as_millis() as u64 + 2_000, &[1, 2]);
        assert_eq!(places(&commands), [(1, generation + 1, 0, 2)]);
        now += Duration::from_millis(2_000);
    }
    let commands = engine.handle(now, broken(1, 5));
    let [Command::Finish { outcome: Outcome::Failed { reason }, .. }] = &commands[..] else { panic!("{commands:?}") };
    assert!(reason.contains("5 rings in a row") && reason.contains("no route"), "{reason}");
}

#[test]
fn a_member_that_holds_the_others_up_too_long_goes_and_they_stay() {
    let mut engine = engine(2);
    gather(&mut engine, 1, &[1, 2]);
    tell(&mut engine, Event::Waits { worker: 1, generation: 1 });
    let late = pass(&mut engine, 0, 60_100, &[1, 2]);
    let gone = |command: &Command| matches!(command, Command::Dismiss { worker: 2, may_return: true, .. });
    assert!(late.iter().any(gone), "{late:?}");
    assert_eq!(places(&late), [(1, 2, 0, 1)]);
}

#[test]
fn a_sum_that_is_not_finite_twice_ends_the_run_and_a_member_that_fails_twice_goes() {
    let not_finite = |lease| {
        let finding = Finding::NotFinite("NaN".to_owned());
        Event::Answered { worker: 1, lease, finding }
    };
    let mut both = engine(2);
    gather(&mut both, 1, &[1, 2]);
    assert_eq!(places(&tell(&mut both, not_finite(1))), [(1, 2, 0, 2)]);
    gather(&mut both, 2, &[1, 2]);
    let commands = tell(&mut both, not_finite(3));
    assert!(matches!(&commands[..], [.., Command::Finish { outcome: Outcome::Failed { .. }, .. }]), "{commands:?}");

    let failed = |lease| Event::Failed { worker: 2, lease, reason: "out of memory".to_owned() };
    let mut engine = engine(2);
    gather(&mut engine, 1, &[1, 2]);
    assert_eq!(places(&tell(&mut engine, failed(2))), [(1, 2, 0, 2)]);
    gather(&mut engine, 2, &[1, 2]);
    let commands = tell(&mut engine, failed(4));
    let gone = |command: &Command| matches!(command, Command::Dismiss { worker: 2, may_return: false, .. });
    assert!(commands.iter().any(gone), "{commands:?}");
    assert_eq!(places(&commands), [(1, 3, 0, 1)]);
}
