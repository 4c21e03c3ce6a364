//! batch_norm, in training (the batch's own statistics) and in evaluation (the running ones).

use super::kernels::{self, KernelSet};
use super::simd::{self, Kernel, Lanes};
use super::{operand, sums, threads};
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// What training saw of each channel, for the running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchStatistics {
    /// The mean.
    pub mean: Vec<f32>,
    /// The unbiased variance (divided by count − 1), as PyTorch's running variance wants it.
    pub variance: Vec<f32>,
}

/// (x − mean) / √(variance + eps) × weight + bias for each channel, with the batch's mean and biased variance
/// (`torch.nn.BatchNorm1d` and `2d` in training). x is (N, C, H, W) or (N, C), weight and bias are (C).
///
/// # Errors
/// Shapes that do not fit, a channel with a single value (it has no variance), eps that is not positive, or not f32 on the CPU.
pub fn batch_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<(Tensor, BatchStatistics)> {
    let shape = Channels::new(x, &[("weight", weight), ("bias", bias)], eps)?;
    let count = shape.examples * shape.plane;
    if count < 2 {
        bail!(
            "batch_norm: {count} value for each channel of {:?}: training needs at least 2 (a larger shard)",
            x.dims()
        )
    }
    let x = x.contiguous()?;
    let moments = operand::read("batch_norm", &x, |x| {
        Ok(threads::map(shape.channels, |c| {
            // one pass: sums about the channel's first value, which is near the others beside their mean
            let shift = f64::from(x[c * shape.plane]);
            let (sum, squares) = shape.sum(c, |plane| sums::moments(shape.set, &x[plane], shift));
            let mean = sum / count as f64;
            // rounding may leave less than nothing of a constant; NaN stays
            let squares = squares - sum * mean;
            (shift + mean, if squares < 0.0 { 0.0 } else { squares })
        }))
    })?;
    let statistics = BatchStatistics {
        mean: moments.iter().map(|&(mean, _)| mean as f32).collect(),
        variance: moments.iter().map(|&(_, squares)| (squares / (count - 1) as f64) as f32).collect(),
    };
    let scales = moments.iter().map(|&(mean, squares)| (mean, 1.0 / (squares / count as f64 + eps).sqrt())).collect();
    let y = x.apply_op3(&weight.contiguous()?, &bias.contiguous()?, BatchNorm { shape, scales, training: true })?;
    Ok((y, statistics))
}

/// [`batch_norm`] with given statistics, each (C), which get no gradient (`torch.nn.BatchNorm1d` and `2d` in evaluation).
///
/// # Errors
/// Shapes that do not fit, eps that is not positive, or not f32 on the CPU.
pub fn batch_norm_eval(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    running_mean: &Tensor,
    running_variance: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    let vectors =
        [("weight", weight), ("bias", bias), ("running_mean", running_mean), ("running_var", running_variance)];
    let shape = Channels::new(x, &vectors, eps)?;
    let scales = operand::read("batch_norm", running_mean, |means| {
        operand::read("batch_norm", running_variance, |variances| {
            let pairs = means.iter().zip(variances);
            Ok(pairs.map(|(&mean, &v)| (f64::from(mean), 1.0 / (f64::from(v) + eps).sqrt())).collect())
        })
    })?;
    let op = BatchNorm { shape, scales, training: false };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}

/// (examples, channels, pixels of a channel).
#[derive(Clone, Copy)]
struct Channels {
    set: KernelSet,
    examples: usize,
    channels: usize,
    plane: usize,
}

