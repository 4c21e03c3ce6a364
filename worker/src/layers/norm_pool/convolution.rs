//! The convolution: lanes are outputs, pixels are broadcast, two rows of places stay in registers.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::simd::{Kernel, Lanes};
use super::lanes_last::LanesLast;

/// One example.
pub(super) struct Convolution<'a> {
    pub(super) layout: &'a LanesLast,
    /// Padded.
    pub(super) x: &'a [f32],
    /// From [`super::super::conv_pool::pack_outputs`].
    pub(super) weight: &'a [f32],
    /// An example of the layout.
    pub(super) z: &'a mut [f32],
}

impl Kernel for Convolution<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(mut self) {
        let (l, g) = (self.layout, &self.layout.geometry);
        // what every unchecked access below rests on
        assert!(l.lanes == L::COUNT && g.kernel > 0);
        assert!(l.height + g.kernel == g.padded_height() + 1 && l.width + g.kernel == g.padded_width() + 1);
        assert!(self.x.len() >= g.padded_example() && self.z.len() == l.example());
        assert!(self.weight.len() == l.outputs() * (g.taps() + 1));
        // two rows: 24 of 32 registers in AVX-512, 12 of 16 elsewhere
        let most = if L::VECTORS >= 4 { 12 } else { 6 };
        let tiles = l.width.div_ceil(most);
        for group in 0..l.groups {
            for row in (0..l.height).step_by(2) {
                for tile in 0..tiles {
                    // tiles as equal as can be: sums that wait for each other are few only in narrow ones
                    let (from, to) = (tile * l.width / tiles, (tile + 1) * l.width / tiles);
                    // SAFETY: the asserts above; the tile's columns are the row's, and a second row is taken if there is one
                    unsafe { self.tiles::<L>([group, row, from], to - from, l.height - row >= 2) }
                }
            }
        }
    }
}

impl Convolution<'_> {
    /// # Safety
    /// As [`Self::tile`], with one row or two.
    #[inline(always)]
    unsafe fn tiles<L: Lanes>(&mut self, at: [usize; 3], columns: usize, two: bool) {
        macro_rules! tiles {
            ($($small:literal)*; $($large:literal)*) => {
                // SAFETY: the caller's; rows and columns are as many as the constants say
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

    /// `N` columns of `R` rows of places, for one register of outputs.
    ///
    /// # Safety
    /// The group, the rows and the columns exist.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const R: usize, const N: usize>(&mut self, [group, row, column]: [usize; 3]) {
        let (l, g) = (self.layout, &self.layout.geometry);
        let width = g.padded_width();
        // SAFETY: the windows of the tile's places lie in the image; weights are as many as taps in each group
        unsafe {
            let mut weight = self.weight.as_ptr().add(group * L::COUNT * g.taps());
            let mut sums = [[L::splat(0.0); N]; R];
            for c in 0..g.channels {
                for ky in 0..g.kernel {
                    let start = self.x.as_ptr().add((c * g.padded_height() + row + ky) * width + column);
                    for kx in 0..g.kernel {
                        let weights = L::load(weight);
                        for (r, sums) in sums.iter_mut().enumerate() {
                            let pixels = start.add(r * width + kx);
                            for (n, sum) in sums.iter_mut().enumerate() {
                                *sum = L::multiply_add(weights, L::splat(*pixels.add(n)), *sum);
                            }
                        }
                        weight = weight.add(L::COUNT);
                    }
                }
            }
            let bias = L::load(self.weight.as_ptr().add(l.outputs() * g.taps() + group * L::COUNT));
            for (r, sums) in sums.iter().enumerate() {
                let place = group * l.places() + (row + r) * l.width + column;
                let to = self.z.as_mut_ptr().add(place * L::COUNT);
                for (n, &sum) in sums.iter().enumerate() {
                    L::store(to.add(n * L::COUNT), L::add(sum, bias));
                }
            }
        }
    }
}
