//! `lockstep train`: the main job.

use lockstep_coordinator::Limits;

use crate::cli::{Plane, TrainArgs};
use crate::exit::Result;
use crate::local_workers::{Fleet, Schedule};
use crate::{cluster, logging, prepare, signals};

pub fn run(args: TrainArgs) -> Result {
    logging::start();
    let local = &args.local;
    let mut fleet = Fleet {
        workers: local.workers,
        threads: Fleet::threads(local.workers, local.threads),
        max_restarts: local.max_restarts,
        kernels: local.kernels.kernels.map(|kernels| kernels.word()),
        kill: local.kill.clone(),
        chaos: None,
        wire_values: None,
    };
    fleet.check()?;
    let limits = Limits {
        min_workers: local.workers,
        worker_timeout: args.run.worker_timeout,
        lease_timeout: args.run.lease_timeout,
        wait_for_workers: args.run.wait_for_workers,
        allow_foreign_workers: false,
        // who is to be killed must be given something
        even: !local.kill.is_empty(),
        audit: args.run.audit,
        shared_memory: args.run.plane == Plane::Auto,
    };
    let kept = prepare::kept_run(&args.recipe, &args.data, &args.run, limits)?;
    let Some((run, _lock)) = kept else { return Ok(()) };
    let telemetry = cluster::telemetry(&run, args.display.choose())?;
    fleet.chaos = local
        .chaos
        .as_ref()
        .map(|chaos| Schedule::new(chaos, run.recipe.seed, fleet.workers, run.limits.worker_timeout));
    let trained = cluster::runtime()?.block_on(async {
        let stop = signals::stop()?;
        cluster::train(run, &fleet, telemetry, stop).await
    })?;
    if let Some(toll) = trained.toll.filter(|_| !args.display.quiet) {
        warn!("chaos: {toll}");
    }
    cluster::conclude(&trained.report)
}
