//! How fast the layers are. Prints, asserts nothing: `cargo test --release -p lockstep-worker speed -- --ignored --nocapture`,
//! with `LOCKSTEP_KERNELS` and `THREADS` set as wanted.

use super::testing::{random, var};
use super::*;
use crate::dataset::Batch;
use crate::gradient::{StepContext, gradient};
use crate::model::{Model, Weights};
use candle_core::{Device, Result, Tensor, Var};
use lockstep_proto::keys::Key;
use lockstep_proto::recipe::LossName;
use lockstep_proto::recipe::model::ModelSpec;
use std::time::Instant;

const BATCH: usize = 64;

/// Seconds that this thread has computed, where the system tells and there is no other: a busy machine then matters less.
fn busy() -> Option<f64> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok().filter(|_| threads() == 1)?;
    line.split(' ').next()?.parse::<f64>().ok().map(|nanoseconds| nanoseconds / 1e9)
}

/// Seconds that `run` takes, the best of several rounds.
fn best(run: impl Fn() -> Result<()>) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..7 {
        let (start, mut runs) = (Instant::now(), 0.0);
        let before = busy();
        while start.elapsed().as_secs_f64() < 0.1 {
            run().expect("shapes that fit");
            runs += 1.0;
        }
        let spent = before.zip(busy()).map_or(start.elapsed().as_secs_f64(), |(before, after)| after - before);
        best = best.min(spent / runs);
    }
    best
}

/// Images/s of forward and backward.
fn time(name: &str, batch: usize, run: impl Fn() -> Result<()>) {
    let best = best(run);
    println!("{name:32} {:>10.0} images/s {:>8.2} µs an image", batch as f64 / best, best / batch as f64 * 1e6);
}

/// One op with a gradient that is given, not computed: `backward()` of Σ y costs candle's own ops, so both are shown.
fn op(name: &str, shape: &[usize], images: bool, f: impl Fn(&Tensor) -> Result<Tensor>) {
    let input = var(1, shape);
    let x = if images { input.detach() } else { input.as_tensor().clone() };
    time(&format!("{name} forward"), shape[0], || f(&x).map(drop));
    time(&format!("{name} forward, backward"), shape[0], || f(&x)?.backward().map(drop));
}

fn lenet(x: &Tensor, labels: &[u32], v: &[Var]) -> Result<Tensor> {
    let x = conv_relu_pool(x, &v[0], &v[1], 0)?;
    let x = conv_relu_pool(&x, &v[2], &v[3], 0)?;
    let x = relu(&linear(&x.flatten_from(1)?, &v[4], Some(&v[5]))?)?;
    let x = relu(&linear(&x, &v[6], Some(&v[7]))?)?;
    Ok(cross_entropy(&linear(&x, &v[8], Some(&v[9]))?, labels, labels.len() as f32)?.loss)
}

#[test]
#[ignore = "prints times"]
fn speed() {
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    set_threads(threads).expect("a few threads");
    println!("{} kernels, {threads} threads, batch {BATCH}", kernel_set().expect("a set that runs here"));

    let conv = |o: usize, c: usize, k: usize| (var(2, &[o, c, k, k]), var(3, &[o]));
    for (name, shape, images, (weight, bias), padding) in [
        ("conv 3→6@5 32×32", [BATCH, 3, 32, 32], true, conv(6, 3, 5), 0),
        ("conv 6→16@5 14×14", [BATCH, 6, 14, 14], false, conv(16, 6, 5), 0),
        ("conv 64→64@3 16×16", [16, 64, 16, 16], false, conv(64, 64, 3), 1),
        ("conv 256→256@3 4×4", [16, 256, 4, 4], false, conv(256, 256, 3), 1),
    ] {
        op(name, &shape, images, |x| conv2d(x, &weight, Some(&bias), 1, padding));
    }
    for (inputs, outputs) in [(400, 120), (120, 84), (84, 10)] {
        let (weight, bias) = (var(2, &[outputs, inputs]), var(3, &[outputs]));
        op(&format!("linear {inputs}→{outputs}"), &[BATCH, inputs], false, |x| linear(x, &weight, Some(&bias)));
    }
    op("relu 6×28×28", &[BATCH, 6, 28, 28], false, relu);
    op("max_pool 6×28×28", &[BATCH, 6, 28, 28], false, |x| max_pool2d(x, 2, 2, 0));
    op("avg_pool 6×28×28", &[BATCH, 6, 28, 28], false, |x| avg_pool2d(x, 2, 2, 0));
    let (weight, bias) = (var(2, &[16]), var(3, &[16]));
    op("batch_norm 16×10×10", &[BATCH, 16, 10, 10], false, |x| Ok(batch_norm(x, &weight, &bias, 1e-5)?.0));
    let examples: Vec<u32> = (0..BATCH as u32).collect();
    op("dropout 120", &[BATCH, 120], false, |x| dropout(x, 0.5, Key::new(1, "dropout", "4"), 1, &examples));

    for batch in [16, 32, 64] {
        let shapes: [&[usize]; 10] =
            [&[6, 3, 5, 5], &[6], &[16, 6, 5, 5], &[16], &[120, 400], &[120], &[84, 120], &[84], &[10, 84], &[10]];
        let weights: Vec<Var> = shapes.iter().zip(10..).map(|(shape, seed)| var(seed, shape)).collect();
        let images = Tensor::from_vec(random(1, batch * 3072), (batch, 3, 32, 32), &Device::Cpu).expect("images");
        let labels: Vec<u32> = (0..batch as u32).map(|i| i % 10).collect();
        time(&format!("LeNet, batch {batch}"), batch, || lenet(&images, &labels, &weights)?.backward().map(drop));
    }

    for text in [
        include_str!("../../../recipes/models/lenet.toml"),
        include_str!("../../../recipes/models/lenet-dropout.toml"),
        include_str!("../../../recipes/models/lenet-dropout-bn.toml"),
        include_str!("../../../recipes/models/base.toml"),
    ] {
        let spec = ModelSpec::parse(text, "speed").expect("a recipe's model");
        let model = Model::new(&spec, [3, 32, 32], 10).expect("a model that fits");
        let weights = Weights::new(&model, &model.initial(1)).expect("the model's own");
        let images = Tensor::from_vec(random(1, 16 * 3072), (16, 3, 32, 32), &Device::Cpu).expect("images");
        let labels = (0..16).map(|i| i % 10).collect();
        let shard = Batch { images, labels, examples: (0..16).collect() };
        let context = StepContext { seed: 1, epoch: 0, batch_size: 64, loss: LossName::CrossEntropy };
        let run = || gradient(&model, &weights, &shard, &context).map(drop).map_err(candle_core::Error::wrap);
        time(&format!("gradient of {}, shard of 16", model.name()), 16, run);
    }
}

