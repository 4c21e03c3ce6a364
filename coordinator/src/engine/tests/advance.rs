//! Steps in advance, scene by scene.

use super::*;

/// Steps that a worker is given, and whether it goes on from each.
fn steps(commands: &[Command]) -> Vec<(u64, bool)> {
    let of = |command: &Command| match command {
        Command::Lease { work: Work::Shards { step, .. }, own, .. } => Some((*step, own.is_some())),
        _ => None,
    };
    commands.iter().filter_map(of).collect()
}

/// Its holder computes what was called back all the same, and is a step further when it comes to what was given out instead.
#[test]
fn nothing_is_given_out_behind_what_was_called_back() {
    let plan = Plan { in_advance: 2, examples: 800, batch_size: 8, ..sample() };
    let mut engine = Engine::new(plan, START);
    let at = |ms| Duration::from_millis(ms);
    join(&mut engine, 1);
    for step in 0..10 {
        engine.handle(at(10 * step), answered(1, step + 1));
    }
    // leases 11 to 13 are in hand; the open step is late, another worker computes it, too, and is gone again
    engine.handle(at(100), Event::Joined { worker: 2, makes_steps: true });
    let late: Vec<_> = (2..10).flat_map(|tick| engine.handle(at(100 * tick), Event::Tick)).collect();
    let copied = |command: &Command| matches!(command, Command::Lease { worker: 2, purpose: Purpose::Copy, .. });
    assert!(late.iter().any(copied), "{late:?}");
    assert!(late.contains(&Command::CallBack { worker: 1, lease: 13 }), "{late:?}");
    let left = engine.handle(at(1_000), Event::Left { worker: 2, reason: "killed".to_owned() });
    assert_eq!(steps(&left), []);
    // with the next one it is sent parameters, which come after all that was called back
    let next = engine.handle(at(1_000), answered(1, 11));
    assert_eq!(steps(&next), [(11, true), (12, true), (13, true)]);
}

#[test]
fn a_lone_worker_has_the_next_steps_in_advance_until_something_happens() {
    let plan = Plan { in_advance: 2, examples: 80, batch_size: 8, ..sample() };
    let mut engine = Engine::new(plan.clone(), START);
    assert_eq!(steps(&join(&mut engine, 1)), [(0, true), (1, true), (2, true)]);
    let next = engine.handle(Duration::ZERO, answered(1, 1));
    assert!(next.contains(&Command::Step { step: 0 }), "{next:?}");
    assert_eq!(steps(&next), [(3, true)]);
    // somebody joins and waits: what is in hand follows from what was
    assert_eq!(join(&mut engine, 2), []);
    assert_eq!(steps(&engine.handle(Duration::ZERO, answered(1, 2))), []);
    // an answer that can't be used: what should have followed is called back, and nobody goes on alone
    let refused = Event::Refused { worker: 1, lease: 3, reason: "checksum".to_owned() };
    let again = engine.handle(Duration::ZERO, refused);
    assert!(again.contains(&Command::CallBack { worker: 1, lease: 4 }), "{again:?}");
    assert_eq!(steps(&again), [(2, false)]);
    let late = engine.handle(Duration::ZERO, answered(1, 4));
    assert!(matches!(late[..], [Command::Drop { lease: 4, .. }]), "{late:?}");
    // up to an evaluation, after 10 steps here, and not for those who can't
    let mut engine = Engine::new(plan.clone(), Position { version: 8, evaluation_owed: false });
    assert_eq!(steps(&join(&mut engine, 1)), [(8, true), (9, true)]);
    let mut engine = Engine::new(plan, START);
    let joined = engine.handle(Duration::ZERO, Event::Joined { worker: 1, makes_steps: false });
    assert_eq!(steps(&joined), [(0, false)]);
}
