//! Channels mixed by kernels, in the spectrum: the forward pass and the gradient of the input.
#![expect(unsafe_code, reason = "vector registers and pointers without bounds checks")]

use super::super::super::simd::{Kernel, Lanes};
use super::axis::Axis;
use super::product::Product;
use super::spectra::Spectra;
use super::weights::{Taps, Weights};

/// One frequency along x, all along y, and up to [`Lanes::VECTORS`] / 2 registers of channels.
pub(super) struct Mix<'a> {
    pub(super) kernel: usize,
    pub(super) axis: &'a Axis,
    /// The number of the frequency along x, what it is, and its taps.
    pub(super) column: usize,
    pub(super) frequency: (usize, usize),
    pub(super) x: &'a Taps,
    pub(super) y: &'a [Taps],
    /// Tap by tap, `to.lanes` elements each.
    pub(super) taps: &'a [f32],
    pub(super) from: Spectra,
    pub(super) to: Spectra,
    /// The first channel.
    pub(super) first: usize,
    /// [`memory`] elements, to be overwritten.
    pub(super) memory: &'a mut [f32],
}

/// Elements of memory that a task needs for kernels of `depth` channels by `columns`.
pub(super) fn memory(axis: &Axis, depth: usize, columns: usize) -> usize {
    axis.size * depth * 2 * columns
}

impl Kernel for Mix<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        assert_eq!(self.taps.len(), self.from.channels * self.kernel * self.kernel * self.to.lanes);
        assert!(self.first < self.to.lanes);
        let vectors = ((self.to.lanes - self.first) / L::COUNT).min(L::VECTORS / 2);
        macro_rules! kernels {
            ($($k:literal)*) => {
                match (self.kernel, vectors) {
                    $(
                        ($k, 1) => self.columns::<L, 1, $k>(),
                        ($k, 2) if L::VECTORS >= 4 => self.columns::<L, 2, $k>(),
                    )*
                    _ => unreachable!("kernels of 3, 5 and 7, one or two registers"),
                }
            };
        }
        kernels!(3 5 7);
    }
}

impl Mix<'_> {
    #[inline(always)]
    fn columns<L: Lanes, const V: usize, const K: usize>(self) {
        let (depth, size, columns) = (self.from.channels, self.axis.size, V * L::COUNT);
        let right = self.memory;
        assert!(right.len() >= memory(self.axis, depth, columns));
        let weights = Weights {
            depth,
            x: self.x,
            y: self.y,
            axis: self.axis,
            taps: self.taps[self.first..].as_ptr(),
            lanes: self.to.lanes,
            to: right.as_mut_ptr(),
        };
        // SAFETY: the asserts of `run` for the taps; `right` holds each frequency's registers
        unsafe { weights.run::<L, V, K>() }
        for row in (0..size).filter(|&row| self.axis.needs(row, self.frequency)) {
            let frequency = self.column * size + row;
            // SAFETY: as above; frequency, examples and channels lie in the spectra, which are the caller's
            unsafe {
                let product = Product {
                    rows: self.from.examples,
                    depth,
                    left: self.from.frequency(frequency),
                    left_row: self.from.example(),
                    left_step: 1,
                    left_imaginary: self.from.lanes,
                    right: right.as_ptr().add(row * depth * 2 * columns),
                    right_step: 2 * columns,
                    right_imaginary: columns,
                    result: self.to.frequency(frequency).add(self.first),
                    result_row: self.to.example(),
                    result_imaginary: self.to.lanes,
                };
                product.run::<L, V, false>();
            }
        }
    }
}
