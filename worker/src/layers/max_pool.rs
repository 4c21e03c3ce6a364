//! max_pool2d with its argmax kept. (candle's own gradient is wrong: it shares it out over the window.)

use super::window::Window;
use super::{operand, threads};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use std::sync::OnceLock;

/// The greatest of each window, after `torch.nn.MaxPool2d`: padding never wins, the first of equals wins, NaN wins over all.
/// Shape (N, C, H, W) → (N, C, H', W').
///
/// # Errors
/// A window that does not fit, padding above half the window, or not f32 on the CPU.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let window = Window::new("max_pool2d", x, kernel, stride, padding)?;
    if padding > kernel / 2 {
        bail!("max_pool2d: padding is {padding}: it may be at most half of kernel_size {kernel}")
    }
    x.contiguous()?.apply_op1(MaxPool { window, winners: OnceLock::new() })
}

struct MaxPool {
    window: Window,
    /// For each output, where its maximum is in the input plane. Set by the forward pass, which has no other way to hand
    /// it to the backward pass.
    winners: OnceLock<Vec<u32>>,
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (operand::slice(self.name(), x, layout)?, self.window);
        let planes = w.examples * w.channels;
        let (mut y, mut winners) = (vec![0.0; planes * w.out_plane()], vec![0; planes * w.out_plane()]);
        let chunk = w.out_plane() * w.channels;
        threads::for_each_chunk_pair((&mut y, chunk), (&mut winners, chunk), |i, y, winners| {
            for c in 0..w.channels {
                let out = c * w.out_plane()..(c + 1) * w.out_plane();
                let plane = &x[(i * w.channels + c) * w.plane()..][..w.plane()];
                forward(&w, plane, &mut y[out.clone()], &mut winners[out]);
            }
        });
        let _ = self.winners.set(winners);
        Ok((CpuStorage::F32(y), (w.examples, w.channels, w.out_height, w.out_width).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let w = self.window;
        let Some(winners) = self.winners.get() else { bail!("max_pool2d: backward before forward") };
        let dx = operand::read(self.name(), dy, |dy| {
            let mut dx = vec![0.0; w.examples * w.channels * w.plane()];
            threads::for_each_chunk(&mut dx, w.channels * w.plane(), |i, dx| {
                for c in 0..w.channels {
                    let out = (i * w.channels + c) * w.out_plane()..(i * w.channels + c + 1) * w.out_plane();
                    let plane = &mut dx[c * w.plane()..][..w.plane()];
                    for (&winner, &dy) in winners[out.clone()].iter().zip(&dy[out]) {
                        plane[winner as usize] += dy;
                    }
                }
            });
            Ok(dx)
        })?;
        operand::tensor_like(dx, x).map(Some)
    }
}

fn forward(w: &Window, x: &[f32], y: &mut [f32], winners: &mut [u32]) {
    for oy in 0..w.out_height {
        let (top, bottom) = w.span(oy, w.height);
        for ox in 0..w.out_width {
            let (left, right) = w.span(ox, w.width);
            let (mut best, mut winner) = (f32::NEG_INFINITY, top * w.width + left);
            for row in top..bottom {
                let from = row * w.width;
                for (column, &x) in (left..right).zip(&x[from + left..from + right]) {
                    if x > best || x.is_nan() {
                        (best, winner) = (x, from + column);
                    }
                }
            }
            y[oy * w.out_width + ox] = best;
            winners[oy * w.out_width + ox] = winner as u32;
        }
    }
}
