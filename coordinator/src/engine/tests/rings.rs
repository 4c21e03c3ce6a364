//! Rings, scene by scene.

use super::*;

/// Two GPUs or more, four shards.
fn plan(workers: usize) -> Plan {
    Plan { ring: true, min_workers: workers, ..sample() }
}

fn engine(workers: u64) -> Engine {
    let mut engine = Engine::new(plan(workers as usize), START);
    for worker in 1..=workers {
        join(&mut engine, worker);
    }
    engine
}

fn tell(engine: &mut Engine, event: Event) -> Vec<Command> {
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
fn places(commands: &[Command]) -> Vec<(WorkerId, u64, u32, u32)> {
    let place = |command: &Command| match command {
        Command::Form { worker, generation, rank, size, .. } => Some((*worker, *generation, *rank, *size)),
        _ => None,
    };
    commands.iter().filter_map(place).collect()
}

/// Who gets which lease of which shards.
fn parts(commands: &[Command]) -> Vec<(WorkerId, LeaseId, u32, u32)> {
    let part = |command: &Command| match command {
        Command::Lease { worker, lease, work: Work::Part { first, end, .. }, .. } => {
            Some((*worker, *lease, *first, *end))
        }
        _ => None,
    };
    commands.iter().filter_map(part).collect()
}

/// Has the members of ring `generation` find each other; what follows.
fn gather(engine: &mut Engine, generation: u64, members: &[WorkerId]) -> Vec<Command> {
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

/// Members that make the steps themselves; half a second may be lost.
fn keeping(workers: u64) -> Engine {
    let half = Some(Duration::from_millis(500));
    let long = Plan { catch_up: half, examples: 320, batch_size: 8, ..plan(workers as usize) };
    let mut engine = Engine::new(long, START);
    for worker in 1..=workers {
        engine.handle(Duration::ZERO, Event::Joined { worker, makes_steps: true });
    }
    engine
}

/// A step that is given out, and what is asked for of it.
type Given = Option<(u64, Option<Report>)>;

/// The leases that `commands` give out, and of which step.
fn asked(commands: &[Command]) -> (Vec<LeaseId>, Given) {
    let part = |command: &Command| match command {
        Command::Lease { lease, work: Work::Part { step, .. }, own, .. } => Some((*lease, (*step, *own))),
        _ => None,
    };
    let all: Vec<_> = commands.iter().filter_map(part).collect();
    assert!(all.windows(2).all(|pair| pair[0].1 == pair[1].1), "{all:?}");
    (all.iter().map(|(lease, _)| *lease).collect(), all.first().map(|(_, asked)| *asked))
}

/// Has both members answer; what is asked for next.
fn step(engine: &mut Engine, ms: u64, leases: &[LeaseId]) -> (Vec<Command>, Vec<LeaseId>, Given) {
    let mut last = Vec::new();
    for (worker, lease) in (1..).zip(leases) {
        last = engine.handle(Duration::from_millis(ms), answered(worker, *lease));
    }
    let (leases, what) = asked(&last);
    (last, leases, what)
}

#[test]
fn a_ring_makes_its_steps_itself_and_says_now_and_then_what_it_came_to() {
    let mut engine = keeping(2);
    let (leases, what) = asked(&gather(&mut engine, 1, &[1, 2]));
    assert_eq!(what, Some((0, Some(Report::Counts))));
    let (commands, leases, what) = step(&mut engine, 10, &leases);
    assert!(matches!(commands[0], Command::Part { made: true, .. }), "{commands:?}");
    assert_eq!((what, engine.is_behind()), (Some((1, Some(Report::Counts))), true));
    // half a second after the start
    let (_, leases, what) = step(&mut engine, 510, &leases);
    assert_eq!(what, Some((2, Some(Report::State))));
    let (_, leases, what) = step(&mut engine, 520, &leases);
    assert_eq!((what, engine.is_behind(), engine.behind.known), (Some((3, Some(Report::Counts))), false, 3));
    // who joins is sent what the coordinator has: first it must have it
    step(&mut engine, 530, &leases[..1]);
    engine.handle(Duration::from_millis(530), Event::Joined { worker: 3, makes_steps: true });
    let last = engine.handle(Duration::from_millis(530), answered(2, leases[1]));
    let (leases, what) = asked(&last);
    assert_eq!(what, Some((4, Some(Report::State))));
    let (commands, _, _) = step(&mut engine, 540, &leases);
    assert_eq!(places(&commands), [(1, 2, 0, 3)], "and then there is a new ring");
    assert!(!engine.is_behind());
}

#[test]
fn what_a_lost_ring_alone_had_is_made_again_with_every_sum_sent() {
    let mut engine = keeping(2);
    let (mut leases, _) = asked(&gather(&mut engine, 1, &[1, 2]));
    for ms in [10, 20, 30] {
        (_, leases, _) = step(&mut engine, ms, &leases);
    }
    let lost = engine.handle(Duration::from_millis(40), Event::Left { worker: 2, reason: "killed".to_owned() });
    let back = |command: &Command| matches!(command, Command::RollBack { version: 0, shards: 12, .. });
    assert!(lost.iter().any(back), "{lost:?}");
    let (mut leases, mut what) = asked(&gather(&mut engine, 2, &[1]));
    for number in 0..4 {
        assert_eq!(what, Some((number, None)), "up to the step that was open, and that one");
        (_, leases, what) = step(&mut engine, 50 + number, &leases);
    }
    assert_eq!(what, Some((4, Some(Report::Counts))));
}

#[test]
fn a_member_that_can_not_make_steps_has_all_sums_sent() {
    let mut engine = keeping(1);
    gather(&mut engine, 1, &[1]);
    engine.handle(Duration::ZERO, Event::Joined { worker: 2, makes_steps: false });
    let (commands, _, _) = step(&mut engine, 10, &[1]);
    // what the first one came to alone is asked for first
    let (leases, what) = asked(&commands);
    assert_eq!(what, Some((1, Some(Report::State))));
    step(&mut engine, 20, &leases);
    assert_eq!(asked(&gather(&mut engine, 2, &[1, 2])).1, Some((2, None)));
}

/// Nothing is lost with the first step after the coordinator caught up, and nobody may be to blame: what is wrong with it shows in the open.
#[test]
fn an_own_step_that_fails_is_made_in_the_open_and_its_member_makes_no_more() {
    let mut engine = keeping(2);
    gather(&mut engine, 1, &[1, 2]);
    let finding = Finding::NotFinite("its norm is NaN".to_owned());
    tell(&mut engine, Event::Answered { worker: 1, lease: 1, finding });
    let (leases, what) = asked(&gather(&mut engine, 2, &[1, 2]));
    assert_eq!(what, Some((0, None)));
    let (_, leases, what) = step(&mut engine, 10, &leases);
    assert_eq!(what, Some((1, Some(Report::Counts))));
    let reason = "no room for its optimizer".to_owned();
    let commands = tell(&mut engine, Event::Failed { worker: 2, lease: leases[1], reason });
    assert_eq!(places(&commands), [(1, 3, 0, 2)]);
    let (mut leases, mut what) = asked(&gather(&mut engine, 3, &[1, 2]));
    for number in 1..5 {
        assert_eq!(what, Some((number, None)), "no sum stays with the workers any more");
        (_, leases, what) = step(&mut engine, 20, &leases);
    }
}

/// Up to a step whose state is asked for of the members, who come to these `bits`; what follows.
fn come_to(engine: &mut Engine, ring: u64, bits: &[u64]) -> Vec<Command> {
    let members: Vec<u64> = (1..=bits.len() as u64).collect();
    let (mut leases, mut what) = asked(&gather(engine, ring, &members));
    for worker in members {
        engine.handle(Duration::from_millis(1_000 * (ring - 1)), Event::Beat { worker });
    }
    for ms in (1..40).map(|number| 1_000 * (ring - 1) + 100 * number) {
        if let Some((_, Some(Report::State))) = what {
            let mut last = Vec::new();
            for ((worker, lease), bits) in (1..).zip(leases).zip(bits) {
                let answer = Event::Answered { worker, lease, finding: Finding::Bits(*bits) };
                last = engine.handle(Duration::from_millis(ms), answer);
            }
            return last;
        }
        (_, leases, what) = step(engine, ms, &leases);
    }
    panic!("nobody asked for a state")
}

#[test]
fn members_that_came_to_several_results_make_the_steps_again_and_the_odd_one_goes() {
    let mut engine = keeping(3);
    let commands = come_to(&mut engine, 1, &[5, 6, 5]);
    let dropped = |command: &&Command| matches!(command, Command::Drop { .. });
    assert_eq!(commands.iter().filter(dropped).count(), 3, "{commands:?}");
    assert!(commands.iter().any(|command| matches!(command, Command::RollBack { version: 0, .. })), "{commands:?}");
    let gone =
        |command: &Command| matches!(command, Command::Dismiss { worker, may_return: false, .. } if *worker == 2);
    assert!(commands.iter().any(gone), "{commands:?}");
    assert_eq!((places(&commands), engine.position().version), (vec![(1, 2, 0, 2)], 0));
    assert_eq!(asked(&gather(&mut engine, 2, &[1, 3])).1, Some((0, None)), "in the open");
}

#[test]
fn two_members_that_differ_again_and_again_make_no_more_steps() {
    let mut engine = keeping(2);
    for ring in 1..=3 {
        let commands = come_to(&mut engine, ring, &[5, 6]);
        assert!(!commands.iter().any(|command| matches!(command, Command::Dismiss { .. })), "{commands:?}");
        assert_eq!(places(&commands), [(1, ring + 1, 0, 2)]);
    }
    let (mut leases, mut what) = asked(&gather(&mut engine, 4, &[1, 2]));
    for _ in 0..20 {
        assert!(matches!(what, Some((_, None))), "{what:?}");
        (_, leases, what) = step(&mut engine, 2_000, &leases);
    }
}

#[test]
fn a_run_that_is_stopped_and_members_that_leave_wait_until_what_they_came_to_is_there() {
    for leaving in [&[][..], &[1], &[1, 2]] {
        let mut engine = keeping(2);
        let (leases, _) = asked(&gather(&mut engine, 1, &[1, 2]));
        let (_, leases, what) = step(&mut engine, 10, &leases);
        assert_eq!(what, Some((1, Some(Report::Counts))));
        if leaving.is_empty() {
            assert_eq!(tell(&mut engine, Event::Stop { reason: "Ctrl-C".to_owned() }), []);
        }
        for worker in leaving {
            assert_eq!(tell(&mut engine, Event::Leaving { worker: *worker }), []);
        }
        let (commands, leases, what) = step(&mut engine, 20, &leases);
        assert_eq!(what, Some((2, Some(Report::State))), "{commands:?}");
        let (commands, ..) = step(&mut engine, 30, &leases);
        assert_eq!((engine.is_behind(), engine.position().version), (false, 3));
        if leaving.is_empty() {
            let end = |command: &Command| matches!(command, Command::Finish { outcome: Outcome::Stopped { .. }, .. });
            assert!(commands.iter().any(end), "{commands:?}");
        }
        for worker in leaving {
            let gone = |command: &Command| matches!(command, Command::Dismiss { worker: one, .. } if one == worker);
            assert!(commands.iter().any(gone), "{commands:?}");
        }
    }
}
