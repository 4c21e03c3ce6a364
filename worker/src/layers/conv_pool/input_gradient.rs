//! The gradient of the image: for each pair of its rows and each pooled column, the windows of the places that the pair's
//! pooled windows kept. Whichever of the four places won, the window lies in one frame of (kernel + 1) pixels: a table
//! holds each output's weights at the left and at the right of the frame, with rows of zeros above and below.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::simd::{Kernel, Lanes};
use super::geometry::Geometry;

/// Elements of the table's outputs that are summed before the image is written: half of a first cache.
const NEAR: usize = 6144;

/// Elements of a cache line: rows of the table start at one.
const LINE: usize = 16;

/// Where things are in the table: output after output; left, right; the window's rows with zeros around; a frame's row.
#[derive(Clone, Copy)]
pub(super) struct Table {
    frame: usize,
    rows: usize,
}

impl Table {
    pub(super) fn new(g: &Geometry) -> Self {
        // one row of zeros above, and below as many as pairs of rows reach
        Self { frame: ((g.kernel + 1) * g.channels).next_multiple_of(LINE), rows: 2 * (g.kernel / 2) + 3 }
    }

    fn side(&self) -> usize {
        self.rows * self.frame
    }

    fn output(&self) -> usize {
        2 * self.side()
    }

    /// Elements, and room to begin at a cache line.
    pub(super) fn len(&self, g: &Geometry) -> usize {
        g.outputs * self.output() + LINE
    }

    /// Fills `table` from weights (outputs, channels, kernel, kernel).
    pub(super) fn fill(&self, g: &Geometry, weight: &[f32], table: &mut [f32]) {
        table.fill(0.0);
        let area = g.kernel * g.kernel;
        for o in 0..g.outputs {
            for side in 0..2 {
                let table = &mut table[o * self.output() + side * self.side()..][..self.side()];
                for (k, weight) in weight[o * g.taps()..][..g.taps()].iter().enumerate() {
                    let (c, ky, kx) = (k / area, k / g.kernel % g.kernel, k % g.kernel);
                    table[(ky + 1) * self.frame + (kx + side) * g.channels + c] = *weight;
                }
            }
        }
    }
}

/// The elements of `buffer` from the first cache line on.
pub(super) fn aligned(buffer: &mut [f32]) -> &mut [f32] {
    let at = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(buffer.len());
    &mut buffer[at..]
}

/// Elements of the gradient in the channels-last layout: an odd last row has a pair, and registers are whole.
pub(super) fn padded(g: &Geometry) -> usize {
    (g.padded_height() + 1) * g.image_row() + (g.kernel + 1) * g.channels + 2 * LINE
}

/// One example.
pub(super) struct InputGradient<'a> {
    pub(super) geometry: &'a Geometry,
    pub(super) layout: Table,
    pub(super) table: &'a [f32],
    /// (outputs, rows, columns).
    pub(super) gradient: &'a [f32],
    pub(super) winners: &'a [u32],
    /// Channels last, as long as [`padded`] says; zeros, to which the gradient is added.
    pub(super) dx: &'a mut [f32],
}

impl Kernel for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let g = self.geometry;
        assert!(g.rows > 0 && g.columns > 0 && g.kernel > 0);
        assert!(2 * g.rows + g.kernel - 1 <= g.padded_height() && 2 * g.columns + g.kernel - 1 <= g.padded_width());
        assert!(self.gradient.len() == g.pooled() && self.winners.len() == g.pooled());
        assert!(self.table.len() >= g.outputs * self.layout.output() && self.dx.len() >= padded(g));
        let registers = ((g.kernel + 1) * g.channels).div_ceil(L::COUNT);
        let most = if L::VECTORS >= 4 { 8 } else { 5 };
        let near = (NEAR / self.layout.output()).max(1);
        for output in (0..g.outputs).step_by(near) {
            let outputs = [output, g.outputs.min(output + near)];
            for first in (0..registers).step_by(most) {
                // a column's frames do not overlap: none has to wait for what was just written
                for column in 0..g.columns {
                    for pair in 0..g.rows + g.kernel / 2 {
                        let at = [pair, column, first * L::COUNT];
                        unsafe {
                            match most.min(registers - first) {
                                8 if L::VECTORS >= 4 => self.frame::<L, 8>(outputs, at),
                                7 if L::VECTORS >= 4 => self.frame::<L, 7>(outputs, at),
                                6 if L::VECTORS >= 4 => self.frame::<L, 6>(outputs, at),
                                5 => self.frame::<L, 5>(outputs, at),
                                4 => self.frame::<L, 4>(outputs, at),
                                3 => self.frame::<L, 3>(outputs, at),
                                2 => self.frame::<L, 2>(outputs, at),
                                _ => self.frame::<L, 1>(outputs, at),
                            }
                        }
                    }
                }
            }
        }
    }
}

impl InputGradient<'_> {
    /// Image rows 2 × pair and 2 × pair + 1 under the frame of a pooled column, `N` registers of it.
    #[inline(always)]
    unsafe fn frame<L: Lanes, const N: usize>(&mut self, outputs: [usize; 2], [pair, column, from]: [usize; 3]) {
        let g = self.geometry;
        let Table { frame, .. } = self.layout;
        // the pooled rows whose windows can touch the pair
        let (first, last) = (pair.saturating_sub(g.kernel / 2), pair.min(g.rows - 1));
        // by winner: one row lower in the image is one row higher in the table
        let side = self.layout.side();
        let sides = [frame, frame + side, 0, side];
        unsafe {
            let mut sums = [[L::splat(0.0); N]; 2];
            for o in outputs[0]..outputs[1] {
                for row in first..=last {
                    let place = (o * g.rows + row) * g.columns + column;
                    let gradient = L::splat(*self.gradient.get_unchecked(place));
                    let winner = *self.winners.get_unchecked(place) & 3;
                    let start = o * self.layout.output() + 2 * (pair - row) * frame + sides[winner as usize] + from;
                    let weights = self.table.as_ptr().add(start);
                    for n in 0..N {
                        let (top, bottom) = (weights.add(n * L::COUNT), weights.add(frame + n * L::COUNT));
                        sums[0][n] = L::multiply_add(gradient, L::load(top), sums[0][n]);
                        sums[1][n] = L::multiply_add(gradient, L::load(bottom), sums[1][n]);
                    }
                }
            }
            let to = self.dx.as_mut_ptr().add(2 * pair * g.image_row() + 2 * column * g.channels + from);
            for (sums, to) in sums.iter().zip([to, to.add(g.image_row())]) {
                for (n, &sum) in sums.iter().enumerate() {
                    let to = to.add(n * L::COUNT);
                    L::store(to, L::add(L::load(to), sum));
                }
            }
        }
    }
}
