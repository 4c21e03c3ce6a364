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
