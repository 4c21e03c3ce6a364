//! The forward pass where rows of places are long: lanes are columns, and six outputs' two rows stay in registers.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::simd::{Kernel, Lanes};
use super::geometry::Geometry;

/// Outputs of the largest tile: with two rows and, in AVX-512, two registers a row, 24 sums at once; 12 elsewhere.
const OUTPUTS: usize = 6;

/// The weights in the order in which the kernel reads them: tile after tile of outputs, tap after tap, the tile's outputs
/// side by side.
pub(super) fn pack(g: &Geometry, weight: &[f32]) -> Vec<f32> {
    let taps = g.taps();
    let mut packed = Vec::with_capacity(weight.len());
    for tile in (0..g.outputs).step_by(OUTPUTS) {
        for tap in 0..taps {
            packed.extend((tile..g.outputs.min(tile + OUTPUTS)).map(|o| weight[o * taps + tap]));
        }
    }
    packed
}

/// Elements of the scratch memory: two rows of places for each output of a tile, and what registers write past them.
pub(super) fn scratch(g: &Geometry) -> usize {
    OUTPUTS * 2 * pitch(g)
}

/// A multiple of every set's two registers, since pooling reads pairs of them.
fn pitch(g: &Geometry) -> usize {
    (2 * g.columns).next_multiple_of(32)
}

/// One example.
pub(super) struct Wide<'a> {
    pub(super) geometry: &'a Geometry,
    /// Padded.
    pub(super) x: &'a [f32],
    /// From [`pack`].
    pub(super) weight: &'a [f32],
    pub(super) bias: &'a [f32],
    /// As long as [`scratch`] says.
    pub(super) rows: &'a mut [f32],
    /// (outputs, rows, columns): the pooled values, and which of each window's four places won.
    pub(super) y: &'a mut [f32],
    pub(super) winners: &'a mut [u32],
}

impl Kernel for Wide<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let g = self.geometry;
        // what every unchecked access below rests on
        assert!(g.rows > 0 && g.columns > 0 && g.kernel > 0);
        assert!(2 * g.rows + g.kernel - 1 <= g.padded_height() && 2 * g.columns + g.kernel - 1 <= g.padded_width());
        assert!(self.x.len() >= g.padded_example() && self.weight.len() == g.outputs * g.taps());
        assert!(self.rows.len() >= scratch(g) && self.bias.len() == g.outputs);
        assert!(self.y.len() == g.pooled() && self.winners.len() == g.pooled());
        let registers = (2 * g.columns).div_ceil(L::COUNT);
        // two rows of places, so half of a tile's registers each
        let most = (L::VECTORS / 2).max(1);
        for row in 0..g.rows {
            for tile in (0..g.outputs).step_by(OUTPUTS) {
                let count = OUTPUTS.min(g.outputs - tile);
                for first in (0..registers).step_by(most) {
                    let at = [row, tile, first * L::COUNT];
                    // SAFETY: the asserts above; `first` is below the registers of a row
                    unsafe {
                        match (count, most.min(registers - first)) {
                            (6, 2) if L::VECTORS >= 4 => self.tile::<L, 6, 2>(at),
                            (5, 2) if L::VECTORS >= 4 => self.tile::<L, 5, 2>(at),
                            (4, 2) if L::VECTORS >= 4 => self.tile::<L, 4, 2>(at),
                            (3, 2) if L::VECTORS >= 4 => self.tile::<L, 3, 2>(at),
                            (2, 2) if L::VECTORS >= 4 => self.tile::<L, 2, 2>(at),
                            (1, 2) if L::VECTORS >= 4 => self.tile::<L, 1, 2>(at),
                            (6, _) => self.tile::<L, 6, 1>(at),
                            (5, _) => self.tile::<L, 5, 1>(at),
                            (4, _) => self.tile::<L, 4, 1>(at),
                            (3, _) => self.tile::<L, 3, 1>(at),
                            (2, _) => self.tile::<L, 2, 1>(at),
                            _ => self.tile::<L, 1, 1>(at),
                        }
                    }
                }
                for m in 0..count {
                    // SAFETY: the asserts above
                    unsafe { self.pool::<L>(row, tile + m, m) }
                }
            }
        }
    }
}

