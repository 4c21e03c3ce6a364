//! The op, with its argmax kept. (candle's own gradient is wrong: it shares it out over the window.)

use super::super::kernels::{self, KernelSet};
use super::super::window::Window;
use super::super::{operand, threads};
use super::halving;
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
    x.contiguous()?.apply_op1(MaxPool { set: kernels::of_op()?, window, winners: OnceLock::new() })
}

struct MaxPool {
    set: KernelSet,
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
            if halving::fits(&w) {
                let example = w.channels * w.plane();
                halving::forward(self.set, &w, &x[i * example..][..example], y, winners);
                return;
            }
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
                if halving::fits(&w) {
                    let outs = i * w.channels * w.out_plane()..(i + 1) * w.channels * w.out_plane();
                    halving::backward(self.set, &w, &dy[outs.clone()], &winners[outs], dx);
                    return;
                }
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

#[cfg(test)]
mod tests {
    use super::super::super::reference::{self, Sizes};
    use super::super::super::testing::{check, forward_backward, values, var};
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn agrees_with_the_reference() {
        for (height, width, kernel, stride, padding) in [
            (4, 4, 2, 2, 0),
            (28, 28, 2, 2, 0),
            (9, 37, 2, 2, 0),
            (7, 5, 3, 2, 1),
            (5, 9, 3, 1, 0),
            (6, 6, 2, 3, 1),
            (4, 4, 4, 4, 0),
        ] {
            let s = Sizes { examples: 2, channels: 3, height, width, outputs: 3, kernel, stride, padding };
            let f = |v: &[Vec<f64>]| reference::pool(&s, &v[0], reference::max);
            check(
                &[var(1, &[2, 3, height, width])],
                |v| max_pool2d(&v[0], kernel, stride, padding),
                |v, dy| (f(v), reference::differences(f, v, dy)),
                1e-6,
            );
        }
    }

    fn pool_of(x: &[f32], size: usize, stride: usize) -> (Vec<f32>, Vec<f32>, Vec<f64>) {
        let x = Var::from_slice(x, (1, 1, size, size), &Device::Cpu).expect("a square");
        let (y, dx, dy) = forward_backward(&[x], |v| max_pool2d(&v[0], 2, stride, 0), 1);
        (values(&y), values(dx[0].as_ref().expect("a gradient")), dy)
    }

    #[test]
    fn one_maximum_gets_the_whole_gradient_and_of_equals_the_first() {
        // the window for which candle's own gradient is a quarter
        let (y, dx, dy) = pool_of(&[1.0, 2.0, 3.0, 4.0], 2, 2);
        assert_eq!((y, dx), (vec![4.0], vec![0.0, 0.0, 0.0, dy[0] as f32]));
        for stride in [1, 2] {
            let (y, dx, dy) = pool_of(&[0.0, 7.0, 7.0, 7.0], 2, stride);
            assert_eq!((y, dx), (vec![7.0], vec![0.0, dy[0] as f32, 0.0, 0.0]));
            let (y, dx, dy) = pool_of(&[f32::NEG_INFINITY; 4], 2, stride);
            assert_eq!((y, dx), (vec![f32::NEG_INFINITY], vec![dy[0] as f32, 0.0, 0.0, 0.0]));
        }
        // windows that share a maximum add up
        let (y, dx, dy) = pool_of(&[0.0, 0.0, 0.0, 0.0, 9.0, 0.0, 0.0, 0.0, 0.0], 3, 1);
        assert_eq!(y, [9.0; 4]);
        assert!((f64::from(dx[4]) - dy.iter().sum::<f64>()).abs() < 1e-6);
    }

    #[test]
    fn nan_wins() {
        for at in 0..4 {
            for stride in [1, 2] {
                let mut x = [1.0, 2.0, 3.0, 4.0];
                x[at] = f32::NAN;
                let (y, dx, dy) = pool_of(&x, 2, stride);
                assert!(y[0].is_nan());
                assert_eq!(f64::from(dx[at]), dy[0]);
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = var(1, &[1, 1, 4, 4]);
        assert!(max_pool2d(&x, 3, 1, 2).expect_err("too much padding").to_string().contains("half of kernel_size 3"));
        assert!(max_pool2d(&x, 5, 1, 0).expect_err("too large").to_string().contains("does not fit into 4×4"));
        assert!(max_pool2d(&var(1, &[4, 4]), 2, 2, 0).is_err());
    }
}
