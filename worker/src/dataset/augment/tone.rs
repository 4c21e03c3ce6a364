//! Brightness, contrast and saturation: an image mixed with black, with its mean grey, with its own greys.
//!
//! In and out are bytes, sums are f32 with torchvision's roundings, and fractions are cut off, not rounded
//! (`_blend` in `torchvision.transforms.functional`). Images are three planes of one size: red, green, blue.

/// `adjust_brightness`: every byte times `factor`.
pub(super) fn brightness(pixels: &mut [u8], factor: f32) {
    map(pixels, |pixel| factor * pixel);
}

/// `adjust_contrast`: 0 is the mean grey of the image, 1 the image, more is stronger.
pub(super) fn contrast(pixels: &mut [u8], factor: f32) {
    let plane = pixels.len() / 3;
    let (red, rest) = pixels.split_at(plane);
    let (green, blue) = rest.split_at(plane);
    // whole numbers: an f32 sum is as exact as this one up to 2²⁴, which is 65,793 pixels
    let greys = red.iter().zip(green).zip(blue).map(|((r, g), b)| u64::from(grey(*r, *g, *b)));
    let mean = greys.sum::<u64>() as f32 / plane as f32;
    let rest = rest_of(factor) * mean;
    map(pixels, |pixel| factor * pixel + rest);
}

/// `adjust_saturation`: 0 is a grey image, 1 the image, more is stronger.
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
fn grey(red: u8, green: u8, blue: u8) -> u8 {
    byte(0.2989 * f32::from(red) + 0.587 * f32::from(green) + 0.114 * f32::from(blue))
}

/// Cut to 0 ..= 255, then the fraction cut off.
fn byte(value: f32) -> u8 {
    value as u8
}

/// A function of one byte, computed for each of the 256 once.
fn map(pixels: &mut [u8], becomes: impl Fn(f32) -> f32) {
    let table: [u8; 256] = std::array::from_fn(|pixel| byte(becomes(pixel as f32)));
    for pixel in pixels {
        *pixel = table[usize::from(*pixel)];
    }
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