impl Channels {
    fn new(x: &Tensor, vectors: &[(&str, &Tensor)], eps: f64) -> Result<Self> {
        let (examples, channels, plane) = match *x.dims() {
            [n, c, h, w] => (n, c, h * w),
            [n, c] => (n, c, 1),
            _ => bail!("batch_norm: the input has shape {:?}: it must be (N, C, H, W) or (N, C)", x.dims()),
        };
        for (name, vector) in vectors {
            if vector.dims() != [channels] {
                bail!("batch_norm: {name} has shape {:?}: it must be ({channels}), one a channel", vector.dims())
            }
        }
        if !(eps > 0.0 && eps.is_finite()) {
            bail!("batch_norm: eps is {eps}: it must be positive")
        }
        Ok(Self { set: kernels::of_op()?, examples, channels, plane })
    }

    /// The sums of two values over channel `c`, plane by plane.
    fn sum(&self, c: usize, values: impl Fn(std::ops::Range<usize>) -> (f64, f64)) -> (f64, f64) {
        (0..self.examples).fold((0.0, 0.0), |total, n| {
            let start = (n * self.channels + c) * self.plane;
            let (first, second) = values(start..start + self.plane);
            (total.0 + first, total.1 + second)
        })
    }

    /// An output of the input's size; `plane(channel, range, out)` fills the range of a plane.
    fn fill(&self, plane: impl Fn(usize, std::ops::Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
        let mut out = vec![0.0; self.examples * self.channels * self.plane];
        let example = self.channels * self.plane;
        threads::for_each_chunk(&mut out, example, |n, out| {
            for (c, out) in out.chunks_mut(self.plane).enumerate() {
                let start = n * example + c * self.plane;
                plane(c, start..start + self.plane, out);
            }
        });
        out
    }
}

/// y = (x − mean) × gain + bias.
struct Scale<'a> {
    x: &'a [f32],
    y: &'a mut [f32],
    factors: [f32; 3],
}

impl Kernel for Scale<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let [mean, gain, bias] = self.factors;
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = (x - mean) * gain + bias;
        }
    }
}

/// dx = gain × (dy − the mean of dy − (x − mean) × slope).
struct Gradient<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    factors: [f32; 4],
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let [mean, gain, mean_dy, slope] = self.factors;
        for ((dx, &dy), &x) in self.dx.iter_mut().zip(self.dy).zip(self.x) {
            *dx = gain * (dy - mean_dy - (x - mean) * slope);
        }
    }
}

