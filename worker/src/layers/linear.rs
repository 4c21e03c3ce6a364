//! linear.

use super::collector::Target;
use super::gemm::{Columns, Dot, Outer, Packed, Segment, Segments, Starts};
use super::kernels::{self, KernelSet};
use super::{operand, simd, threads};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// x · weightᵀ + bias (`torch.nn.Linear`). x is (N, in), weight (out, in), bias (out); the result is (N, out).
///
/// # Errors
/// Shapes that do not fit, or not f32 on the CPU.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_to(x, weight, bias, None)
}

/// [`linear`], whose gradients of weight and bias go to `target`: candle then never sees them.
///
/// # Errors
/// As [`linear`].
pub(crate) fn linear_to(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, target: Option<Target>) -> Result<Tensor> {
    let (&[rows, inputs], &[outputs, columns]) = (x.dims(), weight.dims()) else {
        bail!("linear: the input has shape {:?} and weight {:?}: both must be matrices", x.dims(), weight.dims())
    };
    if inputs != columns {
        bail!("linear: the input has {inputs} features, the weight takes {columns}")
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
        bail!("linear: bias has shape {:?}: it must be ({outputs})", bias.dims())
    }
    let target = target.filter(|target| target.lengths() == [outputs * inputs, bias.map_or(0, |_| outputs)]);
    let op = Linear { set: kernels::of_op()?, rows, inputs, outputs, input_gradient: x.track_op(), target };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

/// Rows of a result that one thread computes: a few tiles, to read the other operand seldom.
const ROWS: usize = 24;

struct Linear {
    set: KernelSet,
    rows: usize,
    inputs: usize,
    outputs: usize,
    /// False where x is data: nobody reads its gradient.
    input_gradient: bool,
    /// Where the gradients of weight and bias go, if not to candle.
    target: Option<Target>,
}

impl Linear {
    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let starts = Starts::rows(outputs, inputs);
        let segments = Segments::new(simd::lanes(self.set), [Segment { left: 0, right: 0, len: inputs }]);
        let mut y = vec![0.0; self.rows * outputs];
        threads::for_each_chunk(&mut y, ROWS * outputs, |i, y| {
            if let Some(bias) = bias {
                y.chunks_mut(outputs).for_each(|y| y.copy_from_slice(bias));
            }
            let product = Dot {
                rows: y.len() / outputs,
                left: &x[i * ROWS * inputs..],
                left_stride: inputs,
                right: weight,
                starts: &starts,
                segments: &segments,
                result: y,
            };
            simd::run(self.set, product);
        });
        (CpuStorage::F32(y), (self.rows, outputs).into())
    }

    /// dy · weight
    fn input_gradient(&self, dy: &[f32], weight: &[f32]) -> Vec<f32> {
        let left = |row: usize, rows| Packed::new(rows, self.outputs, |m, k| dy[(row + m) * self.outputs + k]);
        let mut dx = vec![0.0; self.rows * self.inputs];
        self.product(left, weight, &mut dx);
        dx
    }

    /// dyᵀ · x
    fn weight_gradient(&self, dy: &[f32], x: &[f32], result: &mut [f32]) {
        let left = |row: usize, rows| Packed::new(rows, self.rows, |m, k| dy[k * self.outputs + row + m]);
        self.product(left, x, result);
    }

    /// left · right, where right has rows of `inputs` and `left(first, count)` packs some rows of the other.
    fn product(&self, left: impl Fn(usize, usize) -> Packed + Sync, right: &[f32], result: &mut [f32]) {
        let stride = self.inputs;
        let columns = Columns::new(simd::lanes(self.set), 1, stride, (0, 0), true);
        let starts = Starts::rows(right.len().checked_div(stride).unwrap_or(0), stride);
        threads::for_each_chunk(result, ROWS * stride, |i, result| {
            let left = left(i * ROWS, result.len() / stride);
            let (left, starts, columns) = (&left, &starts, &columns);
            simd::run(self.set, Outer { left, right, starts, columns, bias: None, result, stride });
        });
    }

    /// The sums of dy's columns.
    fn bias_gradient(&self, dy: &[f32], result: &mut [f32]) {
        let mut sums = vec![0.0_f64; result.len()];
        for row in dy.chunks(self.outputs.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
        }
        result.iter_mut().zip(sums).for_each(|(result, sum)| *result = sum as f32);
    }

    /// dx, and the gradients of weight and bias where candle wants them.
    fn backward(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<[Option<Tensor>; 3]> {
        operand::read("linear", dy, |dys| {
            let dx = if self.input_gradient {
                let dx = operand::read("linear", weight, |weight| Ok(self.input_gradient(dys, weight)))?;
                Some(operand::tensor_like(dx, x)?)
            } else {
                None
            };
            operand::read("linear", x, |x| {
                let write = |dweight: &mut [f32], dbias: &mut [f32]| {
                    self.weight_gradient(dys, x, dweight);
                    self.bias_gradient(dys, dbias);
                };
                if let Some(target) = &self.target {
                    target.write(write);
                    return Ok([dx, None, None]);
                }
                let (mut dweight, mut dbias) = (vec![0.0; self.outputs * self.inputs], vec![0.0; self.outputs]);
                write(&mut dweight, &mut dbias);
                let dbias = Tensor::from_vec(dbias, self.outputs, weight.device())?;
                Ok([dx, Some(operand::tensor_like(dweight, weight)?), Some(dbias)])
            })
        })
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(operand::slice("linear", x, lx)?, operand::slice("linear", w, lw)?, None))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.backward(x, w, dy)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
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
        let bias = operand::slice("linear", b, lb)?;
        Ok(self.forward(operand::slice("linear", x, lx)?, operand::slice("linear", w, lw)?, Some(bias)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, db] = self.backward(x, w, dy)?;
        Ok((dx, dw, db))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bits, check, random, values, var};
    use super::super::{kernels, reference};
    use super::*;
    use candle_core::Device;

    #[test]
    fn agrees_with_the_reference() {
        // (rows, inputs, outputs): less than a tile, odd, LeNet's, longer than a part of a sum
        for (rows, inputs, outputs) in [(1, 1, 1), (3, 5, 7), (16, 400, 120), (33, 84, 10), (2, 600, 30), (300, 17, 19)]
        {
            let inputs_ = [var(1, &[rows, inputs]), var(2, &[outputs, inputs]), var(3, &[outputs])];
            check(
                &inputs_,
                |v| linear(&v[0], &v[1], Some(&v[2])),
                |v, dy| {
                    let y = reference::linear(inputs, &v[0], &v[1], &v[2]);
                    (y, reference::linear_backward(inputs, &v[0], &v[1], dy))
                },
                1e-6,
            );
            check(
                &inputs_[..2],
                |v| linear(&v[0], &v[1], None),
                |v, dy| {
                    let y = reference::linear(inputs, &v[0], &v[1], &vec![0.0; outputs]);
                    let mut gradients = reference::linear_backward(inputs, &v[0], &v[1], dy);
                    gradients.truncate(2);
                    (y, gradients)
                },
                1e-6,
            );
        }
    }

    #[test]
    fn bits_of_an_example_do_not_depend_on_its_batch() {
        let x = Tensor::from_vec(random(1, 29 * 77), (29, 77), &Device::Cpu).expect("29 × 77 values");
        let (weight, bias) = (var(2, &[31, 77]), var(3, &[31]));
        kernels::tests::with_each(|set| {
            let all = values(&linear(&x, &weight, Some(&bias)).expect("shapes that fit"));
            for n in [0, 5, 28] {
                let row = x.narrow(0, n, 1).expect("a row");
                let alone = values(&linear(&row, &weight, Some(&bias)).expect("shapes that fit"));
                assert_eq!(bits(&alone), bits(&all[n * 31..][..31]), "{set}, example {n}");
            }
        });
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let (x, weight) = (var(1, &[2, 3]), var(2, &[4, 5]));
        let error = linear(&x, &weight, None).expect_err("3 features for 5").to_string();
        assert!(error.contains("3 features") && error.contains("takes 5"), "{error}");
        assert!(linear(&x, &var(2, &[4, 3]), Some(&var(3, &[3]))).is_err());
    }
}
