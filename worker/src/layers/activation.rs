//! relu and leaky_relu, after PyTorch: the slope at 0 is the left one; NaN stays NaN.

use super::{operand, threads};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// max(x, 0), elementwise. The gradient at 0 is 0 (`torch.nn.ReLU`; candle's own says 1).
///
/// # Errors
/// Not f32 on the CPU.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Relu)
}

/// x where x > 0, else x × slope, elementwise (`torch.nn.LeakyReLU`).
///
/// # Errors
/// Not f32 on the CPU.
pub fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op1(LeakyRelu { slope: slope as f32 })
}

struct Relu;

struct LeakyRelu {
    slope: f32,
}

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = operand::slice(self.name(), x, layout)?;
        // `<=` and not `>`: NaN must take the other arm
        let y = elementwise(x.len(), x, x, |x, _| if x <= 0.0 { 0.0 } else { x });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = operand::read(self.name(), y, |ys| {
            operand::read(self.name(), dy, |dys| {
                Ok(elementwise(ys.len(), ys, dys, |y, dy| if y <= 0.0 { 0.0 } else { dy }))
            })
        })?;
        operand::tensor_like(dx, y).map(Some)
    }
}

impl CustomOp1 for LeakyRelu {
    fn name(&self) -> &'static str {
        "leaky_relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, slope) = (operand::slice(self.name(), x, layout)?, self.slope);
        let y = elementwise(x.len(), x, x, |x, _| if x > 0.0 { x } else { x * slope });
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let slope = self.slope;
        let dx = operand::read(self.name(), x, |xs| {
            operand::read(self.name(), dy, |dys| {
                Ok(elementwise(xs.len(), xs, dys, |x, dy| if x > 0.0 { dy } else { dy * slope }))
            })
        })?;
        operand::tensor_like(dx, x).map(Some)
    }
}

/// f(a, b) for each pair.
fn elementwise(len: usize, a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
    let mut out = vec![0.0; len];
    threads::for_each_chunk(&mut out, operand::ELEMENTS, |i, part| {
        let from = i * operand::ELEMENTS;
        let (a, b) = (&a[from..from + part.len()], &b[from..from + part.len()]);
        for ((out, &a), &b) in part.iter_mut().zip(a).zip(b) {
            *out = f(a, b);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::super::reference;
    use super::super::testing::{check, forward_backward, values, var};
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn agree_with_the_reference() {
        // longer than a part, so that threads share it
        let x = [var(1, &[3, 7, 1001])];
        let slopes = |slope: f64| {
            move |v: &[Vec<f64>], dy: &[f64]| {
                let y = v[0].iter().map(|&x| if x > 0.0 { x } else { slope * x }).collect();
                let dx = v[0].iter().zip(dy).map(|(&x, dy)| if x > 0.0 { *dy } else { slope * dy }).collect();
                (y, vec![dx])
            }
        };
        check(&x, |v| relu(&v[0]), slopes(0.0), 1e-9);
        check(&x, |v| leaky_relu(&v[0], 0.01), slopes(0.01), 1e-7);
        let small = [var(2, &[5, 3])];
        let by_differences = |v: &[Vec<f64>], dy: &[f64]| {
            let f = |v: &[Vec<f64>]| v[0].iter().map(|x| x.max(0.0)).collect::<Vec<_>>();
            (f(v), reference::differences(f, v, dy))
        };
        check(&small, |v| relu(&v[0]), by_differences, 1e-7);
    }

    #[test]
    fn zero_has_the_left_slope_and_nan_stays() {
        let x = [Var::new(&[-1.0_f32, -0.0, 0.0, f32::NAN, 2.0], &Device::Cpu).expect("five values")];
        let (y, dx, dy) = forward_backward(&x, |v| relu(&v[0]), 5);
        let (y, dx) = (values(&y), values(dx[0].as_ref().expect("a gradient")));
        assert_eq!((&y[..3], y[3].is_nan(), y[4]), (&[0.0; 3][..], true, 2.0));
        assert_eq!((&dx[..3], f64::from(dx[4])), (&[0.0; 3][..], dy[4]));
        let (y, dx, dy) = forward_backward(&x, |v| leaky_relu(&v[0], 0.5), 5);
        let (y, dx) = (values(&y), values(dx[0].as_ref().expect("a gradient")));
        assert_eq!((&y[..3], y[3].is_nan(), y[4]), (&[-0.5, 0.0, 0.0][..], true, 2.0));
        assert_eq!([f64::from(dx[0]), f64::from(dx[2]), f64::from(dx[4])], [dy[0] / 2.0, dy[2] / 2.0, dy[4]]);
    }
}
