//! Rings whose members make the steps themselves, scene by scene.

use super::rings::{gather, parts, places, plan, tell};
use super::*;

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

/// The steps that `commands` give out to the first member, and what is asked for of each.
fn given(commands: &[Command]) -> Vec<(u64, Option<Report>)> {
    let step = |command: &Command| match command {
        Command::Lease { worker: 1, work: Work::Part { step, .. }, own, .. } => Some((*step, *own)),
        _ => None,
    };
    commands.iter().filter_map(step).collect()
}

/// Members that are given two steps in advance, and are quick enough for that.
fn ahead(workers: u64) -> Engine {
    let mut engine = keeping(workers);
    engine.plan.in_advance = 2;
    engine.rings.pace.took(Duration::from_millis(10), 1);
    engine
}

#[test]
fn a_ring_has_its_next_steps_in_hand_until_others_are_to_take_part() {
    let mut engine = ahead(2);
    let counts = |steps: std::ops::Range<u64>| steps.map(|step| (step, Some(Report::Counts))).collect::<Vec<_>>();
    assert_eq!(given(&gather(&mut engine, 1, &[1, 2])), counts(0..3));
    // the first member is a step ahead with its answers
    for lease in [1, 3] {
        let commands = tell(&mut engine, answered(1, lease));
        assert!(matches!(&commands[..], [Command::Hold { .. }]), "{commands:?}");
    }
    let commands = tell(&mut engine, answered(2, 2));
    assert!(commands.contains(&Command::Step { step: 0 }) && !commands.contains(&Command::Step { step: 1 }));
    assert_eq!(given(&commands), counts(3..4));
    let commands = tell(&mut engine, answered(2, 4));
    assert_eq!((commands.contains(&Command::Step { step: 1 }), given(&commands)), (true, counts(4..5)));
    // what is given out is made; of the next one they are asked what they came to, and nothing follows that before it is here
    tell(&mut engine, Event::Joined { worker: 3, makes_steps: true });
    for (one, other, next) in [(5, 6, &[(5, Some(Report::State))][..]), (7, 8, &[]), (9, 10, &[])] {
        tell(&mut engine, answered(1, one));
        assert_eq!(given(&tell(&mut engine, answered(2, other))), next);
    }
    tell(&mut engine, answered(1, 11));
    assert_eq!(places(&tell(&mut engine, answered(2, 12))), [(1, 2, 0, 3)]);
    assert!(!engine.is_behind());
}

#[test]
fn what_a_ring_has_in_hand_is_over_with_it_and_made_in_the_open() {
    let mut engine = ahead(2);
    gather(&mut engine, 1, &[1, 2]);
    tell(&mut engine, answered(1, 1));
    tell(&mut engine, answered(1, 3));
    let lost = tell(&mut engine, Event::Left { worker: 2, reason: "killed".to_owned() });
    // two shards of the open step are answered; the lost one's are said with it, and nobody waits for those of later steps
    let over = |command: &Command| matches!(command, Command::Dissolve { reissued: 2, .. });
    assert!(lost.iter().any(over), "{lost:?}");
    let dropped = |command: &&Command| matches!(command, Command::Drop { worker: 1, lease: 1 | 3, .. });
    assert_eq!(lost.iter().filter(dropped).count(), 2, "{lost:?}");
    let mut commands = gather(&mut engine, 2, &[1]);
    for number in 0..3 {
        assert_eq!(given(&commands), [(number, None)], "nothing is given out beyond one that is made here");
        let lease = parts(&commands)[0].1;
        commands = tell(&mut engine, answered(1, lease));
    }
    assert_eq!(given(&commands).first(), Some(&(3, Some(Report::Counts))));
}

#[test]
fn slow_steps_are_not_given_in_advance() {
    let mut engine = ahead(1);
    assert_eq!(given(&gather(&mut engine, 1, &[1])).len(), 3);
    let mut engine = ahead(1);
    // half a second may be lost, and 32 of them are more
    engine.rings.pace.took(Duration::from_millis(25), 1);
    assert_eq!(given(&gather(&mut engine, 1, &[1])).len(), 1);
}

#[test]
fn what_fails_in_a_later_step_is_looked_at_in_the_open_with_all_before_it() {
    for failure in [
        Event::Answered { worker: 1, lease: 3, finding: Finding::NotFinite("its norm is NaN".to_owned()) },
        Event::Failed { worker: 1, lease: 3, reason: "out of memory".to_owned() },
        Event::Refused { worker: 1, lease: 3, reason: "it is damaged".to_owned() },
    ] {
        let mut engine = ahead(2);
        gather(&mut engine, 1, &[1, 2]);
        tell(&mut engine, answered(1, 1));
        assert_eq!(places(&tell(&mut engine, failure)), [(1, 2, 0, 2)]);
        let mut commands = gather(&mut engine, 2, &[1, 2]);
        for number in 0..3 {
            assert_eq!(given(&commands), [(number, None)]);
            for (worker, lease, ..) in parts(&commands) {
                commands = tell(&mut engine, answered(worker, lease));
            }
        }
    }
}

#[test]
fn a_member_that_answers_out_of_order_holds_no_step_up() {
    let mut engine = ahead(2);
    gather(&mut engine, 1, &[1, 2]);
    for (worker, lease) in [(1, 1), (1, 3), (2, 4)] {
        assert!(matches!(tell(&mut engine, answered(worker, lease))[..], [Command::Hold { .. }]));
    }
    let commands = tell(&mut engine, answered(2, 2));
    let steps = [Command::Step { step: 0 }, Command::Step { step: 1 }];
    assert!(steps.iter().all(|step| commands.contains(step)), "{commands:?}");
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
