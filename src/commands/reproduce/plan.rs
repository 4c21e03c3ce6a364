//! Which trainings a reproduction needs, in which order, and how long they take.

use std::path::Path;

use lockstep_coordinator::dataset::{Dataset, select};
use lockstep_coordinator::telemetry::Summary;
use lockstep_proto::recipe::{Recipe, catalogue};
use tokio::runtime::Runtime;

use super::job::{Job, State, folder_of, state};
use super::speed::Speeds;
use crate::cli::{RecipeArgs, ReproduceArgs};
use crate::exit::{Failure, Result};
use crate::prepare;

/// The word for all built-in recipes.
const ALL: &str = "all";

/// A forward pass is about a third of a forward and a backward pass.
const FORWARD: f64 = 1.0 / 3.0;

/// A recipe as typed, and resolved.
#[derive(Clone, Debug)]
pub struct Typed {
    pub typed: String,
    pub recipe: Recipe,
}

pub struct Plan {
    /// In the order in which they are trained.
    pub jobs: Vec<Job>,
}

/// The recipes that were `typed`, and before each the one that it begins with.
pub fn recipes(typed: &[String]) -> Result<Vec<Typed>> {
    let all = catalogue::RECIPES.iter().map(|file| file.name);
    let names = typed.iter().flat_map(|typed| if typed == ALL { all.clone().collect() } else { vec![typed.as_str()] });
    let mut recipes = Vec::new();
    for name in names {
        add(name, &mut recipes, &mut Vec::new())?;
    }
    Ok(recipes)
}

/// `waiting`: those that wait for `name` to be trained.
fn add(name: &str, recipes: &mut Vec<Typed>, waiting: &mut Vec<String>) -> Result {
    if recipes.iter().any(|one| one.typed == name) {
        return Ok(());
    }
    let recipe = prepare::recipe(&RecipeArgs { recipe: Some(name.to_owned()), ..RecipeArgs::default() })?;
    waiting.push(name.to_owned());
    let first = &recipe.init_from;
    if waiting.contains(first) {
        return Err(Failure::mistake(format!("{name} begins with the weights of {first}, which waits for {name}")));
    }
    if !first.is_empty() {
        add(first, recipes, waiting)?;
    }
    waiting.pop();
    if let Some(other) = recipes.iter().find(|one| one.recipe.name == recipe.name) {
        return Err(Failure::mistake(format!(
            "{name} and {} are both called {:?}, and would share a folder; give one of them another name = \"…\"",
            other.typed, recipe.name
        )));
    }
    recipes.push(Typed { typed: name.to_owned(), recipe });
    Ok(())
}

pub fn make(args: &ReproduceArgs, recipes: &[Typed], dataset: &Dataset, runtime: &Runtime) -> Result<Plan> {
    let mut jobs = Vec::new();
    for Typed { typed, recipe } in recipes {
        let seeds = if args.seeds.is_empty() { vec![recipe.seed] } else { args.seeds.clone() };
        for seed in seeds {
            let recipe = Recipe { seed, ..recipe.clone() };
            // the command line has no other way to give a recipe a seed that no recipe can have
            recipe.validate()?;
            let folder = folder_of(&args.out, &recipe.name, seed);
            if jobs.iter().any(|job: &Job| job.folder == folder) {
                continue;
            }
            // by its own name: what was typed may be a file's
            let first = recipes.iter().find(|one| one.typed == recipe.init_from);
            let init_from = first.map(|first| folder_of(&args.out, &first.recipe.name, seed).join("model.safetensors"));
            let state = state(&folder, &recipe)?;
            if state == State::Done {
                same_images(&folder, dataset)?;
            }
            jobs.push(Job { typed: typed.clone(), recipe, folder, init_from, state, seconds: 0.0 });
        }
    }
    let mut speeds = Speeds::new(args, runtime);
    jobs.iter().filter(|job| job.state == State::Done).for_each(|job| speeds.know(job));
    for job in jobs.iter_mut().filter(|job| job.state != State::Done) {
        job.seconds = images(&job.recipe, dataset)? / speeds.of(&job.recipe, dataset)?;
    }
    if args.recipes.iter().any(|name| name == ALL) {
        jobs = quick_ones_first(jobs);
    }
    Ok(Plan { jobs })
}

/// Trainings on other images can't stand in one table.
fn same_images(folder: &Path, dataset: &Dataset) -> Result {
    let summary = Summary::read(folder)?;
    if summary.data_hash == dataset.hash() {
        return Ok(());
    }
    Err(Failure::mistake(format!(
        "{} was trained on {} ({:.12}), and this is {} ({:.12}); give the same --data, or another --out",
        folder.display(),
        summary.data,
        summary.data_hash,
        dataset.name,
        dataset.hash()
    )))
}

