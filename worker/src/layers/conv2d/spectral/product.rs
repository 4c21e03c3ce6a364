//! Complex matrix products, one frequency at a time.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::super::simd::Lanes;

/// Rows of the largest tile: with two columns of registers 24 sums in AVX-512, with one 12 elsewhere.
const ROWS: usize = 6;

/// Sums longer than this are cut into parts, each summed alone: the rounding error grows less, and a part of the right
/// operand stays in the first cache. A constant, since it decides bits.
const DEPTH: usize = 64;

/// result\[row\] = Σ over k < depth: left\[row\]\[k\] × right\[k\], in order of k and in parts of [`DEPTH`]; lanes
/// are columns.
///
/// All steps are in elements; imaginary parts are `*_imaginary` behind real ones.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) left: *const f32,
    pub(super) left_row: usize,
    pub(super) left_step: usize,
    pub(super) left_imaginary: usize,
    pub(super) right: *const f32,
    pub(super) right_step: usize,
    pub(super) right_imaginary: usize,
    pub(super) result: *mut f32,
    pub(super) result_row: usize,
    pub(super) result_imaginary: usize,
}

impl Product {
    /// `V` registers of columns; with `CONJUGATE` the right operand's conjugate is taken.
    ///
    /// # Safety
    /// Every element that the fields describe is there.
    #[inline(always)]
    pub(super) unsafe fn run<L: Lanes, const V: usize, const CONJUGATE: bool>(self) {
        // a sum of nothing is one empty part
        for first in (0..self.depth.max(1)).step_by(DEPTH) {
            // SAFETY: first ≤ depth
            unsafe {
                let left = self.left.add(first * self.left_step);
                let right = self.right.add(first * self.right_step);
                let part = Self { left, right, depth: DEPTH.min(self.depth - first), ..self };
                part.rows::<L, V, CONJUGATE>(first > 0);
            }
        }
    }

    /// With `more`, adds to the result.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[inline(always)]
    unsafe fn rows<L: Lanes, const V: usize, const CONJUGATE: bool>(self, more: bool) {
        let tiles = self.rows.div_ceil(ROWS);
        let mut row = 0;
        for tile in 0..tiles {
            // tiles of like size
            let end = (tile + 1) * self.rows / tiles;
            // SAFETY: row < end ≤ rows
            unsafe {
                let left = self.left.add(row * self.left_row);
                let result = self.result.add(row * self.result_row);
                let part = Self { left, result, ..self };
                match end - row {
                    1 => part.tile::<L, 1, V, CONJUGATE>(more),
                    2 => part.tile::<L, 2, V, CONJUGATE>(more),
                    3 => part.tile::<L, 3, V, CONJUGATE>(more),
                    4 => part.tile::<L, 4, V, CONJUGATE>(more),
                    5 => part.tile::<L, 5, V, CONJUGATE>(more),
                    6 => part.tile::<L, 6, V, CONJUGATE>(more),
                    _ => {}
                }
            }
            row = end;
        }
    }

    /// # Safety
    /// As [`Self::run`], of the first `M` rows.
    #[inline(always)]
    unsafe fn tile<L: Lanes, const M: usize, const V: usize, const CONJUGATE: bool>(self, more: bool) {
        // SAFETY: the caller's
        unsafe {
            let (mut re, mut im) = ([[L::splat(0.0); V]; M], [[L::splat(0.0); V]; M]);
            let (mut left, mut right) = (self.left, self.right);
            for _ in 0..self.depth {
                let (mut a, mut b) = ([L::splat(0.0); V], [L::splat(0.0); V]);
                for v in 0..V {
                    a[v] = L::load(right.add(v * L::COUNT));
                    b[v] = L::load(right.add(self.right_imaginary + v * L::COUNT));
                }
                for m in 0..M {
                    let at = left.add(m * self.left_row);
                    let (x, y) = (L::splat(*at), L::splat(*at.add(self.left_imaginary)));
                    for v in 0..V {
                        re[m][v] = L::multiply_add(x, a[v], re[m][v]);
                        im[m][v] = L::multiply_add(y, a[v], im[m][v]);
                    }
                    for v in 0..V {
                        if CONJUGATE {
                            re[m][v] = L::multiply_add(y, b[v], re[m][v]);
                            im[m][v] = L::multiply_subtract(x, b[v], im[m][v]);
                        } else {
                            re[m][v] = L::multiply_subtract(y, b[v], re[m][v]);
                            im[m][v] = L::multiply_add(x, b[v], im[m][v]);
                        }
                    }
                }
                (left, right) = (left.wrapping_add(self.left_step), right.wrapping_add(self.right_step));
            }
            for m in 0..M {
                let to = self.result.add(m * self.result_row);
                for v in 0..V {
                    let (real, imaginary) = (to.add(v * L::COUNT), to.add(self.result_imaginary + v * L::COUNT));
                    let (mut x, mut y) = (re[m][v], im[m][v]);
                    if more {
                        (x, y) = (L::add(L::load(real), x), L::add(L::load(imaginary), y));
                    }
                    L::store(real, x);
                    L::store(imaginary, y);
                }
            }
        }
    }
}
