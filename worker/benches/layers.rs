//! How long the layers, whole gradients and the making of batches take: `cargo bench -p lockstep-worker`. `LOCKSTEP_KERNELS` forces a kernel set, and
//! `THREADS` gives more than one compute thread. Each time is that of one call; throughput counts images.

use candle_core::{Device, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lockstep_proto::keys::Key;
use lockstep_proto::recipe::model::ModelSpec;
use lockstep_proto::recipe::{DataSettings, LossName};
use lockstep_proto::records::{PIXELS, Split};
use lockstep_worker::dataset::{Batch, Batches, Purpose};
use lockstep_worker::gradient::{StepContext, gradient};
use lockstep_worker::layers::{
    batch_norm, conv_relu_pool, conv2d, cross_entropy, dropout, kernel_set, linear, max_pool2d, relu, set_threads,
};
use lockstep_worker::model::{Model, Weights};

/// A shard of the recipes' batch of 64.
const SHARD: usize = 16;

fn var(seed: u64, shape: &[usize]) -> Var {
    let mut stream = Key::new(seed, "bench", "").stream(0, 0, 0);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.range(-1.0, 1.0)).collect();
    Var::from_vec(values, shape, &Device::Cpu).expect("as many values as the shape says")
}

/// An op forward, and forward and backward (which includes candle's own work: a sum and the gradients' zeros).
fn op(c: &mut Criterion, name: &str, x: &Tensor, op: impl Fn(&Tensor) -> candle_core::Result<Tensor>) {
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(x.dims()[0] as u64));
    group.bench_function("forward", |b| b.iter(|| op(x).expect("shapes that fit")));
    group.bench_function("forward and backward", |b| {
        b.iter(|| op(x).and_then(|y| y.backward()).expect("shapes that fit"));
    });
    group.finish();
}

fn layers(c: &mut Criterion) {
    for (outputs, channels, kernel, size, padding) in
        [(6, 3, 5, 32, 0), (16, 6, 5, 14, 0), (64, 64, 3, 16, 1), (100, 100, 5, 8, 2)]
    {
        let x = var(1, &[SHARD, channels, size, size]);
        // the first layer's images get no gradient
        let x = if channels == 3 { x.detach() } else { x.as_tensor().clone() };
        let (weight, bias) = (var(2, &[outputs, channels, kernel, kernel]), var(3, &[outputs]));
        let name = format!("{channels}→{outputs}@{kernel} {size}×{size}");
        op(c, &format!("conv2d {name}"), &x, |x| conv2d(x, &weight, Some(&bias), 1, padding));
        op(c, &format!("conv_relu_pool {name}"), &x, |x| conv_relu_pool(x, &weight, &bias, padding));
    }
    for (inputs, outputs) in [(400, 120), (120, 84), (84, 10)] {
        let (weight, bias) = (var(2, &[outputs, inputs]), var(3, &[outputs]));
        op(c, &format!("linear {inputs}→{outputs}"), &var(1, &[SHARD, inputs]), |x| linear(x, &weight, Some(&bias)));
    }
    let image = var(1, &[SHARD, 16, 10, 10]);
    let (weight, bias) = (var(2, &[16]), var(3, &[16]));
    op(c, "batch_norm 16×10×10", &image, |x| Ok(batch_norm(x, &weight, &bias, 1e-5)?.0));
    op(c, "relu 16×10×10", &image, relu);
    op(c, "max_pool2d 16×10×10", &image, |x| max_pool2d(x, 2, 2, 0));
    let examples: Vec<u32> = (0..SHARD as u32).collect();
    op(c, "dropout 120", &var(1, &[SHARD, 120]), |x| dropout(x, 0.5, Key::new(1, "dropout", "4"), 1, &examples));
    let labels: Vec<u32> = (0..SHARD as u32).map(|i| i % 10).collect();
    op(c, "cross_entropy 10", &var(1, &[SHARD, 10]), |x| Ok(cross_entropy(x, &labels, 64.0)?.loss));
}

