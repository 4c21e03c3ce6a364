//! The op: shapes checked, the way chosen.

use super::super::gemm::Packed;
use super::super::kernels::{self, KernelSet};
use super::super::operand;
use super::super::window::Window;
use super::direct::Direct;
use super::im2col::Im2col;
use super::spectral::Spectral;
use super::weight_gradient::{Way, WeightGradient};
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
    let op = Conv2d { set: kernels::of_op()?, window, outputs, input_gradient: x.track_op() };
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
        None => x.apply_op2(&weight, op),
    }
}

/// Rows of places shorter than this leave too much of a vector register empty: im2col then puts rows side by side.
const SHORT: usize = 8;

struct Conv2d {
    set: KernelSet,
    window: Window,
    outputs: usize,
    /// False where x is data: nobody reads its gradient.
    input_gradient: bool,
}

impl Conv2d {
    fn is_direct(&self) -> bool {
        self.window.stride == 1 && self.window.out_width >= SHORT
    }

    fn direct(&self) -> Direct {
        let w = &self.window;
        Direct::new(self.set, w.channels, (w.height, w.width), w.kernel, w.padding)
    }

    fn spectral(&self) -> Option<Spectral> {
        Spectral::new(self.set, self.window, self.outputs)
    }

    fn spectral_backward(
        &self,
        spectral: &Spectral,
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Tensor, Tensor)> {
        let (dx, dweight, dbias) = operand::read("conv2d", dy, |dy| {
            operand::read("conv2d", weight, |weight| {
                let weight = self.input_gradient.then_some(weight);
                operand::read("conv2d", x, |x| Ok(spectral.backward(x, weight, dy)))
            })
        })?;
        Ok((
            dx.map(|dx| operand::tensor_like(dx, x)).transpose()?,
            operand::tensor_like(dweight, weight)?,
            Tensor::from_vec(dbias, self.outputs, weight.device())?,
        ))
    }

    fn im2col(&self) -> Im2col {
        Im2col::new(self.set, self.window, self.outputs)
    }

