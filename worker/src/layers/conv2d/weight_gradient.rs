//! The gradients of weight and bias: sums over examples and places, cut into blocks of examples that are summed alone and
//! then added in order.

use super::super::gemm::{Dot, Segment, Segments, Starts};
use super::super::kernels::KernelSet;
use super::super::window::Window;
use super::super::{scratch, simd, sums, threads};
use super::direct::Direct;
use super::im2col::Im2col;

/// At least so many examples to a block, and at most so many blocks: enough for many threads, and the blocks' own
/// gradients stay small. Constants, since they decide bits.
const LEAST: usize = 4;
const BLOCKS: usize = 16;
/// Elements of a block's gradient: large weights are cut into bands of outputs, so that threads have work even so.
const BAND: usize = 1 << 16;
/// Elements of the examples whose products are summed before lanes are added up: what the first caches hold.
const NEAR: usize = 1 << 14;

/// How a block of examples is multiplied.
pub(super) enum Way {
    Direct(Direct),
    Im2col(Im2col),
}

pub(super) struct WeightGradient {
    pub(super) set: KernelSet,
    pub(super) window: Window,
    pub(super) outputs: usize,
    pub(super) way: Way,
}

/// A block's share of the outputs' gradients.
struct Part {
    weight: Vec<f32>,
    bias: Vec<f64>,
}

impl WeightGradient {
    /// (dweight, dbias)
    pub(super) fn run(&self, x: &[f32], dy: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let taps = self.window.channels * self.window.kernel * self.window.kernel;
        let block = self.window.examples.div_ceil(BLOCKS).max(LEAST);
        let blocks = self.window.examples.div_ceil(block);
        let band = (BAND / taps.max(1)).clamp(1, self.outputs.max(1));
        let bands = self.outputs.div_ceil(band);
        let parts = threads::map(blocks * bands, |task| {
            let (examples, outputs) = (task / bands * block, task % bands * band);
            let examples = examples..self.window.examples.min(examples + block);
            self.part(x, dy, examples, outputs..self.outputs.min(outputs + band), taps)
        });
        let (mut weight, mut bias) = (Vec::with_capacity(self.outputs * taps), Vec::with_capacity(self.outputs));
        for band in 0..bands {
            let mut column = parts.iter().skip(band).step_by(bands);
            let Some(first) = column.next() else { continue };
            let (mut weights, mut biases) = (first.weight.clone(), first.bias.clone());
            for part in column {
                weights.iter_mut().zip(&part.weight).for_each(|(sum, value)| *sum += value);
                biases.iter_mut().zip(&part.bias).for_each(|(sum, value)| *sum += value);
            }
            weight.append(&mut weights);
            bias.extend(biases.into_iter().map(|sum| sum as f32));
        }
        // no examples, no blocks: a sum of nothing
        weight.resize(self.outputs * taps, 0.0);
        bias.resize(self.outputs, 0.0);
        (weight, bias)
    }

    fn part(
        &self,
        x: &[f32],
        dy: &[f32],
        examples: std::ops::Range<usize>,
        outputs: std::ops::Range<usize>,
        taps: usize,
    ) -> Part {
        let plane = self.window.out_plane();
        let mut bias = vec![0.0; outputs.len()];
        for n in examples.clone() {
            for (sum, o) in bias.iter_mut().zip(outputs.clone()) {
                *sum += sums::sum(self.set, &dy[(n * self.outputs + o) * plane..][..plane]);
            }
        }
        let mut weight = vec![0.0; outputs.len() * taps];
        match &self.way {
            Way::Direct(direct) => self.direct(direct, x, dy, examples, outputs, &mut weight),
            Way::Im2col(im2col) => self.im2col(im2col, x, dy, examples, outputs, &mut weight),
        }
        Part { weight, bias }
    }

    fn direct(
        &self,
        direct: &Direct,
        x: &[f32],
        dy: &[f32],
        examples: std::ops::Range<usize>,
        outputs: std::ops::Range<usize>,
        result: &mut [f32],
    ) {
        let w = &self.window;
        let (example, out_example, padded) =
            (w.channels * w.plane(), self.outputs * w.out_plane(), direct.padded_len());
        let near = (NEAR / (outputs.len() * w.out_plane() + padded).max(1)).max(1);
        scratch::with(near * padded, |images| {
            for first in examples.clone().step_by(near) {
                let count = near.min(examples.end - first);
                direct.pad(&x[first * example..][..count * example], &mut images[..count * padded]);
                let rows = (0..count).flat_map(|e| (0..w.out_height).map(move |oy| (e, oy)));
                let segments = rows.map(|(e, oy)| Segment {
                    left: e * out_example + oy * w.out_width,
                    right: e * padded + oy * direct.padded_width(),
                    len: w.out_width,
                });
                let product = Dot {
                    rows: outputs.len(),
                    left: &dy[first * out_example + outputs.start * w.out_plane()..],
                    left_stride: w.out_plane(),
                    right: &images[..count * padded],
                    starts: direct.starts(),
                    segments: &Segments::new(simd::lanes(self.set), segments),
                    result: &mut *result,
                };
                simd::run(self.set, product);
            }
        });
    }

    fn im2col(
        &self,
        im2col: &Im2col,
        x: &[f32],
        dy: &[f32],
        examples: std::ops::Range<usize>,
        outputs: std::ops::Range<usize>,
        result: &mut [f32],
    ) {
        let w = &self.window;
        let (example, out_example) = (w.channels * w.plane(), self.outputs * w.out_plane());
        let most = im2col.stride(im2col.group);
        scratch::with(im2col.taps() * most, |matrix| {
            scratch::with(self.outputs * most, |left| {
                for first in examples.clone().step_by(im2col.group) {
                    let count = im2col.group.min(examples.end - first);
                    let stride = im2col.stride(count);
                    im2col.gather(&x[first * example..][..count * example], count, matrix);
                    let dy = &dy[first * out_example..][..count * out_example];
                    im2col.rows(count, |tensor, matrix| left[matrix].copy_from_slice(&dy[tensor]));
                    let all = Segment { left: 0, right: 0, len: count * w.out_plane() };
                    let product = Dot {
                        rows: outputs.len(),
                        left: &left[outputs.start * stride..],
                        left_stride: stride,
                        right: &*matrix,
                        starts: &Starts::rows(im2col.taps(), stride),
                        segments: &Segments::new(simd::lanes(self.set), [all]),
                        result: &mut *result,
                    };
                    simd::run(self.set, product);
                }
            });
        });
    }
}
