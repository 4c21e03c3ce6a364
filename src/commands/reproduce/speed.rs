//! How fast this machine trains a network, found out beforehand.

use std::sync::Arc;

use lockstep_coordinator::dataset::{Dataset, PIXELS, Split};
use lockstep_coordinator::telemetry::{Display, Summary};
use lockstep_proto::recipe::model::ModelSpec;
use lockstep_proto::recipe::{OptimizerSettings, Recipe, ScheduleSettings, Subset};
use tokio::runtime::Runtime;

use super::job::Job;
use crate::cli::{LimitArgs, ReproduceArgs};
use crate::commands::train;
use crate::exit::Result;
use crate::local_workers::Fleet;
use crate::{cluster, prepare};

/// Steps that are made to find out: the first ten are not timed.
const STEPS: usize = 20;

/// Ten steps of a small network are over before a second process had a turn: it makes so many seconds of them, and at most so
/// many steps.
const LONG_ENOUGH: f64 = 1.0;
const MOST_STEPS: usize = 1000;

/// Images a second of each network, as far as known.
pub struct Speeds<'a> {
    fleet: Fleet,
    limits: &'a LimitArgs,
    runtime: &'a Runtime,
    known: Vec<(Work, f64)>,
}

/// What the time of a step depends on.
#[derive(PartialEq)]
struct Work {
    model: ModelSpec,
    batch_size: usize,
    shards: usize,
}

impl Work {
    fn of(recipe: &Recipe) -> Self {
        Self { model: recipe.model.clone(), batch_size: recipe.batch_size, shards: recipe.shards }
    }
}

impl<'a> Speeds<'a> {
    pub fn new(args: &'a ReproduceArgs, runtime: &'a Runtime) -> Self {
        // a worker that is killed here would be missed there
        let fleet = Fleet { kill: Vec::new(), ..train::fleet(&args.local) };
        Self { fleet, limits: &args.limits, runtime, known: Vec::new() }
    }

    /// Takes the speed of a training that is done.
    pub fn know(&mut self, job: &Job) {
        let rate = Summary::read(&job.folder).map_or(0.0, |summary| summary.images_per_s);
        if rate > 0.0 {
            self.known.push((Work::of(&job.recipe), rate));
        }
    }

    /// Training images a second: known, or found out with a few steps of the same path that `train` takes.
    pub fn of(&mut self, recipe: &Recipe, dataset: &Dataset) -> Result<f64> {
        let work = Work::of(recipe);
        if let Some((_, rate)) = self.known.iter().find(|(known, _)| *known == work) {
            return Ok(*rate);
        }
        let mut rate = self.measure(recipe, dataset, STEPS)?;
        let steps = (rate * LONG_ENOUGH / recipe.batch_size as f64) as usize;
        if steps > STEPS {
            rate = self.measure(recipe, dataset, steps.min(MOST_STEPS))?;
        }
        self.known.push((work, rate));
        Ok(rate)
    }

    fn measure(&self, recipe: &Recipe, dataset: &Dataset, steps: usize) -> Result<f64> {
        let mut recipe = recipe.clone();
        recipe.max_steps = steps as u64;
        // no training that could diverge, and all images that are there
        recipe.optimizer = OptimizerSettings { name: recipe.optimizer.name, lr: 0.0, ..OptimizerSettings::default() };
        recipe.schedule = ScheduleSettings::default();
        (recipe.data.subset, recipe.data.fraction, recipe.data.validation) = (Subset::All, 1.0, 0.0);
        (recipe.evaluation.every_epochs, recipe.evaluation.slice) = (0, 1);
        recipe.checkpoint.every_epochs = 0;
        let train = first(&dataset.train, STEPS * recipe.batch_size);
        recipe.epochs = (steps * recipe.batch_size).div_ceil(train.len()) as u32;
        let dataset = Dataset { train, test: first(&dataset.test, 1), ..dataset.clone() };
        let mut limits = self.limits.limits(self.fleet.workers, false);
        limits.wait_for_workers = cluster::OWN_WORKERS;
        let run = prepare::run("speed", recipe, Arc::new(dataset), limits)?;
        let telemetry = cluster::telemetry(&run, Display::Silent)?;
        let report = self.runtime.block_on(cluster::train(run, &self.fleet, telemetry, cluster::never()))?.report;
        cluster::conclude(&report)?;
        Ok(report.steady_images_per_s.max(f64::MIN_POSITIVE))
    }
}

fn first(split: &Split, images: usize) -> Split {
    let images = images.min(split.len());
    Split { pixels: split.pixels[..images * PIXELS].to_vec(), labels: split.labels[..images].to_vec() }
}
