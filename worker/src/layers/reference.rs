//! Plain f64 versions of the ops, for tests: loops as in the definitions, no blocking, nothing shared with the kernels.

/// Sizes of a convolution or pool, as its arguments say them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) examples: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) outputs: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) padding: usize,
}

impl Sizes {
    pub(super) fn out(&self) -> (usize, usize) {
        let places = |size| (size + 2 * self.padding - self.kernel) / self.stride + 1;
        (places(self.height), places(self.width))
    }

    /// The pixel (index in its plane) under (ky, kx) of place (oy, ox); none in the padding.
    fn pixel(&self, (oy, ox): (usize, usize), (ky, kx): (usize, usize)) -> Option<usize> {
        let y = (oy * self.stride + ky).checked_sub(self.padding).filter(|&y| y < self.height)?;
        let x = (ox * self.stride + kx).checked_sub(self.padding).filter(|&x| x < self.width)?;
        Some(y * self.width + x)
    }

    /// Calls `f(y index, x index, weight index)` for each product of a convolution.
    fn each_product(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (height, width, k) = (self.out().0, self.out().1, self.kernel);
        for y in 0..self.examples * self.outputs * height * width {
            let (n, o, place) =
                (y / width / height / self.outputs, y / width / height % self.outputs, (y / width % height, y % width));
            for tap in 0..self.channels * k * k {
                let c = tap / k / k;
                if let Some(pixel) = self.pixel(place, (tap / k % k, tap % k)) {
                    let x = (n * self.channels + c) * self.height * self.width + pixel;
                    f(y, x, o * self.channels * k * k + tap);
                }
            }
        }
    }
}

pub(super) fn conv2d(s: &Sizes, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let plane = s.out().0 * s.out().1;
    let mut y: Vec<f64> = (0..s.examples * s.outputs * plane).map(|i| bias[i / plane % s.outputs]).collect();
    s.each_product(|at, i, k| y[at] += x[i] * weight[k]);
    y
}

/// [dx, dweight, dbias]
pub(super) fn conv2d_backward(s: &Sizes, x: &[f64], weight: &[f64], dy: &[f64]) -> Vec<Vec<f64>> {
    let plane = s.out().0 * s.out().1;
    let (mut dx, mut dweight, mut dbias) = (vec![0.0; x.len()], vec![0.0; weight.len()], vec![0.0; s.outputs]);
    s.each_product(|at, i, k| {
        dx[i] += dy[at] * weight[k];
        dweight[k] += dy[at] * x[i];
    });
    dy.iter().enumerate().for_each(|(i, dy)| dbias[i / plane % s.outputs] += dy);
    vec![dx, dweight, dbias]
}

/// One value a window, from its pixels (none where there is padding).
pub(super) fn pool(s: &Sizes, x: &[f64], value: impl Fn(&[Option<f64>]) -> f64) -> Vec<f64> {
    let ((height, width), k, plane) = (s.out(), s.kernel, s.height * s.width);
    let window = |y: usize| {
        let (nc, place) = (y / width / height, (y / width % height, y % width));
        let pixel = |tap| s.pixel(place, (tap / k, tap % k)).map(|pixel| x[nc * plane + pixel]);
        (0..k * k).map(pixel).collect::<Vec<_>>()
    };
    (0..s.examples * s.channels * height * width).map(|y| value(&window(y))).collect()
}

pub(super) fn max(window: &[Option<f64>]) -> f64 {
    window.iter().flatten().copied().fold(f64::NEG_INFINITY, f64::max)
}

pub(super) fn mean(window: &[Option<f64>]) -> f64 {
    window.iter().flatten().sum::<f64>() / window.len() as f64
}

pub(super) fn linear(inputs: usize, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let row = |x: &[f64]| {
        let dot = |w: &[f64]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        weight.chunks(inputs).zip(bias).map(|(w, bias)| dot(w) + bias).collect::<Vec<_>>()
    };
    x.chunks(inputs).flat_map(row).collect()
}

/// [dx, dweight, dbias]
pub(super) fn linear_backward(inputs: usize, x: &[f64], weight: &[f64], dy: &[f64]) -> Vec<Vec<f64>> {
    let outputs = weight.len() / inputs;
    let (mut dx, mut dweight, mut dbias) = (vec![0.0; x.len()], vec![0.0; weight.len()], vec![0.0; outputs]);
    for (n, dy) in dy.chunks(outputs).enumerate() {
        for (o, dy) in dy.iter().enumerate() {
            dbias[o] += dy;
            for i in 0..inputs {
                dx[n * inputs + i] += dy * weight[o * inputs + i];
                dweight[o * inputs + i] += dy * x[n * inputs + i];
            }
        }
    }
    vec![dx, dweight, dbias]
}

/// x is (N, `channels`, `plane`); statistics of the batch unless given as (mean, variance).
pub(super) fn batch_norm(
    (channels, plane): (usize, usize),
    x: &[f64],
    weight: &[f64],
    bias: &[f64],
    eps: f64,
    given: Option<(&[f64], &[f64])>,
) -> Vec<f64> {
    let channel = |i: usize| i / plane % channels;
    let (means, variances): (Vec<f64>, Vec<f64>) = match given {
        Some((means, variances)) => (means.to_vec(), variances.to_vec()),
        None => (0..channels)
            .map(|c| {
                let values: Vec<f64> = (0..x.len()).filter(|&i| channel(i) == c).map(|i| x[i]).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64)
            })
            .unzip(),
    };
    let normal = |i: usize| (x[i] - means[channel(i)]) / (variances[channel(i)] + eps).sqrt();
    (0..x.len()).map(|i| normal(i) * weight[channel(i)] + bias[channel(i)]).collect()
}

