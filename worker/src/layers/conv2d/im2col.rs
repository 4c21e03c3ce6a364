//! Convolution of any stride as a matrix product: each window's pixels become a column.

use super::super::gemm::{Columns, Outer, Packed, Starts};
use super::super::kernels::KernelSet;
use super::super::window::Window;
use super::super::{scratch, simd, threads};

/// Columns that are worth a product of their own: images with fewer places are taken several at once.
const ENOUGH: usize = 64;
/// The longest register: rows of a matrix are a multiple of it apart, so that loads stay inside.
const LANES: usize = 16;

pub(super) struct Im2col {
    set: KernelSet,
    window: Window,
    outputs: usize,
    /// Examples to a matrix.
    pub(super) group: usize,
}

impl Im2col {
    pub(super) fn new(set: KernelSet, window: Window, outputs: usize) -> Self {
        Self { set, window, outputs, group: ENOUGH.div_ceil(window.out_plane()) }
    }

    /// Elements between rows of a matrix of `examples`.
    pub(super) fn stride(&self, examples: usize) -> usize {
        (examples * self.window.out_plane()).next_multiple_of(LANES)
    }

    /// Rows of the matrix: (channel, ky, kx).
    pub(super) fn taps(&self) -> usize {
        self.window.channels * self.window.kernel * self.window.kernel
    }

    /// Calls `body` with the element of the matrix where each row of places starts, the part of the row that is inside
    /// the image, and the pixel of the part's first place.
    fn each_row(&self, examples: usize, mut body: impl FnMut(usize, std::ops::Range<usize>, usize)) {
        let (w, stride) = (&self.window, self.stride(examples));
        for tap in 0..self.taps() {
            let (c, ky, kx) = (tap / (w.kernel * w.kernel), tap / w.kernel % w.kernel, tap % w.kernel);
            // places ox with 0 ≤ ox × stride + kx − padding < width
            let first = w.padding.saturating_sub(kx).div_ceil(w.stride).min(w.out_width);
            let last = (w.width + w.padding).saturating_sub(kx).div_ceil(w.stride).clamp(first, w.out_width);
            for e in 0..examples {
                for oy in 0..w.out_height {
                    let at = tap * stride + e * w.out_plane() + oy * w.out_width;
                    let iy = (oy * w.stride + ky).wrapping_sub(w.padding);
                    if iy < w.height && first < last {
                        let ix = first * w.stride + kx - w.padding;
                        body(at, first..last, ((e * w.channels + c) * w.height + iy) * w.width + ix);
                    } else {
                        body(at, 0..0, 0);
                    }
                }
            }
        }
    }

    /// The matrix of `x`, taps × places of all its examples.
    pub(super) fn gather(&self, x: &[f32], examples: usize, matrix: &mut [f32]) {
        let w = &self.window;
        self.each_row(examples, |at, inside, pixel| {
            let row = &mut matrix[at..at + w.out_width];
            row[..inside.start].fill(0.0);
            row[inside.end..].fill(0.0);
            let pixels = x[pixel..].iter().step_by(w.stride);
            for (element, &pixel) in row[inside].iter_mut().zip(pixels) {
                *element = pixel;
            }
        });
    }

    /// Adds each element of the matrix to its pixel: the transpose of [`Self::gather`].
    fn scatter_add(&self, matrix: &[f32], examples: usize, dx: &mut [f32]) {
        let w = &self.window;
        self.each_row(examples, |at, inside, pixel| {
            let pixels = dx[pixel..].iter_mut().step_by(w.stride);
            for (&element, pixel) in matrix[at..at + w.out_width][inside].iter().zip(pixels) {
                *pixel += element;
            }
        });
    }

    /// Rows (example, output) of `y` as rows (output) of a matrix, or back.
    pub(super) fn rows(&self, examples: usize, mut body: impl FnMut(std::ops::Range<usize>, std::ops::Range<usize>)) {
        let (plane, stride) = (self.window.out_plane(), self.stride(examples));
        for e in 0..examples {
            for o in 0..self.outputs {
                let (tensor, matrix) = ((e * self.outputs + o) * plane, o * stride + e * plane);
                body(tensor..tensor + plane, matrix..matrix + plane);
            }
        }
    }

    /// y = weight ⋆ x (+ bias).
    pub(super) fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>, y: &mut [f32]) {
        let taps = self.taps();
        let weight = Packed::new(self.outputs, taps, |o, k| weight[o * taps + k]);
        self.each_group(y, self.outputs * self.window.out_plane(), |first, examples, y| {
            let w = &self.window;
            let (example, stride) = (w.channels * w.plane(), self.stride(examples));
            scratch::with(taps * stride, |matrix| {
                scratch::with(self.outputs * stride, |result| {
                    self.gather(&x[first * example..][..examples * example], examples, matrix);
                    let columns = self.columns(examples);
                    let starts = Starts::rows(taps, stride);
                    let (left, right, starts, columns) = (&weight, &*matrix, &starts, &columns);
                    simd::run(self.set, Outer { left, right, starts, columns, bias, result, stride });
                    self.rows(examples, |tensor, matrix| y[tensor].copy_from_slice(&result[matrix]));
                });
            });
        });
    }

    /// dx = the transpose of [`Self::forward`], of dy.
    pub(super) fn input_gradient(&self, dy: &[f32], weight: &[f32], dx: &mut [f32]) {
        let (w, taps) = (&self.window, self.taps());
        let weight = Packed::new(taps, self.outputs, |k, o| weight[o * taps + k]);
        self.each_group(dx, w.channels * w.plane(), |first, examples, dx| {
            let (example, stride) = (self.outputs * w.out_plane(), self.stride(examples));
            scratch::with(taps * stride, |result| {
                scratch::with(self.outputs * stride, |right| {
                    let dy = &dy[first * example..][..examples * example];
                    self.rows(examples, |tensor, matrix| right[matrix].copy_from_slice(&dy[tensor]));
                    let (starts, columns) = (Starts::rows(self.outputs, stride), self.columns(examples));
                    let (left, starts, columns) = (&weight, &starts, &columns);
                    let product = Outer { left, right, starts, columns, bias: None, result: &mut *result, stride };
                    simd::run(self.set, product);
                    self.scatter_add(result, examples, dx);
                });
            });
        });
    }

    fn columns(&self, examples: usize) -> Columns {
        Columns::new(simd::lanes(self.set), 1, examples * self.window.out_plane(), (0, 0), false)
    }

    /// `work(first example, examples, part of out)` for each group.
    fn each_group(&self, out: &mut [f32], example: usize, work: impl Fn(usize, usize, &mut [f32]) + Sync) {
        threads::for_each_chunk(out, self.group * example, |i, part| {
            work(i * self.group, part.len() / example, part);
        });
    }
}
