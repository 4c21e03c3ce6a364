//! Parameters and running statistics after 200 steps of each optimizer. Oracle: tests/oracle/trajectory.py.

use std::collections::BTreeMap;

use lockstep_proto::optimizer::{Optimizer, penalty};
use lockstep_proto::recipe::{LossSettings, OptimizerSettings};
use lockstep_proto::schema::Kind;
use lockstep_worker::dataset::Batch;
use lockstep_worker::gradient::{StepContext, gradient};
use lockstep_worker::model::{Model, Weights};
use serde::Deserialize;

use crate::numbers::{Record, cases, folder, labels, model, tensor, values, with_each_kernel_set};

#[derive(Deserialize)]
struct Case {
    model: String,
    optimizer: String,
    arguments: serde_json::Map<String, serde_json::Value>,
    loss: LossSettings,
    seed: u64,
    steps: usize,
    batch: usize,
    batches: usize,
    losses: BTreeMap<usize, f64>,
    tensors: BTreeMap<String, Final>,
}

#[derive(Deserialize)]
struct Final {
    #[serde(flatten)]
    record: Record,
    torch_f32_distances: Vec<f64>,
    moved: f64,
}

#[test]
fn two_hundred_steps_end_as_near_to_float64_as_pytorchs_float32() {
    let cases: Vec<Case> = cases("trajectory.json");
    let data = Data::new(cases[0].batch, cases[0].batches);
    with_each_kernel_set(|set| {
        for case in &cases {
            let model = match case.model.as_str() {
                "lenet" => model(&folder().join("../../recipes/models/lenet.toml")),
                own => model(&folder().join(format!("{own}.toml"))),
            };
            let case_name = format!("{set}, {}, {} {:?}, {:?}", case.model, case.optimizer, case.arguments, case.loss);
            let (end, losses) = train(case, &model, &data);
            for (&step, &theirs) in &case.losses {
                let ours = losses[step - 1];
                assert!((ours - theirs).abs() < 1e-2 * theirs, "{case_name}, step {step}: loss {ours}, not {theirs}");
            }
            for (tensor, range) in model.schema().iter() {
                let Final { record, torch_f32_distances, moved } = &case.tensors[&tensor.name];
                // the LeNet's units switch by chance, and so do signs under an L1 penalty: see the script
                let yardstick = match case.model == "lenet" || case.loss.l1 > 0.0 {
                    true => torch_f32_distances.iter().copied().fold(0.0, f64::max),
                    false => record.torch_f32_distance,
                };
                let record = Record { torch_f32_distance: yardstick, ..record.clone() };
                let what = format!("{case_name}, {}", tensor.name);
                let ratio = record.check(&what, &end[range]);
                // what did not move could not tell a wrong step from a right one
                assert!(*moved > 20.0 * yardstick, "{what}: moved {moved:e}, known to {yardstick:e} only");
                println!("{ratio:5.2} of PyTorch's float32: {what}");
            }
        }
    });
}

/// The flat vector after all steps, and the mean loss, penalties included, before each.
fn train(case: &Case, model: &Model, data: &Data) -> (Vec<f32>, Vec<f64>) {
    let mut settings = serde_json::to_value(OptimizerSettings { momentum: 0.0, ..OptimizerSettings::default() })
        .expect("settings are a table");
    settings["name"] = case.optimizer.as_str().into();
    for (key, value) in &case.arguments {
        settings[key] = value.clone();
    }
    let settings: OptimizerSettings = serde_json::from_value(settings).expect("PyTorch's argument names are ours");
    let mut flat = model.initial(case.seed);
    let mut optimizer = Optimizer::new(&settings, model.schema().parameters());
    let mut weights = Weights::new(model, &flat).expect("the model's own");
    let mut losses = Vec::with_capacity(case.steps);
    for step in 0..case.steps {
        let batch = &data.batches[step % case.batches];
        let context = StepContext { seed: case.seed, epoch: 0, batch_size: case.batch, loss: case.loss.name };
        let mut result = gradient(model, &weights, batch, &context).expect("a good shard");
        let (trained, _) = flat.split_at_mut(model.schema().parameters());
        let slopes = &mut result.flat[..trained.len()];
        let penalty = penalty::add(&case.loss, trained, slopes);
        losses.push(result.loss_sum / case.batch as f64 + penalty);
        optimizer.step(settings.lr, slopes, trained);
        for (tensor, range) in model.schema().iter() {
            if let Kind::Buffer { momentum } = tensor.kind {
                // as the coordinator does it: in double precision, rounded once
                for (value, seen) in flat[range.clone()].iter_mut().zip(&result.flat[range]) {
                    *value = ((1.0 - momentum) * f64::from(*value) + momentum * f64::from(*seen)) as f32;
                }
            }
        }
        weights.set(model, &flat).expect("the model's own");
    }
    (flat, losses)
}

struct Data {
    batches: Vec<Batch>,
}

impl Data {
    fn new(batch: usize, batches: usize) -> Self {
        let count = batch * batches;
        let labels = labels("trajectory/labels", count);
        let patterns = values("trajectory/patterns", 10 * 3072, 1.0, 0);
        let noise = values("trajectory/noise", count * 3072, 1.0, 0);
        let batches = (0..batches).map(|at| {
            let examples = at * batch..(at + 1) * batch;
            let image = |i: usize| {
                let pattern = &patterns[labels[i] as usize * 3072..][..3072];
                pattern.iter().zip(&noise[i * 3072..]).map(|(p, n)| (p + n) * 0.5).collect::<Vec<f32>>()
            };
            Batch {
                images: tensor(examples.clone().flat_map(image).collect(), &[batch, 3, 32, 32]),
                labels: labels[examples.clone()].to_vec(),
                examples: examples.map(|i| i as u32).collect(),
            }
        });
        Self { batches: batches.collect() }
    }
}
