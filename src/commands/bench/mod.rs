//! `lockstep bench`: images a second of the same path that `train` takes, and where the time of a step goes.

mod scale;
mod wire;

use std::sync::Arc;

use lockstep_coordinator::dataset::Dataset;
use lockstep_coordinator::telemetry::Display;
use lockstep_coordinator::telemetry::format::{count, rate as rate_text};
use lockstep_coordinator::{Limits, Report, Run};
use lockstep_proto::recipe::Recipe;
use serde_json::json;

use crate::cli::{BenchArgs, DataSource};
use crate::exit::{Failure, Result};
use crate::local_workers::Fleet;
use crate::{cluster, logging, prepare, processor};

pub fn run(args: BenchArgs) -> Result {
    logging::start();
    if args.wire {
        return wire::run(&args);
    }
    if let Some(setting) = args.recipe.settings()?.iter().find(|one| one.key == "epochs" || one.key == "max_steps") {
        let text = format!(
            "{} sets {}, but bench makes as many steps as --steps says; leave it out",
            setting.origin, setting.key
        );
        return Err(Failure::mistake(text));
    }
    let recipe = prepare::recipe(&args.recipe)?;
    let source = DataSource { data: Some(args.data.data.clone()), data_url: None, offline: true };
    let dataset = Arc::new(prepare::dataset(&source)?);
    if !args.scale.is_empty() {
        return scale::run(&args, &recipe, &dataset);
    }
    let fleet = fleet(&args, processor::workers(args.workers, args.compute.device));
    let report = train(&args, recipe.clone(), dataset, &fleet)?;
    let (model, batch, shards) = (&recipe.model.name, recipe.batch_size, recipe.shards);
    let (summary, rate) = (&report.summary, report.steady_images_per_s);
    if args.json {
        let line = json!({
            "peer": "lockstep", "lockstep": env!("CARGO_PKG_VERSION"), "model": model, "workers": fleet.workers,
            "batch": batch, "layout": layout(&summary.device_class), "steps": summary.steps, "images_per_s": (rate * 10.0).round() / 10.0,
            "seconds": (summary.seconds * 100.0).round() / 100.0, "loss": summary.train_loss, "shards": shards,
            "threads": fleet.threads, "device_class": summary.device_class, "plane": summary.plane, "weights_hash": summary.weights_hash,
        });
        say!("{line}");
    } else {
        say!(
            "{model}, batch {batch}, {}, {} of {}, {}, {}",
            count(shards as u64, "shard"),
            count(fleet.workers as u64, "worker"),
            count(fleet.threads as u64, "thread"),
            summary.device_class,
            summary.plane
        );
        say!("{} images/s over {}", rate_text(rate), count(summary.steps, "step"));
        say!("weights {}", summary.weights_hash);
    }
    Ok(())
}

/// How images lay, in PyTorch's words: a GPU has what suits the model, unless it was told (docs/gpu.md), and its class says that.
fn layout(class: &str) -> &'static str {
    match class.starts_with("cuda/") {
        true if class.contains("-nhwc/") => "channels_last",
        true if !class.contains("-nchw/") => "auto",
        _ => "nchw",
    }
}

fn fleet(args: &BenchArgs, workers: usize) -> Fleet {
    Fleet {
        workers,
        threads: Fleet::threads(workers, args.threads),
        max_restarts: 0,
        compute: args.compute,
        kill: Vec::new(),
        chaos: None,
        wire_values: None,
    }
}

fn limits(args: &BenchArgs, workers: usize) -> Limits {
    Limits {
        min_workers: workers,
        wait_for_workers: cluster::OWN_WORKERS,
        shared_memory: args.plane.shared_memory(),
        nccl: args.plane.nccl(),
        catch_up: args.plane.catch_up,
        ..Limits::default()
    }
}

/// `train` without a folder, evaluated only at the end, after the timed steps.
fn train(args: &BenchArgs, mut recipe: Recipe, dataset: Arc<Dataset>, fleet: &Fleet) -> Result<Report> {
    recipe.max_steps = args.steps as u64;
    recipe.evaluation.every_epochs = 0;
    // there is no folder to keep one in
    (recipe.checkpoint.every_epochs, recipe.checkpoint.every_steps, recipe.checkpoint.every_seconds) = (0, 0, 0);
    let mut run = prepare::run("bench", recipe, dataset, limits(args, fleet.workers))?;
    let per_epoch = run.selection.train.len().div_ceil(run.recipe.batch_size).max(1);
    run.recipe.epochs = args.steps.div_ceil(per_epoch).max(1) as u32;
    run.check()?;
    processor::check_plane(args.plane, fleet.workers, args.compute.device)?;
    serve(run, fleet)
}

fn serve(run: Run, fleet: &Fleet) -> Result<Report> {
    let telemetry = cluster::telemetry(&run, Display::Silent)?;
    let trained = cluster::train(run, fleet, telemetry, cluster::never());
    let report = cluster::runtime()?.block_on(trained)?.report;
    cluster::conclude(&report)?;
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_that_was_not_told_how_images_lie_is_not_said_to_have_them_so() {
        for (class, expected) in [
            ("cpu/v4/math1", "nchw"),
            ("cuda/H100/132sm/cublas13/cudnn9/tf32/kernels2-3fa29c", "auto"),
            ("cuda/H100/132sm/cublas13/cudnn9/tf32-nchw/kernels2-3fa29c", "nchw"),
            ("cuda/H100/132sm/cublas13/cudnn9/f32-nhwc/kernels2-3fa29c", "channels_last"),
        ] {
            assert_eq!(layout(class), expected, "{class:?}");
        }
    }
}