/// [dx, dweight, dbias] of [`batch_norm`] with the batch's statistics (Ioffe and Szegedy 2015, section 3).
pub(super) fn batch_norm_backward(
    (channels, plane): (usize, usize),
    x: &[f64],
    weight: &[f64],
    eps: f64,
    dy: &[f64],
) -> [Vec<f64>; 3] {
    let (mut dx, mut dweight, mut dbias) = (vec![0.0; x.len()], vec![0.0; channels], vec![0.0; channels]);
    for c in 0..channels {
        let all: Vec<usize> = (0..x.len()).filter(|&i| i / plane % channels == c).collect();
        let mean_of = |value: &dyn Fn(usize) -> f64| all.iter().map(|&i| value(i)).sum::<f64>() / all.len() as f64;
        let mean = mean_of(&|i| x[i]);
        let deviation = (mean_of(&|i| (x[i] - mean).powi(2)) + eps).sqrt();
        let normal = |i: usize| (x[i] - mean) / deviation;
        let (mean_dy, mean_product) = (mean_of(&|i| dy[i]), mean_of(&|i| dy[i] * normal(i)));
        for &i in &all {
            dx[i] = weight[c] / deviation * (dy[i] - mean_dy - normal(i) * mean_product);
        }
        (dweight[c], dbias[c]) = (mean_product * all.len() as f64, mean_dy * all.len() as f64);
    }
    [dx, dweight, dbias]
}

pub(super) fn cross_entropy(classes: usize, logits: &[f64], labels: &[u32]) -> f64 {
    let example =
        |(logits, &label): (&[f64], &u32)| logits.iter().map(|l| (l - logits[label as usize]).exp()).sum::<f64>().ln();
    logits.chunks(classes).zip(labels).map(example).sum()
}

pub(super) fn softmax(classes: usize, logits: &[f64]) -> Vec<f64> {
    let example = |logits: &[f64]| {
        let sum: f64 = logits.iter().map(|l| l.exp()).sum();
        logits.iter().map(|l| l.exp() / sum).collect::<Vec<_>>()
    };
    logits.chunks(classes).flat_map(example).collect()
}

/// Mean absolute errors against the one-hot labels, of answers or probabilities.
pub(super) fn l1(classes: usize, answers: &[f64], labels: &[u32]) -> f64 {
    let target = |i: usize| f64::from(u8::from(i % classes == labels[i / classes] as usize));
    answers.iter().enumerate().map(|(i, answer)| (answer - target(i)).abs()).sum::<f64>() / classes as f64
}

/// The gradient of Σ cotangent × f(inputs) by central differences: the oracle of the references' own gradients, and of ops
/// that have none here.
pub(super) fn differences(
    f: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    inputs: &[Vec<f64>],
    cotangent: &[f64],
) -> Vec<Vec<f64>> {
    let step = 1e-5;
    let mut inputs = inputs.to_vec();
    let mut gradients = Vec::new();
    for input in 0..inputs.len() {
        let mut gradient = Vec::new();
        for i in 0..inputs[input].len() {
            let at = inputs[input][i];
            let mut value = |x: f64| {
                inputs[input][i] = x;
                f(&inputs).iter().zip(cotangent).map(|(y, c)| y * c).sum::<f64>()
            };
            gradient.push((value(at + step) - value(at - step)) / (2.0 * step));
            inputs[input][i] = at;
        }
        gradients.push(gradient);
    }
    gradients
}

#[cfg(test)]
mod tests {
    use super::super::testing::{distance, random};
    use super::*;

    fn f64s(values: Vec<f32>) -> Vec<f64> {
        values.into_iter().map(f64::from).collect()
    }

    #[test]
    fn gradients_of_the_references_agree_with_differences() {
        let s = Sizes { examples: 2, channels: 2, height: 5, width: 4, outputs: 3, kernel: 3, stride: 2, padding: 1 };
        let (height, width) = s.out();
        let inputs = [f64s(random(1, 2 * 2 * 20)), f64s(random(2, 3 * 2 * 9)), f64s(random(3, 3))];
        let dy = f64s(random(4, 2 * 3 * height * width));
        let ours = conv2d_backward(&s, &inputs[0], &inputs[1], &dy);
        let theirs = differences(|i| conv2d(&s, &i[0], &i[1], &i[2]), &inputs, &dy);
        ours.iter().zip(&theirs).for_each(|(a, b)| assert!(distance(a, b) < 1e-9));

        let inputs = [f64s(random(5, 3 * 4)), f64s(random(6, 2 * 4)), f64s(random(7, 2))];
        let dy = f64s(random(8, 3 * 2));
        let ours = linear_backward(4, &inputs[0], &inputs[1], &dy);
        let theirs = differences(|i| linear(4, &i[0], &i[1], &i[2]), &inputs, &dy);
        ours.iter().zip(&theirs).for_each(|(a, b)| assert!(distance(a, b) < 1e-9));

        let inputs = [f64s(random(9, 3 * 2 * 5)), f64s(random(10, 2)), f64s(random(11, 2))];
        let dy = f64s(random(12, 3 * 2 * 5));
        let ours = batch_norm_backward((2, 5), &inputs[0], &inputs[1], 1e-3, &dy);
        let theirs = differences(|i| batch_norm((2, 5), &i[0], &i[1], &i[2], 1e-3, None), &inputs, &dy);
        ours.iter().zip(&theirs).for_each(|(a, b)| assert!(distance(a, b) < 1e-8));
    }
}
