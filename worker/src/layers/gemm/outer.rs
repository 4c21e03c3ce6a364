//! Products whose lanes are columns of the result.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::simd::{Kernel, Lanes};
use super::{DEPTH, Packed, ROWS, Starts};

/// The columns of a product, a vector register at a time.
pub(in super::super) struct Columns {
    lanes: usize,
    /// Whether the right operand ends with its last column, so that no load may go past it.
    tight: bool,
    values: Vec<Column>,
    /// One past the last element that a row of the right operand is read at, and that a row of the result is written at.
    read: usize,
    written: usize,
}

#[derive(Clone, Copy)]
struct Column {
    from: usize,
    to: usize,
    count: usize,
}

impl Columns {
    /// For each of `rows` rows of `width` columns: read `from_stride` apart, written `to_stride` apart. `lanes` is what
    /// [`super::super::simd::lanes`] says. With `tight`, nothing is read past the last column; else up to `lanes` − 1
    /// elements are (and not used), which is faster.
    pub(in super::super) fn new(
        lanes: usize,
        rows: usize,
        width: usize,
        (from_stride, to_stride): (usize, usize),
        tight: bool,
    ) -> Self {
        let row = |row| {
            (0..width).step_by(lanes).map(move |at| Column {
                from: row * from_stride + at,
                to: row * to_stride + at,
                count: lanes.min(width - at),
            })
        };
        let mut values: Vec<_> = (0..rows).flat_map(row).collect();
        if tight {
            // whole registers first: the others are loaded another way
            values.sort_by_key(|column| column.count < lanes);
        }
        let read = values.iter().map(|c| c.from + if tight { c.count } else { lanes }).max().unwrap_or(0);
        let written = values.iter().map(|c| c.to + c.count).max().unwrap_or(0);
        Self { lanes, tight, values, read, written }
    }
}

/// result\[m\]\[to\] = Σₖ left\[m\]\[k\] × right\[starts\[k\] + from\] (+ bias\[m\]) for each column (from, to).
///
/// The sum runs in order of k, in parts of [`DEPTH`]; the bias is added to the first part.
pub(in super::super) struct Outer<'a> {
    pub(in super::super) left: &'a Packed,
    pub(in super::super) right: &'a [f32],
    pub(in super::super) starts: &'a Starts,
    pub(in super::super) columns: &'a Columns,
    pub(in super::super) bias: Option<&'a [f32]>,
    pub(in super::super) result: &'a mut [f32],
    /// Elements between rows of the result.
    pub(in super::super) stride: usize,
}

impl Kernel for Outer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Packed { rows, depth, .. } = *self.left;
        if rows == 0 || self.columns.values.is_empty() {
            return;
        }
        // what every unchecked access below rests on
        assert_eq!(self.columns.lanes, L::COUNT);
        assert_eq!(self.left.data.len(), rows * depth);
        assert_eq!(self.starts.values().len(), depth);
        assert!(depth == 0 || self.starts.greatest() + self.columns.read <= self.right.len());
        assert!((rows - 1) * self.stride + self.columns.written <= self.result.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == rows));

        let whole = if self.columns.tight {
            self.columns.values.partition_point(|column| column.count == L::COUNT)
        } else {
            self.columns.values.len()
        };
        let (whole, partial) = self.columns.values.split_at(whole);
        let result = self.result.as_mut_ptr();
        // a sum of nothing is one empty part: the bias must be stored all the same
        for part in (0..depth.max(1)).step_by(DEPTH) {
            let starts = &self.starts.values()[part..depth.min(part + DEPTH)];
            let tile = |columns, row| {
                let tile_rows = ROWS.min(rows - row);
                // the tile's own elements lie behind all earlier parts and this part's earlier tiles
                let at = part * rows + row * starts.len();
                Tile {
                    left: &self.left.data[at..at + tile_rows * starts.len()],
                    right: self.right.as_ptr(),
                    starts,
                    columns,
                    bias: self.bias.filter(|_| part == 0).map(|bias| &bias[row..row + tile_rows]),
                    add: part > 0,
                    // SAFETY: row < rows, and the asserts above put the whole row inside the result
                    result: unsafe { result.add(row * self.stride) },
                    stride: self.stride,
                    rows: tile_rows,
                }
            };
            for columns in whole.chunks(L::VECTORS) {
                for row in (0..rows).step_by(ROWS) {
                    // SAFETY: the asserts above cover every element of the tile, read and written
                    unsafe { tile(columns, row).run::<L>() }
                }
            }
            for columns in partial.chunks(1) {
                for row in (0..rows).step_by(ROWS) {
                    // SAFETY: as above; no more than `count` elements are loaded
                    unsafe { tile(columns, row).run_partial::<L>() }
                }
            }
        }
    }
}

