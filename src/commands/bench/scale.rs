//! `lockstep bench --scale`: several numbers of workers, and the split of a step.

use std::sync::Arc;

use lockstep_coordinator::dataset::Dataset;
use lockstep_coordinator::telemetry::format::rate as rate_text;
use lockstep_proto::recipe::Recipe;
use serde_json::json;

use super::{fleet, train};
use crate::cli::BenchArgs;
use crate::exit::{Failure, Result};

pub(super) fn run(args: &BenchArgs, recipe: &Recipe, dataset: &Arc<Dataset>) -> Result {
    if let Some(workers) = args.scale.iter().find(|workers| **workers > recipe.shards) {
        let text = format!(
            "--scale {workers}: with {} shards at most {} workers have something to do; give more --shards",
            recipe.shards, recipe.shards
        );
        return Err(Failure::mistake(text));
    }
    if !args.json {
        say!("{}, batch {}, {} shards; milliseconds of a step", recipe.model.name, recipe.batch_size, recipe.shards);
        say!("workers threads  images/s  of one  compute  encode    wire    wait     sum optimizer publish    step");
    }
    let mut alone = None;
    let mut hashes = Vec::new();
    for workers in &args.scale {
        let fleet = fleet(args, *workers);
        let report = train(args, recipe.clone(), Arc::clone(dataset), &fleet)?;
        let (rate, t) = (report.steady_images_per_s, report.timing);
        let of_one = rate / *alone.get_or_insert(rate);
        if args.json {
            let line = json!({
                "peer": "lockstep", "model": recipe.model.name, "workers": workers, "batch": recipe.batch_size,
                "threads": fleet.threads, "images_per_s": (rate * 10.0).round() / 10.0,
                "of_first": (of_one * 1000.0).round() / 1000.0, "step_s": t.step, "compute_s": t.compute,
                "encode_s": t.encode, "wire_s": t.wire, "wait_s": t.straggle, "sum_s": t.sum,
                "optimizer_s": t.optimizer, "publish_s": t.publish, "plane": report.summary.plane, "weights_hash": report.summary.weights_hash,
            });
            say!("{line}");
        } else {
            let ms = [t.compute, t.encode, t.wire, t.straggle, t.sum, t.optimizer, t.publish, t.step].map(|s| s * 1e3);
            let [compute, encode, wire, wait, sum, optimizer, publish, step] = ms;
            say!(
                "{workers:>7} {:>7} {:>9} {:>6.1}% {compute:>8.2} {encode:>7.2} {wire:>7.2} {wait:>7.2} {sum:>7.2} \
                 {optimizer:>9.2} {publish:>7.2} {step:>7.2}",
                fleet.threads,
                rate_text(rate),
                of_one * 100.0,
            );
        }
        hashes.push(report.summary.weights_hash);
    }
    hashes.dedup();
    match &hashes[..] {
        [one] if !args.json => say!("weights {one} with every number of workers"),
        [_] => {}
        // what the run does not promise is not held against it
        _ if !recipe.deterministic => {}
        several => {
            let text = format!("{} different results, which should be one: {}", several.len(), several.join(", "));
            return Err(Failure::ours(text));
        }
    }
    Ok(())
}
