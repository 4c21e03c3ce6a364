//! The GPU against the CPU, whose kernels have PyTorch for an oracle: the same shard, gradients and logits that agree to rounding.
//! Without a GPU these run on the stand-ins of tests/standin, if the machine has those.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Device, Tensor};
use lockstep_proto::buffers::Buffers;
use lockstep_proto::codec;
use lockstep_proto::keys::Key;
use lockstep_proto::recipe::LossName;
use lockstep_proto::recipe::model::ModelSpec;
use lockstep_proto::tree::{Node, Reduction};

use super::convolution::Convolution;
use super::format::Format;
use super::gpu::LANES;
use super::plan::Window;
use super::{Gpu, count};
use crate::dataset::{Batch, IMAGE};
use crate::device::Processor;
use crate::evaluate::{AsTrained, EvaluationContext, evaluate};
use crate::gradient::{Gradient, StepContext, gradient};
use crate::model::{Model, Shape, Weights};
use crate::node::{self, Summing};

pub(super) const SEED: u64 = 5;

/// Opening a GPU waits for all that the process does there, which ends another test's capture.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

thread_local! {
    static TURN: RefCell<Option<MutexGuard<'static, ()>>> = const { RefCell::new(None) };
}

/// A GPU, with products in full f32: TF32 would hide mistakes in the last digits. Until the test's thread ends no other has one.
pub(super) fn gpu() -> Option<Arc<Gpu>> {
    TURN.with_borrow_mut(|turn| {
        turn.get_or_insert_with(|| ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner));
    });
    if count() == 0 {
        // a build with the feature may be tested where there is no GPU
        eprintln!("SKIPPED: no GPU, and no stand-in for one (tests/standin)");
        return None;
    }
    Some(Arc::new(Gpu::open(0, false).expect("the first GPU opens")))
}

/// The same test with images that lie plane by plane, and with their channels side by side.
fn in_both_formats(test: impl Fn(Arc<Gpu>)) {
    let Some(gpu) = gpu() else { return };
    test(gpu);
    test(Arc::new(Gpu::start(0, false, Some(Format::ChannelsLast)).expect("the first GPU opens")));
}

