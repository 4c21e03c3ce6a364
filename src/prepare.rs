//! From what was typed to a run that can be served: recipe, images, model, folder.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use lockstep_coordinator::checkpoint::{Snapshot, Store, read_weights};
use lockstep_coordinator::dataset::{self, DataRequest, Dataset, Selection, Source};
use lockstep_coordinator::telemetry::Split;
use lockstep_coordinator::telemetry::format::{count, thousands};
use lockstep_coordinator::{Limits, Plan, Reducer, Run};
use lockstep_proto::hash::weights_hash;
use lockstep_proto::recipe::model::ModelSpec;
use lockstep_proto::recipe::{PartitionName, Recipe};
use lockstep_worker::dataset::IMAGE;
use lockstep_worker::model::Model;

use crate::cli::{self, DataSource, RecipeArgs, RunArgs};
use crate::display::LoadingBar;
use crate::exit::{Failure, Result};
use crate::lock::{self, Lock};
use crate::{folder, origin, source};

/// The recipe with everything that was typed laid over it.
pub fn recipe(args: &RecipeArgs) -> Result<Recipe> {
    Ok(Recipe::resolve(args.recipe.as_deref(), &args.settings()?, &read_file)?)
}

/// Reads a recipe or a model file.
pub fn read_file(path: &str) -> std::result::Result<String, String> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        _ => error.to_string(),
    })
}

/// The images, with a bar while they load.
pub fn dataset(source: &DataSource) -> Result<Dataset> {
    let request = DataRequest {
        source: source.data.as_deref().map_or(Source::Auto, Source::from),
        url: source.data_url.clone(),
        offline: source.offline,
        ..DataRequest::default()
    };
    Ok(dataset::load(&request, &LoadingBar::default())?)
}

/// A built-in model by name, or one from a file.
pub fn model_spec(name: &str) -> Result<ModelSpec> {
    let setting = lockstep_proto::recipe::Setting::flag("--model", "model", name);
    Ok(Recipe::resolve(None, &[setting], &read_file)?.model)
}

/// The training and held-out examples that the recipe asks for.
fn selection(recipe: &Recipe, dataset: &Dataset) -> Result<Selection> {
    let data = &recipe.data;
    Ok(dataset::select(dataset.train.len(), data.subset, data.fraction, data.validation, recipe.seed)?)
}

/// A run without a folder, from its first step: what `bench` and `verify` serve, and `train` begins with.
pub fn run(name: &str, recipe: Recipe, dataset: Arc<Dataset>, limits: Limits) -> Result<Run> {
    let model = Model::new(&recipe.model, IMAGE, dataset.classes.len())?;
    let selection = selection(&recipe, &dataset)?;
    let run = Run {
        name: name.to_owned(),
        build: crate::commands::BUILD.to_owned(),
        folder: None,
        schema: model.schema().clone(),
        initial: model.initial(recipe.seed),
        selection,
        resume: None,
        limits,
        reducer: Reducer::Tree,
        trace: false,
        recipe,
        dataset,
    };
    check_statistics(&model, &run.plan())?;
    check_slices(&model, &run)?;
    Ok(run)
}

/// A shard of one example has no variance where a BatchNorm sees one value a channel: found now, not in that step.
fn check_statistics(model: &Model, plan: &Plan) -> Result {
    let Some(layer) = model.norm_of_single_values() else { return Ok(()) };
    let steps = plan.steps_per_epoch().min(plan.total_steps());
    // where batches are drawn from all images, all but an epoch's last are alike
    let drawn = plan.partition == PartitionName::Shuffled;
    let few = if drawn { vec![0, steps.saturating_sub(1)] } else { (0..steps).collect() };
    let alone = few.into_iter().find(|step| {
        // there are two lengths at most: the first shard's, and that of the last one that has something
        let last = plan.leaves(*step).saturating_sub(1);
        [0, last].iter().any(|shard| plan.shard(*step, *shard).len() == 1)
    });
    let Some(batch) = alone.map(|step| plan.batch_len(step)) else { return Ok(()) };
    let last = match drawn && batch != plan.batch_size {
        true => format!(", the last of the {} images of an epoch", thousands(u64::from(plan.examples))),
        false => String::new(),
    };
    Err(Failure::mistake(format!(
        "{layer}: it has one value a channel of each example, and a batch of {}{last}, cut into {}, has a shard of one \
         example: one value has no variance; change batch_size or shards, or move the layer",
        count(u64::from(batch), "image"),
        count(u64::from(plan.shards), "shard"),
    )))
}

/// The same in an evaluation that takes its statistics from each slice.
fn check_slices(model: &Model, run: &Run) -> Result {
    let (Some(layer), slices) = (model.norm_of_single_values(), run.slices()) else { return Ok(()) };
    let mut all = (0..slices.len()).map(|slice| slices.examples(slice));
    let Some((split, _)) = all.find(|(split, examples)| run.evaluates_as_trained(*split) && examples.len() == 1) else {
        return Ok(());
    };
    let images = match split {
        Split::Validation => run.selection.validation.len(),
        _ => run.dataset.test.len(),
    };
    Err(Failure::mistake(format!(
        "{layer}: it has one value a channel of each example, and evaluation.mode = \"train\" takes its statistics from each \
         slice: {} in slices of {} leave a slice of one, and one value has no variance; change evaluation.slice or \
         evaluation.mode",
        count(images as u64, "image"),
        thousands(run.recipe.evaluation.slice as u64),
    )))
}

