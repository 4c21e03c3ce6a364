//! The op: shapes checked, the kernels chosen.

use super::super::collector::Target;
use super::super::conv2d::{conv2d, is_spectral};
use super::super::kernels::{self, KernelSet};
use super::super::window::Window;
use super::super::{max_pool2d, operand, relu, scratch, simd, sums, threads};
use super::deep::{self, Deep};
use super::geometry::Geometry;
use super::input_gradient::{self, InputGradient, Table, Terms};
use super::kept::Kept;
use super::weight_gradient::{self, WeightGradient};
use super::wide::{self, Wide};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// `max_pool2d(relu(conv2d(x, weight, bias, 1, padding)), 2, 2, 0)`, fused where the sizes allow it. x is (N, C, H, W), weight
/// (out, C, k, k), bias (out); the result is (N, out, H', W'). An x that is data gets no gradient.
///
/// # Errors
/// As the three ops.
pub fn conv_relu_pool(x: &Tensor, weight: &Tensor, bias: &Tensor, padding: usize) -> Result<Tensor> {
    conv_relu_pool_to(x, weight, bias, padding, None)
}

/// [`conv_relu_pool`], whose gradients of weight and bias go to `target` if they can: candle then never sees them.
///
/// # Errors
/// As [`conv_relu_pool`].
pub(crate) fn conv_relu_pool_to(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    padding: usize,
    target: Option<Target>,
) -> Result<Tensor> {
    let Some(op) = ConvPool::new(x, weight, bias, padding, target)? else {
        // what does not fit is refused here, by name
        return max_pool2d(&relu(&conv2d(x, weight, Some(bias), 1, padding)?)?, 2, 2, 0);
    };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}

/// At least so many examples to a block, and at most so many blocks: enough for many threads, and the blocks' own
/// gradients stay small. Constants, since they decide bits.
const LEAST: usize = 4;
const BLOCKS: usize = 16;

struct ConvPool {
    set: KernelSet,
    examples: usize,
    geometry: Geometry,
    /// False where x is data: nobody reads its gradient.
    input_gradient: bool,
    /// Where the gradients of weight and bias go, if not to candle.
    target: Option<Target>,
    /// For each pooled place, which of its window's four won. Set by the forward pass, which has no other way to hand it
    /// to the backward pass.
    winners: OnceLock<Vec<u32>>,
}

/// A block's share of the gradients of weight (as the kernel lays it out) and bias.
#[derive(Clone, Default)]
struct Part {
    weight: Vec<f32>,
    bias: Vec<f64>,
}

impl ConvPool {
    /// None where the three ops must do it: shapes that do not fit, pools of nothing, images beyond 32-bit places.
    fn new(x: &Tensor, weight: &Tensor, bias: &Tensor, padding: usize, target: Option<Target>) -> Result<Option<Self>> {
        let &[outputs, channels, kernel, kernel_width] = weight.dims() else { return Ok(None) };
        let Ok(window) = Window::new("conv_relu_pool", x, kernel, 1, padding) else { return Ok(None) };
        let geometry = Geometry {
            channels,
            height: window.height,
            width: window.width,
            kernel,
            padding,
            outputs,
            rows: window.out_height / 2,
            columns: window.out_width / 2,
        };
        let fits = kernel == kernel_width && window.channels == channels && bias.dims() == [outputs];
        let target = target.filter(|target| target.lengths() == [weight.elem_count(), outputs]);
        // with many channels all places through the spectrum take less time than the kept ones here
        if is_spectral(&window, outputs)
            || !fits
            || outputs == 0
            || channels == 0
            || geometry.places() == 0
            || geometry.is_huge()
        {
            return Ok(None);
        }
        let (set, input_gradient) = (kernels::of_op()?, x.track_op());
        Ok(Some(Self { set, examples: window.examples, geometry, input_gradient, target, winners: OnceLock::new() }))
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<f32>, Vec<u32>) {
        let (g, lanes) = (&self.geometry, simd::lanes(self.set));
        let len = self.examples * g.pooled();
        let (mut y, mut winners) = (vec![0.0; len], vec![0; len]);
        // registers that stay partly empty: the way with fewer of them
        let deep =
            (g.outputs.next_multiple_of(lanes) * 2 * g.columns) < ((2 * g.columns).next_multiple_of(lanes) * g.outputs);
        let (packed, room) = if deep {
            (deep::pack(g, lanes, weight, bias), 2 * deep::scratch(g, lanes))
        } else {
            (wide::pack(g, weight), wide::scratch(g))
        };
        threads::for_each_chunk_pair((&mut y, g.pooled()), (&mut winners, g.pooled()), |n, y, winners| {
            scratch::with(g.padded_example() + room, |memory| {
                let (padded, room) = memory.split_at_mut(g.padded_example());
                g.pad(&x[n * g.example()..][..g.example()], padded);
                if deep {
                    simd::run(self.set, Deep { geometry: g, x: padded, weight: &packed, pooled: &mut *room });
                    deep::unpack(g, lanes, room, y, winners);
                } else {
                    let (geometry, x, weight) = (g, &*padded, &packed[..]);
                    simd::run(self.set, Wide { geometry, x, weight, bias, rows: room, y, winners });
                }
            });
        });
        (y, winners)
    }

