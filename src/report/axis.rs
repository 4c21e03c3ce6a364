//! From values to places on a picture, and the round numbers that stand beside them.

/// More steps would stand too close on a telephone.
const MOST_TICKS: f64 = 6.0;

/// Values whose greatest is so many times the least are drawn by their logarithm: a loss that began at 200,000 and ended at 2.
const WIDE: f64 = 200.0;

/// One direction of a picture: values from `low` to `high`, drawn from `start` to `end` (in the picture's units; `end` may be
/// the smaller one).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
    logarithmic: bool,
}

impl Axis {
    /// Holds all of `values` that a picture can show; 0 to 1 if there is none.
    pub fn around(values: impl Iterator<Item = f64>, start: f64, end: f64) -> Self {
        let (low, high) = values
            .filter(|value| is_drawable(*value))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        match (low, high) {
            (low, high) if low > high => Self { low: 0.0, high: 1.0, start, end, logarithmic: false },
            (low, high) if low > 0.0 && high / low > WIDE => {
                let (low, high) = (10_f64.powf(low.log10().floor()), 10_f64.powf(high.log10().ceil()));
                Self { low, high, start, end, logarithmic: true }
            }
            (low, high) => {
                // one value, or values that differ in their last digits only, still have a place
                let step = step(((high - low) / MOST_TICKS).max(high.abs().max(low.abs()) * 1e-6).max(1e-9));
                let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
                let high = if high > low { high } else { low + step };
                Self { low, high, start, end, logarithmic: false }
            }
        }
    }

    /// Exactly from `low` to `high`.
    pub fn between(low: f64, high: f64, start: f64, end: f64) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, start, end, logarithmic: false }
    }

    /// Where `value` is; none for one that no picture can show, or, on a logarithmic axis, one that is not positive.
    pub fn place(&self, value: f64) -> Option<f64> {
        if !is_drawable(value) {
            return None;
        }
        let share = match self.logarithmic {
            // differences of logarithms: a quotient could be too large
            true => (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln()),
            false => (value - self.low) / (self.high - self.low),
        };
        share.is_finite().then_some(self.start + share * (self.end - self.start))
    }

    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    /// The round values to write beside it, whole ones only if `whole`.
    pub fn ticks(&self, whole: bool) -> Vec<f64> {
        if self.logarithmic {
            let decades = (self.high.log10() - self.low.log10()).round() as i32;
            let every = (f64::from(decades) / MOST_TICKS).ceil().max(1.0) as usize;
            return (0..=decades).step_by(every).map(|decade| self.low * 10_f64.powi(decade)).collect();
        }
        let step = step((self.high - self.low) / MOST_TICKS);
        let step = if whole { step.max(1.0) } else { step };
        let first = (self.low / step - 1e-9).ceil();
        let count = ((self.high / step + 1e-9).floor() - first).max(0.0) as usize;
        // products of whole numbers, since sums of a tenth drift; a step is above a sixth of a fifth of the range
        (0..=count.min(40)).map(|tick| (first + tick as f64) * step).collect()
    }

    /// `value` with as many decimals as tell this axis's ticks apart.
    pub fn label(&self, value: f64) -> String {
        if self.logarithmic {
            return if (0.001..100_000.0).contains(&value) { format!("{value}") } else { format!("{value:e}") };
        }
        let step = step((self.high - self.low) / MOST_TICKS);
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        format!("{value:.decimals$}")
    }
}

/// Finite, and so far from the ends of f64 that differences and quotients are too.
fn is_drawable(value: f64) -> bool {
    value == 0.0 || (1e-300..1e300).contains(&value.abs())
}

/// The least of 1, 2, 5, 10, 20, … (and 0.5, 0.2, …) that is not below `wanted`.
fn step(wanted: f64) -> f64 {
    let power = 10_f64.powf(wanted.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= wanted * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks(false).into_iter().map(|tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        // by hand
        let axis = Axis::around([1.234, 2.31, f64::NAN].into_iter(), 100.0, 0.0);
        assert_eq!(labels(&axis), ["1.2", "1.4", "1.6", "1.8", "2.0", "2.2", "2.4"]);
        let place = |value| axis.place(value).map(|at| (at * 1e9).round() / 1e9);
        assert_eq!((place(1.2), place(2.4), place(f64::NAN)), (Some(100.0), Some(0.0), None));
        let axis = Axis::between(1.0, 3.0, 0.0, 10.0);
        assert_eq!(axis.ticks(true), [1.0, 2.0, 3.0]);
        assert_eq!(Axis::between(1.0, 1.0, 0.0, 1.0).ticks(true), [1.0, 2.0]);
    }

    #[test]
    fn a_loss_that_fell_from_two_hundred_thousand_is_drawn_by_its_logarithm() {
        let axis = Axis::around([2e5, 2.3].into_iter(), 0.0, 6.0);
        assert!(axis.is_logarithmic());
        assert_eq!(labels(&axis), ["1", "10", "100", "1000", "10000", "1e5", "1e6"]);
        assert!((axis.place(1000.0).expect("positive") - 3.0).abs() < 1e-9);
        assert_eq!(axis.place(0.0), None);
    }

    proptest! {
        #[test]
        fn fuzz_any_values_have_places_and_few_ticks(values in prop::collection::vec(any::<f64>(), 0..5)) {
            let axis = Axis::around(values.iter().copied(), 0.0, 100.0);
            prop_assert!((1..=41).contains(&axis.ticks(false).len()), "{axis:?}");
            for value in values.into_iter().filter(|value| is_drawable(*value)) {
                let place = axis.place(value);
                prop_assert!(place.is_some_and(|at| (-1e-3..=100.001).contains(&at)), "{value} {place:?} {axis:?}");
            }
        }
    }
}
