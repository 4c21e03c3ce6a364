//! The op against the reference, on every kernel set and number of threads.

use super::super::super::collector::Collector;
use super::super::super::reference::{self, Sizes};
use super::super::super::testing::{check, distance, forward_backward, random, values, var, wide};
use super::*;
use candle_core::{Device, Var};

const fn sizes(n: usize, c: usize, (height, width): (usize, usize), window: [usize; 3]) -> Sizes {
    let [outputs, kernel, padding] = window;
    Sizes { examples: n, channels: c, height, width, outputs, kernel, stride: 1, padding }
}

const CASES: [Sizes; 8] = [
    // LeNet's two, in blocks that do not divide the batch
    sizes(5, 6, (14, 14), [16, 5, 0]),
    sizes(3, 3, (32, 32), [6, 5, 0]),
    // odd rows and columns that no pool covers, padding, even kernels, outputs beyond a register
    sizes(3, 2, (7, 9), [1, 1, 0]),
    sizes(2, 5, (13, 18), [7, 3, 1]),
    sizes(2, 2, (12, 11), [19, 4, 2]),
    // windows and frames longer than a tile, rows longer than two tiles
    sizes(2, 33, (6, 7), [9, 3, 1]),
    sizes(2, 3, (9, 75), [4, 7, 1]),
    // more blocks than there may be
    sizes(70, 1, (5, 5), [2, 2, 0]),
];

const EPS: f64 = 1e-5;

fn inputs(s: &Sizes) -> [Var; 5] {
    let weight = [s.outputs, s.channels, s.kernel, s.kernel];
    let image = [s.examples, s.channels, s.height, s.width];
    [var(1, &image), var(2, &weight), var(3, &[s.outputs]), var(4, &[s.outputs]), var(5, &[s.outputs])]
}

fn layers<'a>(v: [&'a Tensor; 4], padding: usize) -> ConvNorm<'a> {
    let [weight, bias, gain, offset] = v;
    ConvNorm { weight, bias, padding, norm: [gain, offset], eps: EPS, targets: None }
}

/// The gradient of the convolution's bias is zero: it has a test of its own.
#[test]
fn agrees_with_the_reference() {
    for s in CASES {
        let [x, weight, bias, gain, offset] = inputs(&s);
        let biases = wide(&bias);
        let bias = bias.detach();
        eprintln!("{s:?}");
        check(
            &[x, weight, gain, offset],
            |v| Ok(conv_norm_relu_pool(&v[0], &layers([&v[1], &bias, &v[2], &v[3]], s.padding))?.0),
            |v, dy| pooled(&s, v, &biases, dy),
            3e-6,
        );
    }
}

/// The four layers' references, one behind the other; x, weight, BatchNorm's weight and bias.
fn pooled(s: &Sizes, v: &[Vec<f64>], bias: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<Vec<f64>>) {
    let (height, width) = s.out();
    let sizes = (s.outputs, height * width);
    let z = reference::conv2d(s, &v[0], &v[1], bias);
    let all = reference::batch_norm(sizes, &z, &v[2], &v[3], EPS, None);
    let (mut y, mut spread) = (Vec::new(), vec![0.0; all.len()]);
    for plane in 0..s.examples * s.outputs {
        for (row, column) in (0..height / 2).flat_map(|row| (0..width / 2).map(move |column| (row, column))) {
            let place = |i: usize| (plane * height + 2 * row + i / 2) * width + 2 * column + i % 2;
            let best = (0..4).map(place).reduce(|best, at| if all[at] > all[best] { at } else { best });
            let best = best.expect("four places");
            if all[best] > 0.0 {
                spread[best] = dy[y.len()];
            }
            y.push(all[best].max(0.0));
        }
    }
    let [dz, dgain, doffset] = reference::batch_norm_backward(sizes, &z, &v[2], EPS, &spread);
    let mut gradients = reference::conv2d_backward(s, &v[0], &v[1], &dz);
    gradients.truncate(2);
    gradients.extend([dgain, doffset]);
    (y, gradients)
}

#[test]
fn statistics_are_batch_norms_own_and_targets_get_what_candle_would() {
    for s in CASES {
        let v = inputs(&s);
        kernels::tests::with_each(|set| {
            let [x, weight, bias, gain, offset] = &v;
            let given = || layers([weight, bias, gain, offset], s.padding);
            let (_, ours) = conv_norm_relu_pool(x, &given()).expect("shapes that fit");
            let z = conv2d(x, weight, Some(bias), 1, s.padding).expect("shapes that fit");
            let (_, theirs) = batch_norm(&z, gain, offset, EPS).expect("shapes that fit");
            let f64s = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
            assert!(distance(&f64s(&ours.mean), &f64s(&theirs.mean)) < 1e-6, "{set}: means of {s:?}");
            assert!(distance(&f64s(&ours.variance), &f64s(&theirs.variance)) < 1e-6, "{set}: variances of {s:?}");

            let op = |v: &[Var]| Ok(conv_norm_relu_pool(&v[0], &layers([&v[1], &v[2], &v[3], &v[4]], s.padding))?.0);
            let (_, gradients, _) = forward_backward(&v, op, 6);
            let all: Vec<f32> = gradients[1..].iter().flat_map(|g| values(g.as_ref().expect("a gradient"))).collect();
            let (weights, o) = (weight.elem_count(), s.outputs);
            assert!(all[weights..weights + o].iter().all(|bias| bias.abs() < 1e-6), "{set}: bias of {s:?}");
            let collector = Collector::new(all.len());
            let target = |from: usize, len: usize| {
                collector.target(from..from + len, from + len..from + len + o).expect("ranges of the vector")
            };
            let targets = Some([target(0, weights), target(weights + o, o)]);
            let with = |_: &[Var]| Ok(conv_norm_relu_pool(x, &ConvNorm { targets: targets.clone(), ..given() })?.0);
            let (_, gradients, _) = forward_backward(&v, with, 6);
            assert!(gradients[0].is_some() && gradients[1..].iter().all(Option::is_none));
            // as numbers: candle adds to zeros, which takes the sign of −0
            assert!(collector.clone().take() == all, "{set}: targets of {s:?}");
        });
    }
}

