//! Each layer alone, forward and backward. Oracle: tests/oracle/layers.py.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use lockstep_proto::keys::Key;
use lockstep_worker::layers;
use serde::Deserialize;

use crate::numbers::{Record, cases, flat, labels, tensor, values, var, with_each_kernel_set};

#[derive(Deserialize)]
struct Case {
    name: String,
    layer: String,
    arguments: Arguments,
    inputs: BTreeMap<String, Input>,
    outputs: BTreeMap<String, Record>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Arguments {
    kernel: usize,
    stride: Option<usize>,
    padding: usize,
    slope: f64,
    eps: f64,
    p: f64,
    epoch: u32,
    examples: Vec<u32>,
    divisor: f32,
}

#[derive(Deserialize)]
struct Input {
    shape: Vec<usize>,
    scale: f32,
    steps: u32,
}

#[test]
fn each_layer_is_as_near_to_float64_as_pytorchs_float32() {
    let cases: Vec<Case> = cases("layers.json");
    with_each_kernel_set(|set| {
        for case in &cases {
            let ours = run(case);
            assert_eq!(ours.keys().collect::<Vec<_>>(), case.outputs.keys().collect::<Vec<_>>(), "{}", case.name);
            for (name, record) in &case.outputs {
                let what = format!("{set}, {}, {name}", case.name);
                println!("{:5.2} of PyTorch's float32: {what}", record.check(&what, &ours[name]));
            }
        }
    });
}

/// The layer's output and gradients, under the names that the script gives them.
fn run(case: &Case) -> BTreeMap<String, Vec<f32>> {
    let named = |name: &str| format!("{}/{name}", case.name);
    let numbers =
        |name: &str, input: &Input| values(&named(name), input.shape.iter().product(), input.scale, input.steps);
    let inputs: BTreeMap<&str, Var> =
        case.inputs.iter().map(|(name, input)| (name.as_str(), var(numbers(name, input), &input.shape))).collect();
    let get = |name: &str| inputs[name].as_tensor();
    let a = &case.arguments;
    let mut out = BTreeMap::new();
    let y = match case.layer.as_str() {
        "conv2d" => {
            let bias = inputs.get("bias").map(Var::as_tensor);
            layers::conv2d(get("x"), get("weight"), bias, a.stride.unwrap_or(1), a.padding)
        }
        "linear" => layers::linear(get("x"), get("weight"), inputs.get("bias").map(Var::as_tensor)),
        "relu" => layers::relu(get("x")),
        "leaky_relu" => layers::leaky_relu(get("x"), a.slope),
        "max_pool2d" => layers::max_pool2d(get("x"), a.kernel, a.stride.unwrap_or(a.kernel), a.padding),
        "avg_pool2d" => layers::avg_pool2d(get("x"), a.kernel, a.stride.unwrap_or(a.kernel), a.padding),
        "batch_norm" => layers::batch_norm(get("x"), get("weight"), get("bias"), a.eps).map(|(y, statistics)| {
            out.insert("mean".to_owned(), statistics.mean);
            out.insert("variance".to_owned(), statistics.variance);
            y
        }),
        "batch_norm_eval" => {
            let deviation = get("deviation").detach();
            let variance = (&deviation * &deviation).expect("a square");
            layers::batch_norm_eval(get("x"), get("weight"), get("bias"), &get("mean").detach(), &variance, a.eps)
        }
        "dropout" => layers::dropout(get("x"), a.p, Key::new(0, "dropout", &case.name), a.epoch, &a.examples),
        "dropout2d" => layers::dropout2d(get("x"), a.p, Key::new(0, "dropout", &case.name), a.epoch, &a.examples),
        loss @ ("cross_entropy" | "l1_logits" | "l1_softmax") => {
            let labels = labels(&named("labels"), get("x").dims()[0]);
            let op = match loss {
                "l1_logits" => layers::l1_logits,
                "l1_softmax" => layers::l1_softmax,
                _ => layers::cross_entropy,
            };
            op(get("x"), &labels, a.divisor).map(|result| result.loss)
        }
        other => panic!("{}: no layer {other}", case.name),
    };
    let y = y.unwrap_or_else(|error| panic!("{}: {error}", case.name));
    let loss = match y.dims() {
        [] => y.clone(),
        shape => {
            let probe: Tensor = tensor(values(&named("probe"), y.elem_count(), 1.0, 0), shape);
            (&y * probe).and_then(|product| product.sum_all()).expect("shapes agree")
        }
    };
    let gradients = loss.backward().unwrap_or_else(|error| panic!("{}, backward: {error}", case.name));
    for (name, input) in &inputs {
        if let Some(gradient) = gradients.get(input) {
            out.insert(format!("d{name}"), flat(gradient));
        }
    }
    out.insert("y".to_owned(), flat(&y));
    out
}
