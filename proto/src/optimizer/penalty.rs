//! L1 and L2 penalties on all parameters, once, on the whole gradient and before clipping: what `loss + l1·Σ|p| + l2·Σp²` adds
//! to the loss, and its `backward()` to the gradient.

use rayon::prelude::*;

use super::PART;
use super::sums::sum;
use crate::recipe::LossSettings;
use crate::tensors;

/// Adds l1·sign(p) + 2·l2·p to each value of `gradient` (sign(0) is 0, as in PyTorch; computed in `f64`, rounded once) and
/// gives l1·Σ|p| + l2·Σp², summed in `f64` over fixed blocks. Without a penalty the gradient keeps its bits.
///
/// # Panics
/// If the slices differ in length: a penalty on part of the parameters would be silent.
pub fn add(settings: &LossSettings, parameters: &[f32], gradient: &mut [f32]) -> f64 {
    assert_eq!(parameters.len(), gradient.len(), "parameters and gradient");
    let LossSettings { l1, l2, .. } = *settings;
    if l1 == 0.0 && l2 == 0.0 {
        // −0 + 0 would be +0
        return 0.0;
    }
    let slope = |(gradient, parameters): (&mut [f32], &[f32])| {
        for (g, &p) in gradient.iter_mut().zip(parameters) {
            *g = (f64::from(*g) + l1 * sign(p) + 2.0 * l2 * f64::from(p)) as f32;
        }
    };
    match tensors::parallel(gradient.len()) {
        false => slope((gradient, parameters)),
        true => gradient.par_chunks_mut(PART).zip(parameters.par_chunks(PART)).for_each(slope),
    }
    // one that is off is not summed: 0 · ∞ is NaN
    let first = if l1 == 0.0 { 0.0 } else { l1 * sum(parameters, f64::abs) };
    let second = if l2 == 0.0 { 0.0 } else { l2 * sum(parameters, |p| p * p) };
    first + second
}

/// −1, 0 or 1; NaN stays. `f32::signum` has no 0.
fn sign(value: f32) -> f64 {
    if value > 0.0 {
        1.0
    } else if value < 0.0 {
        -1.0
    } else {
        // ±0, or NaN
        f64::from(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(l1: f64, l2: f64) -> LossSettings {
        LossSettings { l1, l2, ..LossSettings::default() }
    }

    /// By hand: 0.5·(3 + 0 + 1) + 0.25·(9 + 0 + 1) = 4.5; slopes 0.5·sign(p) + 0.5·p.
    #[test]
    fn the_penalty_and_its_slope_of_known_parameters() {
        let parameters = [3.0, -0.0, -1.0];
        let mut gradient = [1.0, 1.0, 1.0];
        assert_eq!(add(&settings(0.5, 0.25), &parameters, &mut gradient), 4.5);
        assert_eq!(gradient, [3.0, 1.0, 0.0]);
    }

    #[test]
    fn without_penalties_no_bit_of_the_gradient_changes() {
        let mut gradient = [-0.0, f32::MIN_POSITIVE, 1.0];
        let before = gradient.map(f32::to_bits);
        assert_eq!(add(&settings(0.0, 0.0), &[1.0, f32::INFINITY, 2.0], &mut gradient), 0.0);
        assert_eq!(gradient.map(f32::to_bits), before);
    }

    #[test]
    fn what_diverged_shows() {
        let mut gradient = [0.0];
        assert!(!add(&settings(0.1, 0.0), &[f32::NAN], &mut gradient).is_finite() && gradient[0].is_nan());
        assert!(add(&settings(0.0, 0.1), &[f32::INFINITY], &mut gradient).is_infinite());
    }

    /// Oracle: the penalty itself by central differences, in each parameter, long enough that several threads share it.
    #[test]
    fn the_slope_is_the_penaltys_own() {
        let settings = settings(1e-2, 1e-3);
        let parameters: Vec<f32> = (0..300_001).map(|i| ((i * 37 % 64) as f32 - 31.5) / 32.0).collect();
        let mut gradient = vec![0.0; parameters.len()];
        add(&settings, &parameters, &mut gradient);
        let value = |p: f64| settings.l1 * p.abs() + settings.l2 * p * p;
        for (&p, &g) in parameters.iter().zip(&gradient) {
            let (p, step) = (f64::from(p), 1e-4);
            let slope = (value(p + step) - value(p - step)) / (2.0 * step);
            assert!((slope - f64::from(g)).abs() < 1e-9, "at {p}: {g}, not {slope}");
        }
    }
}
