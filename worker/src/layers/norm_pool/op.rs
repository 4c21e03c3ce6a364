//! The op: shapes checked, the kernels called.

use super::super::batch_norm::{BatchStatistics, batch_norm};
use super::super::collector::Target;
use super::super::conv_pool::{Geometry, pack_outputs};
use super::super::kernels::{self, KernelSet};
use super::super::window::Window;
use super::super::{conv2d, max_pool2d, operand, relu, scratch, simd, threads};
use super::convolution::Convolution;
use super::input_gradient::{self, InputGradient};
use super::kept::{Kept, Sums};
use super::lanes_last::LanesLast;
use super::moments::{self, Measure, Moments};
use super::normal::{Normal, Scales};
use super::spread::{Factors, Spread};
use super::weight_gradient::{self, WeightGradient};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};
use std::sync::{Arc, OnceLock};

/// A convolution of stride 1 and the BatchNorm behind it.
pub(crate) struct ConvNorm<'a> {
    /// (out, C, k, k)
    pub(crate) weight: &'a Tensor,
    /// (out)
    pub(crate) bias: &'a Tensor,
    pub(crate) padding: usize,
    /// BatchNorm's weight and bias, (out) each.
    pub(crate) norm: [&'a Tensor; 2],
    pub(crate) eps: f64,
    /// Where the gradients of the convolution and of BatchNorm go: candle then never sees them.
    pub(crate) targets: Option<[Target; 2]>,
}

/// `max_pool2d(relu(batch_norm(conv2d(x))), 2, 2, 0)` in training, fused where the sizes allow it. x is (N, C, H, W), the
/// result (N, out, H', W'). An x that is data gets no gradient.
///
/// # Errors
/// As the four ops.
pub(crate) fn conv_norm_relu_pool(x: &Tensor, layers: &ConvNorm) -> Result<(Tensor, BatchStatistics)> {
    let Some(op) = NormPool::new(x, layers)? else {
        // what does not fit is refused here, by name
        let z = conv2d(x, layers.weight, Some(layers.bias), 1, layers.padding)?;
        let (z, statistics) = batch_norm(&z, layers.norm[0], layers.norm[1], layers.eps)?;
        return Ok((max_pool2d(&relu(&z)?, 2, 2, 0)?, statistics));
    };
    let weight = if op.targets.is_some() {
        layers.weight.contiguous()?
    } else {
        // candle's ops have three operands at most: all four as one vector
        let [gain, offset] = layers.norm;
        let [weight, bias, gain, offset] = [layers.weight, layers.bias, gain, offset].map(Tensor::flatten_all);
        Tensor::cat(&[weight?, bias?, gain?, offset?], 0)?
    };
    let seen = op.seen.clone();
    let y = x.contiguous()?.apply_op2(&weight, op)?;
    match seen.get() {
        Some(seen) => Ok((y, seen.statistics())),
        None => bail!("conv_norm_relu_pool: no statistics after the forward pass"),
    }
}

/// At least so many examples to a block, and at most so many blocks: enough for many threads, and the blocks' own
/// gradients stay small. Constants, since they decide bits.
const LEAST: usize = 4;
const BLOCKS: usize = 16;

/// Elements of the largest weight: with an image it stays in the first cache, and few channels are where general products
/// are slow. A constant, since it decides bits.
const SMALL: usize = 4096;

struct NormPool {
    set: KernelSet,
    examples: usize,
    layout: LanesLast,
    /// False where x is data: nobody reads its gradient.
    input_gradient: bool,
    bias: Vec<f32>,
    norm: [Vec<f32>; 2],
    eps: f64,
    targets: Option<[Target; 2]>,
    /// What the forward pass hands to the backward pass, which it can in no other way.
    seen: Arc<OnceLock<Seen>>,
}

/// What the forward pass found.
struct Seen {
    /// Each example in the layout.
    z: Vec<f32>,
    /// For each pooled place, which of its window's four won, or that relu stopped it.
    winners: Vec<u32>,
    /// Each output's over the batch, and 1 / √(variance + eps).
    moments: Vec<(Moments, f64)>,
    /// Values of each output.
    count: usize,
}

