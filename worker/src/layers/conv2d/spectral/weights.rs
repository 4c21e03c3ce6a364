//! Kernels in the spectrum, made where they are used: there are too many to keep.
#![expect(unsafe_code, reason = "vector registers and pointers without bounds checks")]

use super::super::super::simd::{Kernel, Lanes};
use super::axis::Axis;

/// Cosine and sine of each tap but the middle one, from the middle outwards.
pub(super) struct Taps(pub(super) Vec<[f32; 2]>);

impl Taps {
    /// One frequency's, times `factor`; the sines also times `sign`.
    pub(super) fn new(axis: &Axis, frequency: (usize, usize), half: usize, (factor, sign): (f64, f64)) -> Self {
        let tap = |place| {
            let (cosine, sine) = axis.character(frequency, place);
            [(factor * cosine) as f32, (factor * sign * sine) as f32]
        };
        Self((1..=half).map(tap).collect())
    }

    /// Those of each [`Axis::frequency`].
    pub(super) fn all(axis: &Axis, half: usize, scale: (f64, f64)) -> Vec<Self> {
        (0..axis.real_frequencies()).map(|at| Self::new(axis, axis.frequency(at), half, scale)).collect()
    }
}

/// A matrix transposed. Steps are elements between rows; where those of the result are longer than its rows by less than a
/// register they are filled up with zeros.
pub(super) struct Transpose<'a> {
    pub(super) from: &'a [f32],
    pub(super) rows: usize,
    pub(super) from_step: usize,
    pub(super) columns: usize,
    pub(super) to: &'a mut [f32],
    pub(super) to_step: usize,
}

impl Kernel for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let Self { rows, columns, .. } = self;
        assert!(rows > 0 && columns > 0 && rows <= self.to_step);
        let padded = if self.to_step - rows < L::COUNT { self.to_step } else { rows };
        assert!((rows - 1) * self.from_step + columns <= self.from.len());
        assert!((columns - 1) * self.to_step + padded <= self.to.len());
        for column in (0..columns).step_by(L::COUNT) {
            let count = L::COUNT.min(columns - column);
            for row in (0..rows).step_by(L::COUNT) {
                let wide = L::COUNT.min(padded - row);
                // SAFETY: rows and columns that are there, by the asserts
                unsafe {
                    let mut block = [L::splat(0.0); 16];
                    for (i, line) in block.iter_mut().enumerate().take(L::COUNT.min(rows - row)) {
                        *line = L::load_first(self.from.as_ptr().add((row + i) * self.from_step + column), count);
                    }
                    L::transpose(&mut block);
                    for (i, &line) in block.iter().enumerate().take(count) {
                        L::store_first(self.to.as_mut_ptr().add((column + i) * self.to_step + row), line, wide);
                    }
                }
            }
        }
    }
}

/// The spectra of `depth` × `V` registers of kernels, for one frequency along x and all along y.
pub(super) struct Weights<'a> {
    pub(super) depth: usize,
    /// Of one frequency along x.
    pub(super) x: &'a Taps,
    /// Of all frequencies along y.
    pub(super) y: &'a [Taps],
    pub(super) axis: &'a Axis,
    /// Tap by tap, `lanes` elements each; the first register.
    pub(super) taps: *const f32,
    pub(super) lanes: usize,
    /// For each frequency along y and each of `depth`: `V` registers of real parts, `V` of imaginary ones.
    pub(super) to: *mut f32,
}

impl Weights<'_> {
    /// Kernels of `K` × `K` taps.
    ///
    /// # Safety
    /// Every element that the fields describe is there.
    #[inline(always)]
    pub(super) unsafe fn run<L: Lanes, const V: usize, const K: usize>(&self) {
        assert!(self.x.0.len() == K / 2 && self.y.iter().all(|taps| taps.0.len() == K / 2));
        let (middle, odd) = (K / 2, self.axis.odd);
        let frequency = self.depth * 2 * V * L::COUNT;
        for d in 0..self.depth {
            for v in 0..V {
                // SAFETY: the caller's
                unsafe {
                    let taps = self.taps.add(d * K * K * self.lanes + v * L::COUNT);
                    let mut rows = [[L::splat(0.0); 2]; K];
                    for (y, row) in rows.iter_mut().enumerate() {
                        let tap = |x: usize| L::load(taps.add((y * K + x) * self.lanes));
                        row[0] = tap(middle);
                        for (t, &[cosine, sine]) in self.x.0.iter().enumerate() {
                            let (before, behind) = (tap(middle - 1 - t), tap(middle + 1 + t));
                            row[0] = L::multiply_add(L::add(behind, before), L::splat(cosine), row[0]);
                            row[1] = L::multiply_add(L::subtract(behind, before), L::splat(sine), row[1]);
                        }
                    }
                    // rows a tap above and below the middle, added and subtracted
                    let (mut even, mut difference) = (rows, rows);
                    for t in 1..=middle {
                        for i in 0..2 {
                            even[t][i] = L::add(rows[middle + t][i], rows[middle - t][i]);
                            difference[t][i] = L::subtract(rows[middle + t][i], rows[middle - t][i]);
                        }
                    }
                    let to = self.to.add(d * 2 * V * L::COUNT + v * L::COUNT);
                    for (taps, (b, g)) in self.y.iter().zip(self.axis.pairs()) {
                        let [mut re, mut im] = rows[middle];
                        let (mut re_odd, mut im_odd) = (L::splat(0.0), L::splat(0.0));
                        for t in 1..=middle {
                            let [cosine, sine] = *taps.0.get_unchecked(t - 1);
                            let (cosine, sine) = (L::splat(cosine), L::splat(sine));
                            re = L::multiply_add(even[t][0], cosine, re);
                            im = L::multiply_add(even[t][1], cosine, im);
                            re_odd = L::multiply_add(difference[t][0], sine, re_odd);
                            im_odd = L::multiply_add(difference[t][1], sine, im_odd);
                        }
                        let plus = to.add((b * odd + g) * frequency);
                        L::store(plus, L::subtract(re, im_odd));
                        L::store(plus.add(V * L::COUNT), L::add(im, re_odd));
                        if g > 0 {
                            let minus = to.add((b * odd + odd - g) * frequency);
                            L::store(minus, L::add(re, im_odd));
                            L::store(minus.add(V * L::COUNT), L::subtract(im, re_odd));
                        }
                    }
                }
            }
        }
    }
}