/// Trained images that the whole of `recipe` is worth, evaluations included.
fn images(recipe: &Recipe, dataset: &Dataset) -> Result<f64> {
    let data = &recipe.data;
    let chosen = select(dataset.train.len(), data.subset, data.fraction, data.validation, recipe.seed)?;
    let epoch = chosen.train.len() as f64;
    let mut trained = epoch * f64::from(recipe.epochs);
    if recipe.max_steps > 0 {
        trained = trained.min(recipe.max_steps as f64 * recipe.batch_size as f64);
    }
    let epochs = (trained / epoch).ceil();
    let evaluations = match recipe.evaluation.every_epochs {
        0 => 1.0,
        every => (epochs / f64::from(every)).ceil(),
    };
    let again = if recipe.evaluation.train_images { chosen.train.len() } else { 0 };
    let evaluated = (dataset.test.len() + chosen.validation.len() + again) as f64;
    Ok(trained + evaluations * evaluated * FORWARD)
}

/// By their time; one that begins with another's weights comes after it.
fn quick_ones_first(jobs: Vec<Job>) -> Vec<Job> {
    let own = |job: &Job| (job.state != State::Done, job.seconds);
    let key = |job: &Job| {
        let first = job.init_from.as_ref().and_then(|file| jobs.iter().find(|other| file.starts_with(&other.folder)));
        let (it, before) = (own(job), first.map_or((false, 0.0), own));
        (it.0 || before.0, it.1.max(before.1))
    };
    let keys: Vec<(bool, f64)> = jobs.iter().map(key).collect();
    let mut keyed: Vec<_> = keys.into_iter().zip(jobs).collect();
    // stable: of equals, what comes first was listed first
    keyed.sort_by(|(a, _), (b, _)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    keyed.into_iter().map(|(_, job)| job).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(names: &[&str]) -> Result<Vec<String>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Ok(recipes(&names)?.into_iter().map(|one| one.typed).collect())
    }

    #[test]
    fn all_is_every_recipe_once_and_names_keep_their_order() {
        assert_eq!(typed(&["all"]).expect("all").len(), catalogue::RECIPES.len());
        assert_eq!(typed(&["base", "all"]).expect("all")[0], "base");
        assert_eq!(typed(&["base", "lenet", "base"]).expect("two"), ["base", "lenet"]);
        let refused = format!("{:?}", typed(&["lenett"]).expect_err("unknown"));
        assert!(refused.contains("nearest is \\\"lenet\\\""), "{refused}");
    }

    #[test]
    fn two_files_of_one_name_are_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("lenet.toml").display().to_string();
        std::fs::write(&path, "epochs = 1").expect("written");
        let refused = format!("{:?}", typed(&["lenet", &path]).expect_err("one folder"));
        assert!(refused.contains("both called") && refused.contains("another name"), "{refused}");
    }

    #[test]
    fn what_begins_with_itself_is_refused_and_what_a_file_begins_with_is_planned() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name).display().to_string();
            std::fs::write(&path, text).expect("written");
            path
        };
        let warm = write("warm.toml", "extends = \"lenet\"\ninit_from = \"lenet-dropout\"");
        assert_eq!(typed(&[&warm]).expect("both"), ["lenet-dropout", warm.as_str()]);
        let path = folder.path().join("round.toml").display().to_string();
        let round = write("round.toml", &format!("init_from = {path:?}"));
        let refused = format!("{:?}", typed(&[&round]).expect_err("itself"));
        assert!(refused.contains("begins with the weights of"), "{refused}");
    }

    #[test]
    fn the_quick_ones_come_first_and_what_begins_with_another_after_it() {
        let job = |name: &str, seconds: f64, first: Option<&str>| Job {
            typed: name.to_owned(),
            recipe: Recipe { name: name.to_owned(), ..Recipe::default() },
            folder: folder_of(Path::new("out"), name, 0),
            init_from: first.map(|first| folder_of(Path::new("out"), first, 0).join("model.safetensors")),
            state: if seconds == 0.0 { State::Done } else { State::New },
            seconds,
        };
        let jobs = vec![
            job("slow", 9.0, None),
            job("warm", 1.0, Some("slow")),
            job("done", 0.0, None),
            job("quick", 2.0, None),
            job("after", 3.0, Some("done")),
        ];
        let jobs = quick_ones_first(jobs);
        let names: Vec<&str> = jobs.iter().map(|job| job.typed.as_str()).collect();
        assert_eq!(names, ["done", "quick", "after", "slow", "warm"]);
    }
}
