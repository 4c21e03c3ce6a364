//! How long things take: when a holder is late, and how much a worker gets.

use std::collections::VecDeque;
use std::time::Duration;

/// Leases that the median is taken of: enough to be steady, few enough to follow a change within a few steps.
const WINDOW: usize = 64;

/// Before so many leases are done nobody is called late.
const ENOUGH: usize = 8;

/// A holder is late beyond the median and so many times the median absolute deviation: 3.4 standard deviations of a normal
/// distribution.
const DEVIATIONS: f64 = 5.0;

/// … and beyond this multiple of the median: where all take the same time the deviation is next to nothing.
const FACTOR: f64 = 1.5;

/// … and never earlier than this: a copy costs more than such a wait.
const FLOOR: Duration = Duration::from_millis(100);

/// Leases that a worker's own pace is the median of: one that was held up by a neighbour must not show.
const MINE: usize = 9;

/// Workers that differ by less from the median count as equal: that is noise, and an even cut sends whole nodes.
const ALIKE: f64 = 1.5;

/// Seconds a unit (a shard, a slice) of the last leases.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<f64>);

impl Pace {
    /// A lease of `units` was answered and used after `took`.
    pub(super) fn took(&mut self, took: Duration, units: u32) {
        if self.0.len() == WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(took.as_secs_f64() / f64::from(units.max(1)));
    }

    /// From when on the holder of `units` is late, if that can be said.
    pub(super) fn late(&self, units: u32) -> Option<Duration> {
        if self.0.len() < ENOUGH {
            return None;
        }
        let middle = median(self.0.iter().copied());
        let deviation = median(self.0.iter().map(|seconds| (seconds - middle).abs()));
        let unit = (middle + DEVIATIONS * deviation).max(FACTOR * middle);
        // a clock that ran backwards or a lease of years must not panic
        Some(Duration::try_from_secs_f64(unit * f64::from(units)).unwrap_or(Duration::MAX).max(FLOOR))
    }
}

/// The upper median; 0 of nothing.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Seconds a shard of one worker's last leases.
#[derive(Debug, Default)]
pub(super) struct OwnPace(VecDeque<f64>);

impl OwnPace {
    pub(super) fn took(&mut self, took: Duration, units: u32) {
        if self.0.len() == MINE {
            self.0.pop_front();
        }
        self.0.push_back(took.as_secs_f64() / f64::from(units.max(1)));
    }

    /// It was too slow to be given anything: what is known of it grows old, so that it is tried again some steps on.
    pub(super) fn fade(&mut self) {
        self.0.pop_front();
    }

    pub(super) fn seconds(&self) -> Option<f64> {
        (!self.0.is_empty()).then(|| median(self.0.iter().copied()))
    }
}

/// Shares out `units` so that workers that take `seconds` a unit are done as early as can be. One of whom nothing is known
/// counts as the median of the others.
pub(super) fn shares(units: usize, seconds: &[Option<f64>]) -> Vec<usize> {
    let typical = median(seconds.iter().flatten().copied());
    // all alike, if nothing is known or the clock saw nothing pass
    let pace: Vec<f64> = seconds
        .iter()
        .map(|known| known.unwrap_or(typical))
        .map(|pace| if pace < typical * ALIKE && typical < pace * ALIKE { typical } else { pace })
        .map(|pace| if typical > 0.0 { pace.max(typical / 100.0) } else { 1.0 })
        .collect();
    let mut shares = vec![0; seconds.len()];
    for _ in 0..units {
        let done = |worker: usize| pace[worker] * (shares[worker] + 1) as f64;
        let first = (0..shares.len()).min_by(|a, b| done(*a).total_cmp(&done(*b)));
        if let Some(first) = first {
            shares[first] += 1;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn late_is_far_beyond_what_is_usual() {
        let mut pace = Pace::default();
        for n in 0..7 {
            pace.took(ms(400 + 10 * n), 2);
        }
        assert_eq!(pace.late(1), None, "too few to say");
        pace.took(ms(470), 2);
        // 200, 205, … 235 ms a unit: upper median 220, upper median of the deviations 10; 1.5 times the median is more
        assert_eq!(pace.late(2), Some(ms(660)));
        for _ in 0..WINDOW {
            pace.took(ms(1), 1);
        }
        assert_eq!(pace.late(3), Some(FLOOR));
        for n in 0..WINDOW as u64 {
            pace.took(ms(100 + 100 * (n % 5)), 1);
        }
        // 100 to 500: median 300, deviations 0, 100, 200: median 100
        assert_eq!(pace.late(1), Some(ms(800)));
    }

    #[test]
    fn shares_follow_the_measured_pace_and_not_its_noise() {
        assert_eq!(shares(4, &[None, None]), [2, 2]);
        assert_eq!(shares(5, &[None, None, None]), [2, 2, 1]);
        assert_eq!(shares(4, &[Some(0.0), Some(0.0)]), [2, 2]);
        assert_eq!(shares(4, &[Some(1.0), Some(1.2)]), [2, 2]);
        assert_eq!(shares(5, &[Some(1.2), Some(1.0)]), [3, 2], "the first one has more, as among equals");
        assert_eq!(shares(4, &[Some(1.0), Some(3.0)]), [3, 1]);
        assert_eq!(shares(4, &[Some(1.0), Some(9.0)]), [4, 0]);
        assert_eq!(shares(6, &[Some(2.0), None, Some(1.0)]), [2, 1, 3]);
        assert_eq!(shares(0, &[None]), [0]);
    }

    #[test]
    fn a_workers_pace_is_its_median_and_is_forgotten_when_it_is_not_used() {
        let mut pace = OwnPace::default();
        assert_eq!(pace.seconds(), None);
        for took in [200, 9_000, 200, 220, 180] {
            pace.took(ms(took), 2);
        }
        assert_eq!(pace.seconds(), Some(0.1));
        (0..5).for_each(|_| pace.fade());
        assert_eq!(pace.seconds(), None);
    }
}
