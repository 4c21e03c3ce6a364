//! Brightness, contrast and saturation: an image mixed with black, with its mean grey, with its own greys.
//!
//! In and out are bytes, sums are f32 with torchvision's roundings, and fractions are cut off, not rounded
//! (`_blend` in `torchvision.transforms.functional`). Images are three planes of one size: red, green, blue.
//!
//! Everything is inlined into the kernel of `jitter.rs`, which compiles it for each set.

/// `adjust_brightness`: every byte times `factor`.
#[inline(always)]
pub(super) fn brightness(pixels: &mut [u8], factor: f32) {
    for pixel in pixels {
        *pixel = byte(factor * f32::from(*pixel));
    }
}

/// `adjust_contrast`: 0 is the mean grey of the image, 1 the image, more is stronger.
#[inline(always)]
pub(super) fn contrast(pixels: &mut [u8], factor: f32) {
    let plane = pixels.len() / 3;
    let (red, rest) = pixels.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    // whole numbers: PyTorch's f32 sum is as exact as this one up to 2²⁴, which is 65,793 pixels
    let greys = red.iter().zip(green).zip(blue).map(|((r, g), b)| u32::from(grey(*r, *g, *b)));
    let mean = greys.fold(0, u32::wrapping_add) as f32 / plane as f32;
    let rest = rest_of(factor) * mean;
    for pixel in pixels {
        *pixel = byte(factor * f32::from(*pixel) + rest);
    }
}

/// `adjust_saturation`: 0 is a grey image, 1 the image, more is stronger.
#[inline(always)]
pub(super) fn saturation(pixels: &mut [u8], factor: f32) {
    let rest = rest_of(factor);
    let plane = pixels.len() / 3;
    let (red, others) = pixels.split_at_mut(plane);
    let (green, blue) = others.split_at_mut(plane);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        let grey = rest * f32::from(grey(*r, *g, *b));
        for pixel in [r, g, b] {
            *pixel = byte(factor * f32::from(*pixel) + grey);
        }
    }
}

/// The other image's share, which PyTorch takes in f64.
fn rest_of(factor: f32) -> f32 {
    (1.0 - f64::from(factor)) as f32
}

/// `rgb_to_grayscale`.
#[inline(always)]
fn grey(red: u8, green: u8, blue: u8) -> u8 {
    byte(0.2989 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue))
}

/// 2²³: an f32 from there to twice that is a whole number, and its low bits hold how far it is above.
const WHOLE: f32 = 8_388_608.0;

/// Cut to 0 ..= 255, then the fraction cut off: `value as u8`, but many at once, which the compiler does not do by itself.
#[inline(always)]
pub(super) fn byte(value: f32) -> u8 {
    let value = value.max(0.0).min(255.0);
    let nearest = (value + WHOLE) - WHOLE;
    let below = if nearest > value { nearest - 1.0 } else { nearest };
    (below + WHOLE).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red, a dark grey, white, black, by planes.
    const IMAGE: [u8; 12] = [255, 30, 255, 0, 0, 30, 255, 0, 0, 30, 255, 0];

    fn after(adjust: fn(&mut [u8], f32), factor: f32) -> [u8; 12] {
        let mut image = IMAGE;
        adjust(&mut image, factor);
        image
    }

    #[test]
    fn a_byte_is_what_the_language_makes_of_it() {
        let around = |whole: u16| {
            let exact = f32::from(whole);
            [exact.next_down(), exact, exact.next_up(), exact + 0.5, exact + 0.5_f32.next_down()]
        };
        for value in (0..=256).flat_map(around).chain([-1e9, -0.5, -0.0, 1e-40, 1e9, f32::INFINITY]) {
            assert_eq!(byte(value), value as u8, "{value}");
        }
    }

    #[test]
    fn a_factor_of_one_changes_nothing() {
        for adjust in [brightness, contrast, saturation] {
            assert_eq!(after(adjust, 1.0), IMAGE);
        }
    }

    #[test]
    fn a_factor_of_nought_is_black_flat_or_grey() {
        assert_eq!(after(brightness, 0.0), [0; 12]);
        // greys: 76 of red (0.2989·255 = 76.2), 29 of 30 (0.9999·30 = 29.997), 254 of white, 0; their mean is 89.75
        assert_eq!(after(contrast, 0.0), [89; 12]);
        let grey = [76, 29, 254, 0];
        assert_eq!(after(saturation, 0.0), [grey, grey, grey].concat()[..]);
    }

    #[test]
    fn fractions_are_cut_off_and_white_stays_white() {
        assert_eq!(after(brightness, 1.5), [255, 45, 255, 0, 0, 45, 255, 0, 0, 45, 255, 0]);
        assert_eq!(after(brightness, 0.99)[1], 29, "29.7");
        // 2·30 − 89.75 is below 0
        assert_eq!(after(contrast, 2.0), [255, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 0]);
    }
}