fn gradients(c: &mut Criterion) {
    for text in [
        include_str!("../../recipes/models/lenet.toml"),
        include_str!("../../recipes/models/lenet-dropout.toml"),
        include_str!("../../recipes/models/lenet-dropout-bn.toml"),
        include_str!("../../recipes/models/base.toml"),
        include_str!("../../recipes/models/net6.toml"),
        include_str!("../../recipes/models/convnet.toml"),
    ] {
        let spec = ModelSpec::parse(text, "bench").expect("a recipe's model");
        let model = Model::new(&spec, [3, 32, 32], 10).expect("a model that fits");
        let weights = Weights::new(&model, &model.initial(1)).expect("the model's own");
        let images = var(1, &[SHARD, 3, 32, 32]).detach();
        let shard = Batch {
            images,
            labels: (0..SHARD as u32).map(|i| i % 10).collect(),
            examples: (0..SHARD as u32).collect(),
        };
        let context = StepContext { seed: 1, epoch: 0, batch_size: 4 * SHARD, loss: LossName::CrossEntropy };
        let mut group = c.benchmark_group("gradient");
        // slow models: ten calls are seconds
        group.sample_size(10).throughput(Throughput::Elements(SHARD as u64));
        group.bench_function(model.name(), |b| {
            b.iter(|| gradient(&model, &weights, &shard, &context).expect("a good shard"));
        });
        group.finish();
    }
}

/// A shard's images through each augmentation alone, and through all. `plain` is what the others include.
fn batches(c: &mut Criterion) {
    let mut bytes = Key::new(1, "bench", "images").stream(0, 0, 0);
    let count = 10 * SHARD;
    let split = Split {
        pixels: (0..count * PIXELS).map(|_| bytes.below(256) as u8).collect(),
        labels: (0..count).map(|i| (i % 10) as u8).collect(),
    };
    let off = DataSettings::default();
    let all = DataSettings {
        crop_padding: 4,
        horizontal_flip: 0.5,
        vertical_flip: 0.2,
        rotation: 15.0,
        translate: [0.1, 0.3],
        scale: [1.1, 1.2],
        brightness: 0.3,
        contrast: 0.3,
        saturation: 0.3,
        hue: 0.1,
        ..off.clone()
    };
    let mut group = c.benchmark_group("batch");
    group.throughput(Throughput::Elements(SHARD as u64));
    for (name, settings) in [
        ("plain", off.clone()),
        ("crop", DataSettings { crop_padding: 4, ..off.clone() }),
        ("horizontal flip", DataSettings { horizontal_flip: 1.0, ..off.clone() }),
        ("vertical flip", DataSettings { vertical_flip: 1.0, ..off.clone() }),
        ("affine", DataSettings { rotation: 15.0, translate: [0.1, 0.3], scale: [1.1, 1.2], ..off.clone() }),
        ("brightness", DataSettings { brightness: 0.3, ..off.clone() }),
        ("contrast", DataSettings { contrast: 0.3, ..off.clone() }),
        ("saturation", DataSettings { saturation: 0.3, ..off.clone() }),
        ("hue", DataSettings { hue: 0.1, ..off }),
        ("all", all),
    ] {
        let batches = Batches::new(&settings, 1);
        let mut first = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                // other images each time, so that their draws are not the branch predictor's
                first = (first + SHARD) % count;
                let examples: Vec<u32> = (first as u32..(first + SHARD) as u32).collect();
                batches.batch(&split, &examples, Purpose::Train { epoch: 0 }).expect("good examples")
            });
        });
    }
    group.finish();
}

fn all(c: &mut Criterion) {
    let threads = std::env::var("THREADS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    set_threads(threads).expect("a few threads");
    eprintln!("{} kernels, {threads} threads, shards of {SHARD}", kernel_set().expect("a set that runs here"));
    batches(c);
    layers(c);
    gradients(c);
}

criterion_group!(benches, all);
criterion_main!(benches);
