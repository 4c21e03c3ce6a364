//! Hue: every pixel's colour turned on the colour circle.

use super::tone::byte;

/// `adjust_hue`: by `turn` of the whole circle, −0.5 to 0.5. Three planes of one size: red, green, blue. To HSV and back in
/// f32, with the roundings of `_rgb2hsv` and `_hsv2rgb` in `torchvision.transforms.functional`.
#[inline(always)]
pub(super) fn hue(pixels: &mut [u8], turn: f32) {
    let plane = pixels.len() / 3;
    let (red, others) = pixels.split_at_mut(plane);
    let (green, blue) = others.split_at_mut(plane);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        [*r, *g, *b] = turned([*r, *g, *b], turn);
    }
}

/// Without branches, so that several pixels are computed at once; inlined into the kernel of `jitter.rs`.
#[inline(always)]
fn turned(pixel: [u8; 3], turn: f32) -> [u8; 3] {
    let [r, g, b] = pixel.map(|byte| f32::from(byte) / 255.0);
    let (most, least) = (|a: f32, b: f32| if a > b { a } else { b }, |a: f32, b: f32| if a < b { a } else { b });
    let value = most(most(r, g), b);
    let range = value - least(least(r, g), b);
    let grey = range == 0.0;
    let saturation = range / if grey { 1.0 } else { value };
    let divisor = if grey { 1.0 } else { range };
    // where on the circle, in sixths from red: the strongest colour, and what the ones before and after it lack
    let (start, before, after) = if value == r {
        (0.0, b, g)
    } else if value == g {
        (2.0, r, b)
    } else {
        (4.0, g, r)
    };
    let sixths = start + (value - before) / divisor - (value - after) / divisor;
    let hue = wrapped(wrapped(sixths / 6.0 + 1.0) + turn);
    // a hue that was rounded up to 1 is red again
    let sixths = hue * 6.0;
    let sixths = if sixths >= 6.0 { 0.0 } else { sixths };
    let above = |sector: f32| if sixths >= sector { 1.0 } else { 0.0 };
    let sector = above(1.0) + above(2.0) + above(3.0) + above(4.0) + above(5.0);
    let part = sixths - sector;
    let unit = |x: f32| x.max(0.0).min(1.0);
    let least = unit(value * (1.0 - saturation));
    let falling = unit(value * (1.0 - saturation * part));
    let rising = unit(value * (1.0 - saturation * (1.0 - part)));
    // each colour is on for two sixths, falls for one, is off for two and rises for one; they are two sixths apart
    let colour = |since: f32| {
        if since < 1.0 {
            value
        } else if since < 2.0 {
            falling
        } else if since < 4.0 {
            least
        } else if since < 5.0 {
            rising
        } else {
            value
        }
    };
    let since = |start: f32| if sector >= start { sector - start } else { sector - start + 6.0 };
    [colour(sector), colour(since(2.0)), colour(since(4.0))].map(|x| byte(x * 255.999))
}

/// Modulo 1 for what lies between −1 and 2.
#[inline(always)]
fn wrapped(x: f32) -> f32 {
    if x >= 1.0 {
        x - 1.0
    } else if x < 0.0 {
        x + 1.0
    } else {
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_circle_moves_colours_on() {
        for (turn, [red, green, blue]) in [(1.0 / 3.0, [1, 2, 0]), (-1.0 / 3.0, [2, 0, 1])] {
            // pure red, green and blue become each other, greys stay
            let mut pure = [255, 0, 0, 128, 0, 255, 0, 128, 0, 0, 255, 128];
            hue(&mut pure, turn);
            let mut expected = [128; 12];
            for (from, to) in [red, green, blue].into_iter().enumerate() {
                for plane in 0..3 {
                    expected[plane * 4 + from] = if plane == to { 255 } else { 0 };
                }
            }
            assert_eq!(pure, expected, "{turn}");
        }
    }

    #[test]
    fn half_the_circle_is_the_complement() {
        let mut colours = [255, 0, 0, 0, 255, 0, 0, 0, 255];
        hue(&mut colours, 0.5);
        assert_eq!(colours, [0, 255, 255, 255, 0, 255, 255, 255, 0]);
    }

    /// Back and forth through f32 costs at most one level: 255.999 cuts off what is just below a whole number.
    #[test]
    fn no_turn_changes_no_byte_by_more_than_one() {
        let bytes: Vec<u8> = (0..=255).step_by(15).collect();
        for &r in &bytes {
            for &g in &bytes {
                for &b in &bytes {
                    let made = turned([r, g, b], 0.0);
                    let near = made.iter().zip([r, g, b]).all(|(made, was)| made.abs_diff(was) <= 1);
                    assert!(near, "{r} {g} {b} became {made:?}");
                }
            }
        }
    }
}
