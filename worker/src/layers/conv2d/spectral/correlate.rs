//! The gradient of the kernels: spectra multiplied over examples, and only the taps taken back.
#![expect(unsafe_code, reason = "vector registers and pointers without bounds checks")]

use super::super::super::simd::{Kernel, Lanes};
use super::axis::Axis;
use super::fold::conjugate;
use super::product::Product;
use super::spectra::Spectra;
use super::weights::Taps;

/// Up to [`Lanes::VECTORS`] / 2 registers of outputs, by some channels.
pub(super) struct Correlate<'a> {
    pub(super) kernel: usize,
    pub(super) axis: &'a Axis,
    pub(super) x_axis: &'a Axis,
    /// Of all frequencies along x, times their weight in a real sum; `middle` has the weights.
    pub(super) x: &'a [Taps],
    pub(super) middle: &'a [f32],
    pub(super) y: &'a [Taps],
    pub(super) images: Spectra,
    pub(super) gradients: Spectra,
    pub(super) channels: std::ops::Range<usize>,
    /// The first output.
    pub(super) first: usize,
    /// Added to: channel by channel, tap by tap, a row of registers each.
    pub(super) sums: &'a mut [f32],
    /// [`memory`] elements, to be overwritten.
    pub(super) memory: &'a mut [f32],
}

/// Elements of memory that a task needs for `channels` by `columns` outputs.
pub(super) fn memory(axis: &Axis, channels: usize, columns: usize) -> usize {
    axis.size * channels * 2 * columns
}

impl Kernel for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        assert!(self.images.examples == self.gradients.examples && self.channels.end <= self.images.channels);
        assert!(self.first < self.gradients.lanes && self.x.len() == self.middle.len());
        let vectors = ((self.gradients.lanes - self.first) / L::COUNT).min(L::VECTORS / 2);
        assert_eq!(self.sums.len(), self.channels.len() * self.kernel * self.kernel * vectors * L::COUNT);
        macro_rules! kernels {
            ($($k:literal)*) => {
                match (self.kernel, vectors) {
                    $(
                        ($k, 1) => self.blocks::<L, 1, $k>(),
                        ($k, 2) if L::VECTORS >= 4 => self.blocks::<L, 2, $k>(),
                    )*
                    _ => unreachable!("kernels of 3, 5 and 7, one or two registers"),
                }
            };
        }
        kernels!(3 5 7);
    }
}

impl Correlate<'_> {
    #[inline(always)]
    fn blocks<L: Lanes, const V: usize, const K: usize>(self) {
        let (rows, size, columns) = (self.channels.len(), self.axis.size, V * L::COUNT);
        let frequency = rows * 2 * columns;
        assert!(self.x.iter().chain(self.y).all(|taps| taps.0.len() == K / 2));
        assert_eq!(self.y.len(), self.axis.real_frequencies());
        let products = self.memory;
        assert!(products.len() >= memory(self.axis, rows, columns));
        for (column, (x, &middle)) in self.x.iter().zip(self.middle).enumerate() {
            let frequency_x = self.x_axis.frequency(column);
            for row in (0..size).filter(|&row| self.axis.needs(row, frequency_x)) {
                let at = column * size + row;
                // SAFETY: channels, outputs and examples lie in the spectra; `products` holds each frequency's
                unsafe {
                    let product = Product {
                        rows,
                        depth: self.images.examples,
                        left: self.images.frequency(at).add(self.channels.start),
                        left_row: 1,
                        left_step: self.images.example(),
                        left_imaginary: self.images.lanes,
                        right: self.gradients.frequency(at).add(self.first),
                        right_step: self.gradients.example(),
                        right_imaginary: self.gradients.lanes,
                        result: products.as_mut_ptr().add(row * frequency),
                        result_row: 2 * columns,
                        result_imaginary: columns,
                    };
                    product.run::<L, V, true>();
                }
            }
            for block in 0..rows * V {
                let (row, v) = (block / V, block % V);
                // SAFETY: row < rows and v < V: both areas hold their registers, by the asserts
                unsafe {
                    let from = products.as_ptr().add(row * 2 * columns + v * L::COUNT);
                    let to = self.sums.as_mut_ptr().add((row * K * K * V + v) * L::COUNT);
                    let taps = rows_of::<L, V, K>(self.axis, self.y, from, frequency, frequency_x.1 == 0);
                    add_columns::<L, V, K>(&taps, x, middle, to);
                }
            }
        }
    }
}

/// The taps along y of the frequencies at `from`, `step` elements apart; of a `real` column only those that are needed.
///
/// # Safety
/// All frequencies are there.
#[inline(always)]
unsafe fn rows_of<L: Lanes, const V: usize, const K: usize>(
    axis: &Axis,
    y: &[Taps],
    from: *const f32,
    step: usize,
    real: bool,
) -> [[L::Vector; 2]; K] {
    let (middle, odd) = (K / 2, axis.odd);
    // SAFETY: the caller's
    unsafe {
        let zero = [L::splat(0.0); 2];
        let (mut even, mut difference) = ([zero; K], [zero; K]);
        for (taps, (b, g)) in y.iter().zip(axis.pairs()) {
            let load = |row: usize| {
                let at = from.add(row * step);
                [L::load(at), L::load(at.add(V * L::COUNT))]
            };
            let plus = load(b * odd + g);
            let minus = match (g, real) {
                (0, _) => zero,
                (_, true) => conjugate::<L>(plus),
                (_, false) => load(b * odd + odd - g),
            };
            for i in 0..2 {
                let (sum, less) = (L::add(plus[i], minus[i]), L::subtract(plus[i], minus[i]));
                even[0][i] = L::add(even[0][i], sum);
                for t in 1..=middle {
                    let [cosine, sine] = *taps.0.get_unchecked(t - 1);
                    even[t][i] = L::multiply_add(sum, L::splat(cosine), even[t][i]);
                    difference[t][i] = L::multiply_add(less, L::splat(sine), difference[t][i]);
                }
            }
        }
        let mut taps = [zero; K];
        taps[middle] = even[0];
        for t in 1..=middle {
            let (e, d) = (even[t], difference[t]);
            taps[middle + t] = [L::subtract(e[0], d[1]), L::add(e[1], d[0])];
            taps[middle - t] = [L::add(e[0], d[1]), L::subtract(e[1], d[0])];
        }
        taps
    }
}

/// Adds one frequency along x to all taps at `to`, `V` registers apart.
///
/// # Safety
/// `K` × `K` taps are there.
#[inline(always)]
unsafe fn add_columns<L: Lanes, const V: usize, const K: usize>(
    rows: &[[L::Vector; 2]; K],
    x: &Taps,
    middle: f32,
    to: *mut f32,
) {
    // SAFETY: the caller's
    unsafe {
        for (y, &[re, im]) in rows.iter().enumerate() {
            let at = |x: usize| to.add((y * K + x) * V * L::COUNT);
            let add = |x: usize, value| L::store(at(x), L::add(L::load(at(x)), value));
            let zero = L::splat(0.0);
            add(K / 2, L::multiply_add(re, L::splat(middle), zero));
            for (t, &[cosine, sine]) in x.0.iter().enumerate() {
                let even = L::multiply_add(re, L::splat(cosine), zero);
                let odd = L::multiply_add(im, L::splat(sine), zero);
                add(K / 2 + 1 + t, L::subtract(even, odd));
                add(K / 2 - 1 - t, L::add(even, odd));
            }
        }
    }
}
