//! dropout and dropout2d, drawn by key: whoever computes an example, and in whatever batch, drops the same elements.

use super::{operand, threads};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use lockstep_proto::keys::Key;

/// Drops each element with probability `p` and scales the others by 1 / (1 − p) (`torch.nn.Dropout` in training).
/// x is (N, …); row i draws from `key.stream(epoch, examples[i], 0)`, one draw an element.
///
/// # Errors
/// `p` outside 0..=1, as many examples as rows not given, or not f32 on the CPU.
pub fn dropout(x: &Tensor, p: f64, key: Key, epoch: u32, examples: &[u32]) -> Result<Tensor> {
    let Some(&rows) = x.dims().first() else { bail!("dropout: the input is a scalar: it must be (N, …)") };
    let draws = x.elem_count().checked_div(rows).unwrap_or(0);
    apply("dropout", x, p, key, (epoch, examples), draws)
}

/// Drops each channel with probability `p` and scales the others by 1 / (1 − p) (`torch.nn.Dropout2d` in training).
/// x is (N, C, H, W); example i draws from `key.stream(epoch, examples[i], 0)`, one draw a channel.
///
/// # Errors
/// As [`dropout`].
pub fn dropout2d(x: &Tensor, p: f64, key: Key, epoch: u32, examples: &[u32]) -> Result<Tensor> {
    let &[_, channels, _, _] = x.dims() else {
        bail!("dropout2d: the input has shape {:?}: it must be (N, C, H, W)", x.dims())
    };
    apply("dropout2d", x, p, key, (epoch, examples), channels)
}

fn apply(op: &'static str, x: &Tensor, p: f64, key: Key, rows: (u32, &[u32]), draws: usize) -> Result<Tensor> {
    let (epoch, examples) = rows;
    if !(0.0..=1.0).contains(&p) {
        bail!("{op}: p is {p}: a probability lies between 0 and 1")
    }
    let count = x.dims().first().copied().unwrap_or(0);
    if count != examples.len() {
        bail!("{op}: {} example numbers for {count} rows: give one a row", examples.len())
    }
    if p == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let mut scales = vec![0.0_f32; examples.len() * draws];
    // p = 1 keeps nothing: no infinite scale
    let keep = if p < 1.0 { (1.0 / (1.0 - p)) as f32 } else { 0.0 };
    threads::for_each_chunk(&mut scales, draws, |row, scales| {
        let mut stream = key.stream(epoch, examples[row], 0);
        for scale in scales {
            *scale = if f64::from(stream.unit()) >= p { keep } else { 0.0 };
        }
    });
    let repeat = x.elem_count() / scales.len();
    x.contiguous()?.apply_op1(Dropout { op, scales, repeat })
}

struct Dropout {
    op: &'static str,
    /// 0 or 1 / (1 − p), each for `repeat` elements in turn. Kept for the backward pass: drawing costs more than reading.
    scales: Vec<f32>,
    repeat: usize,
}

impl Dropout {
    fn scale(&self, x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len()];
        // a multiple of `repeat`, so that each part starts with a fresh scale
        let chunk = operand::ELEMENTS.div_ceil(self.repeat) * self.repeat;
        threads::for_each_chunk(&mut y, chunk, |i, y| {
            let x = &x[i * chunk..][..y.len()];
            let scales = &self.scales[i * chunk / self.repeat..];
            if self.repeat == 1 {
                for ((y, &x), &scale) in y.iter_mut().zip(x).zip(scales) {
                    *y = x * scale;
                }
            } else {
                for ((y, x), &scale) in y.chunks_mut(self.repeat).zip(x.chunks(self.repeat)).zip(scales) {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = x * scale;
                    }
                }
            }
        });
        y
    }
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = operand::slice(self.op, x, layout)?;
        Ok((CpuStorage::F32(self.scale(x)), layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = operand::read(self.op, dy, |dy| Ok(self.scale(dy)))?;
        operand::tensor_like(dx, x).map(Some)
    }
}
