//! conv2d.

use super::window::Window;
use super::{kernels, operand};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

/// Cross-correlation with square kernels (`torch.nn.Conv2d`). x is (N, C, H, W), weight (out, C, k, k), bias (out); the
/// result is (N, out, H', W'). An x that is data (no variable behind it) gets no gradient, which saves the work.
///
/// # Errors
/// Shapes that do not fit, or not f32 on the CPU.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, stride: usize, padding: usize) -> Result<Tensor> {
    let &[outputs, channels, kernel, kernel_width] = weight.dims() else {
        bail!("conv2d: weight has shape {:?}: it must be (out, in, k, k)", weight.dims())
    };
    if kernel != kernel_width {
        bail!("conv2d: weight has shape {:?}: the kernel must be square", weight.dims())
    }
    let window = Window::new("conv2d", x, kernel, stride, padding)?;
    if window.channels != channels {
        bail!("conv2d: the input has {} channels, the weight takes {channels}", window.channels)
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
        bail!("conv2d: bias has shape {:?}: it must be ({outputs})", bias.dims())
    }
    let _ = kernels::of_op()?;
    let op = Conv2d { window, outputs, input_gradient: x.track_op() };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

struct Conv2d {
    window: Window,
    outputs: usize,
    /// False where x is data: nobody reads its gradient.
    input_gradient: bool,
}

impl Conv2d {
    /// Calls `f(y index, x index, weight index)` for each product.
    fn each(&self, mut f: impl FnMut(usize, usize, usize)) {
        let w = self.window;
        for n in 0..w.examples {
            for o in 0..self.outputs {
                for oy in 0..w.out_height {
                    for ox in 0..w.out_width {
                        let y = ((n * self.outputs + o) * w.out_height + oy) * w.out_width + ox;
                        for c in 0..w.channels {
                            for ky in 0..w.kernel {
                                for kx in 0..w.kernel {
                                    let (iy, ix) = (oy * w.stride + ky, ox * w.stride + kx);
                                    let (iy, ix) = (iy.wrapping_sub(w.padding), ix.wrapping_sub(w.padding));
                                    if iy < w.height && ix < w.width {
                                        let x = ((n * w.channels + c) * w.height + iy) * w.width + ix;
                                        f(y, x, ((o * w.channels + c) * w.kernel + ky) * w.kernel + kx);
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let w = self.window;
        let mut y = vec![0.0; w.examples * self.outputs * w.out_plane()];
        self.each(|at, i, k| y[at] += x[i] * weight[k]);
        if let Some(bias) = bias {
            for (i, y) in y.chunks_mut(w.out_plane()).enumerate() {
                y.iter_mut().for_each(|y| *y += bias[i % self.outputs]);
            }
        }
        (CpuStorage::F32(y), (w.examples, self.outputs, w.out_height, w.out_width).into())
    }

    fn backward(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Tensor, Tensor)> {
        let (mut dx, mut dw, mut db) =
            (vec![0.0; x.elem_count()], vec![0.0; weight.elem_count()], vec![0.0; self.outputs]);
        operand::read("conv2d", x, |x| {
            operand::read("conv2d", weight, |w| {
                operand::read("conv2d", dy, |dy| {
                    self.each(|y, i, k| {
                        dx[i] += dy[y] * w[k];
                        dw[k] += dy[y] * x[i];
                    });
                    for (i, dy) in dy.chunks(self.window.out_plane()).enumerate() {
                        db[i % self.outputs] += dy.iter().sum::<f32>();
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

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, w: &CpuStorage, lw: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(self.forward(operand::slice("conv2d", x, lx)?, operand::slice("conv2d", w, lw)?, None))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw, _) = self.backward(x, w, dy)?;
        Ok((dx, Some(dw)))
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
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
        let bias = operand::slice("conv2d", b, lb)?;
        Ok(self.forward(operand::slice("conv2d", x, lx)?, operand::slice("conv2d", w, lw)?, Some(bias)))
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
