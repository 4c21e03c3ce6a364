//! Products whose lanes are parts of the sum.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::simd::{Kernel, Lanes};
use super::{ROWS, Starts};

/// A stretch of the sum: `len` elements that both operands have contiguous.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Segment {
    pub(in super::super) left: usize,
    pub(in super::super) right: usize,
    pub(in super::super) len: usize,
}

/// result\[m\]\[n\] += Σ over segments, Σ over i < len: left\[m × stride + segment.left + i\] × right\[starts\[n\] + segment.right + i\].
///
/// Each lane sums in order of segments and i; the lanes are then added by halves.
pub(in super::super) struct Dot<'a> {
    pub(in super::super) rows: usize,
    pub(in super::super) left: &'a [f32],
    pub(in super::super) left_stride: usize,
    pub(in super::super) right: &'a [f32],
    pub(in super::super) starts: &'a Starts,
    pub(in super::super) segments: &'a [Segment],
    /// rows × starts, row-major.
    pub(in super::super) result: &'a mut [f32],
}

/// Columns of the largest tile.
const COLUMNS: usize = 4;

impl Kernel for Dot<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let columns = self.starts.values().len();
        if self.rows == 0 || columns == 0 {
            return;
        }
        // what every unchecked access below rests on
        let left = self.segments.iter().map(|s| s.left + s.len).max().unwrap_or(0);
        let right = self.segments.iter().map(|s| s.right + s.len).max().unwrap_or(0);
        assert!(self.segments.is_empty() || (self.rows - 1) * self.left_stride + left <= self.left.len());
        assert!(self.segments.is_empty() || self.starts.greatest() + right <= self.right.len());
        assert_eq!(self.result.len(), self.rows * columns);

        // no more columns of sums than registers: 6 × 4 in AVX-512, 6 × 2 elsewhere
        let wide = COLUMNS.min(L::VECTORS);
        for column in (0..columns).step_by(wide) {
            for row in (0..self.rows).step_by(ROWS) {
                let tile = Tile {
                    // SAFETY: row < rows, and the assert above puts the whole row inside the operand
                    left: unsafe { self.left.as_ptr().add(row * self.left_stride) },
                    left_stride: self.left_stride,
                    right: self.right.as_ptr(),
                    starts: &self.starts.values()[column..columns.min(column + wide)],
                    segments: self.segments,
                    // SAFETY: row × columns + column < rows × columns
                    result: unsafe { self.result.as_mut_ptr().add(row * columns + column) },
                    stride: columns,
                    rows: ROWS.min(self.rows - row),
                };
                // SAFETY: the asserts above cover every element of the tile, read and written
                unsafe { tile.run::<L>() }
            }
        }
    }
}

/// Up to [`ROWS`] rows by [`COLUMNS`] columns of the result.
struct Tile<'a> {
    left: *const f32,
    left_stride: usize,
    right: *const f32,
    starts: &'a [usize],
    segments: &'a [Segment],
    result: *mut f32,
    stride: usize,
    rows: usize,
}

impl Tile<'_> {
    /// # Safety
    /// Each segment lies in the left operand for each row, in the right one for each start; the tile lies in the result.
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        macro_rules! tiles {
            ($($rows:literal)*) => {
                // SAFETY: the caller's; rows and columns are as many as the constants say
                unsafe {
                    match (self.rows, self.starts.len()) {
                        $(
                            ($rows, 1) => self.sum::<L, $rows, 1>(),
                            ($rows, 2) if L::VECTORS >= 2 => self.sum::<L, $rows, 2>(),
                            ($rows, 3) if L::VECTORS >= 3 => self.sum::<L, $rows, 3>(),
                            ($rows, 4) if L::VECTORS >= 4 => self.sum::<L, $rows, 4>(),
                        )*
                        _ => {}
                    }
                }
            };
        }
        tiles!(1 2 3 4 5 6);
    }

    /// # Safety
    /// As [`Self::run`]; `M` rows, `N` columns.
    #[inline(always)]
    unsafe fn sum<L: Lanes, const M: usize, const N: usize>(self) {
        debug_assert!(self.rows == M && self.starts.len() == N);
        // SAFETY: the caller's
        unsafe {
            let starts = self.starts.as_ptr().cast::<[usize; N]>().read();
            let mut sums = [[L::splat(0.0); N]; M];
            for segment in self.segments {
                let mut left = self.left.add(segment.left);
                let mut rights = [self.right; N];
                for n in 0..N {
                    rights[n] = self.right.add(starts[n] + segment.right);
                }
                for _ in 0..segment.len / L::COUNT {
                    let mut right = [L::splat(0.0); N];
                    for n in 0..N {
                        right[n] = L::load(rights[n]);
                        rights[n] = rights[n].add(L::COUNT);
                    }
                    for (m, sums) in sums.iter_mut().enumerate() {
                        let value = L::load(left.add(m * self.left_stride));
                        for n in 0..N {
                            sums[n] = L::multiply_add(value, right[n], sums[n]);
                        }
                    }
                    left = left.add(L::COUNT);
                }
                let rest = segment.len % L::COUNT;
                if rest > 0 {
                    // zeros on both sides past the end: what lies there must not count, not even NaN
                    let mut right = [L::splat(0.0); N];
                    for n in 0..N {
                        right[n] = L::load_first(rights[n], rest);
                    }
                    for (m, sums) in sums.iter_mut().enumerate() {
                        let value = L::load_first(left.add(m * self.left_stride), rest);
                        for n in 0..N {
                            sums[n] = L::multiply_add(value, right[n], sums[n]);
                        }
                    }
                }
            }
            for (m, sums) in sums.iter().enumerate() {
                for n in 0..N {
                    let to = self.result.add(m * self.stride + n);
                    *to += L::sum(sums[n]);
                }
            }
        }
    }
}
