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
mod tests;