impl Seen {
    fn statistics(&self) -> BatchStatistics {
        let moments = || self.moments.iter().map(|(moments, _)| moments);
        BatchStatistics {
            mean: moments().map(|moments| moments.mean as f32).collect(),
            variance: moments().map(|moments| (moments.squares / (self.count - 1) as f64) as f32).collect(),
        }
    }
}

/// Gradients of the convolution's weight and bias, and of BatchNorm's.
struct Gradients {
    /// As the kernel lays it out.
    weight: Vec<f32>,
    bias: Vec<f32>,
    norm: [Vec<f32>; 2],
}

impl NormPool {
    /// None where the four ops must do it: shapes that do not fit, pools of nothing, single values, large weights.
    fn new(x: &Tensor, layers: &ConvNorm) -> Result<Option<Self>> {
        let &[outputs, channels, kernel, kernel_width] = layers.weight.dims() else { return Ok(None) };
        let padding = layers.padding;
        let Ok(window) = Window::new("conv_norm_relu_pool", x, kernel, 1, padding) else { return Ok(None) };
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
        let [gain, offset] = layers.norm;
        let vectors = [layers.bias, gain, offset];
        let fits = kernel == kernel_width
            && window.channels == channels
            && vectors.iter().all(|vector| vector.dims() == [outputs])
            && layers.eps > 0.0
            && layers.eps.is_finite();
        let empty = window.examples == 0 || outputs == 0 || channels == 0 || geometry.places() == 0;
        if !fits || empty || geometry.is_huge() || layers.weight.elem_count() > SMALL {
            return Ok(None);
        }
        let values = |tensor: &Tensor| operand::read("conv_norm_relu_pool", tensor, |values| Ok(values.to_vec()));
        let lengths = [[layers.weight.elem_count(), outputs], [outputs, outputs]];
        let targets = layers.targets.clone().filter(|targets| targets.each_ref().map(Target::lengths) == lengths);
        let set = kernels::of_op()?;
        Ok(Some(Self {
            set,
            examples: window.examples,
            layout: LanesLast::new(geometry, simd::lanes(set)),
            input_gradient: x.track_op(),
            bias: values(layers.bias)?,
            norm: [values(gain)?, values(offset)?],
            eps: layers.eps,
            targets,
            seen: Arc::default(),
        }))
    }

    fn forward(&self, x: &[f32], weight: &[f32]) -> (Vec<f32>, Seen) {
        let (l, g) = (&self.layout, &self.layout.geometry);
        let packed = pack_outputs(g, l.lanes, weight, &self.bias);
        let mut z = vec![0.0; self.examples * l.example()];
        let mut each = vec![Moments::default(); self.examples * l.outputs()];
        threads::for_each_chunk_pair((&mut z, l.example()), (&mut each, l.outputs()), |n, z, moments| {
            scratch::with(g.padded_example(), |padded| {
                g.pad(&x[n * g.example()..][..g.example()], padded);
                simd::run(self.set, Convolution { layout: l, x: padded, weight: &packed, z });
            });
            simd::run(self.set, Measure { layout: l, z, moments });
        });
        let count = self.examples * l.places();
        let moments: Vec<_> = (0..g.outputs)
            .map(|o| {
                let moments = moments::together(&each, l.outputs(), o, l.places());
                (moments, 1.0 / (moments.squares / count as f64 + self.eps).sqrt())
            })
            .collect();
        let gains = moments.iter().zip(&self.norm[0]).map(|((_, scale), &gain)| (scale * f64::from(gain)) as f32);
        let scales = Scales {
            shift: l.padded(moments.iter().map(|(moments, _)| -(moments.mean as f32))),
            gain: l.padded(gains),
            bias: l.padded(self.norm[1].iter().copied()),
        };
        let mut y = vec![0.0; self.examples * g.pooled()];
        let mut winners = vec![0; self.examples * l.pooled()];
        threads::for_each_chunk_pair((&mut y, g.pooled()), (&mut winners, l.pooled()), |n, y, winners| {
            scratch::with(l.pooled(), |values| {
                let z = &z[n * l.example()..][..l.example()];
                simd::run(self.set, Normal { layout: l, z, scales: &scales, values: &mut *values, winners });
                l.spread(values, y);
            });
        });
        (y, Seen { z, winners, moments, count })
    }

