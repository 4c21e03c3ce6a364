//! `lockstep reproduce`: recipes trained as `train` does, one after the other, and their reports' numbers beside ours.

mod figure;
mod job;
mod plan;
mod result;
mod speed;
mod table;

use lockstep_coordinator::dataset::BUILTIN;
use lockstep_coordinator::engine::Outcome;
use lockstep_coordinator::telemetry::Display;
use lockstep_coordinator::telemetry::format::{clock, count};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::cli::{RecipeArgs, ReproduceArgs, RunArgs, TrainArgs};
use crate::columns::{Align, aligned};
use crate::commands::train;
use crate::exit::{Failure, Result};
use crate::{cluster, folder, lock, logging, prepare, signals, source};
use job::{Job, State};
use plan::Plan;
use result::Experiment;

pub fn run(args: &ReproduceArgs) -> Result {
    logging::start();
    let runtime = cluster::runtime()?;
    let recipes = plan::recipes(&args.recipes)?;
    let out = &args.out;
    folder::check(out, args.resume)?;
    // what was typed when the folder was begun counts for all that is trained in it
    let data = source::resume(out, &args.data)?;
    let dataset = prepare::dataset(&data)?;
    // before anything is measured
    let begun = source::check(out, &data, &dataset)?;
    let plan = plan::make(args, &recipes, &dataset, &runtime)?;
    // last, so that no mistake leaves an empty folder behind
    folder::make(out)?;
    let _lock = lock::take(out)?;
    if !begun {
        source::keep(out, &data, &dataset)?;
    }
    let chatty = !matches!(args.display.choose(), Display::Json | Display::Quiet | Display::Silent);
    if chatty {
        say_plan(args, &plan, &dataset.name);
    }
    let hash = dataset.hash();
    // the runs load their own
    drop(dataset);
    let write = || {
        let all = result::collect(out, &recipes, &hash)?;
        folder::rewrite(out, "results.json", &result::json(&all.experiments)?)?;
        folder::rewrite(out, "results.md", &table::markdown(&all.experiments))?;
        Ok::<_, Failure>(all)
    };
    // what is trained from here on fits
    write()?.left_out.iter().for_each(|run| warn!("{run}"));

    let stop = Stop::listen(&runtime)?;
    let mut failed = Vec::new();
    let mut left: f64 = plan.jobs.iter().map(|job| job.seconds).sum();
    let open: Vec<&Job> = plan.jobs.iter().filter(|job| job.state != State::Done).collect();
    for (i, job) in open.iter().enumerate() {
        if stop.reason().is_some() {
            break;
        }
        if chatty {
            let (n, of, about, all) = (i + 1, open.len(), clock(job.seconds), clock(left));
            say!("\n{n} of {of}: {}, about {about}; all that is left, about {all}", job.name());
        }
        left -= job.seconds;
        if let Some(reason) = train_one(args, job, &data, &runtime, &stop)? {
            warn!("{} failed: {reason}", job.name());
            failed.push(format!("{} ({reason})", job.name()));
        }
        write()?;
    }
    let asked: Vec<Experiment> = write()?.experiments.into_iter().filter(|one| one.asked).collect();
    if chatty {
        say!("\n{}\n{}", table::plain(&asked).trim_end(), table::LEGEND);
        if asked.iter().flat_map(|one| &one.runs).any(|run| run.data == BUILTIN) {
            say!("the built-in images are not CIFAR-10: no figure of a report is to be held against ours");
        }
        say!("results are in {0}/results.json and {0}/results.md", out.display());
    }
    if args.display.json {
        say!("{}", json!({ "event": "reproduced", "experiments": asked }));
    }
    if let Some(reason) = stop.reason() {
        warn!("stopped by {reason}; go on with: {}", how_to_go_on(args));
    }
    match failed.len() {
        0 => Ok(()),
        n => Err(Failure::ours(format!("{} failed: {}", count(n as u64, "training"), failed.join("; ")))),
    }
}

/// Trains `job` to its end or to a stop. Some: why the training itself failed, which is a result too.
fn train_one(
    args: &ReproduceArgs,
    job: &Job,
    data: &crate::cli::DataSource,
    runtime: &Runtime,
    stop: &Stop,
) -> Result<Option<String>> {
    if job.state == State::Torn {
        job.put_aside()?;
    }
    let init_from = job.init_from.clone().filter(|_| job.state != State::Begun);
    if let Some(missing) = init_from.as_ref().filter(|file| !file.exists()) {
        return Ok(Some(format!("it begins with the weights in {}, which are not there", missing.display())));
    }
    let typed = TrainArgs {
        recipe: RecipeArgs {
            recipe: Some(job.typed.clone()),
            seed: Some(job.recipe.seed.to_string()),
            ..RecipeArgs::default()
        },
        data: data.clone(),
        run: RunArgs {
            out: Some(job.folder.clone()),
            resume: job.state == State::Begun,
            init_from,
            limits: args.limits.clone(),
        },
        local: args.local.clone(),
        display: args.display,
    };
    let Some(trained) = train::train(&typed, runtime, || Ok(stop.future()))? else { return Ok(None) };
    match &trained.report.outcome {
        Outcome::Failed { reason } => Ok(Some(reason.clone())),
        // said once, at the end
        Outcome::Stopped { .. } => Ok(None),
        Outcome::Complete | Outcome::NoWorkers { .. } => cluster::conclude(&trained.report).map(|()| None),
    }
}

fn say_plan(args: &ReproduceArgs, plan: &Plan, images: &str) {
    let (n, folder) = (count(plan.jobs.len() as u64, "training"), args.out.display());
    say!("reproduce: {n} on {images}, in {folder}");
    let mut rows = vec![["recipe", "seed", "time"].map(str::to_owned).to_vec()];
    rows.extend(plan.jobs.iter().map(|job| vec![job.recipe.name.clone(), job.recipe.seed.to_string(), job.about()]));
    say!("{}", aligned(&[Align::Left, Align::Right, Align::Right], &rows).trim_end());
    let all = clock(plan.jobs.iter().map(|job| job.seconds).sum());
    say!("about {all} in all, at the speed of a few steps of each network (or of a run of it that is done)");
}

fn how_to_go_on(args: &ReproduceArgs) -> String {
    let seeds: Vec<String> = args.seeds.iter().map(u64::to_string).collect();
    let seeds = if seeds.is_empty() { String::new() } else { format!(" --seeds {}", seeds.join(",")) };
    format!("lockstep reproduce {}{seeds} --resume --out {}", args.recipes.join(" "), args.out.display())
}

/// One signal for all runs: the first ends the run that is there, and no other begins.
struct Stop(watch::Receiver<Option<String>>);

impl Stop {
    fn listen(runtime: &Runtime) -> Result<Self> {
        let _inside = runtime.enter();
        let signal = signals::stop()?;
        // a watch, because runs come and go and each must see a signal that came before it
        let (tell, told) = watch::channel(None);
        runtime.spawn(async move {
            let _ = tell.send(Some(signal.await));
        });
        Ok(Self(told))
    }

    fn reason(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    fn future(&self) -> impl Future<Output = String> + Send + 'static {
        let mut told = self.0.clone();
        async move {
            let reason = told.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
            match reason {
                Some(reason) => reason,
                // the listener ends with the program only
                None => std::future::pending().await,
            }
        }
    }
}
