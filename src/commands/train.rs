//! `lockstep train`: the main job.

use std::future::Future;

use tokio::runtime::Runtime;

use crate::cli::{LocalArgs, TrainArgs};
use crate::cluster::Trained;
use crate::exit::Result;
use crate::local_workers::{Fleet, Schedule};
use crate::{cluster, logging, prepare, processor, signals};

pub fn run(args: TrainArgs) -> Result {
    logging::start();
    let runtime = cluster::runtime()?;
    match train(&args, &runtime, || {
        let _inside = runtime.enter();
        Ok(signals::stop()?)
    })? {
        Some(trained) => cluster::conclude(&trained.report),
        None => Ok(()),
    }
}

/// Trains as typed, to the end or to a `stop`, which is listened to from the first step on. None if the run in the folder is
/// finished already, which is said.
pub fn train<S: Future<Output = String> + Send + 'static>(
    args: &TrainArgs,
    runtime: &Runtime,
    stop: impl FnOnce() -> Result<S>,
) -> Result<Option<Trained>> {
    let local = &args.local;
    let mut fleet = fleet(local);
    fleet.check()?;
    processor::check_plane(args.run.limits.plane, fleet.workers, local.compute.device)?;
    // who is to be killed must be given something
    let limits = args.run.limits.limits(fleet.workers, !local.kill.is_empty());
    let kept = prepare::kept_run(&args.recipe, &args.data, &args.run, limits)?;
    let Some((run, _lock)) = kept else { return Ok(None) };
    let telemetry = cluster::telemetry(&run, args.display.choose())?;
    fleet.chaos = local
        .chaos
        .as_ref()
        .map(|chaos| Schedule::new(chaos, run.recipe.seed, fleet.workers, run.limits.worker_timeout));
    let stop = stop()?;
    let trained = runtime.block_on(cluster::train(run, &fleet, telemetry, stop))?;
    if let Some(toll) = trained.toll.filter(|_| !args.display.quiet) {
        warn!("chaos: {toll}");
    }
    Ok(Some(trained))
}

/// The worker processes as typed, without chaos: that needs a run's seed.
pub fn fleet(local: &LocalArgs) -> Fleet {
    let workers = processor::workers(local.workers, local.compute.device);
    Fleet {
        workers,
        threads: Fleet::threads(workers, local.threads),
        max_restarts: local.max_restarts,
        compute: local.compute,
        kill: local.kill.clone(),
        chaos: None,
        wire_values: None,
    }
}