impl Wide<'_> {
    /// Two rows of `M` outputs' places, `N` registers wide, into the scratch rows.
    ///
    /// # Safety
    /// `M` outputs from `tile` on exist, and column `column` is one of a row's.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const M: usize, const N: usize>(&mut self, [row, tile, column]: [usize; 3]) {
        let g = self.geometry;
        let width = g.padded_width();
        // SAFETY: places 2 × row + 1 and `column` have their whole windows in the padded image; the registers that begin
        // within a row end at most SLACK behind it. The tile's weights lie behind the earlier tiles'. The scratch rows are
        // as long as the row's registers
        unsafe {
            let mut sums = [[[L::splat(0.0); N]; 2]; M];
            let mut weight = self.weight.as_ptr().add(tile * g.taps());
            for c in 0..g.channels {
                for ky in 0..g.kernel {
                    let start = (c * g.padded_height() + 2 * row + ky) * width + column;
                    let top = self.x.as_ptr().add(start);
                    for kx in 0..g.kernel {
                        let mut pixels = [[L::splat(0.0); N]; 2];
                        for n in 0..N {
                            pixels[0][n] = L::load(top.add(kx + n * L::COUNT));
                            pixels[1][n] = L::load(top.add(width + kx + n * L::COUNT));
                        }
                        for (m, sums) in sums.iter_mut().enumerate() {
                            let weight = L::splat(*weight.add(m));
                            for n in 0..N {
                                sums[0][n] = L::multiply_add(weight, pixels[0][n], sums[0][n]);
                                sums[1][n] = L::multiply_add(weight, pixels[1][n], sums[1][n]);
                            }
                        }
                        weight = weight.add(M);
                    }
                }
            }
            let pitch = pitch(g);
            for (m, sums) in sums.iter().enumerate() {
                let bias = L::splat(*self.bias.as_ptr().add(tile + m));
                let to = self.rows.as_mut_ptr().add(m * 2 * pitch + column);
                for n in 0..N {
                    L::store(to.add(n * L::COUNT), L::add(sums[0][n], bias));
                    L::store(to.add(pitch + n * L::COUNT), L::add(sums[1][n], bias));
                }
            }
        }
    }

    /// Pools the scratch rows of the tile's output `m`, which is output `o`.
    ///
    /// # Safety
    /// The row and the output exist.
    #[inline(always)]
    unsafe fn pool<L: Lanes>(&mut self, row: usize, o: usize, m: usize) {
        let g = self.geometry;
        let pitch = pitch(g);
        // SAFETY: pitch is a multiple of two registers; only columns that exist are stored
        unsafe {
            let top = self.rows.as_ptr().add(m * 2 * pitch);
            let y = self.y.as_mut_ptr().add((o * g.rows + row) * g.columns);
            let winners = self.winners.as_mut_ptr().add((o * g.rows + row) * g.columns).cast::<f32>();
            for at in (0..g.columns).step_by(L::COUNT) {
                let from = top.add(2 * at);
                let (a, b) = L::even_odd(L::load(from), L::load(from.add(L::COUNT)));
                let (c, d) = L::even_odd(L::load(from.add(pitch)), L::load(from.add(pitch + L::COUNT)));
                let [best, winner] = greatest::<L>([a, b, c, d]);
                let count = L::COUNT.min(g.columns - at);
                if count == L::COUNT {
                    L::store(y.add(at), best);
                    L::store(winners.add(at), winner);
                } else {
                    L::store_first(y.add(at), best, count);
                    L::store_first(winners.add(at), winner, count);
                }
            }
        }
    }
}

/// The greatest of the window's four places, at least 0, and the bits of its number.
///
/// # Safety
/// Where the set's instructions are there.
#[inline(always)]
pub(super) unsafe fn greatest<L: Lanes>(places: [L::Vector; 4]) -> [L::Vector; 2] {
    // SAFETY: the caller's
    unsafe {
        let mut best = [places[0], L::splat(f32::from_bits(0))];
        for (i, &place) in places.iter().enumerate().skip(1) {
            best = L::greater(best, [place, L::splat(f32::from_bits(i as u32))]);
        }
        [L::relu(best[0]), best[1]]
    }
}