    fn forward(&self, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> (CpuStorage, Shape) {
        let w = &self.window;
        let mut y = vec![0.0; w.examples * self.outputs * w.out_plane()];
        if let Some(spectral) = self.spectral() {
            spectral.forward(x, weight, bias, &mut y);
        } else if self.is_direct() {
            let taps = w.channels * w.kernel * w.kernel;
            let weight = Packed::new(self.outputs, taps, |o, k| weight[o * taps + k]);
            self.direct().run(x, &weight, bias, &mut y);
        } else {
            self.im2col().forward(x, weight, bias, &mut y);
        }
        (CpuStorage::F32(y), (w.examples, self.outputs, w.out_height, w.out_width).into())
    }

    fn input_gradient(&self, dy: &[f32], weight: &[f32]) -> Vec<f32> {
        let w = &self.window;
        let mut dx = vec![0.0; w.examples * w.channels * w.plane()];
        if self.is_direct() && w.padding < w.kernel {
            // dx is dy, padded so that every pixel has all its windows, convolved with the kernels turned by 180 degrees
            let area = w.kernel * w.kernel;
            let turned = |c: usize, k: usize| weight[(k / area * w.channels + c) * area + (area - 1 - k % area)];
            let weight = Packed::new(w.channels, self.outputs * area, turned);
            let size = (w.out_height, w.out_width);
            let direct = Direct::new(self.set, self.outputs, size, w.kernel, w.kernel - 1 - w.padding);
            direct.run(dy, &weight, None, &mut dx);
        } else {
            self.im2col().input_gradient(dy, weight, &mut dx);
        }
        dx
    }

    fn backward(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Tensor, Tensor)> {
        if let Some(spectral) = self.spectral() {
            return self.spectral_backward(&spectral, x, weight, dy);
        }
        let way = if self.is_direct() { Way::Direct(self.direct()) } else { Way::Im2col(self.im2col()) };
        let gradient = WeightGradient { set: self.set, window: self.window, outputs: self.outputs, way };
        operand::read("conv2d", dy, |dys| {
            let dx = if self.input_gradient {
                let dx = operand::read("conv2d", weight, |weight| Ok(self.input_gradient(dys, weight)))?;
                Some(operand::tensor_like(dx, x)?)
            } else {
                None
            };
            let (dweight, dbias) = operand::read("conv2d", x, |x| Ok(gradient.run(x, dys)))?;
            let dbias = Tensor::from_vec(dbias, self.outputs, weight.device())?;
            Ok((dx, operand::tensor_like(dweight, weight)?, dbias))
        })
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

#[cfg(test)]
mod tests {
    use super::super::super::reference::{self, Sizes};
    use super::super::super::testing::{bits, check, forward_backward, random, values, var};
    use super::*;
    use candle_core::Device;

    const fn sizes(n: usize, c: usize, (height, width): (usize, usize), window: [usize; 4]) -> Sizes {
        let [outputs, kernel, stride, padding] = window;
        Sizes { examples: n, channels: c, height, width, outputs, kernel, stride, padding }
    }

    const CASES: [Sizes; 19] = [
        // LeNet's two
        sizes(3, 3, (32, 32), [6, 5, 1, 0]),
        sizes(5, 6, (14, 14), [16, 5, 1, 0]),
        // direct: odd, wide, padded, a sum longer than a part, padding as wide as the kernel
        sizes(2, 1, (9, 8), [1, 1, 1, 0]),
        sizes(3, 2, (11, 19), [7, 3, 1, 1]),
        sizes(2, 30, (10, 17), [13, 3, 1, 2]),
        sizes(1, 2, (8, 9), [3, 2, 1, 2]),
        // so many examples that blocks are longer than the least
        sizes(70, 1, (9, 9), [2, 2, 1, 0]),
        // im2col: strides, short rows, groups that do not divide the batch, windows that miss the right edge
        sizes(3, 3, (11, 13), [5, 3, 2, 1]),
        sizes(19, 4, (5, 6), [8, 3, 1, 1]),
        sizes(2, 2, (7, 7), [3, 2, 3, 0]),
        sizes(4, 35, (4, 4), [6, 3, 2, 1]),
        sizes(1, 1, (3, 3), [1, 3, 1, 4]),
        sizes(2, 1, (2, 9), [2, 3, 4, 3]),
        // spectral: axes odd and even, padded or not, more examples than a group, more channels than a task, large kernels
        sizes(3, 16, (13, 10), [40, 3, 1, 0]),
        sizes(2, 60, (8, 9), [17, 3, 1, 1]),
        sizes(35, 9, (6, 7), [16, 3, 1, 1]),
        sizes(2, 20, (14, 11), [33, 5, 1, 0]),
        sizes(2, 50, (5, 6), [8, 5, 1, 2]),
        sizes(1, 18, (9, 8), [11, 7, 1, 4]),
    ];

    #[test]
    fn agrees_with_the_reference() {
        for s in CASES {
            let inputs = [
                var(1, &[s.examples, s.channels, s.height, s.width]),
                var(2, &[s.outputs, s.channels, s.kernel, s.kernel]),
                var(3, &[s.outputs]),
            ];
            eprintln!("{s:?}");
            check(
                &inputs,
                |v| conv2d(&v[0], &v[1], Some(&v[2]), s.stride, s.padding),
                |v, dy| {
                    let y = reference::conv2d(&s, &v[0], &v[1], &v[2]);
                    (y, reference::conv2d_backward(&s, &v[0], &v[1], dy))
                },
                1e-6,
            );
        }
    }

    #[test]
    fn large_weights_are_cut_into_bands() {
        // 40 outputs × 2,304 taps are two bands, and three blocks
        let s = sizes(9, 256, (4, 4), [40, 3, 1, 1]);
        let inputs = [var(1, &[9, 256, 4, 4]), var(2, &[40, 256, 3, 3])];
        check(
            &inputs,
            |v| conv2d(&v[0], &v[1], None, 1, 1),
            |v, dy| {
                let y = reference::conv2d(&s, &v[0], &v[1], &[0.0; 40]);
                let mut gradients = reference::conv2d_backward(&s, &v[0], &v[1], dy);
                gradients.truncate(2);
                (y, gradients)
            },
            1e-6,
        );
    }

    #[test]
    fn bits_of_an_example_do_not_depend_on_its_batch() {
        for s in CASES {
            let x = random(1, s.examples * s.channels * s.height * s.width);
            let shape = (s.examples, s.channels, s.height, s.width);
            let x = Tensor::from_vec(x, shape, &Device::Cpu).expect("as many values");
            let (weight, bias) = (var(2, &[s.outputs, s.channels, s.kernel, s.kernel]), var(3, &[s.outputs]));
            let run = |x: &Tensor| conv2d(x, &weight, Some(&bias), s.stride, s.padding).expect("shapes that fit");
            kernels::tests::with_each(|set| {
                let all = run(&x);
                for n in [0, s.examples / 2, s.examples - 1] {
                    let alone = values(&run(&x.narrow(0, n, 1).expect("an example")));
                    let among = values(&all.narrow(0, n, 1).expect("an example"));
                    assert_eq!(bits(&alone), bits(&among), "{set}, example {n} of {s:?}");
                }
            });
        }
    }

    #[test]
    fn images_get_no_gradient() {
        let x = Tensor::from_vec(random(1, 2 * 3 * 81), (2, 3, 9, 9), &Device::Cpu).expect("as many values");
        let weight = var(2, &[4, 3, 3, 3]);
        let y = conv2d(&x, &weight, None, 1, 0).expect("shapes that fit");
        let gradients = y.sum_all().and_then(|loss| loss.backward()).expect("a gradient");
        assert!(gradients.get(&x).is_none());
        assert!(gradients.get(&weight).is_some());
    }

    #[test]
    fn a_nan_stays_in_the_windows_that_hold_it() {
        let (x, weight) = (var(1, &[1, 1, 12, 12]), var(2, &[2, 1, 3, 3]));
        let mut pixels = values(&x);
        pixels[5 * 12 + 9] = f32::NAN;
        x.set(&Tensor::from_vec(pixels, (1, 1, 12, 12), &Device::Cpu).expect("as many values")).expect("same shape");
        kernels::tests::with_each(|set| {
            let (y, _, _) = forward_backward(&[x.clone(), weight.clone()], |v| conv2d(&v[0], &v[1], None, 1, 0), 3);
            for (i, value) in values(&y).into_iter().enumerate() {
                let (row, column) = (i / 10 % 10, i % 10);
                let holds = (3..=5).contains(&row) && (7..=9).contains(&column);
                assert_eq!(value.is_nan(), holds, "{set}: output {row}, {column}");
            }
        });
    }

    /// Through the spectrum it may spread over its example, but must not be lost, nor reach another example.
    #[test]
    fn a_nan_in_many_channels_is_in_every_window_that_holds_it() {
        let (x, weight) = (var(1, &[3, 16, 12, 12]), var(2, &[20, 16, 3, 3]));
        let mut pixels = values(&x);
        pixels[(16 + 3) * 144 + 5 * 12 + 9] = f32::NAN;
        x.set(&Tensor::from_vec(pixels, (3, 16, 12, 12), &Device::Cpu).expect("as many values")).expect("same shape");
        kernels::tests::with_each(|set| {
            let inputs = [x.clone(), weight.clone()];
            let (y, gradients, _) = forward_backward(&inputs, |v| conv2d(&v[0], &v[1], None, 1, 0), 3);
            for (i, value) in values(&y).into_iter().enumerate() {
                let (example, row, column) = (i / 2000, i / 10 % 10, i % 10);
                let holds = example == 1 && (3..=5).contains(&row) && (7..=9).contains(&column);
                assert!(value.is_nan() || !holds, "{set}: output {row}, {column} has lost it");
                assert!(!value.is_nan() || example == 1, "{set}: it reached example {example}");
            }
            let taps = values(gradients[1].as_ref().expect("a gradient for each variable"));
            let lost = taps.chunks(9).skip(3).step_by(16).flatten().filter(|tap| !tap.is_nan()).count();
            assert_eq!(lost, 0, "{set}: taps of the NaN's channel");
        });
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let x = var(1, &[2, 3, 8, 8]);
        let error = |weight: &[usize], stride, padding| {
            conv2d(&x, &var(2, weight), None, stride, padding).expect_err("does not fit").to_string()
        };
        assert!(error(&[4, 2, 3, 3], 1, 0).contains("3 channels, the weight takes 2"));
        assert!(error(&[4, 3, 9, 9], 1, 0).contains("does not fit into 8×8"));
        assert!(error(&[4, 3, 3, 2], 1, 0).contains("square"));
        assert!(error(&[4, 3, 3, 3], 0, 0).contains("stride is 0"));
        assert!(error(&[4, 3, 3, 3], 1, usize::MAX).contains("padding"));
    }
}
