//! Convolution of stride 1 without im2col: each row of the matrix that im2col would build is the padded image, shifted.

use super::super::gemm::{Columns, Outer, Packed, Starts};
use super::super::kernels::KernelSet;
use super::super::{scratch, simd, threads};

/// Elements that a vector load may read past the end: the longest register's, less one, rounded up.
const SLACK: usize = 16;

/// The padded image and the windows over it.
pub(super) struct Direct {
    set: KernelSet,
    channels: usize,
    height: usize,
    width: usize,
    padding: usize,
    out_plane: usize,
    starts: Starts,
    columns: Columns,
}

impl Direct {
    pub(super) fn new(
        set: KernelSet,
        channels: usize,
        (height, width): (usize, usize),
        kernel: usize,
        padding: usize,
    ) -> Self {
        let (padded_height, padded_width) = (height + 2 * padding, width + 2 * padding);
        let (out_height, out_width) = (padded_height + 1 - kernel, padded_width + 1 - kernel);
        let tap = |k: usize| {
            let (c, ky, kx) = (k / (kernel * kernel), k / kernel % kernel, k % kernel);
            (c * padded_height + ky) * padded_width + kx
        };
        Self {
            set,
            channels,
            height,
            width,
            padding,
            out_plane: out_height * out_width,
            starts: Starts::new((0..channels * kernel * kernel).map(tap).collect()),
            columns: Columns::new(simd::lanes(set), out_height, out_width, (padded_width, out_width), false),
        }
    }

    /// Where each tap (channel, ky, kx) starts in a padded example.
    pub(super) fn starts(&self) -> &Starts {
        &self.starts
    }

    /// Elements between rows of a padded example.
    pub(super) fn padded_width(&self) -> usize {
        self.width + 2 * self.padding
    }

    /// Elements of a padded example.
    pub(super) fn padded_len(&self) -> usize {
        self.channels * (self.height + 2 * self.padding) * self.padded_width()
    }

    /// Copies examples with zeros around each channel.
    pub(super) fn pad(&self, x: &[f32], padded: &mut [f32]) {
        if self.padding == 0 {
            padded.copy_from_slice(x);
            return;
        }
        let (p, width) = (self.padding, self.padded_width());
        let planes = padded.chunks_exact_mut((self.height + 2 * p) * width);
        for (plane, x) in planes.zip(x.chunks_exact(self.height * self.width)) {
            plane[..p * width].fill(0.0);
            for (row, x) in plane[p * width..].chunks_exact_mut(width).zip(x.chunks_exact(self.width)) {
                row[..p].fill(0.0);
                row[p..p + self.width].copy_from_slice(x);
                row[p + self.width..].fill(0.0);
            }
            plane[(p + self.height) * width..].fill(0.0);
        }
    }

    /// y = weight ⋆ x (+ bias), example by example.
    pub(super) fn run(&self, x: &[f32], weight: &Packed, bias: Option<&[f32]>, y: &mut [f32]) {
        let example = self.channels * self.height * self.width;
        threads::for_each_chunk(y, weight.rows() * self.out_plane, |n, y| {
            scratch::with(self.padded_len() + SLACK, |padded| {
                self.pad(&x[n * example..][..example], &mut padded[..self.padded_len()]);
                let (starts, columns) = (&self.starts, &self.columns);
                let product =
                    Outer { left: weight, right: padded, starts, columns, bias, result: y, stride: self.out_plane };
                simd::run(self.set, product);
            });
        });
    }
}