/// x alternates, so that every output is ± 1 after BatchNorm: windows hold equals, and half of the channels are all
/// at most 0 behind a bias.
#[test]
fn the_first_of_equals_wins_and_zero_passes_nothing() {
    let stripes: Vec<f32> = (0..36).map(|i| if i / 6 % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let given = |values: &[f32]| Var::from_vec(values.to_vec(), values.len(), &Device::Cpu).expect("a vector");
    let x = Var::from_vec(stripes, (1, 1, 6, 6), &Device::Cpu).expect("an image");
    let weight = Var::from_vec(vec![1.0_f32, 1.0], (2, 1, 1, 1), &Device::Cpu).expect("two weights");
    // gain 1 and offset −1 make 1 exactly what eps leaves below it: stopped; the other output keeps the upper left
    let (bias, gain, offset) = (given(&[0.0, 0.0]), given(&[1.0, 1.0]), given(&[0.0, -1.0]));
    kernels::tests::with_each(|set| {
        let op = |v: &[Var]| Ok(conv_norm_relu_pool(&v[0], &layers([&v[1], &bias, &v[2], &v[3]], 0))?.0);
        let inputs = [x.clone(), weight.clone(), gain.clone(), offset.clone()];
        let (y, gradients, dy) = forward_backward(&inputs, op, 4);
        let (y, dx) = (values(&y), values(gradients[0].as_ref().expect("a gradient")));
        assert!(y[..9].iter().all(|y| (y - 1.0).abs() < 1e-4) && y[9..].iter().all(|&y| y == 0.0), "{set}: {y:?}");
        let (sum, count) = (dy[..9].iter().sum::<f64>(), 36.0);
        for (at, &dx) in dx.iter().enumerate() {
            let (row, column) = (at / 6, at % 6);
            let kept = if row % 2 + column % 2 == 0 { dy[row / 2 * 3 + column / 2] } else { 0.0 };
            // every kept x̂ is 1
            let expected = kept - sum / count - if row % 2 == 0 { sum / count } else { -sum / count };
            assert!((f64::from(dx) - expected).abs() < 1e-4, "{set}: {dx} at {at}, not {expected}");
        }
        let offsets = values(gradients[3].as_ref().expect("a gradient"));
        assert!((f64::from(offsets[0]) - sum).abs() < 1e-5 && offsets[1] == 0.0, "{set}: {offsets:?}");
    });
}

#[test]
fn a_nan_reaches_every_value() {
    let (weight, v) = (var(2, &[2, 2, 1, 1]), var(3, &[2]));
    let mut pixels = random(1, 2 * 2 * 16);
    pixels[5] = f32::NAN;
    let x = Tensor::from_vec(pixels, (2, 2, 4, 4), &Device::Cpu).expect("as many values");
    kernels::tests::with_each(|set| {
        let (y, statistics) = conv_norm_relu_pool(&x, &layers([&weight, &v, &v, &v], 0)).expect("shapes that fit");
        assert!(values(&y).iter().all(|y| y.is_nan()), "{set}");
        assert!(statistics.mean.iter().chain(&statistics.variance).all(|value| value.is_nan()), "{set}");
    });
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let x = Tensor::from_vec(random(1, 2 * 3 * 81), (2, 3, 9, 9), &Device::Cpu).expect("as many values");
    let error = |weight: &[usize], bias: usize, norm: usize| {
        let (weight, bias, norm) = (var(2, weight), var(3, &[bias]), var(4, &[norm]));
        let result = conv_norm_relu_pool(&x, &layers([&weight, &bias, &norm, &norm], 0));
        result.expect_err("does not fit").to_string()
    };
    assert!(error(&[4, 2, 3, 3], 4, 4).contains("3 channels, the weight takes 2"));
    assert!(error(&[4, 3, 3, 3], 3, 4).contains("bias has shape [3]"));
    assert!(error(&[4, 3, 3, 3], 4, 5).contains("weight has shape [5]"));
    assert!(error(&[4, 3, 9, 9], 4, 4).contains("does not fit"));
}
