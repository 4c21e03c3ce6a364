//! avg_pool2d.

use super::window::Window;
use super::{operand, threads};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

/// The mean of each window, padding counted as zeros (`torch.nn.AvgPool2d`, `count_include_pad=True`).
/// Shape (N, C, H, W) → (N, C, H', W').
///
/// # Errors
/// A window that does not fit, padding above half the window, or not f32 on the CPU.
pub fn avg_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let window = Window::new("avg_pool2d", x, kernel, stride, padding)?;
    if padding > kernel / 2 {
        bail!("avg_pool2d: padding is {padding}: it may be at most half of kernel_size {kernel}")
    }
    x.contiguous()?.apply_op1(AvgPool { window })
}

struct AvgPool {
    window: Window,
}

impl CustomOp1 for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (operand::slice(self.name(), x, layout)?, self.window);
        let area = (w.kernel * w.kernel) as f32;
        let mut y = vec![0.0; w.examples * w.channels * w.out_plane()];
        threads::for_each_chunk(&mut y, w.channels * w.out_plane(), |i, y| {
            for (c, y) in y.chunks_mut(w.out_plane()).enumerate() {
                let plane = &x[(i * w.channels + c) * w.plane()..][..w.plane()];
                each_place(&w, |place, rows, columns| {
                    let mut sum = 0.0;
                    for row in rows {
                        for &x in &plane[row * w.width..][columns.clone()] {
                            sum += x;
                        }
                    }
                    y[place] = sum / area;
                });
            }
        });
        Ok((CpuStorage::F32(y), (w.examples, w.channels, w.out_height, w.out_width).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let w = self.window;
        let area = (w.kernel * w.kernel) as f32;
        let dx = operand::read(self.name(), dy, |dy| {
            let mut dx = vec![0.0; w.examples * w.channels * w.plane()];
            threads::for_each_chunk(&mut dx, w.channels * w.plane(), |i, dx| {
                for (c, plane) in dx.chunks_mut(w.plane()).enumerate() {
                    let dy = &dy[(i * w.channels + c) * w.out_plane()..][..w.out_plane()];
                    each_place(&w, |place, rows, columns| {
                        let share = dy[place] / area;
                        for row in rows {
                            for dx in &mut plane[row * w.width..][columns.clone()] {
                                *dx += share;
                            }
                        }
                    });
                }
            });
            Ok(dx)
        })?;
        operand::tensor_like(dx, x).map(Some)
    }
}

/// Each place of the window with the rows and columns under it.
fn each_place(w: &Window, mut body: impl FnMut(usize, std::ops::Range<usize>, std::ops::Range<usize>)) {
    for oy in 0..w.out_height {
        let (top, bottom) = w.span(oy, w.height);
        for ox in 0..w.out_width {
            let (left, right) = w.span(ox, w.width);
            body(oy * w.out_width + ox, top..bottom, left..right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{self, Sizes};
    use super::super::testing::{check, var};
    use super::*;

    #[test]
    fn agrees_with_the_reference() {
        for (height, width, kernel, stride, padding) in
            [(4, 4, 2, 2, 0), (7, 5, 3, 2, 1), (5, 9, 3, 1, 0), (6, 6, 2, 3, 1), (4, 4, 4, 4, 0)]
        {
            let s = Sizes { examples: 3, channels: 2, height, width, outputs: 2, kernel, stride, padding };
            let f = |v: &[Vec<f64>]| reference::pool(&s, &v[0], reference::mean);
            check(
                &[var(1, &[3, 2, height, width])],
                |v| avg_pool2d(&v[0], kernel, stride, padding),
                |v, dy| (f(v), reference::differences(f, v, dy)),
                1e-6,
            );
        }
    }

    #[test]
    fn padding_counts_as_zeros() {
        // torch.nn.AvgPool2d(2, 2, 1) of four ones: each window holds one of them
        let ones = Tensor::ones((1, 1, 2, 2), candle_core::DType::F32, &candle_core::Device::Cpu).expect("ones");
        let y = avg_pool2d(&ones, 2, 2, 1).and_then(|y| y.flatten_all()?.to_vec1::<f32>()).expect("a window that fits");
        assert_eq!(y, [0.25; 4]);
        assert!(avg_pool2d(&ones, 2, 2, 2).is_err());
    }
}
