//! The gradient of the weights: each kept place adds its window, whose rows are contiguous in the channels-last image.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::simd::{Kernel, Lanes};
use super::geometry::Geometry;

/// Rows and registers of the largest tile: ten sums, and room for what they are made of.
const ROWS: usize = 5;
const COLUMNS: usize = 2;

/// Elements of one output's sums: the window's rows, each as long as registers are, whatever the set's.
pub(super) fn stride(g: &Geometry) -> usize {
    g.kernel * pitch(g)
}

fn pitch(g: &Geometry) -> usize {
    g.window_row().next_multiple_of(16)
}

/// Adds one example's share to the sums.
pub(super) struct WeightGradient<'a> {
    pub(super) geometry: &'a Geometry,
    /// Channels last, padded.
    pub(super) x: &'a [f32],
    /// From [`super::kept::Kept`].
    pub(super) gradient: &'a [f32],
    pub(super) window: &'a [u32],
    /// outputs × [`stride`].
    pub(super) sums: &'a mut [f32],
}

impl Kernel for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let g = self.geometry;
        let places = g.places();
        // what every unchecked access below rests on
        assert!(places > 0 && self.gradient.len() == g.pooled() && self.window.len() == g.pooled());
        assert!(self.sums.len() == g.outputs * stride(g) && self.x.len() >= g.padded_example());
        let last = (g.kernel - 1) * g.image_row() + g.window_row().next_multiple_of(L::COUNT);
        assert!(self.window.iter().all(|&window| window as usize + last <= self.x.len()));
        let registers = g.window_row().div_ceil(L::COUNT);
        let outputs = self.gradient.chunks_exact(places).zip(self.window.chunks_exact(places));
        for ((gradient, window), sums) in outputs.zip(self.sums.chunks_exact_mut(stride(g))) {
            for column in (0..registers).step_by(COLUMNS) {
                for row in (0..g.kernel).step_by(ROWS) {
                    let tile = Tile {
                        gradient,
                        window,
                        // SAFETY: the row and the column lie in the window, and the first window in the image
                        x: unsafe { self.x.as_ptr().add(row * g.image_row() + column * L::COUNT) },
                        image_row: g.image_row(),
                        // SAFETY: the row and the column lie in the output's sums
                        sums: unsafe { sums.as_mut_ptr().add(row * pitch(g) + column * L::COUNT) },
                        pitch: pitch(g),
                    };
                    // SAFETY: the assert above: every window has these rows and registers in the image
                    unsafe { tile.run::<L>(ROWS.min(g.kernel - row), COLUMNS.min(registers - column)) }
                }
            }
        }
    }
}

/// Some rows and registers of one output's sums.
struct Tile<'a> {
    gradient: &'a [f32],
    window: &'a [u32],
    x: *const f32,
    image_row: usize,
    sums: *mut f32,
    pitch: usize,
}

impl Tile<'_> {
    /// # Safety
    /// `rows` rows of `columns` registers lie in the image from each window on, and in the sums.
    #[inline(always)]
    unsafe fn run<L: Lanes>(self, rows: usize, columns: usize) {
        // SAFETY: the caller's; rows and columns are as many as the constants say
        unsafe {
            match (rows, columns) {
                (1, 1) => self.sum::<L, 1, 1>(),
                (2, 1) => self.sum::<L, 2, 1>(),
                (3, 1) => self.sum::<L, 3, 1>(),
                (4, 1) => self.sum::<L, 4, 1>(),
                (_, 1) => self.sum::<L, 5, 1>(),
                (1, _) => self.sum::<L, 1, 2>(),
                (2, _) => self.sum::<L, 2, 2>(),
                (3, _) => self.sum::<L, 3, 2>(),
                (4, _) => self.sum::<L, 4, 2>(),
                _ => self.sum::<L, 5, 2>(),
            }
        }
    }

    /// # Safety
    /// As [`Self::run`]; `M` rows, `N` registers.
    #[inline(always)]
    unsafe fn sum<L: Lanes, const M: usize, const N: usize>(self) {
        // SAFETY: the caller's
        unsafe {
            let mut sums = [[L::splat(0.0); N]; M];
            for (&gradient, &window) in self.gradient.iter().zip(self.window) {
                let x = self.x.add(window as usize);
                let gradient = L::splat(gradient);
                for (m, sums) in sums.iter_mut().enumerate() {
                    for (n, sum) in sums.iter_mut().enumerate() {
                        let x = L::load(x.add(m * self.image_row + n * L::COUNT));
                        *sum = L::multiply_add(gradient, x, *sum);
                    }
                }
            }
            for (m, sums) in sums.iter().enumerate() {
                for (n, &sum) in sums.iter().enumerate() {
                    let to = self.sums.add(m * self.pitch + n * L::COUNT);
                    L::store(to, L::add(L::load(to), sum));
                }
            }
        }
    }
}

/// From sums to (outputs, channels, kernel, kernel).
pub(super) fn unpack(g: &Geometry, sums: &[f32], weight: &mut [f32]) {
    let area = g.kernel * g.kernel;
    for (sums, weight) in sums.chunks_exact(stride(g)).zip(weight.chunks_exact_mut(g.taps())) {
        for (k, weight) in weight.iter_mut().enumerate() {
            let (c, ky, kx) = (k / area, k / g.kernel % g.kernel, k % g.kernel);
            *weight = sums[ky * pitch(g) + kx * g.channels + c];
        }
    }
}
