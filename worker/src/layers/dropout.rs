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

#[cfg(test)]
mod tests {
    use super::super::testing::{forward_backward, values, var};
    use super::*;
    use candle_core::{DType, Device};

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).expect("ones")
    }

    fn key() -> Key {
        Key::new(7, "dropout", "net.6")
    }

    #[test]
    fn keeps_as_many_as_it_says_scaled() {
        let examples: Vec<u32> = (0..100).collect();
        for p in [0.1, 0.5, 0.8] {
            let y = values(&dropout(&ones(&[100, 1000]), p, key(), 3, &examples).expect("shapes that fit"));
            let kept = y.iter().filter(|&&y| y != 0.0).count() as f64;
            // five standard deviations of a binomial distribution
            assert!((kept - 1e5 * (1.0 - p)).abs() < 5.0 * (1e5 * p * (1.0 - p)).sqrt(), "p {p}: {kept} kept");
            let scale = (1.0 / (1.0 - p)) as f32;
            assert!(y.iter().all(|&y| y == 0.0 || y == scale), "p {p}");
        }
    }

    #[test]
    fn an_example_is_dropped_alike_in_every_batch() {
        let x = ones(&[4, 3, 50]);
        let rows = |examples: &[u32], epoch, key| {
            let x = x.narrow(0, 0, examples.len()).expect("at most four");
            let y = values(&dropout(&x, 0.5, key, epoch, examples).expect("shapes that fit"));
            y.chunks(150).map(<[f32]>::to_vec).collect::<Vec<_>>()
        };
        let four = rows(&[10, 11, 12, 13], 1, key());
        assert_eq!(rows(&[12], 1, key())[0], four[2]);
        assert_eq!(rows(&[13, 10], 1, key()), [four[3].clone(), four[0].clone()]);
        assert_ne!(four[0], four[1]);
        assert_ne!(rows(&[10], 2, key())[0], four[0]);
        assert_ne!(rows(&[10], 1, Key::new(7, "dropout", "net.9"))[0], four[0]);
    }

    #[test]
    fn draws_are_the_streams_own() {
        let y = values(&dropout(&ones(&[1, 9]), 0.3, key(), 5, &[42]).expect("shapes that fit"));
        let mut stream = key().stream(5, 42, 0);
        for y in y {
            assert_eq!(y != 0.0, f64::from(stream.unit()) >= 0.3);
        }
    }

    #[test]
    fn channels_are_dropped_whole_and_the_gradient_follows() {
        // more than a part, and a part does not divide the plane
        let x = [var(1, &[5, 4, 31, 37])];
        let (y, dx, dy) = forward_backward(&x, |v| dropout2d(&v[0], 0.5, key(), 1, &[3, 1, 4, 1, 5]), 2);
        let (x, y, dx) = (values(&x[0]), values(&y), values(dx[0].as_ref().expect("a gradient")));
        let mut kept = Vec::new();
        for (c, y) in y.chunks(31 * 37).enumerate() {
            let from = c * 31 * 37;
            let scale = if y[0] == 0.0 { 0.0 } else { 2.0 };
            assert!(y.iter().zip(&x[from..]).all(|(y, x)| *y == x * scale));
            assert!(
                dx[from..]
                    .iter()
                    .zip(&dy[from..])
                    .take(31 * 37)
                    .all(|(dx, dy)| f64::from(*dx) == dy * f64::from(scale))
            );
            kept.push(scale != 0.0);
        }
        assert!(kept.contains(&true) && kept.contains(&false));
        assert_eq!(kept[4..8], kept[12..16], "example 1 comes twice");
    }

    #[test]
    fn the_ends_and_what_is_refused() {
        let x = ones(&[2, 3]);
        assert_eq!(values(&dropout(&x, 0.0, key(), 1, &[1, 2]).expect("p = 0")), [1.0; 6]);
        assert_eq!(values(&dropout(&x, 1.0, key(), 1, &[1, 2]).expect("p = 1")), [0.0; 6]);
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(
                dropout(&x, p, key(), 1, &[1, 2]).expect_err("no probability").to_string().contains("between 0 and 1")
            );
        }
        assert!(
            dropout(&x, 0.5, key(), 1, &[1])
                .expect_err("one of two")
                .to_string()
                .contains("1 example numbers for 2 rows")
        );
        assert!(dropout2d(&x, 0.5, key(), 1, &[1, 2]).is_err());
    }
}
