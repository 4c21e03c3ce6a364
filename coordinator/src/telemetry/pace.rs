//! How fast a run is, and how long it will take.

use std::collections::VecDeque;

/// The rate shown is that of these last seconds: steady enough to read, quick enough to show a lost worker.
const RATE_SECONDS: f64 = 10.0;

/// The time left is judged by these last minutes, evaluations included, so that it doesn't jump about.
const LEFT_SECONDS: f64 = 300.0;

/// Points at most this often: some 300 are kept, however fast the steps are.
const SPACING: f64 = 1.0;

#[derive(Clone, Copy)]
struct Point {
    seconds: f64,
    step: u64,
    images: u64,
    /// Time spent in steps, without what lies between them (evaluation).
    step_seconds: f64,
}

#[derive(Default)]
pub(super) struct Pace {
    points: VecDeque<Point>,
    last: Option<Point>,
}

impl Pace {
    /// A step was committed at `seconds`.
    pub(super) fn step(&mut self, seconds: f64, step: u64, images: u64, images_per_s: f64) {
        let took = images as f64 / images_per_s;
        let took = if took.is_finite() { took } else { 0.0 };
        let before = self.last.unwrap_or(Point {
            seconds: seconds - took,
            step: step.saturating_sub(1),
            images: 0,
            step_seconds: 0.0,
        });
        let now = Point { seconds, step, images: before.images + images, step_seconds: before.step_seconds + took };
        if self.last.is_none() {
            self.points.push_back(before);
        }
        self.last = Some(now);
        if self.points.back().is_none_or(|point| seconds - point.seconds >= SPACING) {
            self.points.push_back(now);
        }
        while self.points.len() > 2 && self.points[1].seconds < seconds - LEFT_SECONDS {
            self.points.pop_front();
        }
    }

    /// Images per second of step time.
    pub(super) fn images_per_s(&self) -> f64 {
        let (Some(now), Some(from)) = (self.last, self.since(RATE_SECONDS)) else { return f64::NAN };
        (now.images - from.images) as f64 / (now.step_seconds - from.step_seconds)
    }

    /// Seconds until `steps` are done, as seen at `now`.
    pub(super) fn seconds_left(&self, steps: u64, now: f64) -> Option<f64> {
        let (last, from) = (self.last?, self.since(LEFT_SECONDS)?);
        let done = last.step.checked_sub(from.step).filter(|&done| done > 0)?;
        let per_step = (last.seconds - from.seconds) / done as f64;
        let at_last = steps.saturating_sub(last.step) as f64 * per_step;
        // Counts down between slow steps, too.
        Some((at_last - (now - last.seconds).max(0.0)).max(0.0))
    }

    fn since(&self, seconds: f64) -> Option<Point> {
        let begin = self.last?.seconds - seconds;
        let from = self.points.iter().rev().find(|point| point.seconds <= begin);
        from.or(self.points.front()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten steps a second, 100 images each, from `from` on.
    fn steady(pace: &mut Pace, from: u64, to: u64, offset: f64) {
        for step in from..=to {
            pace.step(offset + step as f64 / 10.0, step, 100, 1000.0);
        }
    }

    #[test]
    fn a_steady_run() {
        let mut pace = Pace::default();
        assert!(pace.images_per_s().is_nan());
        assert_eq!(pace.seconds_left(100, 0.0), None);
        steady(&mut pace, 1, 1, 0.0);
        assert!((pace.images_per_s() - 1000.0).abs() < 1e-6, "known after one step");
        steady(&mut pace, 2, 50_000, 0.0);
        assert!((pace.images_per_s() - 1000.0).abs() < 1e-6);
        assert!((pace.seconds_left(50_100, 5000.0).expect("known") - 10.0).abs() < 1e-6);
        assert!((pace.seconds_left(50_100, 5004.0).expect("known") - 6.0).abs() < 1e-6);
        assert!(pace.points.len() < 310, "{} points", pace.points.len());
    }

    #[test]
    fn evaluation_is_in_the_time_left_but_not_in_the_rate() {
        let mut pace = Pace::default();
        steady(&mut pace, 1, 100, 0.0);
        steady(&mut pace, 101, 200, 10.0);
        assert!((pace.images_per_s() - 1000.0).abs() < 1e-6);
        // 200 steps took 30 s.
        assert!((pace.seconds_left(300, 30.0).expect("known") - 15.0).abs() < 1e-6);
    }

    #[test]
    fn a_resumed_run_judges_by_its_own_steps() {
        let mut pace = Pace::default();
        for step in 1001..=1010 {
            pace.step(500.0 + (step - 1000) as f64, step, 10, 10.0);
        }
        assert!((pace.seconds_left(1020, 510.0).expect("known") - 10.0).abs() < 1e-6);
    }

    #[test]
    fn nonsense_does_no_harm() {
        let mut pace = Pace::default();
        pace.step(1.0, 1, 64, 0.0);
        pace.step(1.0, 1, 64, f64::NAN);
        assert_eq!(pace.seconds_left(10, 2.0).map(f64::is_finite), Some(true));
        let _ = pace.images_per_s();
    }
}
