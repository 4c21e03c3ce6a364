//! The GPU against the CPU, whose kernels have PyTorch for an oracle: the same shard, gradients and logits that agree to rounding, images
//! that agree to the bit. Without a GPU these run on the stand-ins of tests/standin, if the machine has those.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use lockstep_proto::keys::Key;
use lockstep_proto::recipe::model::ModelSpec;
use lockstep_proto::recipe::{DataSettings, LossName};
use lockstep_proto::records::{Records, Split};

use super::convolution::Convolution;
use super::{Gpu, Resident, count};
use crate::dataset::{Batch, Batches, IMAGE, Purpose};
use crate::device::Processor;
use crate::evaluate::{AsTrained, EvaluationContext, evaluate};
use crate::gradient::{Gradient, StepContext, gradient};
use crate::model::{Model, Shape, Weights};

const SEED: u64 = 5;

/// A GPU, with products in full f32: TF32 would hide mistakes in the last digits.
fn gpu() -> Option<Arc<Gpu>> {
    if count() == 0 {
        // a build with the feature may be tested where there is no GPU
        eprintln!("SKIPPED: no GPU, and no stand-in for one (tests/standin)");
        return None;
    }
    Some(Arc::new(Gpu::open(0, false).expect("the first GPU opens")))
}

fn model(text: &str, input: [usize; 3]) -> Model {
    Model::new(&ModelSpec::parse(text, "test").expect("a readable file"), input, 10).expect("a model that fits")
}

fn batch(model: &Model, count: u32) -> Batch {
    let Shape::Image { channels, height, width } = model.input() else { panic!("images go in") };
    let mut draws = Key::new(SEED, "test", "image").stream(0, 0, 0);
    let labels: Vec<u32> = (0..count).map(|_| draws.below(10)).collect();
    let values: Vec<f32> = (0..count as usize * channels * height * width).map(|_| draws.range(-1.0, 1.0)).collect();
    let images = Tensor::from_vec(values, (labels.len(), channels, height, width), &Device::Cpu).expect("images");
    Batch { images, labels, examples: (100..100 + count).collect() }
}

fn context(loss: LossName) -> StepContext {
    StepContext { seed: SEED, epoch: 2, batch_size: 20, loss }
}

/// Weights of both, a little off the start so that no bias is 0 and running statistics are not 0 and 1.
fn both(gpu: &Arc<Gpu>, model: &Model) -> [Weights; 2] {
    let mut draws = Key::new(SEED, "test", "weights").stream(0, 0, 0);
    let flat: Vec<f32> = model.initial(SEED).iter().map(|w| w + draws.range(0.0, 0.02)).collect();
    [Processor::Cpu, Processor::Gpu(Arc::clone(gpu))]
        .map(|processor| Weights::on(&processor, model, &flat).expect("the model's own"))
}

/// ‖a − b‖ / ‖b‖, or ‖a − b‖ where b is next to nothing.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let size = norm(&mut b.iter().map(|&b| f64::from(b)));
    if size > 1e-6 { difference / size } else { difference }
}

fn agrees(model: &Model, [cpu, gpu]: &[Weights; 2], count: u32, loss: LossName, tolerance: f64) -> Gradient {
    let shard = batch(model, count);
    let [expected, found] = [cpu, gpu].map(|on| gradient(model, on, &shard, &context(loss)).expect("a good shard"));
    assert_eq!((found.count, found.correct), (expected.count, expected.correct), "{}", model.name());
    let off = (found.loss_sum - expected.loss_sum).abs();
    assert!(off < 1e-4 * expected.loss_sum.abs() + 1e-9, "{}: {} {}", model.name(), found.loss_sum, expected.loss_sum);
    for (tensor, range) in model.schema().iter() {
        let distance = distance(&found.flat[range.clone()], &expected.flat[range]);
        assert!(distance < tolerance, "{} {}: {distance:e}", model.name(), tensor.name);
    }
    found
}