pub(super) fn model(text: &str, input: [usize; 3]) -> Model {
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

/// A little off the start, so that no bias is 0 and running statistics are not 0 and 1.
pub(super) fn flat(model: &Model) -> Vec<f32> {
    let mut draws = Key::new(SEED, "test", "weights").stream(0, 0, 0);
    model.initial(SEED).iter().map(|w| w + draws.range(0.0, 0.02)).collect()
}

/// Weights of both.
fn both(gpu: &Arc<Gpu>, model: &Model) -> [Weights; 2] {
    let flat = flat(model);
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
    in_both_formats(|gpu| {
        let model = model(ALL, [3, 13, 11]);
        let weights = both(&gpu, &model);
        for loss in [LossName::CrossEntropy, LossName::L1Softmax, LossName::L1Logits] {
            let first = agrees(&model, &weights, 9, loss, 2e-4);
            // another size in between, which has a workspace of its own
            agrees(&model, &weights, 4, loss, 2e-4);
            assert_eq!(agrees(&model, &weights, 9, loss, 2e-4), first);
        }
    });
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

/// Oracle: the shards one by one, added by the tree of the CPU. Their bits, whether a pass is asked for kernel by kernel or launched
/// as a graph, and whatever was computed before.
#[test]
fn a_nodes_sum_is_that_of_its_shards() {
    in_both_formats(|gpu| {
        let model = model(ALL, [3, 13, 11]);
        let [_, weights] = both(&gpu, &model);
        let some = [4, 4, 3, 4, 3].map(|size| batch(&model, size));
        // more than there are lanes, at most
        let shards: Vec<_> = (0..LANES + 3).map(|shard| &some[shard % some.len()]).collect();
        let (context, buffers) = (context(LossName::CrossEntropy), Buffers::keeping(1));
        // all of many shards; three of five, the last one alone on its level; then two of them; then one
        let many = shards.len() as u32;
        for (top, leaves) in [
            (Node::root(many), many),
            (Node::root(5), 5),
            (Node { level: 1, index: 1 }, 5),
            (Node { level: 2, index: 1 }, 5),
        ] {
            let covered: Vec<usize> = top.covers(leaves).map(|shard| shard as usize).collect();
            for rounded in [false, true] {
                let (mut tree, mut expected, mut losses) = (Reduction::new(leaves), None, Vec::new());
                for &shard in &covered {
                    let mut found = gradient(&model, &weights, shards[shard], &context).expect("a good shard");
                    if rounded {
                        codec::round(&mut found.flat[..model.schema().parameters()]);
                    }
                    losses.push((found.loss_sum, found.correct, found.count));
                    expected = tree.add_below(top, Node::leaf(shard as u32), found.flat);
                }
                let expected: Vec<u32> = expected.expect("complete").iter().map(|value| value.to_bits()).collect();
                let summing = Summing { top, leaves, rounded, broken: false };
                let sizes: Vec<usize> = covered.iter().map(|&shard| shards[shard].labels.len()).collect();
                let sum = |sizes: &[usize]| {
                    let batch = |number: usize| Ok(shards[covered[number]].clone());
                    let mut coming = node::sum(&model, &weights, &context, &summing, sizes, batch)?;
                    coming.send_home(node::Home::Sum).expect("on its way");
                    coming.wait(&buffers)
                };
                for _ in 0..3 {
                    let found = sum(&sizes).expect("good shards");
                    let bits: Vec<u32> = found.flat.iter().map(|value| value.to_bits()).collect();
                    assert!(bits == expected, "{top:?}, rounded {rounded}");
                    buffers.give(found.flat);
                    let counts: Vec<_> =
                        found.shards.iter().map(|one| (one.loss_sum, one.correct, one.count)).collect();
                    assert_eq!(counts, losses);
                }
                // one that comes with other examples than it said ends the node, and the next one is as ever
                let mut wrong = sizes.clone();
                *wrong.last_mut().expect("a shard") += 1;
                let error = sum(&wrong).expect_err("too few").to_string();
                assert!(error.contains("examples came with"), "{error}");
                assert!(sum(&[]).expect_err("nothing").to_string().contains("shards"), "{top:?}");
            }
        }
    });
}

/// Oracle: the same model with a dropout of nothing before each pool, which keeps the pool a step of its own. Windows that overlap,
/// leave pixels out, and have padding; with and without bias and activation; a channel of many values, and of few. Of a bias the sum has
/// another order where windows do not overlap.
#[test]
fn a_pool_in_its_convolutions_step_has_the_bits_of_its_own() {
    in_both_formats(|gpu| {
        let overlapping = "kernel_size = 3, stride = 2, padding = 1";
        for (act, bias, pool) in [
            ("relu", true, overlapping),
            ("relu", true, "kernel_size = 2"),
            ("leaky_relu", true, overlapping),
            ("relu", false, "kernel_size = 5, stride = 4"),
            ("", true, overlapping),
            ("", false, "kernel_size = 3"),
        ] {
            // at most ten layers: the tensors of both are in one order then
            let build = |between: &str| {
                let act = if act.is_empty() { String::new() } else { format!("{{ type = \"{act}\" }},") };
                let conv = format!(
                    "{{ type = \"conv\", out_channels = 6, kernel_size = 3, padding = 1, bias = {bias} }}, {act} {between}"
                );
                let text = format!(
                    "name = \"pools\"
                layers = [
                  {conv} {{ type = \"max_pool\", {pool} }},
                  {{ type = \"residual\", layers = [
                    {conv} {{ type = \"max_pool\", kernel_size = 3, stride = 1, padding = 1 }},
                  ] }},
                  {{ type = \"flatten\" }}, {{ type = \"linear\", out_features = 10 }},
                ]"
                );
                model(&text, [3, 26, 22])
            };
            let models = ["", "{ type = \"dropout\", p = 0.0 },"].map(build);
            agrees(&models[0], &both(&gpu, &models[0]), 7, LossName::CrossEntropy, 2e-4);
            let flat = flat(&models[0]);
            let [joined, apart] = models.each_ref().map(|model| {
                let on = Weights::on(&Processor::Gpu(Arc::clone(&gpu)), model, &flat).expect("as many values");
                let shard = batch(model, 7);
                gradient(model, &on, &shard, &context(LossName::CrossEntropy)).expect("a good shard")
            });
            assert_eq!(joined.loss_sum.to_bits(), apart.loss_sum.to_bits(), "{act:?}, bias {bias}, {pool}");
            for (tensor, range) in models[0].schema().iter() {
                let [joined, apart] = [&joined, &apart].map(|found| &found.flat[range.clone()]);
                let same = joined.iter().zip(apart).all(|(a, b)| a.to_bits() == b.to_bits());
                let near = tensor.name.ends_with("bias") && distance(joined, apart) < 1e-6;
                assert!(same || near, "{act:?}, bias {bias}, {pool}: {}", tensor.name);
            }
        }
    });
}

/// Sums over many values are cut into parts: a channel of 6 × 32 × 32 values has three, or 24 side by side with others. More channels than a
/// block has.
#[test]
fn sums_of_many_values_are_joined() {
    in_both_formats(|gpu| {
        let text = r#"name = "wide"
        layers = [{ type = "conv", out_channels = 35, kernel_size = 1 }, { type = "batch_norm" }, { type = "relu" },
                  { type = "conv", out_channels = 2, kernel_size = 5 }, { type = "max_pool", kernel_size = 28 },
                  { type = "flatten" }, { type = "linear", out_features = 10 }]"#;
        let model = model(text, IMAGE);
        agrees(&model, &both(&gpu, &model), 6, LossName::CrossEntropy, 2e-4);
    });
}

/// A normalisation of as many channels as the convolution before it has takes its bias, and one of each pixel does not.
const NORMS: &str = r#"name = "norms"
    layers = [
      { type = "conv", out_channels = 5, kernel_size = 11 }, { type = "flatten" }, { type = "batch_norm" },
      { type = "linear", out_features = 7 }, { type = "batch_norm" }, { type = "relu" },
      { type = "linear", out_features = 10 },
    ]"#;

#[test]
fn evaluation_is_the_cpus_in_both_modes() {
    in_both_formats(|gpu| {
        for text in [ALL, NORMS, include_str!("../../../recipes/models/lenet-dropout-bn.toml")] {
            let input = if text.contains("conv\", out_channels = 5") { [3, 13, 11] } else { IMAGE };
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
    });
}

/// The stand-ins' trial finds other algorithms than the table has, after some that nobody should take.
#[test]
fn algorithms_by_trial_have_the_cpus_gradients() {
    in_both_formats(|gpu| {
        let model = model(ALL, [3, 13, 11]);
        let [cpu, table] = both(&gpu, &model);
        let processor = Processor::Gpu(Arc::clone(&gpu));
        let trial = Weights::with(&processor, &model, &model.initial(SEED), false).expect("the model's own");
        let [table, found] = [&table, &trial].map(|on| {
            let groups = on.packed().expect("on the GPU").groups(&model, &[9], true).expect("it fits");
            groups[0].workspaces[0].convolutions.iter().map(Convolution::algorithms).collect::<Vec<_>>()
        });
        assert!(
            !gpu.class().contains("Stand-in") || table.iter().zip(&found).all(|(a, b)| a != b),
            "{table:?} {found:?}"
        );
        let cpu = [cpu, trial].map(|mut on| {
            on.set(&model, &model.initial(SEED)).expect("the model's own");
            on
        });
        agrees(&model, &cpu, 9, LossName::CrossEntropy, 2e-4);
    });
}

#[test]
fn a_new_version_takes_the_place_of_the_old_one() {
    in_both_formats(|gpu| {
        let model = model(include_str!("../../../recipes/models/lenet.toml"), IMAGE);
        let mut weights = both(&gpu, &model);
        let other = model.initial(77);
        weights.iter_mut().for_each(|on| on.set(&model, &other).expect("the model's own"));
        agrees(&model, &weights, 3, LossName::CrossEntropy, 2e-4);
    });
}

#[test]
fn mistakes_are_named() {
    let Some(gpu) = gpu() else { return };
    assert!(gpu.class().starts_with("cuda/") && gpu.class().contains("/f32/"), "{}", gpu.class());
    let error = Gpu::open(99, true).expect_err("there are fewer").to_string();
    assert!(error.contains("cuda:99") && error.contains("counted from 0"), "{error}");
    // no convolution makes 3 × 9 × 9 values 7 × 7 wide with a 5 × 5 window
    let window = Window {
        examples: 2,
        x: [3, 9, 9],
        y: [4, 7, 7],
        kernel: 5,
        stride: 1,
        padding: 0,
        format: Format::Contiguous,
    };
    for trial in [false, true] {
        let error = Convolution::new(&gpu, &window, trial).err().expect("shapes that do not fit").to_string();
        assert!(error.contains("[3, 9, 9] to [4, 7, 7], kernel 5") && error.contains("cuDNN"), "{error}");
    }
    let model = model(include_str!("../../../recipes/models/lenet-dropout-bn.toml"), IMAGE);
    let [_, on] = both(&gpu, &model);
    let mut shard = batch(&model, 2);
    shard.labels[1] = 10;
    let error = gradient(&model, &on, &shard, &context(LossName::CrossEntropy)).expect_err("no such class").to_string();
    assert!(error.contains("label 10"), "{error}");
}
