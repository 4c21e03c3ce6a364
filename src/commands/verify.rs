//! `lockstep verify`: the promise, tried: one hash for every worker count and with workers lost on the way.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use lockstep_coordinator::dataset::Dataset;
use lockstep_coordinator::telemetry::Display;
use lockstep_coordinator::{Limits, Reducer, Report, RingSum};
use lockstep_proto::recipe::Recipe;
use lockstep_proto::schema::Schema;
use serde_json::json;

use crate::cli::{self, ComputeArgs, Kill, PlaneArgs, VerifyArgs};
use crate::exit::{Failure, Result};
use crate::local_workers::Fleet;
use crate::{cluster, logging, prepare, processor};

/// One training to compare.
struct Trial {
    workers: usize,
    kill: Option<Kill>,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} worker{}", self.workers, if self.workers == 1 { "" } else { "s" })?;
        match self.kill {
            Some(kill) => write!(f, ", worker {} killed at step {}", kill.worker, kill.step),
            None => Ok(()),
        }
    }
}

/// What every trial is given.
struct Setup {
    recipe: Recipe,
    dataset: Arc<Dataset>,
    reducer: Reducer,
    compute: ComputeArgs,
    plane: PlaneArgs,
}

pub fn run(args: VerifyArgs) -> Result {
    logging::start();
    let mut recipe = prepare::recipe(&args.recipe)?;
    if !recipe.deterministic {
        return Err(Failure::mistake(
            "verify compares bits, and deterministic = false (--fast) promises none; leave it out",
        ));
    }
    if args.plane.nccl() == Some(RingSum::AllReduce) {
        return Err(Failure::mistake(
            "verify compares bits, and --plane nccl promises none; give --plane nccl-ordered",
        ));
    }
    if recipe.max_steps == 0 {
        recipe.max_steps = args.steps;
    }
    let setup = Setup {
        dataset: Arc::new(prepare::dataset(&args.data)?),
        reducer: cli::reducer(args.test_reducer.as_deref())?,
        compute: args.compute,
        plane: args.plane,
        recipe,
    };
    let trials = trials(&args, &setup.recipe)?;
    let most = trials.iter().map(|trial| trial.workers).max().unwrap_or(1);
    processor::check_plane(args.plane, most, args.compute.device)?;
    let runtime = cluster::runtime()?;
    let say = |text: String| {
        if !args.json {
            say!("{text}");
        }
    };
    say(format!(
        "verify {}: {} steps of {} images, {} shards, on {}",
        setup.recipe.name, setup.recipe.max_steps, setup.recipe.batch_size, setup.recipe.shards, setup.dataset.name
    ));

    let mut first: Option<(String, Report)> = None;
    for trial in &trials {
        let start = Instant::now();
        let report = runtime.block_on(setup.train(trial, setup.recipe.seed, setup.recipe.max_steps))?;
        say(format!(
            "  {:<36} {}  {:5.1} s",
            trial.to_string(),
            report.summary.weights_hash,
            start.elapsed().as_secs_f64()
        ));
        setup.check_work(trial, &report)?;
        match &first {
            None => first = Some((trial.to_string(), report)),
            Some((name, expected)) => setup.compare((name, expected), (&trial.to_string(), &report))?,
        }
    }
    let Some((_, report)) = first else { return Ok(()) };
    let hash = report.summary.weights_hash;
    setup.check_meaning(&runtime, &hash)?;
    if args.json {
        let names: Vec<String> = trials.iter().map(ToString::to_string).collect();
        let line = json!({
            "recipe": setup.recipe.name, "steps": setup.recipe.max_steps, "shards": setup.recipe.shards,
            "device_class": report.summary.device_class, "trials": names, "weights_hash": hash, "equal": true,
        });
        say!("{line}");
    }
    say(format!("one result: {} runs, one hash, on {}", trials.len(), report.summary.device_class));
    Ok(())
}

/// Every worker count, then every loss with the smallest count that leaves somebody to take over.
fn trials(args: &VerifyArgs, recipe: &Recipe) -> Result<Vec<Trial>> {
    let counts: BTreeSet<usize> = args.workers.iter().copied().collect();
    let most = counts.last().copied().unwrap_or(1);
    if let Some(too_many) = counts.iter().find(|count| **count > recipe.shards) {
        return Err(Failure::mistake(format!(
            "--workers {too_many}: with {} shards one of them would have nothing to compute, and prove nothing; raise \
             --shards or leave it out",
            recipe.shards
        )));
    }
    let mut trials: Vec<Trial> = counts.into_iter().map(|workers| Trial { workers, kill: None }).collect();
    for kill in &args.kill {
        if kill.worker >= most {
            let text = format!("--kill {}@{}: the largest run has workers 0 to {}", kill.worker, kill.step, most - 1);
            return Err(Failure::mistake(text));
        }
        if kill.step >= recipe.max_steps {
            let steps = recipe.max_steps;
            let text = format!("--kill {}@{}: the run has steps 0 to {}", kill.worker, kill.step, steps - 1);
            return Err(Failure::mistake(text));
        }
        trials.push(Trial { workers: most, kill: Some(*kill) });
    }
    if trials.len() < 2 {
        return Err(Failure::mistake("one run compares with nothing; give two worker counts, or a --kill"));
    }
    Ok(trials)
}