/// Every type of layer, windows that overlap, strides that leave pixels over, padding, residuals in residuals.
const ALL: &str = r#"name = "all"
    layers = [
      { type = "conv", out_channels = 5, kernel_size = 3, padding = 1, stride = 2 },
      { type = "batch_norm" },
      { type = "leaky_relu", negative_slope = 0.3 },
      { type = "residual", layers = [
        { type = "conv", out_channels = 5, kernel_size = 1, bias = false },
        { type = "relu" },
        { type = "dropout2d", p = 0.3 },
        { type = "residual", layers = [ { type = "leaky_relu", negative_slope = -0.2 } ] },
      ] },
      { type = "max_pool", kernel_size = 3, stride = 1, padding = 1 },
      { type = "batch_norm" },
      { type = "avg_pool", kernel_size = 3, stride = 2, padding = 1 },
      { type = "relu" },
      { type = "max_pool", kernel_size = 2 },
      { type = "flatten" },
      { type = "linear", out_features = 37, bias = false },
      { type = "batch_norm" },
      { type = "relu" },
      { type = "dropout", p = 0.2 },
      { type = "linear", out_features = 10 },
    ]"#;

#[test]
fn every_layer_has_the_cpus_gradient_and_the_same_bits_each_time() {
    let Some(gpu) = gpu() else { return };
    let model = model(ALL, [3, 13, 11]);
    let weights = both(&gpu, &model);
    for loss in [LossName::CrossEntropy, LossName::L1Softmax, LossName::L1Logits] {
        let first = agrees(&model, &weights, 9, loss, 2e-4);
        // another size in between, which has a workspace of its own
        agrees(&model, &weights, 4, loss, 2e-4);
        assert_eq!(agrees(&model, &weights, 9, loss, 2e-4), first);
    }
}

#[test]
fn models_of_the_recipes_have_the_cpus_gradients() {
    let Some(gpu) = gpu() else { return };
    for text in [
        include_str!("../../../recipes/models/lenet.toml"),
        include_str!("../../../recipes/models/lenet-dropout-bn.toml"),
        include_str!("../../../recipes/models/lenet-bn-leaky.toml"),
        include_str!("../../../recipes/models/lenet5.toml"),
        include_str!("../../../recipes/models/base-dropout.toml"),
    ] {
        let model = model(text, IMAGE);
        agrees(&model, &both(&gpu, &model), 5, LossName::CrossEntropy, 2e-4);
    }
}

/// Sums over many values are cut into parts: a channel of 6 × 32 × 32 values has three.
#[test]
fn sums_of_many_values_are_joined() {
    let Some(gpu) = gpu() else { return };
    let text = r#"name = "wide"
        layers = [{ type = "conv", out_channels = 2, kernel_size = 1 }, { type = "batch_norm" }, { type = "relu" },
                  { type = "conv", out_channels = 2, kernel_size = 5 }, { type = "max_pool", kernel_size = 28 },
                  { type = "flatten" }, { type = "linear", out_features = 10 }]"#;
    let model = model(text, IMAGE);
    agrees(&model, &both(&gpu, &model), 6, LossName::CrossEntropy, 2e-4);
}

#[test]
fn evaluation_is_the_cpus_in_both_modes() {
    let Some(gpu) = gpu() else { return };
    for text in [ALL, include_str!("../../../recipes/models/lenet-dropout-bn.toml")] {
        let input = if text == ALL { [3, 13, 11] } else { IMAGE };
        let model = model(text, input);
        let weights = both(&gpu, &model);
        let batch = batch(&model, 7);
        for as_trained in [None, Some(AsTrained { seed: SEED, test: true, steps: 3 })] {
            let context = EvaluationContext { loss: LossName::CrossEntropy, as_trained };
            let [expected, found] =
                weights.each_ref().map(|on| evaluate(&model, on, &batch, &context).expect("a good batch"));
            assert_eq!((&found.confusion, found.correct), (&expected.confusion, expected.correct));
            assert!((found.loss_sum - expected.loss_sum).abs() < 1e-4 * expected.loss_sum);
        }
    }
}

/// The stand-ins' trial finds other algorithms than the table has, after some that nobody should take.
#[test]
fn algorithms_by_trial_have_the_cpus_gradients() {
    let Some(gpu) = gpu() else { return };
    let model = model(ALL, [3, 13, 11]);
    let [cpu, table] = both(&gpu, &model);
    let processor = Processor::Gpu(Arc::clone(&gpu));
    let trial = Weights::with(&processor, &model, &model.initial(SEED), false).expect("the model's own");
    let [table, found] = [&table, &trial].map(|on| {
        let workspace = on.packed().expect("on the GPU").workspace(&model, 9, true).expect("it fits");
        workspace.convolutions.iter().map(Convolution::algorithms).collect::<Vec<_>>()
    });
    assert!(!gpu.class().contains("Stand-in") || table.iter().zip(&found).all(|(a, b)| a != b), "{table:?} {found:?}");
    let cpu = [cpu, trial].map(|mut on| {
        on.set(&model, &model.initial(SEED)).expect("the model's own");
        on
    });
    agrees(&model, &cpu, 9, LossName::CrossEntropy, 2e-4);
}

