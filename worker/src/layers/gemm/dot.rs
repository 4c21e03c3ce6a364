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

/// A sum, a vector register at a time: first the whole registers, then the rests of segments.
pub(in super::super) struct Segments {
    lanes: usize,
    whole: Vec<Piece>,
    partial: Vec<Piece>,
    /// One past the last element that a row of the left operand, and of the right, is read at.
    left: usize,
    right: usize,
}

#[derive(Clone, Copy)]
struct Piece {
    left: usize,
    right: usize,
    count: usize,
}

impl Segments {
    /// `lanes` is what [`super::super::simd::lanes`] says.
    pub(in super::super) fn new(lanes: usize, segments: impl IntoIterator<Item = Segment>) -> Self {
        let mut all = Self { lanes, whole: Vec::new(), partial: Vec::new(), left: 0, right: 0 };
        for Segment { left, right, len } in segments {
            for at in (0..len).step_by(lanes) {
                let piece = Piece { left: left + at, right: right + at, count: lanes.min(len - at) };
                if piece.count == lanes { &mut all.whole } else { &mut all.partial }.push(piece);
            }
            all.left = all.left.max(left + len);
            all.right = all.right.max(right + len);
        }
        all
    }
}

/// result\[m\]\[n\] += Σ over segments, Σ over i < len: left\[m × stride + segment.left + i\] × right\[starts\[n\] + segment.right + i\].
///
/// Each lane sums in the order of [`Segments`]; the lanes are then added by halves.
pub(in super::super) struct Dot<'a> {
    pub(in super::super) rows: usize,
    pub(in super::super) left: &'a [f32],
    pub(in super::super) left_stride: usize,
    pub(in super::super) right: &'a [f32],
    pub(in super::super) starts: &'a Starts,
    pub(in super::super) segments: &'a Segments,
    /// rows × starts, row-major.
    pub(in super::super) result: &'a mut [f32],
}

/// Columns of the largest tile.
const COLUMNS: usize = 3;

impl Kernel for Dot<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let columns = self.starts.values().len();
        if self.rows == 0 || columns == 0 {
            return;
        }
        // what every unchecked access below rests on
        assert_eq!(self.segments.lanes, L::COUNT);
        assert!((self.rows - 1) * self.left_stride + self.segments.left <= self.left.len());
        assert!(self.starts.greatest() + self.segments.right <= self.right.len());
        assert_eq!(self.result.len(), self.rows * columns);

        // sums, a row of each operand and addresses must all find registers: 6 × 3 in AVX-512, 6 × 2 elsewhere
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
    segments: &'a Segments,
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
            for piece in &self.segments.whole {
                let (left, right) = (self.left.add(piece.left), self.right.add(piece.right));
                let rights = starts.map(|start| L::load(right.add(start)));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let value = L::load(left.add(m * self.left_stride));
                    for n in 0..N {
                        sums[n] = L::multiply_add(value, rights[n], sums[n]);
                    }
                }
            }
            // zeros on both sides past the end: what lies there must not count, not even NaN
            for &Piece { left, right, count } in &self.segments.partial {
                let (left, right) = (self.left.add(left), self.right.add(right));
                let rights = starts.map(|start| L::load_first(right.add(start), count));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let value = L::load_first(left.add(m * self.left_stride), count);
                    for n in 0..N {
                        sums[n] = L::multiply_add(value, rights[n], sums[n]);
                    }
                }
            }
            for (m, sums) in sums.iter().enumerate() {
                for (n, &lanes) in sums.iter().enumerate() {
                    let to = self.result.add(m * self.stride + n);
                    *to += L::sum(lanes);
                }
            }
        }
    }
}