    /// dx and the others.
    fn backward(&self, seen: &Seen, x: &[f32], weight: &[f32], dy: &[f32]) -> (Vec<f32>, Gradients) {
        let (l, g) = (&self.layout, &self.layout.geometry);
        let means = l.padded(seen.moments.iter().map(|(moments, _)| moments.mean));
        let mut kept = vec![0.0; self.examples * l.pooled()];
        let mut each = vec![Sums::default(); self.examples * l.outputs()];
        threads::for_each_chunk_pair((&mut kept, l.pooled()), (&mut each, l.outputs()), |n, kept, sums| {
            l.gather(&dy[n * g.pooled()..][..g.pooled()], kept);
            let (z, winners) =
                (&seen.z[n * l.example()..][..l.example()], &seen.winners[n * l.pooled()..][..l.pooled()]);
            simd::run(self.set, Kept { layout: l, z, means: &means, winners, dy: kept, sums });
        });
        let (mut factors, mut bias, mut norm) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
        for (o, &(moments, scale)) in seen.moments.iter().enumerate() {
            let sums = || each.iter().skip(o).step_by(l.outputs());
            let (sum, product) = (sums().map(|one| one.dy).sum::<f64>(), sums().map(|one| one.product).sum::<f64>());
            let (gain, count) = (scale * f64::from(self.norm[0][o]), seen.count as f64);
            let mean_dy = sum / count;
            factors.push([-moments.mean, gain, -gain * mean_dy, -gain * product / count * scale * scale]);
            // BatchNorm takes away what the convolution's bias adds: zero, if the sums are numbers
            bias.push((gain * (sum - count * mean_dy)) as f32);
            norm[0].push((product * scale) as f32);
            norm[1].push(sum as f32);
        }
        let factor = |i: usize| l.padded(factors.iter().map(|factors| factors[i] as f32));
        let factors = Factors { shift: factor(0), gain: factor(1), offset: factor(2), slope: factor(3) };

        let block = self.examples.div_ceil(BLOCKS).max(LEAST);
        let mut parts = vec![Vec::new(); self.examples.div_ceil(block)];
        let table = if self.input_gradient { input_gradient::pack(g, weight) } else { Vec::new() };
        let part = |i: usize, dx: Option<&mut [f32]>| {
            let examples = i * block..self.examples.min((i + 1) * block);
            self.part(seen, examples, x, (&kept, &factors), dx.map(|dx| (dx, &table[..])))
        };
        let mut dx = Vec::new();
        if self.input_gradient {
            dx.resize(self.examples * g.example(), 0.0);
            let chunks = ((&mut parts[..], 1), (&mut dx[..], block * g.example()));
            threads::for_each_chunk_pair(chunks.0, chunks.1, |i, parts, dx| parts[0] = part(i, Some(dx)));
        } else {
            threads::for_each_chunk(&mut parts, 1, |i, parts| parts[0] = part(i, None));
        }
        let weight = parts.into_iter().reduce(|mut sum, part| {
            sum.iter_mut().zip(&part).for_each(|(sum, value)| *sum += value);
            sum
        });
        (dx, Gradients { weight: weight.unwrap_or_default(), bias, norm })
    }