impl Setup {
    async fn train(&self, trial: &Trial, seed: u64, steps: u64) -> Result<Report> {
        let recipe = Recipe { seed, max_steps: steps, ..self.recipe.clone() };
        // even: a worker that is to be killed must be given something
        let (min_workers, wait_for_workers) = (trial.workers, cluster::OWN_WORKERS);
        let limits = Limits {
            min_workers,
            wait_for_workers,
            even: true,
            shared_memory: self.plane.shared_memory(),
            nccl: self.plane.nccl(),
            catch_up: self.plane.catch_up,
            ..Limits::default()
        };
        let mut run = prepare::run("verify", recipe, Arc::clone(&self.dataset), limits)?;
        run.trace = true;
        run.reducer = self.reducer;
        let telemetry = cluster::telemetry(&run, Display::Silent)?;
        let fleet = Fleet {
            workers: trial.workers,
            threads: Fleet::threads(trial.workers, None),
            // a killed worker comes back, as under `train`
            max_restarts: 1,
            compute: self.compute,
            kill: trial.kill.into_iter().collect(),
            chaos: None,
            wire_values: None,
        };
        let report = cluster::train(run, &fleet, telemetry, cluster::never()).await?.report;
        cluster::conclude(&report)?;
        Ok(report)
    }

    /// A worker that did nothing, or a loss that cost nothing, would prove nothing.
    fn check_work(&self, trial: &Trial, report: &Report) -> Result {
        // one that was killed may have had no time for more; that it held a shard shows in the ledger
        let killed = trial.kill.map(|kill| format!("worker-{}", kill.worker));
        let idle = |(name, shards): &(&String, &u64)| **shards == 0 && Some(*name) != killed.as_ref();
        if let Some((name, _)) = report.shards.iter().find(idle) {
            return Err(Failure::ours(format!(
                "{trial}: {name} contributed no accepted shard, so this proves nothing"
            )));
        }
        if report.shards.len() != trial.workers {
            let found = report.shards.len();
            return Err(Failure::ours(format!("{trial}: {found} workers took part, so this proves nothing")));
        }
        if trial.kill.is_some() && report.summary.ledger.reissued == 0 {
            return Err(Failure::ours(format!("{trial}: no shard was re-issued, so this proves nothing")));
        }
        Ok(())
    }

    fn compare(&self, (name, expected): (&str, &Report), (other, found): (&str, &Report)) -> Result {
        if expected.summary.weights_hash == found.summary.weights_hash {
            return Ok(());
        }
        let schema = prepare::run("verify", self.recipe.clone(), Arc::clone(&self.dataset), Limits::default())?.schema;
        let place = match first_difference(&schema, &expected.trace, &found.trace) {
            None => "in no step that was traced".to_owned(),
            Some(Difference { step, unseen: 0, tensor }) => format!("first in tensor {tensor} after step {step}"),
            Some(Difference { step, unseen, tensor }) => format!(
                "in tensor {tensor} after step {step}, maybe since one of the {unseen} before, which only workers saw; \
                 LOCKSTEP_OWN_STEPS=off shows each step"
            ),
        };
        Err(Failure::ours(format!("NOT one result: {other} and {name} differ, {place}")))
    }

    /// The hash must say something: it is not the one of no training, nor the one of another seed.
    fn check_meaning(&self, runtime: &tokio::runtime::Runtime, hash: &str) -> Result {
        let run = prepare::run("verify", self.recipe.clone(), Arc::clone(&self.dataset), Limits::default())?;
        if lockstep_proto::hash::weights_hash(&run.schema, &run.initial) == *hash {
            return Err(Failure::ours("the hash is that of the untrained weights: nothing was learned"));
        }
        let one = Trial { workers: 1, kill: None };
        let other = runtime.block_on(self.train(&one, self.recipe.seed + 1, self.recipe.max_steps))?;
        if other.summary.weights_hash == *hash {
            return Err(Failure::ours("another seed gives the same hash: the seed is not used"));
        }
        Ok(())
    }
}

/// Where two runs differ.
struct Difference {
    /// The first step that shows it, counted from 1.
    step: usize,
    /// Steps just before it that one of the coordinators did not see: a lone worker made them.
    unseen: usize,
    /// The first tensor that shows it.
    tensor: String,
}

fn first_difference(schema: &Schema, one: &[Vec<u64>], other: &[Vec<u64>]) -> Option<Difference> {
    let mut unseen = 0;
    for (step, (a, b)) in one.iter().zip(other).enumerate() {
        if a.is_empty() || b.is_empty() {
            unseen += 1;
        } else if let Some(tensor) = a.iter().zip(b).position(|(a, b)| a != b) {
            return Some(Difference { step: step + 1, unseen, tensor: schema.tensors().get(tensor)?.name.clone() });
        } else {
            unseen = 0;
        }
    }
    None
}