/// A run that is kept, and the lock on its folder: a new one, or an old one to go on in. None if that is finished, which is
/// said.
pub fn kept_run(
    recipe_args: &RecipeArgs,
    data: &DataSource,
    args: &RunArgs,
    limits: Limits,
) -> Result<Option<(Run, Lock)>> {
    let reducer = cli::reducer(args.limits.test_reducer.as_deref())?;
    let (mut run, lock) = if args.resume {
        match resumed(recipe_args, data, args, limits)? {
            Some(resumed) => resumed,
            None => return Ok(None),
        }
    } else {
        let recipe = recipe(recipe_args)?;
        let dataset = Arc::new(dataset(data)?);
        let mut run = run(&recipe.name.clone(), recipe, dataset, limits)?;
        begin(&mut run, args.init_from.as_deref())?;
        // last, so that no mistake leaves an empty folder behind
        let folder = folder::create(args.out.as_deref(), &run.recipe.name)?;
        let lock = lock::take(&folder)?;
        folder::write(&folder, "recipe.toml", &run.recipe.to_toml())?;
        source::keep(&folder, data, &run.dataset)?;
        run.name = name_of(&folder);
        run.folder = Some(folder);
        (run, lock)
    };
    run.reducer = reducer;
    // before anything in the folder is touched
    run.check()?;
    Ok(Some((run, lock)))
}

/// Has a new run begin with the weights in `path`, a file or another run's folder, if there is one. Its recipe remembers which they were: without them it would be
/// another run.
fn begin(run: &mut Run, path: Option<&Path>) -> Result {
    let Recipe { init_from, init_hash, .. } = &run.recipe;
    let Some(path) = path else {
        if !init_hash.is_empty() {
            return Err(Failure::mistake(format!(
                "the recipe begins with the weights {init_hash:.12}: give them with --init-from FILE, or leave its init_hash out \
                 and begin with fresh ones"
            )));
        }
        if !init_from.is_empty() {
            warn!(
                "warning: {} is to begin with the weights of {init_from}; without --init-from it begins with fresh ones",
                run.recipe.name
            );
        }
        return Ok(());
    };
    let file = if path.is_dir() { origin::weights_in(path)? } else { path.to_owned() };
    run.initial = read_weights(&run.schema, &file)?;
    let found = weights_hash(&run.schema, &run.initial);
    if !init_hash.is_empty() && *init_hash != found {
        return Err(Failure::mistake(format!(
            "the recipe begins with the weights {init_hash:.12}, and {} has {found:.12}",
            file.display()
        )));
    }
    run.recipe.init_hash = found;
    Ok(())
}

fn resumed(recipe_args: &RecipeArgs, data: &DataSource, args: &RunArgs, limits: Limits) -> Result<Option<(Run, Lock)>> {
    if args.init_from.is_some() {
        return Err(Failure::mistake("--init-from begins a run and --resume goes on with one; give only one of them"));
    }
    let folder = folder::find(args.out.as_deref())?;
    // before anything is read: what another process is about to replace is not the run's last word
    let lock = lock::take(&folder)?;
    let store = Store::open(&folder, 1)?;
    store.clear_torn();
    let (path, snapshot, damaged) = store.latest()?;
    for error in damaged {
        warn!("warning: {error}");
    }
    let recipe = resumed_recipe(recipe_args, &snapshot, &path)?;
    let finished = folder::finished(&folder, snapshot.state.version);
    // at once, unless there are images to compare
    if finished && !data.is_given() {
        say_finished(&folder, snapshot.state.version);
        return Ok(None);
    }
    let dataset = Arc::new(dataset(&source::resume(&folder, data)?)?);
    let mut run = run(&name_of(&folder), recipe, dataset, limits)?;
    run.resume = Some(snapshot);
    run.check()?;
    if finished {
        say_finished(&folder, run.position().version);
        return Ok(None);
    }
    run.folder = Some(folder);
    Ok(Some((run, lock)))
}

fn say_finished(folder: &Path, steps: u64) {
    let (folder, steps) = (folder.display(), count(steps, "step"));
    warn!(
        "{folder} is finished: all its {steps} are made; for more, begin a run with --init-from {folder}/model.safetensors"
    );
}

/// The checkpoint's recipe. What was typed must not differ from it: one run, one recipe.
fn resumed_recipe(args: &RecipeArgs, snapshot: &Snapshot, path: &Path) -> Result<Recipe> {
    const KEPT: &str = "the run's recipe.toml";
    let kept = Recipe::parse(&snapshot.state.recipe, KEPT)?;
    let typed = match &args.recipe {
        Some(_) => recipe(args)?,
        None => {
            let load = |path: &str| if path == KEPT { Ok(snapshot.state.recipe.clone()) } else { read_file(path) };
            Recipe::resolve(Some(KEPT), &args.settings()?, &load)?
        }
    };
    let differences = kept.differences(&typed);
    // of another model the name says more than its first layer that differs
    let Some(first) = differences.iter().find(|one| one.key == "model.name").or(differences.first()) else {
        return Ok(kept);
    };
    let more = match differences.len() - 1 {
        0 => String::new(),
        n => format!(" (and {})", count(n as u64, "more difference")),
    };
    Err(Failure::mistake(format!(
        "the run was begun with another recipe: {} was {}, and is {} now{more}; resume without this, or begin a new run \
         (with --init-from {} to keep its weights)",
        first.key,
        first.ours,
        first.theirs,
        path.display()
    )))
}

fn name_of(folder: &Path) -> String {
    folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
}