#[test]
fn a_new_version_takes_the_place_of_the_old_one() {
    let Some(gpu) = gpu() else { return };
    let model = model(include_str!("../../../recipes/models/lenet.toml"), IMAGE);
    let mut weights = both(&gpu, &model);
    let other = model.initial(77);
    weights.iter_mut().for_each(|on| on.set(&model, &other).expect("the model's own"));
    agrees(&model, &weights, 3, LossName::CrossEntropy, 2e-4);
}

#[test]
fn images_are_the_cpus_to_the_bit() {
    let Some(gpu) = gpu() else { return };
    let mut draws = Key::new(SEED, "test", "pixels").stream(0, 0, 0);
    let mut split = |n: usize| Split {
        pixels: (0..n * 3072).map(|_| draws.bits() as u8).collect(),
        labels: (0..n).map(|i| (i % 10) as u8).collect(),
    };
    let (train, test) = (split(40), split(9));
    let records = Arc::new(Records { classes: (0..10).map(|i| i.to_string()).collect(), train, test });
    let resident = Arc::new(Resident::new(gpu, Arc::clone(&records)).expect("it fits"));
    let off = DataSettings::default();
    let normalised = DataSettings { mean: [0.4914, 0.4822, 0.4465], std: [0.247, 0.2435, 0.2616], ..off.clone() };
    let all = DataSettings {
        crop_padding: 4,
        horizontal_flip: 0.5,
        vertical_flip: 0.2,
        rotation: 30.0,
        translate: [0.1, 0.3],
        scale: [0.8, 1.2],
        brightness: 0.4,
        contrast: 0.6,
        saturation: 0.7,
        hue: 0.3,
        ..normalised.clone()
    };
    let colours = DataSettings { brightness: 0.5, contrast: 0.5, saturation: 0.5, hue: 0.5, ..off.clone() };
    let far = DataSettings { crop_padding: 100, ..off.clone() };
    for (name, settings) in [("off", off), ("normalised", normalised), ("all", all), ("colours", colours), ("far", far)]
    {
        let here = Batches::new(&settings, SEED);
        let there = here.clone().on(Arc::clone(&resident));
        for epoch in 0..4 {
            let examples: Vec<u32> = (0..40).rev().collect();
            let purpose = Purpose::Train { epoch };
            let [expected, found] = [&here, &there]
                .map(|batches| batches.batch(&records.train, &examples, purpose).expect("good examples"));
            assert!(found.images.device().is_cuda() && found.labels == expected.labels, "{name}");
            let values = |batch: &Batch| batch.images.flatten_all().and_then(|v| v.to_vec1::<f32>()).expect("values");
            let (expected, found) = (values(&expected), values(&found));
            let off = expected.iter().zip(&found).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
            assert_eq!(off, 0, "{name}, epoch {epoch}: values that differ");
        }
        let found = there.batch(&records.test, &[8, 0], Purpose::Evaluate).expect("good examples");
        assert_eq!(found.labels, [8, 0]);
        assert!(there.batch(&records.test, &[9], Purpose::Evaluate).is_err(), "there are nine");
    }
}

#[test]
fn mistakes_are_named() {
    let Some(gpu) = gpu() else { return };
    assert!(gpu.class().starts_with("cuda/") && gpu.class().contains("/f32/"), "{}", gpu.class());
    let error = Gpu::open(99, true).expect_err("there are fewer").to_string();
    assert!(error.contains("cuda:99") && error.contains("counted from 0"), "{error}");
    let model = model(include_str!("../../../recipes/models/lenet-dropout-bn.toml"), IMAGE);
    let [_, on] = both(&gpu, &model);
    let mut shard = batch(&model, 2);
    shard.labels[1] = 10;
    let error = gradient(&model, &on, &shard, &context(LossName::CrossEntropy)).expect_err("no such class").to_string();
    assert!(error.contains("label 10"), "{error}");
}
