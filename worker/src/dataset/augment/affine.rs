//! Rotation, shift and scale as one map of places, the nearest pixel taken, black where there is none.

use std::f64::consts::PI;

use lockstep_proto::keys::Key;
use lockstep_proto::recipe::DataSettings;

use super::super::IMAGE;

/// `RandomAffine(degrees, translate, scale)` about the image's centre, nearest, fill 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct RandomAffine {
    /// Degrees; the angle is uniform in ± this.
    rotation: f32,
    /// Shares of width and height; a shift is uniform in ± this, in whole pixels.
    translate: [f64; 2],
    /// The factor is uniform between the two.
    scale: [f32; 2],
    rotation_key: Key,
    translate_key: Key,
    scale_key: Key,
}

/// One draw.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine {
    /// Degrees, clockwise.
    pub(super) angle: f32,
    /// Pixels to the right and down.
    pub(super) shift: [i32; 2],
    /// Above 1 enlarges.
    pub(super) scale: f32,
}

impl RandomAffine {
    /// None if the settings leave every image as it is.
    pub(super) fn new(settings: &DataSettings, seed: u64) -> Option<Self> {
        let key = |name| Key::new(seed, "augment", name);
        let affine = Self {
            rotation: settings.rotation as f32,
            translate: settings.translate,
            scale: settings.scale.map(|factor| factor as f32),
            rotation_key: key("rotation"),
            translate_key: key("translate"),
            scale_key: key("scale"),
        };
        let any = affine.rotation > 0.0 || affine.translate != [0.0; 2] || affine.scale != [1.0; 2];
        any.then_some(affine)
    }

    /// Draws as `RandomAffine.get_params` does for an image of `[height, width]`: f32, shifts rounded to even.
    pub(super) fn draw(&self, epoch: u32, example: u32, [height, width]: [usize; 2]) -> Affine {
        let stream = |key: Key| key.stream(epoch, example, 0);
        let mut shifts = stream(self.translate_key);
        let mut shift = |share: f64, size: usize| {
            let most = (share * size as f64) as f32;
            libm::rintf(shifts.range(-most, most)) as i32
        };
        let shift = [shift(self.translate[0], width), shift(self.translate[1], height)];
        let [least, most] = self.scale;
        Affine {
            angle: stream(self.rotation_key).range(-self.rotation, self.rotation),
            shift,
            scale: stream(self.scale_key).range(least, most),
        }
    }
}

/// 1.5·2²³: adding and subtracting it rounds an f32 of magnitude below 2²² to the nearest whole number, ties to even, as
/// `nearbyint` does. Further out the rounding is coarser, but no image reaches there.
const ROUNDER: f32 = 12_582_912.0;

/// 2²³: a whole number from 0 to 2²³ − 1 added to it is what the sum's low bits hold.
const WHOLE: f32 = 8_388_608.0;

/// Pixels of a row whose places are found together: a few registers full, and all of a CIFAR row.
const RUN: usize = 32;

impl Affine {
    /// From a place in the result to one in the image, relative to the centre: rows `[xx, xy, x0]` and `[yx, yy, y0]`.
    /// This is torchvision's `_get_inverse_affine_matrix` without shear, in f64; sine and cosine are no host's.
    fn inverse(&self) -> [[f64; 3]; 2] {
        let radians = f64::from(self.angle) * (PI / 180.0);
        let (sin, cos) = (libm::sin(radians), libm::cos(radians));
        let scale = f64::from(self.scale);
        let [x, y] = self.shift.map(|shift| -f64::from(shift));
        let row = |a: f64, b: f64| {
            let (a, b) = (a / scale, b / scale);
            [a, b, a * x + b * y]
        };
        [row(cos, sin), row(-sin, cos)]
    }

    /// The map's two lines in f32, across and down, for an image of `[height, width]`.
    #[cfg(feature = "cuda")]
    pub(super) fn lines(&self, [height, width]: [usize; 2]) -> [[f32; 3]; 2] {
        let [across, down] = self.inverse();
        [Line::new(across, width).factors, Line::new(down, height).factors]
    }

    /// Writes the mapped `pixels` into `out`; both are planes of `[height, width]` bytes, at most 2²³ a plane.
    ///
    /// Every rounding is that of torchvision's `_gen_affine_grid` and PyTorch's `grid_sample` in f32 on a CPU, so that the
    /// same pixels are taken at ties too.
    pub(super) fn apply(&self, pixels: &[u8], size: [usize; 2], out: &mut [u8]) {
        // for the one size that training has, the compiler knows all bounds
        if size == [IMAGE[1], IMAGE[2]] {
            self.map(pixels, [IMAGE[1], IMAGE[2]], out);
        } else {
            self.map(pixels, size, out);
        }
    }

