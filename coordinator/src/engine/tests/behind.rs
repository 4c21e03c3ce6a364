//! Steps that only their worker has made, scene by scene. Leases are numbered from 1, so that step s is lease s + 1 until something is given
//! out again.

use super::*;

/// Epochs of 40 steps, and at most a second that may be lost.
fn plan() -> Plan {
    Plan { catch_up: Some(Duration::from_secs(1)), in_advance: 1, examples: 320, batch_size: 8, ..sample() }
}

/// What a worker is asked to send of each step that it is given.
fn reports(commands: &[Command]) -> Vec<(u64, Report)> {
    let of = |command: &Command| match command {
        Command::Lease { work: Work::Shards { step, .. }, own: Some(own), .. } => Some((*step, *own)),
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

fn answer(engine: &mut Engine, ms: u64, lease: LeaseId) -> Vec<Command> {
    engine.handle(Duration::from_millis(ms), answered(1, lease))
}

/// At 30 ms three steps are made, and the coordinator has two; steps 3 and 4 are in hand.
fn behind() -> Engine {
    let mut engine = Engine::new(plan(), START);
    assert_eq!(
        reports(&join(&mut engine, 1)),
        [(0, Report::Gradient), (1, Report::Gradient)],
        "who knows how fast it is"
    );
    assert_eq!(reports(&answer(&mut engine, 10, 1)), [(2, Report::Counts)]);
    assert_eq!(reports(&answer(&mut engine, 20, 2)), [(3, Report::Counts)]);
    assert!(!engine.is_behind());
    assert_eq!(reports(&answer(&mut engine, 30, 3)), [(4, Report::Counts)]);
    assert!(engine.is_behind());
    engine
}

fn back(commands: &[Command]) -> Option<(u64, u32)> {
    commands.iter().find_map(|command| match command {
        Command::RollBack { version, shards, .. } => Some((*version, *shards)),
        _ => None,
    })
}

#[test]
fn a_lone_worker_keeps_its_gradients_for_a_while() {
    let mut engine = behind();
    // a second after the last one
    assert_eq!(reports(&answer(&mut engine, 1_025, 4)), [(5, Report::State)]);
    assert_eq!(reports(&answer(&mut engine, 1_030, 5)), [(6, Report::Counts)], "what it came to is on its way");
    assert_eq!(reports(&answer(&mut engine, 1_040, 6)), [(7, Report::Counts)]);
    assert!(!engine.is_behind());
    assert_eq!(engine.position().version, 6);
    // an evaluation needs it
    let mut asked = Vec::new();
    for step in 6..39 {
        asked.extend(reports(&answer(&mut engine, 1_050 + 10 * step, step + 1)));
    }
    assert_eq!(asked.last(), Some(&(39, Report::State)));
    assert!(asked.iter().rev().skip(1).all(|(_, report)| *report == Report::Counts), "{asked:?}");
}

#[test]
fn epochs_go_by_where_nothing_is_made_of_their_ends() {
    let quiet = Plan { evaluate_every_epochs: 0, checkpoint_every_epochs: 0, epochs: 2, ..plan() };
    let mut engine = Engine::new(quiet, START);
    join(&mut engine, 1);
    let mut ended = Vec::new();
    for step in 0..41 {
        let next = answer(&mut engine, 10 * (step + 1), step + 1);
        ended.extend(next.iter().any(|command| matches!(command, Command::EndEpoch { .. })).then_some(step + 1));
        if step > 0 {
            assert_eq!(reports(&next), [(step + 2, Report::Counts)]);
        }
    }
    assert_eq!(ended, [40]);
    // and what was only a worker's is made again, from the epoch before on
    let left = engine.handle(Duration::from_millis(420), Event::Left { worker: 1, reason: "killed".to_owned() });
    assert_eq!(back(&left), Some((2, 39 * 4)));
    let joined = engine.handle(Duration::from_millis(430), Event::Joined { worker: 2, makes_steps: true });
    assert_eq!(reports(&joined).first(), Some(&(2, Report::Gradient)));
}

#[test]
fn a_slow_one_sends_every_gradient() {
    let mut engine = Engine::new(plan(), START);
    join(&mut engine, 1);
    // a thirtieth of the time that may be lost is too long
    for step in 0..9 {
        let next = answer(&mut engine, 34 * (step + 1), step + 1);
        assert_eq!(reports(&next), [(step + 2, Report::Gradient)]);
    }
}

#[test]
fn what_a_lost_worker_had_is_made_again_in_the_open() {
    let mut engine = behind();
    let left = Event::Left { worker: 1, reason: "killed".to_owned() };
    let lost = engine.handle(Duration::from_millis(35), left);
    assert!(matches!(&lost[0], Command::Lost { worker: 1, reissued: 8, .. }), "two steps in hand: {lost:?}");
    assert_eq!(back(&lost), Some((2, 4)), "and one that was made");
    assert_eq!(engine.position().version, 2);
    let joined = engine.handle(Duration::from_millis(40), Event::Joined { worker: 2, makes_steps: true });
    assert_eq!(reports(&joined), [(2, Report::Gradient), (3, Report::Gradient)]);
    // beyond where the other one was lost it keeps its own
    let next = engine.handle(Duration::from_millis(50), answered(2, 6));
    assert_eq!(reports(&next), [(4, Report::Counts)]);
}

#[test]
fn who_joins_waits_until_the_coordinator_has_caught_up() {
    let mut engine = behind();
    assert_eq!(engine.handle(Duration::from_millis(31), Event::Joined { worker: 2, makes_steps: true }), []);
    assert_eq!(reports(&answer(&mut engine, 40, 4)), []);
    assert_eq!(reports(&answer(&mut engine, 50, 5)), [(5, Report::State)]);
    let shared = answer(&mut engine, 60, 6);
    assert_eq!(leases(&shared).iter().map(|(worker, ..)| *worker).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_run_that_is_stopped_waits_for_what_only_a_worker_has() {
    let stop = || Event::Stop { reason: "Ctrl-C".to_owned() };
    let mut engine = behind();
    assert_eq!(engine.handle(Duration::from_millis(31), stop()), []);
    assert_eq!(reports(&answer(&mut engine, 40, 4)), []);
    assert_eq!(reports(&answer(&mut engine, 50, 5)), [(5, Report::State)]);
    let end = answer(&mut engine, 60, 6);
    assert!(
        matches!(&end[..], [.., Command::Checkpoint { position, .. }, Command::Finish { .. }] if position.version == 6)
    );
    // asked twice, or without the worker, it ends with what there is
    let gone = || Event::Left { worker: 1, reason: "killed".to_owned() };
    for last in [stop(), gone()] {
        let mut engine = behind();
        engine.handle(Duration::from_millis(31), stop());
        let end = engine.handle(Duration::from_millis(32), last);
        assert_eq!(back(&end).map(|(version, _)| version), Some(2), "{end:?}");
        assert!(matches!(&end[..], [.., Command::Finish { position, .. }] if position.version == 2), "{end:?}");
    }
}

#[test]
fn what_is_wrong_with_a_step_that_was_not_sent_is_looked_at_in_the_open() {
    let not_finite = Finding::NotFinite("its gradient has the norm NaN".to_owned());
    let wrong = [
        Event::Answered { worker: 1, lease: 4, finding: not_finite },
        Event::Refused { worker: 1, lease: 4, reason: "checksum".to_owned() },
        Event::Failed { worker: 1, lease: 4, reason: "out of memory".to_owned() },
    ];
    for event in wrong {
        let mut engine = behind();
        let again = engine.handle(Duration::from_millis(40), event);
        assert_eq!(back(&again), Some((2, 4)), "{again:?}");
        assert!(again.contains(&Command::CallBack { worker: 1, lease: 5 }), "{again:?}");
        // step 3 is the one, and none before it is skipped
        assert_eq!(reports(&again), [(2, Report::Gradient), (3, Report::Gradient)]);
        assert_eq!(reports(&answer(&mut engine, 50, 6)), [(4, Report::Counts)]);
    }
}

#[test]
fn who_leaves_sends_what_it_came_to() {
    let mut engine = behind();
    assert_eq!(engine.handle(Duration::from_millis(31), Event::Leaving { worker: 1 }), []);
    assert_eq!(reports(&answer(&mut engine, 40, 4)), []);
    // one more step than it has in hand, and nothing after that
    assert_eq!(reports(&answer(&mut engine, 50, 5)), [(5, Report::State)]);
    let gone = answer(&mut engine, 60, 6);
    assert!(gone.contains(&Command::Step { step: 5 }) && back(&gone).is_none(), "{gone:?}");
    assert!(matches!(&gone[..], [.., Command::Dismiss { worker: 1, may_return: true, .. }]), "{gone:?}");
    assert_eq!(engine.position().version, 6);
}

#[test]
fn others_do_not_wait_for_one_that_is_stuck() {
    let mut engine = behind();
    engine.handle(Duration::from_millis(31), Event::Joined { worker: 2, makes_steps: true });
    // it sounds alive, for as long as one may be silent
    let given = pass(&mut engine, 100, 2_100, &[1, 2]);
    assert_eq!(back(&given), Some((2, 4)), "{given:?}");
    let called: Vec<_> =
        given.iter().filter(|command| matches!(command, Command::CallBack { worker: 1, .. })).collect();
    assert_eq!(called.len(), 2);
    // all of the step is shared out: nobody is blamed
    let workers: Vec<_> = leases(&given).iter().map(|(worker, ..)| *worker).collect();
    assert_eq!(workers, [1, 2]);
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let mut engine = behind();
    engine.handle(Duration::from_millis(31), Event::Stop { reason: "Ctrl-C".to_owned() });
    let end = pass(&mut engine, 100, 5_100, &[1]);
    assert_eq!(back(&end), Some((2, 4)), "{end:?}");
    assert!(matches!(&end[..], [.., Command::Finish { outcome: Outcome::Stopped { .. }, .. }]), "{end:?}");
}

/// What follows a worker's own answer is worth nothing where another one's is used.
#[test]
fn steps_in_advance_follow_the_answer_that_is_used() {
    let plan = Plan { catch_up: None, ..plan() };
    let mut engine = Engine::new(plan, START);
    join(&mut engine, 1);
    // enough to know who is late
    for step in 0..9 {
        answer(&mut engine, 10 * (step + 1), step + 1);
    }
    engine.handle(Duration::from_millis(91), Event::Joined { worker: 2, makes_steps: true });
    let copied = engine.handle(Duration::from_millis(400), Event::Tick);
    let [Command::Lease { worker: 2, lease: copy, purpose: Purpose::Copy, own: None, .. }] = copied[..] else {
        panic!("{copied:?}");
    };
    let closed = engine.handle(Duration::from_millis(401), answered(2, copy));
    assert!(closed.contains(&Command::CallBack { worker: 1, lease: 11 }), "{closed:?}");
    assert!(closed.contains(&Command::Doubt { worker: 1 }), "{closed:?}");
    assert!(closed.contains(&Command::Step { step: 9 }), "{closed:?}");
}
