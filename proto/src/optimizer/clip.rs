//! Gradient clipping by norm, once, on the whole gradient, as
//! [`clip_grad_norm_`](https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html).

use super::sums::sum;

/// PyTorch adds it to the norm, so that a gradient of zeros does not divide by zero.
const SMALL: f64 = 1e-6;

/// The Euclidean norm, summed in `f64` (where the square of an `f32` is exact and cannot overflow) over fixed blocks.
#[must_use]
pub fn norm(values: &[f32]) -> f64 {
    sum(values, |value| value * value).sqrt()
}

/// Scales `gradient` down so that its norm is at most `max_norm` (0: leaves it alone), and gives the norm it had. A NaN or
/// infinity in it makes the scaled gradient NaN, as in PyTorch with `error_if_nonfinite=False`: check the norm that comes back.
pub fn clip_by_norm(gradient: &mut [f32], max_norm: f64) -> f64 {
    let norm = norm(gradient);
    if max_norm == 0.0 {
        return norm;
    }
    let scale = max_norm / (norm + SMALL);
    // a NaN must reach the gradient
    if scale < 1.0 || scale.is_nan() {
        let scale = scale as f32;
        for g in gradient {
            *g *= scale;
        }
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_of_known_vectors() {
        assert_eq!(norm(&[]), 0.0);
        assert_eq!(norm(&[3.0, -4.0]), 5.0);
        // 3 · 2^16 values of 2^-3: the norm is √3 · 2^8 · 2^-3
        let many = vec![0.125_f32; 3 << 16];
        assert!((norm(&many) - 3.0_f64.sqrt() * 32.0).abs() < 1e-12);
        // f32 sums of squares would overflow here
        assert!((norm(&[f32::MAX, f32::MAX]) / (f64::from(f32::MAX) * 2.0_f64.sqrt()) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn only_what_is_too_long_is_scaled() {
        let mut short = [0.6, 0.8, -0.0];
        assert!((clip_by_norm(&mut short, 2.0) - 1.0).abs() < 1e-7);
        assert_eq!(short.map(f32::to_bits), [0.6_f32, 0.8, -0.0].map(f32::to_bits));
        let mut long = [30.0, 40.0];
        assert_eq!(clip_by_norm(&mut long, 5.0), 50.0);
        assert!(norm(&long) <= 5.0 && norm(&long) > 4.9999, "{long:?}");
        // PyTorch's 1e-6 halves a norm of 1e-6
        let mut tiny = [1e-6];
        clip_by_norm(&mut tiny, 1e-6);
        assert!((tiny[0] - 0.5e-6).abs() < 1e-12, "{tiny:?}");
        let mut any = [30.0, 40.0];
        assert_eq!((clip_by_norm(&mut any, 0.0), any), (50.0, [30.0, 40.0]));
        let mut zeros = [0.0; 3];
        assert_eq!((clip_by_norm(&mut zeros, 1.0), zeros), (0.0, [0.0; 3]));
    }

    #[test]
    fn what_is_not_finite_shows() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut gradient = [1.0, bad];
            assert!(!clip_by_norm(&mut gradient, 1.0).is_finite());
            assert!(gradient.iter().any(|g| g.is_nan()));
        }
    }
}
