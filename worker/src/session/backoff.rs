//! How long to wait before trying again: longer each time, and not all workers at once.

use std::time::Duration;

use lockstep_proto::keys::{Key, Stream};

/// The first pause; it doubles up to [`LONGEST`].
const FIRST: Duration = Duration::from_millis(100);

/// A coordinator that is back is found within this.
const LONGEST: Duration = Duration::from_secs(2);

/// The pauses of one worker.
#[derive(Debug)]
pub(super) struct Backoff {
    dice: Stream,
    next: Duration,
}

impl Backoff {
    /// Workers that lost the same coordinator differ in name or process, and so in their pauses.
    pub(super) fn new(name: &str, process: u32) -> Self {
        Self { dice: Key::new(u64::from(process), "reconnect", name).stream(0, 0, 0), next: FIRST }
    }

    /// From half to all of what doubling gives.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.next.mul_f32(self.dice.range(0.5, 1.0));
        self.next = (self.next * 2).min(LONGEST);
        pause
    }

    /// The coordinator was there: a new loss begins with a short pause.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::new("anna", 1);
        for most in [100, 200, 400, 800, 1600, 2000, 2000, 2000] {
            let pause = backoff.pause();
            let most = Duration::from_millis(most);
            assert!(pause >= most / 2 && pause <= most, "{pause:?} of {most:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }

    #[test]
    fn workers_do_not_come_at_once() {
        // 64 of one name on 64 machines, 64 names in one process: no two first pauses are alike
        let first = |name: &str, process| Backoff::new(name, process).pause();
        let by_process: std::collections::BTreeSet<_> = (0..64).map(|id| first("worker", id)).collect();
        let by_name: std::collections::BTreeSet<_> = (0..64).map(|id| first(&format!("worker-{id}"), 1)).collect();
        assert_eq!((by_process.len(), by_name.len()), (64, 64));
    }
}
