//! How fast something goes, the recent past counting most.

/// An amount and the seconds that it took, both fading away: their ratio is a rate that forgets, right from the first report on.
pub(super) struct Pace {
    /// How many seconds it remembers, roughly.
    memory: f64,
    amount: f64,
    seconds: f64,
}

impl Pace {
    pub(super) fn over(memory: f64) -> Pace {
        Pace { memory, amount: 0.0, seconds: 0.0 }
    }

    /// `amount` more was done in `seconds`; a time that makes no sense counts for nothing.
    pub(super) fn add(&mut self, amount: f64, seconds: f64) {
        let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
        let keep = (-seconds / self.memory).exp();
        self.amount = self.amount * keep + amount;
        self.seconds = self.seconds * keep + seconds;
    }

    /// Per second. NaN or infinite while no time was reported.
    pub(super) fn rate(&self) -> f64 {
        self.amount / self.seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_pace_is_itself_from_the_first_report() {
        let mut pace = Pace::over(10.0);
        assert!(pace.rate().is_nan());
        for _ in 0..1000 {
            pace.add(64.0, 0.1);
            assert!((pace.rate() - 640.0).abs() < 1e-6);
        }
    }

    #[test]
    fn it_forgets() {
        let mut pace = Pace::over(10.0);
        (0..100).for_each(|_| pace.add(100.0, 1.0));
        (0..10).for_each(|_| pace.add(50.0, 1.0));
        // After its memory's length, 1/e of the weight is the old pace's: 50 + 50/e.
        assert!((pace.rate() - 68.4).abs() < 0.1, "{}", pace.rate());
    }

    #[test]
    fn nonsense_does_no_harm() {
        let mut pace = Pace::over(10.0);
        [0.0, -1.0, f64::NAN, f64::INFINITY].into_iter().for_each(|seconds| pace.add(0.0, seconds));
        pace.add(64.0, 0.1);
        assert!((pace.rate() - 640.0).abs() < 1e-6);
    }
}