/// The convolutions of base, net6 and convnet with many channels, with a shard's examples: milliseconds a shard and GF/s as
/// a direct convolution counts them.
#[test]
#[ignore = "prints times"]
fn convolutions() {
    set_threads(std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)).expect("a few threads");
    for (name, examples, channels, size, outputs, kernel, padding) in [
        ("base 2", 32, 32, 15, 64, 3, 0),
        ("base 3", 32, 64, 13, 128, 3, 0),
        ("net6 2", 16, 32, 32, 64, 3, 1),
        ("net6 3", 16, 64, 16, 128, 3, 1),
        ("net6 4", 16, 128, 16, 128, 3, 1),
        ("net6 5", 16, 128, 8, 256, 3, 1),
        ("net6 6", 16, 256, 8, 256, 3, 1),
        ("convnet 2", 25, 100, 30, 100, 5, 0),
        ("convnet 3", 25, 100, 26, 100, 5, 0),
        ("convnet 4", 25, 100, 22, 100, 5, 0),
        ("convnet 5", 25, 100, 18, 100, 5, 0),
        ("convnet 6", 25, 100, 14, 100, 5, 0),
        ("convnet 7", 25, 100, 10, 10, 5, 0),
    ] {
        let x = var(1, &[examples, channels, size, size]);
        let (weight, bias) = (var(2, &[outputs, channels, kernel, kernel]), var(3, &[outputs]));
        let places = size + 2 * padding + 1 - kernel;
        let work = 2e-9 * (examples * channels * outputs * kernel * kernel * places * places) as f64;
        let y = conv2d(&x, &weight, Some(&bias), 1, padding).expect("shapes that fit");
        let images = x.detach();
        let y_images = conv2d(&images, &weight, Some(&bias), 1, padding).expect("shapes that fit");
        let forward = best(|| conv2d(&x, &weight, Some(&bias), 1, padding).map(drop));
        let weights = best(|| y_images.backward().map(drop));
        let both = best(|| y.backward().map(drop));
        let show = |seconds: f64, times: f64| format!("{:7.2} ms {:6.0} GF/s", seconds * 1e3, times * work / seconds);
        println!(
            "{name:10} forward {} | weights {} | input and weights {}",
            show(forward, 1.0),
            show(weights, 1.0),
            show(both, 2.0)
        );
    }
}

/// A shard's gradient of each model with many channels, as a worker computes it.
#[test]
#[ignore = "prints times"]
fn models() {
    use crate::dataset::Batch;
    use crate::gradient::{StepContext, gradient};
    use crate::model::{Model, Weights};
    use lockstep_proto::recipe::model::ModelSpec;
    set_threads(std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1)).expect("a few threads");
    for (text, examples) in [
        (include_str!("../../../recipes/models/base.toml"), 32),
        (include_str!("../../../recipes/models/net6.toml"), 16),
        (include_str!("../../../recipes/models/convnet.toml"), 25),
    ] {
        let spec = ModelSpec::parse(text, "recipe").expect("a readable file");
        let model = Model::new(&spec, [3, 32, 32], 10).expect("a model that fits");
        let weights = Weights::new(&model, &model.initial(1)).expect("the model's own");
        let images = Tensor::from_vec(random(1, examples * 3072), (examples, 3, 32, 32), &Device::Cpu).expect("images");
        let labels = (0..examples as u32).map(|i| i % 10).collect();
        let batch = Batch { images, labels, examples: (0..examples as u32).collect() };
        let context = StepContext { seed: 1, epoch: 0, batch_size: 4 * examples, loss: LossName::CrossEntropy };
        time(&spec.name, examples, || {
            gradient(&model, &weights, &batch, &context).map(drop).map_err(candle_core::Error::wrap)
        });
    }
}