    /// One block of examples: its share of the weight's gradient, as the kernel lays it out, and its dx.
    fn part(
        &self,
        seen: &Seen,
        examples: std::ops::Range<usize>,
        x: &[f32],
        (kept, factors): (&[f32], &Factors),
        mut dx: Option<(&mut [f32], &[f32])>,
    ) -> Vec<f32> {
        let (l, g) = (&self.layout, &self.layout.geometry);
        let mut weight = vec![0.0; l.outputs() * g.taps()];
        scratch::with(g.padded_example() + input_gradient::padded(g) + l.example(), |memory| {
            let (image, memory) = memory.split_at_mut(g.padded_example());
            let (padded, dz) = memory.split_at_mut(input_gradient::padded(g));
            for (i, n) in examples.enumerate() {
                let z = &seen.z[n * l.example()..][..l.example()];
                let pooled = n * l.pooled()..(n + 1) * l.pooled();
                let (dy, winners) = (&kept[pooled.clone()], &seen.winners[pooled]);
                simd::run(self.set, Spread { layout: l, z, factors, dy, winners, dz: &mut *dz });
                g.pad(&x[n * g.example()..][..g.example()], image);
                simd::run(self.set, WeightGradient { layout: l, x: image, dz, sums: &mut weight });
                if let Some((dx, table)) = &mut dx {
                    padded.fill(0.0);
                    simd::run(self.set, InputGradient { layout: l, dz, table, dx: &mut *padded });
                    g.channels_first(padded, &mut dx[i * g.example()..][..g.example()]);
                }
            }
        });
        weight
    }
}