    #[inline(always)]
    fn map(&self, pixels: &[u8], [height, width]: [usize; 2], out: &mut [u8]) {
        let plane = height * width;
        let [across, down] = self.inverse();
        let (across, down) = (Line::new(across, width), Line::new(down, height));
        let (left, top) = (0.5 - width as f32 * 0.5, 0.5 - height as f32 * 0.5);
        let mut places = [0_u32; RUN];
        for y in 0..height {
            let (across, down) = (across.at(top + y as f32), down.at(top + y as f32));
            for start in (0..width).step_by(RUN) {
                for (step, place) in places.iter_mut().enumerate() {
                    let x = left + (start + step) as f32;
                    let (row, column) = (down.nearest(x), across.nearest(x));
                    let inside = row >= 0.0 && row < height as f32 && column >= 0.0 && column < width as f32;
                    // the first place behind the plane stands for all that are not in it
                    let at = if inside { row * width as f32 + column } else { plane as f32 };
                    *place = (at + WHOLE).to_bits() - WHOLE.to_bits();
                }
                let run = RUN.min(width - start);
                let planes = pixels.chunks_exact(plane).zip(out.chunks_exact_mut(plane));
                for (from, to) in planes {
                    for (pixel, &place) in to[y * width + start..][..run].iter_mut().zip(&places) {
                        *pixel = from.get(place as usize).copied().unwrap_or(0);
                    }
                }
            }
        }
    }
}

/// One coordinate of the map, on `grid_sample`'s scale: −1 to 1 over the image.
struct Line {
    factors: [f32; 3],
    half: f32,
}

/// [`Line`] in one row of the result.
struct Row {
    x: f32,
    y: f32,
    constant: f32,
    half: f32,
}

impl Line {
    fn new(row: [f64; 3], size: usize) -> Self {
        let half = size as f32 * 0.5;
        Self { factors: row.map(|factor| factor as f32 / half), half }
    }

    fn at(&self, y: f32) -> Row {
        let [x, by, constant] = self.factors;
        Row { x, y: y * by, constant, half: self.half }
    }
}

impl Row {
    /// The number of the nearest pixel, which may not exist.
    fn nearest(&self, x: f32) -> f32 {
        // each operation rounds: PyTorch's product of the grid with three columns fuses none of them
        let place = x * self.x + self.y + self.constant;
        ((place + 1.0) * self.half - 0.5 + ROUNDER) - ROUNDER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEUTRAL: Affine = Affine { angle: 0.0, shift: [0, 0], scale: 1.0 };

    /// Two planes of 4 × 5, pixels 1, 2, 3, …
    fn apply(affine: Affine) -> Vec<u8> {
        let (pixels, mut out) = ((1..=40).collect::<Vec<u8>>(), vec![99; 40]);
        affine.apply(&pixels, [4, 5], &mut out);
        out
    }

    #[test]
    fn neutral_is_the_image() {
        assert_eq!(apply(NEUTRAL), (1..=40).collect::<Vec<u8>>());
    }

    #[test]
    fn a_shift_is_to_the_right_and_down() {
        let made = apply(Affine { shift: [2, 1], ..NEUTRAL });
        assert_eq!(made[..20], [0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 6, 7, 8, 0, 0, 11, 12, 13]);
        assert_eq!(made[20..25], [0; 5], "and in the second plane");
        assert_eq!(made[27..30], [21, 22, 23]);
        assert_eq!(apply(Affine { shift: [5, 0], ..NEUTRAL }), [0; 40]);
        assert_eq!(apply(Affine { shift: [0, -4], ..NEUTRAL }), [0; 40]);
    }

    #[test]
    fn half_a_turn_reverses_a_plane_and_a_quarter_is_clockwise() {
        let reversed: Vec<u8> = (1..=20).rev().chain((21..=40).rev()).collect();
        assert_eq!(apply(Affine { angle: 180.0, ..NEUTRAL }), reversed);
        let (square, mut out) = ((1..=9).collect::<Vec<u8>>(), [0; 9]);
        Affine { angle: 90.0, ..NEUTRAL }.apply(&square, [3, 3], &mut out);
        assert_eq!(out, [7, 4, 1, 8, 5, 2, 9, 6, 3]);
    }

    #[test]
    fn a_scale_of_three_shows_the_middle_and_of_a_third_has_a_black_frame() {
        let (square, mut out) = ((1..=9).collect::<Vec<u8>>(), [0; 9]);
        Affine { scale: 3.0, ..NEUTRAL }.apply(&square, [3, 3], &mut out);
        assert_eq!(out, [5; 9]);
        Affine { scale: 0.3, ..NEUTRAL }.apply(&square, [3, 3], &mut out);
        assert_eq!(out, [0, 0, 0, 0, 5, 0, 0, 0, 0]);
    }

    /// Rows longer than a run, and a number of columns that runs do not divide.
    #[test]
    fn long_rows_are_whole() {
        let pixels: Vec<u8> = (0..3 * 77).map(|i| (i % 251) as u8).collect();
        let mut out = vec![0; pixels.len()];
        NEUTRAL.apply(&pixels, [3, 77], &mut out);
        assert_eq!(out, pixels);
    }

    /// The recipe's bounds and beyond: numbers that overflow an f32 take pixels from nowhere, and nothing panics.
    #[test]
    fn no_draw_reads_beyond_the_image() {
        for angle in [0.0, 45.0, -180.0, 1e30] {
            for scale in [1e-38, 0.01, 0.5, 100.0, 3e38] {
                for shift in [[0, 0], [32, -32], [i32::MAX, i32::MIN + 1]] {
                    apply(Affine { angle, shift, scale });
                }
            }
        }
    }
}