/// Up to [`ROWS`] rows by [`Lanes::VECTORS`] registers of the result.
struct Tile<'a> {
    left: &'a [f32],
    right: *const f32,
    starts: &'a [usize],
    columns: &'a [Column],
    bias: Option<&'a [f32]>,
    add: bool,
    result: *mut f32,
    stride: usize,
    rows: usize,
}

impl Tile<'_> {
    /// # Safety
    /// Each start plus each column's `from`, plus a register, lies in the right operand; each row's `to` plus `count` in
    /// the result.
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        macro_rules! tiles {
            ($($rows:literal)*) => {
                // SAFETY: the caller's; rows and columns are as many as the constants say
                unsafe {
                    match (self.rows, self.columns.len()) {
                        $(
                            ($rows, 1) => self.sum::<L, $rows, 1, false>(),
                            ($rows, 2) if L::VECTORS >= 2 => self.sum::<L, $rows, 2, false>(),
                            ($rows, 3) if L::VECTORS >= 3 => self.sum::<L, $rows, 3, false>(),
                            ($rows, 4) if L::VECTORS >= 4 => self.sum::<L, $rows, 4, false>(),
                        )*
                        _ => {}
                    }
                }
            };
        }
        tiles!(1 2 3 4 5 6);
    }

    /// # Safety
    /// As [`Self::run`], with `count` in place of a register; one column.
    #[inline(always)]
    unsafe fn run_partial<L: Lanes>(self) {
        // SAFETY: the caller's
        unsafe {
            match self.rows {
                1 => self.sum::<L, 1, 1, true>(),
                2 => self.sum::<L, 2, 1, true>(),
                3 => self.sum::<L, 3, 1, true>(),
                4 => self.sum::<L, 4, 1, true>(),
                5 => self.sum::<L, 5, 1, true>(),
                6 => self.sum::<L, 6, 1, true>(),
                _ => {}
            }
        }
    }

    /// # Safety
    /// As [`Self::run`]; `M` rows, `N` columns.
    #[inline(always)]
    unsafe fn sum<L: Lanes, const M: usize, const N: usize, const PARTIAL: bool>(self) {
        debug_assert!(self.rows == M && self.columns.len() == N && self.left.len() == M * self.starts.len());
        // SAFETY: the caller's for the right operand and the result; the left one has M elements a start
        unsafe {
            let columns = self.columns.as_ptr().cast::<[Column; N]>().read();
            let mut sums = [[L::splat(0.0); N]; M];
            let mut left = self.left.as_ptr();
            for &start in self.starts {
                let mut right = [L::splat(0.0); N];
                for n in 0..N {
                    let from = self.right.add(start + columns[n].from);
                    right[n] = if PARTIAL { L::load_first(from, columns[n].count) } else { L::load(from) };
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let value = L::splat(*left.add(m));
                    for n in 0..N {
                        sums[n] = L::multiply_add(value, right[n], sums[n]);
                    }
                }
                left = left.add(M);
            }
            for (m, sums) in sums.iter().enumerate() {
                let bias = self.bias.map(|bias| L::splat(*bias.as_ptr().add(m)));
                for n in 0..N {
                    let to = self.result.add(m * self.stride + columns[n].to);
                    let mut value = sums[n];
                    if let Some(bias) = bias {
                        value = L::add(value, bias);
                    }
                    if columns[n].count == L::COUNT {
                        L::store(to, if self.add { L::add(L::load(to), value) } else { value });
                    } else {
                        let count = columns[n].count;
                        L::store_first(
                            to,
                            if self.add { L::add(L::load_first(to, count), value) } else { value },
                            count,
                        );
                    }
                }
            }
        }
    }
}