impl CustomOp2 for NormPool {
    fn name(&self) -> &'static str {
        "conv_norm_relu_pool"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        let g = &self.layout.geometry;
        let (x, w) = (operand::slice(self.name(), x, lx)?, operand::slice(self.name(), w, lw)?);
        let (y, seen) = self.forward(x, &w[..g.outputs * g.taps()]);
        let _ = self.seen.set(seen);
        Ok((CpuStorage::F32(y), (self.examples, g.outputs, g.rows, g.columns).into()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (name, l) = (self.name(), &self.layout);
        let weights = l.geometry.outputs * l.geometry.taps();
        let Some(seen) = self.seen.get() else { bail!("{name}: backward before forward") };
        let (dx, gradients) = operand::read(name, x, |x| {
            operand::read(name, weight, |weight| {
                operand::read(name, dy, |dy| Ok(self.backward(seen, x, &weight[..weights], dy)))
            })
        })?;
        let dx = if self.input_gradient { Some(operand::tensor_like(dx, x)?) } else { None };
        let Gradients { weight: sums, bias, norm: [gain, offset] } = gradients;
        if let Some([convolution, norm]) = &self.targets {
            convolution.write(|into, biases| {
                weight_gradient::unpack(l, &sums, into);
                biases.copy_from_slice(&bias);
            });
            norm.write(|gains, offsets| {
                gains.copy_from_slice(&gain);
                offsets.copy_from_slice(&offset);
            });
            return Ok((dx, None));
        }
        let mut flat = vec![0.0; weights];
        weight_gradient::unpack(l, &sums, &mut flat);
        for vector in [bias, gain, offset] {
            flat.extend(vector);
        }
        Ok((dx, Some(operand::tensor_like(flat, weight)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::collector::Collector;
    use super::super::super::reference::{self, Sizes};
    use super::super::super::testing::{check, distance, forward_backward, random, values, var, wide};
    use super::*;
    use candle_core::{Device, Var};

    const fn sizes(n: usize, c: usize, (height, width): (usize, usize), window: [usize; 3]) -> Sizes {
        let [outputs, kernel, padding] = window;
        Sizes { examples: n, channels: c, height, width, outputs, kernel, stride: 1, padding }
    }

    const CASES: [Sizes; 8] = [
        // LeNet's two, in blocks that do not divide the batch
        sizes(5, 6, (14, 14), [16, 5, 0]),
        sizes(3, 3, (32, 32), [6, 5, 0]),
        // odd rows and columns that no pool covers, padding, even kernels, outputs beyond a register
        sizes(3, 2, (7, 9), [1, 1, 0]),
        sizes(2, 5, (13, 18), [7, 3, 1]),
        sizes(2, 2, (12, 11), [19, 4, 2]),
        // windows and frames longer than a tile, rows longer than two tiles
        sizes(2, 33, (6, 7), [9, 3, 1]),
        sizes(2, 3, (9, 75), [4, 7, 1]),
        // more blocks than there may be
        sizes(70, 1, (5, 5), [2, 2, 0]),
    ];

    const EPS: f64 = 1e-5;

    fn inputs(s: &Sizes) -> [Var; 5] {
        let weight = [s.outputs, s.channels, s.kernel, s.kernel];
        let image = [s.examples, s.channels, s.height, s.width];
        [var(1, &image), var(2, &weight), var(3, &[s.outputs]), var(4, &[s.outputs]), var(5, &[s.outputs])]
    }

    fn layers<'a>(v: [&'a Tensor; 4], padding: usize) -> ConvNorm<'a> {
        let [weight, bias, gain, offset] = v;
        ConvNorm { weight, bias, padding, norm: [gain, offset], eps: EPS, targets: None }
    }

    /// The gradient of the convolution's bias is zero: it has a test of its own.
    #[test]
    fn agrees_with_the_reference() {
        for s in CASES {
            let [x, weight, bias, gain, offset] = inputs(&s);
            let biases = wide(&bias);
            let bias = bias.detach();
            eprintln!("{s:?}");
            check(
                &[x, weight, gain, offset],
                |v| Ok(conv_norm_relu_pool(&v[0], &layers([&v[1], &bias, &v[2], &v[3]], s.padding))?.0),
                |v, dy| pooled(&s, v, &biases, dy),
                3e-6,
            );
        }
    }

    /// The four layers' references, one behind the other; x, weight, BatchNorm's weight and bias.
    fn pooled(s: &Sizes, v: &[Vec<f64>], bias: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
        let (height, width) = s.out();
        let sizes = (s.outputs, height * width);
        let z = reference::conv2d(s, &v[0], &v[1], bias);
        let all = reference::batch_norm(sizes, &z, &v[2], &v[3], EPS, None);
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
        let [dz, dgain, doffset] = reference::batch_norm_backward(sizes, &z, &v[2], EPS, &spread);
        let mut gradients = reference::conv2d_backward(s, &v[0], &v[1], &dz);
        gradients.truncate(2);
        gradients.extend([dgain, doffset]);
        (y, gradients)
    }

    #[test]
    fn statistics_are_batch_norms_own_and_targets_get_what_candle_would() {
        for s in CASES {
            let v = inputs(&s);
            kernels::tests::with_each(|set| {
                let [x, weight, bias, gain, offset] = &v;
                let given = || layers([weight, bias, gain, offset], s.padding);
                let (_, ours) = conv_norm_relu_pool(x, &given()).expect("shapes that fit");
                let z = conv2d(x, weight, Some(bias), 1, s.padding).expect("shapes that fit");
                let (_, theirs) = batch_norm(&z, gain, offset, EPS).expect("shapes that fit");
                let f64s = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
                assert!(distance(&f64s(&ours.mean), &f64s(&theirs.mean)) < 1e-6, "{set}: means of {s:?}");
                assert!(distance(&f64s(&ours.variance), &f64s(&theirs.variance)) < 1e-6, "{set}: variances of {s:?}");

                let op =
                    |v: &[Var]| Ok(conv_norm_relu_pool(&v[0], &layers([&v[1], &v[2], &v[3], &v[4]], s.padding))?.0);
                let (_, gradients, _) = forward_backward(&v, op, 6);
                let all: Vec<f32> =
                    gradients[1..].iter().flat_map(|g| values(g.as_ref().expect("a gradient"))).collect();
                let (weights, o) = (weight.elem_count(), s.outputs);
                assert!(all[weights..weights + o].iter().all(|bias| bias.abs() < 1e-6), "{set}: bias of {s:?}");
                let collector = Collector::new(all.len());
                let target = |from: usize, len: usize| {
                    collector.target(from..from + len, from + len..from + len + o).expect("ranges of the vector")
                };
                let targets = Some([target(0, weights), target(weights + o, o)]);
                let with = |_: &[Var]| Ok(conv_norm_relu_pool(x, &ConvNorm { targets: targets.clone(), ..given() })?.0);
                let (_, gradients, _) = forward_backward(&v, with, 6);
                assert!(gradients[0].is_some() && gradients[1..].iter().all(Option::is_none));
                // as numbers: candle adds to zeros, which takes the sign of −0
                assert!(collector.clone().take() == all, "{set}: targets of {s:?}");
            });
        }
    }

    /// x alternates, so that every output is ± 1 after BatchNorm: windows hold equals, and half of the channels are all
    /// at most 0 behind a bias.
    #[test]
    fn the_first_of_equals_wins_and_zero_passes_nothing() {
        let stripes: Vec<f32> = (0..36).map(|i| if i / 6 % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let given = |values: &[f32]| Var::from_vec(values.to_vec(), values.len(), &Device::Cpu).expect("a vector");
        let x = Var::from_vec(stripes, (1, 1, 6, 6), &Device::Cpu).expect("an image");
        let weight = Var::from_vec(vec![1.0_f32, 1.0], (2, 1, 1, 1), &Device::Cpu).expect("two weights");
        // gain 1 and offset −1 make 1 exactly what eps leaves below it: stopped; the other output keeps the upper left
        let (bias, gain, offset) = (given(&[0.0, 0.0]), given(&[1.0, 1.0]), given(&[0.0, -1.0]));
        kernels::tests::with_each(|set| {
            let op = |v: &[Var]| Ok(conv_norm_relu_pool(&v[0], &layers([&v[1], &bias, &v[2], &v[3]], 0))?.0);
            let inputs = [x.clone(), weight.clone(), gain.clone(), offset.clone()];
            let (y, gradients, dy) = forward_backward(&inputs, op, 4);
            let (y, dx) = (values(&y), values(gradients[0].as_ref().expect("a gradient")));
            assert!(y[..9].iter().all(|y| (y - 1.0).abs() < 1e-4) && y[9..].iter().all(|&y| y == 0.0), "{set}: {y:?}");
            let (sum, count) = (dy[..9].iter().sum::<f64>(), 36.0);
            for (at, &dx) in dx.iter().enumerate() {
                let (row, column) = (at / 6, at % 6);
                let kept = if row % 2 + column % 2 == 0 { dy[row / 2 * 3 + column / 2] } else { 0.0 };
                // every kept x̂ is 1
                let expected = kept - sum / count - if row % 2 == 0 { sum / count } else { -sum / count };
                assert!((f64::from(dx) - expected).abs() < 1e-4, "{set}: {dx} at {at}, not {expected}");
            }
            let offsets = values(gradients[3].as_ref().expect("a gradient"));
            assert!((f64::from(offsets[0]) - sum).abs() < 1e-5 && offsets[1] == 0.0, "{set}: {offsets:?}");
        });
    }

    #[test]
    fn a_nan_reaches_every_value() {
        let (weight, v) = (var(2, &[2, 2, 1, 1]), var(3, &[2]));
        let mut pixels = random(1, 2 * 2 * 16);
        pixels[5] = f32::NAN;
        let x = Tensor::from_vec(pixels, (2, 2, 4, 4), &Device::Cpu).expect("as many values");
        kernels::tests::with_each(|set| {
            let (y, statistics) = conv_norm_relu_pool(&x, &layers([&weight, &v, &v, &v], 0)).expect("shapes that fit");
            assert!(values(&y).iter().all(|y| y.is_nan()), "{set}");
            assert!(statistics.mean.iter().chain(&statistics.variance).all(|value| value.is_nan()), "{set}");
        });
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let x = Tensor::from_vec(random(1, 2 * 3 * 81), (2, 3, 9, 9), &Device::Cpu).expect("as many values");
        let error = |weight: &[usize], bias: usize, norm: usize| {
            let (weight, bias, norm) = (var(2, weight), var(3, &[bias]), var(4, &[norm]));
            let result = conv_norm_relu_pool(&x, &layers([&weight, &bias, &norm, &norm], 0));
            result.expect_err("does not fit").to_string()
        };
        assert!(error(&[4, 2, 3, 3], 4, 4).contains("3 channels, the weight takes 2"));
        assert!(error(&[4, 3, 3, 3], 3, 4).contains("bias has shape [3]"));
        assert!(error(&[4, 3, 3, 3], 4, 5).contains("weight has shape [5]"));
        assert!(error(&[4, 3, 9, 9], 4, 4).contains("does not fit"));
    }
}
