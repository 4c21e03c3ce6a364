//! Numbers that a set of images can be recognised by: class counts, channel means and deviations.

use lockstep_proto::records::{PIXELS, Split};

/// Examples of each of `classes` classes; labels beyond are not counted.
#[must_use]
pub fn class_counts(split: &Split, classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in &split.labels {
        if let Some(count) = counts.get_mut(usize::from(label)) {
            *count += 1;
        }
    }
    counts
}

/// Mean and population standard deviation of the red, green and blue channel, of pixels scaled to [0, 1]. Sums are
/// integers, so that every machine gets the same bits. An empty split has NaNs.
#[must_use]
pub fn channel_moments(split: &Split) -> ([f64; 3], [f64; 3]) {
    const PLANE: usize = PIXELS / 3;
    let mut sums = [(0_u64, 0_u64); 3];
    for image in split.pixels.chunks_exact(PIXELS) {
        for (plane, (sum, squares)) in image.chunks_exact(PLANE).zip(&mut sums) {
            // 1024 × 255² fits 32 bits: narrow sums vectorise
            let (s, q) =
                plane.iter().fold((0_u32, 0_u32), |(s, q), &p| (s + u32::from(p), q + u32::from(p) * u32::from(p)));
            *sum += u64::from(s);
            *squares += u64::from(q);
        }
    }
    let n = (split.len() * PLANE) as f64;
    let mean = sums.map(|(sum, _)| sum as f64 / n);
    let mut deviation = [0.0; 3];
    for (to, ((_, squares), mean)) in deviation.iter_mut().zip(sums.iter().zip(mean)) {
        *to = (*squares as f64 / n - mean * mean).max(0.0).sqrt() / 255.0;
    }
    (mean.map(|m| m / 255.0), deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_per_channel() {
        // oracle by hand: red 0 and 255 in turn, green all 51, blue one pixel of 255 in 1024
        let mut pixels = vec![0; PIXELS];
        for at in (0..1024).step_by(2) {
            pixels[at] = 255;
        }
        pixels[1024..2048].fill(51);
        pixels[2048] = 255;
        let (mean, deviation) = channel_moments(&Split { pixels, labels: vec![0] });
        assert_eq!(mean, [0.5, 0.2, 1.0 / 1024.0]);
        assert_eq!(deviation[..2], [0.5, 0.0]);
        let p: f64 = 1.0 / 1024.0;
        assert!((deviation[2] - (p * (1.0 - p)).sqrt()).abs() < 1e-12);
    }

    #[test]
    fn classes_are_counted() {
        let split = Split { pixels: vec![], labels: vec![2, 0, 2, 2] };
        assert_eq!(class_counts(&split, 4), [1, 0, 3, 0]);
    }
}
