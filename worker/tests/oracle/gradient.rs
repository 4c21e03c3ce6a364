//! Initial weights, one step's gradient and an evaluation of each LeNet. Oracle: tests/oracle/gradient.py.

use std::collections::BTreeMap;

use lockstep_proto::recipe::LossName;
use lockstep_worker::dataset::Batch;
use lockstep_worker::evaluate::{EvaluationContext, evaluate};
use lockstep_worker::gradient::{StepContext, gradient};
use lockstep_worker::model::{Model, Weights};
use serde::Deserialize;

use crate::numbers::{Record, cases, folder, labels, model, norm, stream, tensor, with_each_kernel_set};

#[derive(Deserialize)]
struct Case {
    model: String,
    seed: u64,
    epoch: u32,
    examples: (u32, u32),
    loss: Record,
    correct: u32,
    evaluation_loss: Record,
    evaluation_correct: u32,
    tensors: BTreeMap<String, Record>,
    initial: BTreeMap<String, Record>,
}

fn recipe(name: &str) -> Model {
    model(&folder().join(format!("../../recipes/models/{name}.toml")))
}

fn batch(examples: (u32, u32)) -> Batch {
    let count = (examples.1 - examples.0) as usize;
    let mut draws = stream("gradient/images");
    let images = (0..count * 3072).map(|_| draws.unit()).collect();
    Batch {
        images: tensor(images, &[count, 3, 32, 32]),
        labels: labels("gradient/labels", count),
        examples: (examples.0..examples.1).collect(),
    }
}

#[test]
fn one_step_is_as_near_to_float64_as_pytorchs_float32() {
    let cases: Vec<Case> = cases("gradient.json");
    with_each_kernel_set(|set| {
        for case in &cases {
            let model = recipe(&case.model);
            let start = model.initial(case.seed);
            let weights = Weights::new(&model, &start).expect("the model's own");
            let batch = batch(case.examples);
            let (loss, batch_size) = (LossName::CrossEntropy, batch.labels.len());
            let context = StepContext { seed: case.seed, epoch: case.epoch, batch_size, loss };
            let step = gradient(&model, &weights, &batch, &context).expect("a good shard");

            let names: Vec<&str> = model.schema().tensors().iter().map(|tensor| tensor.name.as_str()).collect();
            let mut torch_names: Vec<&str> = case.tensors.keys().map(String::as_str).collect();
            torch_names.sort_by_key(|name| name.contains("running")); // BTreeMap's order, buffers last
            assert_eq!(names, torch_names, "{}", case.model);
            let greatest = case.tensors.values().map(|record| record.norm).fold(0.0, f64::max);
            for (tensor, range) in model.schema().iter() {
                let (record, ours) = (&case.tensors[&tensor.name], &step.flat[range]);
                assert_eq!(tensor.shape, record.shape, "{}", tensor.name);
                let what = format!("{set}, {}, {}", case.model, tensor.name);
                if record.norm < 1e-12 * greatest {
                    // a bias before BatchNorm: the true gradient is 0, and all that is left is rounding
                    let ours = norm(&ours.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
                    assert!(ours < 1e-6 * greatest, "{what}: {ours:e} is not nothing beside {greatest:e}");
                    println!("absolute, {ours:.1e} (PyTorch's float32: {:.1e}): {what}", record.torch_f32_distance);
                    continue;
                }
                println!("{:5.2} of PyTorch's float32: {what}", record.check(&what, ours));
            }
            let near = |ours: f64, record: &Record| {
                let theirs = record.sketch[0];
                assert!((ours - theirs).abs() < 1e-6 * theirs, "{set}, {}: loss {ours}, not {theirs}", case.model);
            };
            near(step.loss_sum / f64::from(step.count), &case.loss);
            assert_eq!((step.correct, step.count as usize), (case.correct, batch.labels.len()), "{}", case.model);

            let context = EvaluationContext { loss, as_trained: None };
            let evaluation = evaluate(&model, &weights, &batch, &context).expect("a good batch");
            near(evaluation.loss_sum, &case.evaluation_loss);
            assert_eq!(evaluation.correct, case.evaluation_correct, "{}", case.model);
            assert_eq!(evaluation.confusion.iter().sum::<u32>() as usize, batch.labels.len());
        }
    });
}

/// The same step on a GPU (or a stand-in). In f32 it may be a few times further from float64 than PyTorch's float32 on a CPU, for its
/// sums have other orders; with TF32 the factors of convolutions have 11 bits, so that a gradient is off by some thousandths.
#[cfg(feature = "cuda")]
#[test]
fn one_step_on_a_gpu_is_near_to_float64_with_tf32_and_nearer_without() {
    use lockstep_worker::cuda::{Gpu, count};
    use lockstep_worker::device::Processor;

    if count() == 0 {
        eprintln!("SKIPPED: no GPU, and no stand-in for one");
        return;
    }
    for (tf32, times, part) in [(false, 8.0, 1e-6), (true, 8.0, 1e-2)] {
        let gpu = Processor::Gpu(std::sync::Arc::new(Gpu::open(0, tf32).expect("the first GPU opens")));
        for case in cases::<Case>("gradient.json") {
            let model = recipe(&case.model);
            let weights = Weights::on(&gpu, &model, &model.initial(case.seed)).expect("the model's own");
            let batch = batch(case.examples);
            let (loss, batch_size) = (LossName::CrossEntropy, batch.labels.len());
            let context = StepContext { seed: case.seed, epoch: case.epoch, batch_size, loss };
            let step = gradient(&model, &weights, &batch, &context).expect("a good shard");
            let greatest = case.tensors.values().map(|record| record.norm).fold(0.0, f64::max);
            for (tensor, range) in model.schema().iter() {
                let record = &case.tensors[&tensor.name];
                let (distance, torch) = (record.distance(&step.flat[range]), record.torch_f32_distance);
                // a bias before BatchNorm has no gradient but rounding
                let most = times * torch + part * if record.norm < 1e-12 * greatest { greatest } else { record.norm };
                assert!(distance <= most, "tf32 {tf32}, {}, {}: {distance:e} of {most:e}", case.model, tensor.name);
            }
            let mean = step.loss_sum / f64::from(step.count);
            assert!((mean - case.loss.sketch[0]).abs() < part * mean, "tf32 {tf32}, {}: {mean}", case.model);
        }
    }
}

/// The script draws the initial weights with its own generator: every value is the same.
#[test]
fn initial_weights_are_what_the_formula_says() {
    for case in cases::<Case>("gradient.json") {
        let model = recipe(&case.model);
        let start = model.initial(case.seed);
        for (tensor, range) in model.schema().iter().filter(|(tensor, _)| !tensor.name.contains("running")) {
            case.initial[&tensor.name].check(&format!("{}, {}", case.model, tensor.name), &start[range]);
        }
    }
}