    /// (dx, dweight, dbias)
    fn backward(&self, x: &[f32], weight: &[f32], y: &[f32], dy: &[f32]) -> Result<(Vec<f32>, Vec<f32>, Vec<f32>)> {
        let g = &self.geometry;
        let Some(winners) = self.winners.get() else { bail!("conv_relu_pool: backward before forward") };
        let block = self.examples.div_ceil(BLOCKS).max(LEAST);
        let mut parts = vec![Part::default(); self.examples.div_ceil(block)];
        let part = |i: usize, dx: Option<&mut [f32]>, table: &[f32]| {
            let examples = i * block..self.examples.min((i + 1) * block);
            let pooled = examples.start * g.pooled()..examples.end * g.pooled();
            let x = &x[examples.start * g.example()..examples.end * g.example()];
            self.part(x, [&y[pooled.clone()], &dy[pooled.clone()]], &winners[pooled], dx, table)
        };
        let mut dx = Vec::new();
        if self.input_gradient {
            dx.resize(self.examples * g.example(), 0.0);
            let table = Table::new(g);
            scratch::with(table.len(g), |memory| {
                let memory = input_gradient::aligned(memory);
                table.fill(g, weight, memory);
                let table = &*memory;
                let chunks = ((&mut parts[..], 1), (&mut dx[..], block * g.example()));
                threads::for_each_chunk_pair(chunks.0, chunks.1, |i, parts, dx| parts[0] = part(i, Some(dx), table));
            });
        } else {
            threads::for_each_chunk(&mut parts, 1, |i, parts| parts[0] = part(i, None, &[]));
        }
        let mut sum = Part { weight: vec![0.0; g.outputs * weight_gradient::stride(g)], bias: vec![0.0; g.outputs] };
        for part in &parts {
            sum.weight.iter_mut().zip(&part.weight).for_each(|(sum, value)| *sum += value);
            sum.bias.iter_mut().zip(&part.bias).for_each(|(sum, value)| *sum += value);
        }
        let mut dweight = vec![0.0; g.outputs * g.taps()];
        weight_gradient::unpack(g, &sum.weight, &mut dweight);
        Ok((dx, dweight, sum.bias.into_iter().map(|sum| sum as f32).collect()))
    }

    /// One block of examples.
    fn part(
        &self,
        x: &[f32],
        [y, dy]: [&[f32]; 2],
        winners: &[u32],
        mut dx: Option<&mut [f32]>,
        table: &[f32],
    ) -> Part {
        let g = &self.geometry;
        let mut part = Part { weight: vec![0.0; g.outputs * weight_gradient::stride(g)], bias: vec![0.0; g.outputs] };
        let (mut kept, mut terms, layout) = (Kept::default(), Terms::default(), Table::new(g));
        scratch::with(g.padded_example() + input_gradient::padded(g), |memory| {
            let (image, padded) = memory.split_at_mut(g.padded_example());
            for (n, x) in x.chunks_exact(g.example()).enumerate() {
                let pooled = n * g.pooled()..(n + 1) * g.pooled();
                let (y, dy, winners) = (&y[pooled.clone()], &dy[pooled.clone()], &winners[pooled]);
                kept.fill(g, y, dy, winners);
                for (sum, (gradient, _)) in part.bias.iter_mut().zip(kept.outputs()) {
                    *sum += sums::sum(self.set, gradient);
                }
                g.channels_last(x, image);
                simd::run(self.set, WeightGradient { geometry: g, x: image, kept: &kept, sums: &mut part.weight });
                if let Some(dx) = &mut dx {
                    terms.fill(g, layout, y, dy, winners);
                    padded.fill(0.0);
                    let (terms, sums) = (&terms, &mut *padded);
                    simd::run(self.set, InputGradient { geometry: g, layout, table, terms, dx: sums });
                    g.channels_first(padded, &mut dx[n * g.example()..][..g.example()]);
                }
            }
        });
        part
    }
}

