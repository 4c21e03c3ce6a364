//! The gradient of the image: each place adds its window. Lanes are a window's row in the channels-last image; the windows
//! of a row of places stay in registers while outputs pass, and are then added to the image one after the other.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::conv_pool::Geometry;
use super::super::simd::{Kernel, Lanes};
use super::lanes_last::LanesLast;

/// Registers of a window's row in the largest tile.
const REGISTERS: usize = 2;

/// Elements of a window's row: whole registers, whatever the set's.
fn frame(g: &Geometry) -> usize {
    g.window_row().next_multiple_of(16)
}

/// The weights as the kernel reads them, (window's rows, outputs, a row with zeros behind it).
pub(super) fn pack(g: &Geometry, weight: &[f32]) -> Vec<f32> {
    let (frame, area) = (frame(g), g.kernel * g.kernel);
    let mut table = vec![0.0; g.kernel * g.outputs * frame];
    for (i, &weight) in weight.iter().enumerate() {
        let (o, c, ky, kx) = (i / g.taps(), i % g.taps() / area, i % area / g.kernel, i % g.kernel);
        table[(ky * g.outputs + o) * frame + kx * g.channels + c] = weight;
    }
    table
}

/// Elements of the gradient in the channels-last layout, with room for the last row's registers.
pub(super) fn padded(g: &Geometry) -> usize {
    g.padded_height() * g.image_row() + frame(g)
}

/// One example.
pub(super) struct InputGradient<'a> {
    pub(super) layout: &'a LanesLast,
    pub(super) dz: &'a [f32],
    /// From [`pack`].
    pub(super) table: &'a [f32],
    /// Channels last, as long as [`padded`] says; zeros, to which the gradient is added.
    pub(super) dx: &'a mut [f32],
}

impl Kernel for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let (l, g) = (self.layout, &self.layout.geometry);
        // what every unchecked access below rests on
        assert!(l.lanes == L::COUNT && frame(g).is_multiple_of(L::COUNT) && self.dz.len() == l.example());
        assert!(l.height + g.kernel == g.padded_height() + 1 && l.width + g.kernel == g.padded_width() + 1);
        assert!(self.table.len() == g.kernel * g.outputs * frame(g) && self.dx.len() >= padded(g));
        // with two registers each: 24 of 32 in AVX-512, 12 of 16 elsewhere
        let most = if L::VECTORS >= 4 { 12 } else { 6 };
        let tiles = l.width.div_ceil(most);
        let registers = g.window_row().div_ceil(L::COUNT);
        for row in 0..g.padded_height() {
            for tile in 0..tiles {
                let (from, to) = (tile * l.width / tiles, (tile + 1) * l.width / tiles);
                for first in (0..registers).step_by(REGISTERS) {
                    let two = registers - first >= REGISTERS;
                    // SAFETY: the asserts above; the tile's columns are the row's, its registers the frame's
                    unsafe { self.tiles::<L>([row, from, first * L::COUNT], to - from, two) }
                }
            }
        }
    }
}

impl InputGradient<'_> {
    /// # Safety
    /// As [`Self::tile`], with one register or two.
    #[inline(always)]
    unsafe fn tiles<L: Lanes>(&mut self, at: [usize; 3], columns: usize, two: bool) {
        macro_rules! tiles {
            ($($small:literal)*; $($large:literal)*) => {
                // SAFETY: the caller's; registers and columns are as many as the constants say
                unsafe {
                    match (columns, two) {
                        $(
                            ($small, true) => self.tile::<L, 2, $small>(at),
                            ($small, false) => self.tile::<L, 1, $small>(at),
                        )*
                        $(
                            ($large, true) if L::VECTORS >= 4 => self.tile::<L, 2, $large>(at),
                            ($large, false) if L::VECTORS >= 4 => self.tile::<L, 1, $large>(at),
                        )*
                        _ => {}
                    }
                }
            };
        }
        tiles!(1 2 3 4 5 6; 7 8 9 10 11 12);
    }

    /// What `N` columns of places add to an image row, `R` registers of their windows.
    ///
    /// # Safety
    /// The row and the columns exist, and a window's row has `R` registers from `from` on.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const N: usize>(&mut self, [row, column, from]: [usize; 3]) {
        let (l, g) = (self.layout, &self.layout.geometry);
        // the rows of places whose windows touch the image row
        let (first, last) = ((row + 1).saturating_sub(g.kernel), row.min(l.height - 1));
        // SAFETY: places and outputs lie in dz, window's rows in the table; the image has a frame's room behind its last row
        unsafe {
            let mut sums = [[L::splat(0.0); R]; N];
            for places in first..=last {
                let mut weight = self.table.as_ptr().add((row - places) * g.outputs * frame(g) + from);
                for group in 0..l.groups {
                    let place = group * l.places() + places * l.width + column;
                    let dz = self.dz.as_ptr().add(place * L::COUNT);
                    for lane in 0..L::COUNT.min(g.outputs - group * L::COUNT) {
                        let mut weights = [L::splat(0.0); R];
                        for (r, weights) in weights.iter_mut().enumerate() {
                            *weights = L::load(weight.add(r * L::COUNT));
                        }
                        for (n, sums) in sums.iter_mut().enumerate() {
                            let gradient = L::splat(*dz.add(n * L::COUNT + lane));
                            for (sum, &weights) in sums.iter_mut().zip(&weights) {
                                *sum = L::multiply_add(gradient, weights, *sum);
                            }
                        }
                        weight = weight.add(frame(g));
                    }
                }
            }
            let to = self.dx.as_mut_ptr().add(row * g.image_row() + column * g.channels + from);
            for (n, sums) in sums.iter().enumerate() {
                for (r, &sum) in sums.iter().enumerate() {
                    let to = to.add(n * g.channels + r * L::COUNT);
                    L::store(to, L::add(L::load(to), sum));
                }
            }
        }
    }
}
