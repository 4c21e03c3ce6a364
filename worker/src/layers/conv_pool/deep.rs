//! The forward pass where outputs are many and rows of places short: lanes are outputs, pixels are broadcast.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::simd::{Kernel, Lanes};
use super::geometry::Geometry;
use super::wide::greatest;

/// The weights in the order in which the kernel reads them: a register of outputs after the other, then tap after tap.
/// Outputs that fill up the last register have weight 0. The biases follow, padded alike.
pub(in super::super) fn pack(g: &Geometry, lanes: usize, weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let outputs = g.outputs.next_multiple_of(lanes);
    let mut packed = vec![0.0; outputs * (g.taps() + 1)];
    let (weights, biases) = packed.split_at_mut(outputs * g.taps());
    for o in 0..g.outputs {
        let group = &mut weights[o / lanes * lanes * g.taps()..];
        for (k, &weight) in weight[o * g.taps()..][..g.taps()].iter().enumerate() {
            group[k * lanes + o % lanes] = weight;
        }
    }
    biases[..g.outputs].copy_from_slice(bias);
    packed
}

/// Elements of the scratch memory for each of values and winners: (rows, columns, outputs, padded).
pub(super) fn scratch(g: &Geometry, lanes: usize) -> usize {
    g.places() * g.outputs.next_multiple_of(lanes)
}

/// One example.
pub(super) struct Deep<'a> {
    pub(super) geometry: &'a Geometry,
    /// Padded.
    pub(super) x: &'a [f32],
    /// From [`pack`].
    pub(super) weight: &'a [f32],
    /// (rows, columns, outputs), twice as long as [`scratch`] says: pooled values, then which of each window's four places won.
    pub(super) pooled: &'a mut [f32],
}

impl Kernel for Deep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let g = self.geometry;
        // what every unchecked access below rests on
        assert!(g.rows > 0 && g.columns > 0 && g.kernel > 0);
        assert!(2 * g.rows + g.kernel - 1 <= g.padded_height() && 2 * g.columns + g.kernel - 1 <= g.padded_width());
        let groups = g.outputs.div_ceil(L::COUNT);
        assert!(self.x.len() >= g.padded_example() && self.weight.len() == groups * L::COUNT * (g.taps() + 1));
        assert!(self.pooled.len() == 2 * scratch(g, L::COUNT));
        // four sums a pooled column: 24 of 32 registers in AVX-512, 12 of 16 elsewhere
        let most = if L::VECTORS >= 4 { 6 } else { 3 };
        let tiles = g.columns.div_ceil(most);
        for group in 0..groups {
            for row in 0..g.rows {
                for tile in 0..tiles {
                    // tiles as equal as can be: sums that wait for each other are few only in narrow ones
                    let (from, to) = (tile * g.columns / tiles, (tile + 1) * g.columns / tiles);
                    let at = [group, row, from];
                    // SAFETY: the asserts above; the tile's columns are the row's
                    unsafe {
                        match to - from {
                            6 if L::VECTORS >= 4 => self.tile::<L, 6>(at),
                            5 if L::VECTORS >= 4 => self.tile::<L, 5>(at),
                            4 if L::VECTORS >= 4 => self.tile::<L, 4>(at),
                            3 => self.tile::<L, 3>(at),
                            2 => self.tile::<L, 2>(at),
                            _ => self.tile::<L, 1>(at),
                        }
                    }
                }
            }
        }
    }
}

impl Deep<'_> {
    /// `N` pooled columns of a row, for one register of outputs.
    ///
    /// # Safety
    /// The group, the row and the columns exist.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const N: usize>(&mut self, [group, row, column]: [usize; 3]) {
        let g = self.geometry;
        let width = g.padded_width();
        let outputs = g.outputs.next_multiple_of(L::COUNT);
        // SAFETY: the windows of the tile's 2 × 2N places lie in the image; weights are as many as taps in each group
        unsafe {
            let mut weight = self.weight.as_ptr().add(group * L::COUNT * g.taps());
            // for each pooled column, the places above and those below: left and right
            let mut sums = [[[L::splat(0.0); 2]; 2]; N];
            for c in 0..g.channels {
                for ky in 0..g.kernel {
                    let start = (c * g.padded_height() + 2 * row + ky) * width + 2 * column;
                    for kx in 0..g.kernel {
                        let top = self.x.as_ptr().add(start + kx);
                        let bottom = top.add(width);
                        let weights = L::load(weight);
                        for (n, [above, below]) in sums.iter_mut().enumerate() {
                            for (right, (above, below)) in above.iter_mut().zip(below).enumerate() {
                                let at = 2 * n + right;
                                *above = L::multiply_add(weights, L::splat(*top.add(at)), *above);
                                *below = L::multiply_add(weights, L::splat(*bottom.add(at)), *below);
                            }
                        }
                        weight = weight.add(L::COUNT);
                    }
                }
            }
            let bias = L::load(self.weight.as_ptr().add(outputs * g.taps() + group * L::COUNT));
            let values = self.pooled.as_mut_ptr().add((row * g.columns + column) * outputs + group * L::COUNT);
            let winners = values.add(g.places() * outputs);
            for (n, [top, bottom]) in sums.iter().enumerate() {
                let places = [top[0], top[1], bottom[0], bottom[1]].map(|sum| L::add(sum, bias));
                let [best, winner] = greatest::<L>(places);
                L::store(values.add(n * outputs), best);
                L::store(winners.add(n * outputs), winner);
            }
        }
    }
}

/// From the kernel's scratch memory to (outputs, rows, columns).
pub(super) fn unpack(g: &Geometry, lanes: usize, pooled: &[f32], y: &mut [f32], winners: &mut [u32]) {
    let (places, outputs) = (g.places(), g.outputs.next_multiple_of(lanes));
    let (values, codes) = pooled.split_at(places * outputs);
    for (o, (y, winners)) in y.chunks_exact_mut(places).zip(winners.chunks_exact_mut(places)).enumerate() {
        for place in 0..places {
            y[place] = values[place * outputs + o];
            winners[place] = codes[place * outputs + o].to_bits();
        }
    }
}
