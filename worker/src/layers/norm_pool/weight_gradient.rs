//! The gradient of the weights: lanes are outputs, and all of a channel's taps stay in registers while the places pass.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::simd::{Kernel, Lanes};
use super::lanes_last::LanesLast;

/// Columns of the largest tile of taps.
const COLUMNS: usize = 5;

/// Adds one example's share to the sums.
pub(super) struct WeightGradient<'a> {
    pub(super) layout: &'a LanesLast,
    /// Padded.
    pub(super) x: &'a [f32],
    pub(super) dz: &'a [f32],
    /// (groups, taps, lanes).
    pub(super) sums: &'a mut [f32],
}

impl Kernel for WeightGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let (l, g) = (self.layout, &self.layout.geometry);
        // what every unchecked access below rests on
        assert!(l.lanes == L::COUNT && self.sums.len() == l.outputs() * g.taps());
        assert!(l.height + g.kernel == g.padded_height() + 1 && l.width + g.kernel == g.padded_width() + 1);
        assert!(self.x.len() >= g.padded_example() && self.dz.len() == l.example());
        // 25 of 32 registers in AVX-512, 10 of 16 elsewhere
        let rows = if L::VECTORS >= 4 { 5 } else { 2 };
        for group in 0..l.groups {
            for c in 0..g.channels {
                for ky in (0..g.kernel).step_by(rows) {
                    for kx in (0..g.kernel).step_by(COLUMNS) {
                        let size = (rows.min(g.kernel - ky), COLUMNS.min(g.kernel - kx));
                        // SAFETY: the asserts above; the tile's taps are the kernel's
                        unsafe { self.tiles::<L>([group, c, ky, kx], size) }
                    }
                }
            }
        }
    }
}

impl WeightGradient<'_> {
    /// # Safety
    /// As [`Self::tile`].
    #[inline(always)]
    unsafe fn tiles<L: Lanes>(&mut self, at: [usize; 4], size: (usize, usize)) {
        macro_rules! tiles {
            ($($columns:literal)*) => {
                // SAFETY: the caller's; rows and columns are as many as the constants say
                unsafe {
                    match size {
                        $(
                            (1, $columns) => self.tile::<L, 1, $columns>(at),
                            (2, $columns) => self.tile::<L, 2, $columns>(at),
                            (3, $columns) if L::VECTORS >= 4 => self.tile::<L, 3, $columns>(at),
                            (4, $columns) if L::VECTORS >= 4 => self.tile::<L, 4, $columns>(at),
                            (5, $columns) if L::VECTORS >= 4 => self.tile::<L, 5, $columns>(at),
                        )*
                        _ => {}
                    }
                }
            };
        }
        tiles!(1 2 3 4 5);
    }

    /// `R` rows of `N` taps of channel `c`, for one register of outputs.
    ///
    /// # Safety
    /// The group and the taps exist.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const N: usize>(&mut self, [group, c, ky, kx]: [usize; 4]) {
        let (l, g) = (self.layout, &self.layout.geometry);
        let width = g.padded_width();
        // SAFETY: the windows of all places lie in the image, and these taps in the window; places are as many as dz has
        unsafe {
            let mut sums = [[L::splat(0.0); N]; R];
            let mut dz = self.dz.as_ptr().add(group * l.places() * L::COUNT);
            for row in 0..l.height {
                let start = self.x.as_ptr().add((c * g.padded_height() + row + ky) * width + kx);
                for column in 0..l.width {
                    let gradient = L::load(dz);
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let pixels = start.add(r * width + column);
                        for (n, sum) in sums.iter_mut().enumerate() {
                            *sum = L::multiply_add(gradient, L::splat(*pixels.add(n)), *sum);
                        }
                    }
                    dz = dz.add(L::COUNT);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                let tap = (c * g.kernel + ky + r) * g.kernel + kx;
                let to = self.sums.as_mut_ptr().add((group * g.taps() + tap) * L::COUNT);
                for (n, &sum) in sums.iter().enumerate() {
                    let to = to.add(n * L::COUNT);
                    L::store(to, L::add(L::load(to), sum));
                }
            }
        }
    }
}

/// From sums to (outputs, taps).
pub(super) fn unpack(l: &LanesLast, sums: &[f32], weight: &mut [f32]) {
    let taps = l.geometry.taps();
    for (o, weight) in weight.chunks_exact_mut(taps).enumerate() {
        let group = &sums[o / l.lanes * l.lanes * taps..][..l.lanes * taps];
        for (weight, sums) in weight.iter_mut().zip(group.chunks_exact(l.lanes)) {
            *weight = sums[o % l.lanes];
        }
    }
}
