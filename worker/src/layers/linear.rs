//! linear.

use super::{kernels, operand};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// x · weightᵀ + bias (`torch.nn.Linear`). x is (N, in), weight (out, in), bias (out); the result is (N, out).
///
/// # Errors
/// Shapes that do not fit, or not f32 on the CPU.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (&[rows, inputs], &[outputs, columns]) = (x.dims(), weight.dims()) else {
        bail!("linear: the input has shape {:?} and weight {:?}: both must be matrices", x.dims(), weight.dims())
    };
    if inputs != columns {
        bail!("linear: the input has {inputs} features, the weight takes {columns}")
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
        bail!("linear: bias has shape {:?}: it must be ({outputs})", bias.dims())
    }
    let _ = kernels::of_op()?;
    let op = Linear { rows, inputs, outputs, input_gradient: x.track_op() };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

struct Linear {
    rows: usize,
    inputs: usize,
    outputs: usize,
    /// False where x is data: nobody reads its gradient.
    input_gradient: bool,
}

impl Linear {
    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let mut y = vec![0.0; self.rows * self.outputs];
        for n in 0..self.rows {
            for o in 0..self.outputs {
                let mut sum = 0.0;
                for i in 0..self.inputs {
                    sum += x[n * self.inputs + i] * weight[o * self.inputs + i];
                }
                y[n * self.outputs + o] = sum + bias.map_or(0.0, |bias| bias[o]);
            }
        }
        (CpuStorage::F32(y), (self.rows, self.outputs).into())
    }

    fn backward(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Tensor, Tensor)> {
        let (mut dx, mut dw, mut db) =
            (vec![0.0; x.elem_count()], vec![0.0; weight.elem_count()], vec![0.0; self.outputs]);
        operand::read("linear", x, |x| {
            operand::read("linear", weight, |w| {
                operand::read("linear", dy, |dy| {
                    for n in 0..self.rows {
                        for o in 0..self.outputs {
                            let g = dy[n * self.outputs + o];
                            db[o] += g;
                            for i in 0..self.inputs {
                                dx[n * self.inputs + i] += g * w[o * self.inputs + i];
                                dw[o * self.inputs + i] += g * x[n * self.inputs + i];
                            }
                        }
                    }
                    Ok(())
                })
            })
        })?;
        let dx = if self.input_gradient { Some(operand::tensor_like(dx, x)?) } else { None };
        let outputs = self.outputs;
        Ok((dx, operand::tensor_like(dw, weight)?, Tensor::from_vec(db, outputs, weight.device())?))
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
        let (dx, dw, _) = self.backward(x, w, dy)?;
        Ok((dx, Some(dw)))
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
        let (dx, dw, db) = self.backward(x, w, dy)?;
        Ok((dx, Some(dw), Some(db)))
    }
}