impl CustomOp3 for ConvPool {
    fn name(&self) -> &'static str {
        "conv_relu_pool"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let name = self.name();
        let (x, w, b) = (operand::slice(name, x, lx)?, operand::slice(name, w, lw)?, operand::slice(name, b, lb)?);
        let (y, winners) = self.forward(x, w, b);
        let _ = self.winners.set(winners);
        let g = &self.geometry;
        Ok((CpuStorage::F32(y), (self.examples, g.outputs, g.rows, g.columns).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let name = self.name();
        let (dx, dweight, dbias) = operand::read(name, x, |xs| {
            operand::read(name, weight, |weight| {
                operand::read(name, y, |y| operand::read(name, dy, |dy| self.backward(xs, weight, y, dy)))
            })
        })?;
        let dx = if self.input_gradient { Some(operand::tensor_like(dx, x)?) } else { None };
        if let Some(target) = &self.target {
            target.write(|into, bias| {
                into.copy_from_slice(&dweight);
                bias.copy_from_slice(&dbias);
            });
            return Ok((dx, None, None));
        }
        Ok((dx, Some(operand::tensor_like(dweight, weight)?), Some(operand::tensor_like(dbias, bias)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::reference::{self, Sizes};
    use super::super::super::testing::{bits, check, forward_backward, random, values, var};
    use super::*;
    use candle_core::Device;

    const fn sizes(n: usize, c: usize, (height, width): (usize, usize), window: [usize; 3]) -> Sizes {
        let [outputs, kernel, padding] = window;
        Sizes { examples: n, channels: c, height, width, outputs, kernel, stride: 1, padding }
    }

    const CASES: [Sizes; 9] = [
        // LeNet's two, in blocks that do not divide the batch
        sizes(6, 3, (32, 32), [6, 5, 0]),
        sizes(5, 6, (14, 14), [16, 5, 0]),
        // odd rows and columns that no pool covers, padding, even kernels, outputs beyond a register
        sizes(3, 1, (7, 9), [1, 1, 0]),
        sizes(2, 5, (13, 18), [7, 3, 1]),
        sizes(2, 2, (12, 11), [19, 4, 2]),
        sizes(1, 2, (5, 4), [3, 2, 3]),
        // windows and frames longer than a tile, rows longer than two registers
        sizes(2, 33, (6, 7), [9, 3, 1]),
        sizes(1, 3, (9, 75), [4, 7, 1]),
        // more blocks than there may be
        sizes(70, 1, (5, 5), [2, 2, 0]),
    ];

    #[test]
    fn agrees_with_the_reference() {
        for s in CASES {
            let inputs = [
                var(1, &[s.examples, s.channels, s.height, s.width]),
                var(2, &[s.outputs, s.channels, s.kernel, s.kernel]),
                var(3, &[s.outputs]),
            ];
            eprintln!("{s:?}");
            check(&inputs, |v| conv_relu_pool(&v[0], &v[1], &v[2], s.padding), |v, dy| pooled(&s, v, dy), 1e-6);
        }
    }

    /// The three layers' references, one behind the other.
    fn pooled(s: &Sizes, v: &[Vec<f64>], dy: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
        let all = reference::conv2d(s, &v[0], &v[1], &v[2]);
        let (height, width) = (s.height + 2 * s.padding + 1 - s.kernel, s.width + 2 * s.padding + 1 - s.kernel);
        let (mut y, mut spread) = (Vec::new(), vec![0.0; all.len()]);
        for plane in 0..s.examples * s.outputs {
            for (row, column) in (0..height / 2).flat_map(|row| (0..width / 2).map(move |column| (row, column))) {
                let place = |i: usize| (plane * height + 2 * row + i / 2) * width + 2 * column + i % 2;
                let best = (0..4).map(place).reduce(|best, at| if all[at] > all[best] { at } else { best });
                let best = best.expect("four places");
                if all[best] > 0.0 {
                    spread[best] = dy[y.len()];
                }
                y.push(all[best].max(0.0));
            }
        }
        (y, reference::conv2d_backward(s, &v[0], &v[1], &spread))
    }

    #[test]
    fn bits_of_an_example_do_not_depend_on_its_batch() {
        for s in CASES {
            let x = random(1, s.examples * s.channels * s.height * s.width);
            let shape = (s.examples, s.channels, s.height, s.width);
            let x = Tensor::from_vec(x, shape, &Device::Cpu).expect("as many values");
            let (weight, bias) = (var(2, &[s.outputs, s.channels, s.kernel, s.kernel]), var(3, &[s.outputs]));
            let run = |x: &Tensor| conv_relu_pool(x, &weight, &bias, s.padding).expect("shapes that fit");
            kernels::tests::with_each(|set| {
                let all = run(&x);
                for n in [0, s.examples / 2, s.examples - 1] {
                    let alone = values(&run(&x.narrow(0, n, 1).expect("an example")));
                    let among = values(&all.narrow(0, n, 1).expect("an example"));
                    assert_eq!(bits(&alone), bits(&among), "{set}, example {n} of {s:?}");
                }
            });
        }
    }

    /// Small whole numbers: sums are exact, so equals are equals.
    #[test]
    fn the_first_of_equals_wins_and_zero_passes_nothing() {
        for outputs in [2, 16] {
            let ones = |shape: &[usize], value: f32| {
                let count = shape.iter().product();
                candle_core::Var::from_vec(vec![value; count], shape, &Device::Cpu).expect("as many values")
            };
            let (x, weight) = (ones(&[1, 1, 6, 6], 1.0), ones(&[outputs, 1, 1, 1], 1.0));
            kernels::tests::with_each(|set| {
                let op = |bias: f32| {
                    let inputs = [x.clone(), weight.clone(), ones(&[outputs], bias)];
                    let (_, gradients, dy) = forward_backward(&inputs, |v| conv_relu_pool(&v[0], &v[1], &v[2], 0), 4);
                    (gradients.into_iter().map(|g| values(&g.expect("a gradient"))).collect::<Vec<_>>(), dy)
                };
                let (gradients, dy) = op(0.0);
                for (at, &dx) in gradients[0].iter().enumerate() {
                    let (row, column) = (at / 6, at % 6);
                    let place = row / 2 * 3 + column / 2;
                    let sum: f64 = (0..outputs).map(|o| dy[o * 9 + place]).sum();
                    let expected = if row % 2 + column % 2 == 0 { sum } else { 0.0 };
                    assert!((f64::from(dx) - expected).abs() < 1e-5, "{set}: {dx} at {at}, not {expected}");
                }
                // every place is exactly 0: relu's slope there is 0
                assert!(op(-1.0).0.iter().flatten().all(|&gradient| gradient == 0.0), "{set}");
            });
        }
    }

    #[test]
    fn a_nan_stays_in_the_windows_that_hold_it() {
        for outputs in [2, 16] {
            let (x, weight, bias) = (var(1, &[1, 1, 12, 12]), var(2, &[outputs, 1, 3, 3]), var(3, &[outputs]));
            let mut pixels = values(&x);
            pixels[5 * 12 + 9] = f32::NAN;
            let x = Tensor::from_vec(pixels, (1, 1, 12, 12), &Device::Cpu).expect("as many values");
            kernels::tests::with_each(|set| {
                let y = conv_relu_pool(&x, &weight, &bias, 0).expect("shapes that fit");
                for (i, value) in values(&y).into_iter().enumerate() {
                    let (row, column) = (i / 5 % 5, i % 5);
                    // places in rows 3 to 5 and columns 7 to 9 hold the pixel
                    let holds = (1..=2).contains(&row) && (3..=4).contains(&column);
                    assert_eq!(value.is_nan(), holds, "{set}: output {row}, {column}");
                }
            });
        }
    }

    #[test]
    fn images_get_no_gradient_and_what_does_not_fit_is_refused_by_name() {
        let x = Tensor::from_vec(random(1, 2 * 3 * 81), (2, 3, 9, 9), &Device::Cpu).expect("as many values");
        let (weight, bias) = (var(2, &[4, 3, 3, 3]), var(3, &[4]));
        let y = conv_relu_pool(&x, &weight, &bias, 0).expect("shapes that fit");
        let gradients = y.sum_all().and_then(|loss| loss.backward()).expect("a gradient");
        assert!(gradients.get(&x).is_none() && gradients.get(&weight).is_some());
        let error = |weight: &[usize], bias: &[usize]| {
            conv_relu_pool(&x, &var(2, weight), &var(3, bias), 0).expect_err("does not fit").to_string()
        };
        assert!(error(&[4, 2, 3, 3], &[4]).contains("3 channels, the weight takes 2"));
        assert!(error(&[4, 3, 9, 8], &[4]).contains("square"));
        assert!(error(&[4, 3, 9, 9], &[4]).contains("does not fit into 1×1"));
        assert!(error(&[4, 3, 3, 3], &[3]).contains("bias has shape [3]"));
    }
}
