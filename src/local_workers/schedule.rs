//! When which worker is harmed: pure, from keys, so that a schedule can be repeated.

use std::time::Duration;

use lockstep_proto::keys::{Key, Stream};

use crate::cli::{Chaos, Fault};

/// A fault to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Since the workers were started.
    pub at: Duration,
    pub fault: Fault,
    /// Whom it is for, from 0; the next one if that one can't be harmed then.
    pub worker: usize,
    /// How long a freeze lasts.
    pub lasts: Duration,
}

/// The faults of a run, in order of time, without end.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// One for each kind of fault, each with draws of its own: what one kind does changes nothing of another.
    sources: Vec<Source>,
    workers: u32,
}

#[derive(Clone, Debug)]
struct Source {
    every: Duration,
    dice: Stream,
    next: Planned,
}

impl Source {
    fn advance(&mut self, workers: u32) {
        // between half and one and a half of the mean: never two at once, never a long wait
        self.next.at += self.every.mul_f32(self.dice.range(0.5, 1.5));
        self.next.worker = self.dice.below(workers) as usize;
    }
}

impl Schedule {
    /// The faults that `chaos` asks for among `workers` workers. `seed` is the recipe's, unless `chaos` has one. A worker that is
    /// silent for `timeout` loses its work: a freeze of no given length outlasts that.
    pub fn new(chaos: &Chaos, seed: u64, workers: usize, timeout: Duration) -> Self {
        let (seed, workers) = (chaos.seed.unwrap_or(seed), workers.max(1) as u32);
        let source = |rule: &crate::cli::Rule| {
            let name = match rule.fault {
                Fault::Kill => "kill",
                Fault::Freeze => "freeze",
                Fault::Leave => "leave",
            };
            let lasts = rule.lasts.unwrap_or(timeout.mul_f32(1.5));
            let next = Planned { at: Duration::ZERO, fault: rule.fault, worker: 0, lasts };
            let mut source = Source { every: rule.every, dice: Key::new(seed, "chaos", name).stream(0, 0, 0), next };
            source.advance(workers);
            source
        };
        Self { sources: chaos.rules.iter().map(source).collect(), workers }
    }
}

impl Iterator for Schedule {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        let first = self.sources.iter_mut().min_by_key(|source| source.next.at)?;
        let planned = first.next;
        first.advance(self.workers);
        Some(planned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Rule;

    fn chaos(rules: &[(Fault, u64)], seed: Option<u64>) -> Chaos {
        let rules =
            rules.iter().map(|(fault, every)| Rule { fault: *fault, every: Duration::from_secs(*every), lasts: None });
        Chaos { rules: rules.collect(), seed }
    }

    fn first(chaos: &Chaos, seed: u64) -> Vec<Planned> {
        Schedule::new(chaos, seed, 4, Duration::from_secs(2)).take(1000).collect()
    }

    #[test]
    fn a_seed_gives_a_schedule_in_order_and_another_seed_another() {
        let both = chaos(&[(Fault::Kill, 30), (Fault::Freeze, 60)], None);
        let faults = first(&both, 1);
        assert_eq!(faults, first(&both, 1));
        assert_ne!(faults, first(&both, 2));
        assert_eq!(first(&Chaos { seed: Some(1), ..both.clone() }, 2), faults, "its own seed goes first");
        assert!(faults.windows(2).all(|pair| pair[0].at <= pair[1].at));
        assert!((0..4).all(|worker| faults.iter().any(|fault| fault.worker == worker)));
        let kills: Vec<_> = faults.iter().filter(|fault| fault.fault == Fault::Kill).copied().collect();
        let alone = first(&chaos(&[(Fault::Kill, 30)], None), 1);
        assert_eq!(kills[..], alone[..kills.len()], "kills come when they come, whatever else does");
    }

    #[test]
    fn the_mean_is_what_was_asked_for() {
        let faults = first(&chaos(&[(Fault::Freeze, 30)], None), 3);
        // 1,000 gaps uniform in 15 to 45 s: the standard deviation of their mean is 0.27 s, and five of it 1.4
        let mean = faults[999].at.as_secs_f64() / 1000.0;
        assert!((mean - 30.0).abs() < 1.4, "{mean}");
        assert!(faults.iter().all(|fault| fault.lasts == Duration::from_secs(3)), "longer than the timeout of 2 s");
    }
}