struct BatchNorm {
    shape: Channels,
    /// Mean and 1 / √(variance + eps) of each channel.
    scales: Vec<(f64, f64)>,
    /// Whether the scales are functions of x, which the gradient then goes through.
    training: bool,
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = operand::slice(self.name(), x, layout)?;
        let weight = operand::slice(self.name(), weight, weight_layout)?;
        let bias = operand::slice(self.name(), bias, bias_layout)?;
        let factors: Vec<[f32; 3]> = (self.scales.iter().zip(weight).zip(bias))
            .map(|((&(mean, scale), &weight), &bias)| [mean as f32, (scale * f64::from(weight)) as f32, bias])
            .collect();
        let shape = self.shape;
        let y = shape.fill(|c, plane, y| simd::run(shape.set, Scale { x: &x[plane], y, factors: factors[c] }));
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let shape = self.shape;
        let (dx, sums) = operand::read(self.name(), x, |xs| {
            operand::read(self.name(), dy, |dys| {
                operand::read(self.name(), weight, |weights| {
                    // for each channel: Σ dy and Σ dy × normalised x
                    let sums = threads::map(shape.channels, |c| {
                        let (mean, scale) = self.scales[c];
                        let products = |plane: std::ops::Range<usize>| {
                            sums::products(shape.set, &dys[plane.clone()], &xs[plane], mean)
                        };
                        let (sum, product) = shape.sum(c, products);
                        (sum, product * scale)
                    });
                    let count = (shape.examples * shape.plane) as f64;
                    let through = if self.training { 1.0 / count } else { 0.0 };
                    let factors: Vec<[f32; 4]> = (self.scales.iter().zip(&sums).zip(weights))
                        .map(|((&(mean, scale), &(sum, product)), &weight)| {
                            [
                                mean as f32,
                                (scale * f64::from(weight)) as f32,
                                (sum * through) as f32,
                                (product * through * scale) as f32,
                            ]
                        })
                        .collect();
                    let dx = shape.fill(|c, plane, dx| {
                        let (x, dy) = (&xs[plane.clone()], &dys[plane]);
                        simd::run(shape.set, Gradient { x, dy, dx, factors: factors[c] });
                    });
                    Ok((dx, sums))
                })
            })
        })?;
        let dweight = sums.iter().map(|&(_, product)| product as f32).collect();
        let dbias = sums.iter().map(|&(sum, _)| sum as f32).collect();
        Ok((
            Some(operand::tensor_like(dx, x)?),
            Some(operand::tensor_like(dweight, weight)?),
            Some(operand::tensor_like(dbias, bias)?),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::super::testing::{check, distance, var, wide};
    use super::*;

    #[test]
    fn training_agrees_with_the_reference() {
        for shape in [&[4, 3, 5, 7][..], &[2, 1, 1, 1], &[9, 5], &[2, 4, 3, 3]] {
            let (channels, plane) = (shape[1], shape[2..].iter().product());
            let f = |v: &[Vec<f64>]| reference::batch_norm((channels, plane), &v[0], &v[1], &v[2], 1e-5, None);
            check(
                &[var(1, shape), var(2, &[channels]), var(3, &[channels])],
                |v| Ok(batch_norm(&v[0], &v[1], &v[2], 1e-5)?.0),
                |v, dy| (f(v), reference::differences(f, v, dy)),
                // the gradient is a difference of numbers that nearly cancel when there are two values a channel
                if shape == [2, 1, 1, 1] { 1e-2 } else { 2e-6 },
            );
        }
    }

    #[test]
    fn evaluation_agrees_with_the_reference() {
        let shape = [3, 4, 2, 5];
        let (mean, variance) = (var(4, &[4]), var(5, &[4]).abs().expect("f32"));
        let (means, variances) = (wide(&mean), wide(&variance));
        let given = Some((&means[..], &variances[..]));
        let f = |v: &[Vec<f64>]| reference::batch_norm((4, 10), &v[0], &v[1], &v[2], 1e-3, given);
        check(
            &[var(1, &shape), var(2, &[4]), var(3, &[4])],
            |v| batch_norm_eval(&v[0], &v[1], &v[2], &mean, &variance, 1e-3),
            |v, dy| (f(v), reference::differences(f, v, dy)),
            1e-6,
        );
    }

    #[test]
    fn statistics_are_the_mean_and_the_unbiased_variance() {
        let x = var(1, &[5, 2, 3, 3]);
        let ones = var(2, &[2]);
        let (_, statistics) = batch_norm(&x, &ones, &ones, 1e-5).expect("shapes that fit");
        let x = wide(&x);
        for c in 0..2 {
            let values: Vec<f64> = (0..x.len()).filter(|i| i / 9 % 2 == c).map(|i| x[i]).collect();
            let mean = values.iter().sum::<f64>() / 45.0;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 44.0;
            assert!(distance(&[f64::from(statistics.mean[c])], &[mean]) < 1e-6);
            assert!(distance(&[f64::from(statistics.variance[c])], &[variance]) < 1e-6);
        }
    }

    #[test]
    fn one_value_a_channel_is_refused() {
        let ones = var(2, &[3]);
        let error = batch_norm(&var(1, &[1, 3]), &ones, &ones, 1e-5).expect_err("no variance").to_string();
        assert!(error.contains("1 value for each channel") && error.contains("at least 2"), "{error}");
        let error = batch_norm(&var(1, &[4, 2]), &ones, &ones, 1e-5).expect_err("3 for 2").to_string();
        assert!(error.contains("weight has shape [3]"), "{error}");
        assert!(batch_norm(&var(1, &[4, 3]), &ones, &ones, 0.0).is_err());
    }
}
