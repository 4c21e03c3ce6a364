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
        for (o, weight) in weight.chunks_exact(g.taps()).enumerate() {
            for side in 0..2 {
                let table = &mut table[o * self.output() + side * self.side()..][..self.side()];
                for (c, weight) in weight.chunks_exact(area).enumerate() {
                    for (ky, weight) in weight.chunks_exact(g.kernel).enumerate() {
                        let row = &mut table[(ky + 1) * self.frame + side * g.channels + c..];
                        for (to, weight) in row.iter_mut().step_by(g.channels).zip(weight) {
                            *to = *weight;
                        }
                    }
                }
            }
        }
    }

    /// Outputs that are summed before the image is written.
    fn near(&self) -> usize {
        (NEAR / self.output()).max(1)
    }
}

/// What the kept places add, in the order in which the kernel reads it: a block of outputs after the other, place after
/// place. What relu stopped is left out.
#[derive(Default)]
pub(super) struct Terms {
    /// `near` for each block and place.
    values: Vec<Term>,
    /// How many each block and place has.
    counts: Vec<usize>,
}

#[derive(Clone, Copy, Default)]
struct Term {
    gradient: f32,
    /// Where the table has the output's weights for the winner.
    start: u32,
}

impl Terms {
    pub(super) fn fill(&mut self, g: &Geometry, layout: Table, y: &[f32], dy: &[f32], winners: &[u32]) {
        let near = layout.near();
        self.values.resize(g.outputs.next_multiple_of(near) * g.places(), Term::default());
        self.counts.clear();
        // by winner: one row lower in the image is one row higher in the table
        let (frame, side) = (layout.frame as u32, layout.side() as u32);
        let sides = [frame, frame + side, 0, side];
        let mut lists = self.values.chunks_exact_mut(near);
        for first in (0..g.outputs).step_by(near) {
            for (place, list) in (0..g.places()).zip(&mut lists) {
                let mut count = 0;
                for o in first..g.outputs.min(first + near) {
                    let at = o * g.places() + place;
                    let start = (o * layout.output()) as u32 + sides[winners[at] as usize & 3];
                    // written in any case and then kept or not: a branch would be guessed wrong too often. NaN is kept
                    list[count] = Term { gradient: dy[at], start };
                    count += usize::from((y[at] > 0.0) | y[at].is_nan());
                }
                self.counts.push(count);
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
    pub(super) terms: &'a Terms,
    /// Channels last, as long as [`padded`] says; zeros, to which the gradient is added.
    pub(super) dx: &'a mut [f32],
}

impl Kernel for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let g = self.geometry;
        // what every unchecked access below rests on
        assert!(g.rows > 0 && g.columns > 0 && g.kernel > 0 && g.outputs > 0);
        assert!(2 * g.rows + g.kernel - 1 <= g.padded_height() && 2 * g.columns + g.kernel - 1 <= g.padded_width());
        let (near, side) = (self.layout.near(), self.layout.side());
        let blocks = g.outputs.div_ceil(near);
        assert!(self.terms.counts.len() == blocks * g.places());
        assert!(self.terms.values.len() == blocks * near * g.places());
        // the last start is that of the last output's right side, a row down
        let last = (g.outputs - 1) * self.layout.output() + side + self.layout.frame;
        for (list, &count) in self.terms.values.chunks_exact(near).zip(&self.terms.counts) {
            assert!(list[..count].iter().all(|term| term.start as usize <= last));
        }
        assert!(self.table.len() >= g.outputs * self.layout.output() && self.dx.len() >= padded(g));
        let registers = ((g.kernel + 1) * g.channels).div_ceil(L::COUNT);
        let most = if L::VECTORS >= 4 { 8 } else { 5 };
        for block in 0..blocks {
            for first in (0..registers).step_by(most) {
                // a column's frames do not overlap: none has to wait for what was just written
                for column in 0..g.columns {
                    for pair in 0..g.rows + g.kernel / 2 {
                        let at = [pair, column, first * L::COUNT];
                        // SAFETY: the asserts above; `first` is below the registers of a frame
                        unsafe {
                            match most.min(registers - first) {
                                8 if L::VECTORS >= 4 => self.frame::<L, 8>(block, at),
                                7 if L::VECTORS >= 4 => self.frame::<L, 7>(block, at),
                                6 if L::VECTORS >= 4 => self.frame::<L, 6>(block, at),
                                5 => self.frame::<L, 5>(block, at),
                                4 => self.frame::<L, 4>(block, at),
                                3 => self.frame::<L, 3>(block, at),
                                2 => self.frame::<L, 2>(block, at),
                                _ => self.frame::<L, 1>(block, at),
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
    ///
    /// # Safety
    /// The block, the pair and the column exist, and the frame has `N` registers from `from` on.
    #[inline(always)]
    unsafe fn frame<L: Lanes, const N: usize>(&mut self, block: usize, [pair, column, from]: [usize; 3]) {
        let g = self.geometry;
        let Table { frame, .. } = self.layout;
        // the pooled rows whose windows can touch the pair
        let (first, last) = (pair.saturating_sub(g.kernel / 2), pair.min(g.rows - 1));
        // SAFETY: terms start in the table, which has two more rows than pairs of rows reach, and frames of whole registers;
        // lists are as many as blocks and places. The image's last rows have room for a frame behind them
        unsafe {
            let mut sums = [[L::splat(0.0); N]; 2];
            for row in first..=last {
                let table = self.table.as_ptr().add(2 * (pair - row) * frame + from);
                let list = (block * g.rows + row) * g.columns + column;
                let terms = self.terms.values.as_ptr().add(list * self.layout.near());
                for i in 0..*self.terms.counts.get_unchecked(list) {
                    let Term { gradient, start } = *terms.add(i);
                    let (gradient, weights) = (L::splat(gradient), table.add(start as usize));
                    let [above, below] = &mut sums;
                    for (n, (above, below)) in above.iter_mut().zip(below).enumerate() {
                        let (top, bottom) = (weights.add(n * L::COUNT), weights.add(frame + n * L::COUNT));
                        *above = L::multiply_add(gradient, L::load(top), *above);
                        *below = L::multiply_add(gradient, L::load(bottom), *below);
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
