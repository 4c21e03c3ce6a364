//! What the runs of a folder came to, beside what their reports say. Read from the folder alone, whoever trained them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lockstep_coordinator::regular;
use lockstep_coordinator::telemetry::Summary;
use lockstep_proto::recipe::{Recipe, Reported, catalogue};
use serde::Serialize;

use super::figure::{Figure, figures};
use super::plan::Typed;
use crate::exit::{Failure, Result};
use crate::history::{Epoch, History};
use crate::prepare;

/// A recipe and its runs that are done.
#[derive(Clone, Debug, Serialize)]
pub struct Experiment {
    pub recipe: String,
    pub source: String,
    /// What trains it again, here or elsewhere.
    pub command: String,
    pub reported: Vec<Reported>,
    pub figures: Vec<Figure>,
    pub runs: Vec<Run>,
    /// It was named on this command line.
    #[serde(skip)]
    pub asked: bool,
}

/// A run that is done.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    pub seed: u64,
    pub folder: String,
    pub data: String,
    pub data_hash: String,
    pub device_class: String,
    pub workers: u32,
    pub steps: u64,
    pub seconds: f64,
    pub images_per_s: f64,
    pub weights_hash: String,
    /// What its classes are called, in the order of the labels.
    #[serde(skip)]
    pub classes: Vec<String>,
    #[serde(skip)]
    pub epochs: BTreeMap<u32, Epoch>,
}

/// What a folder of runs holds.
#[derive(Debug, Default)]
pub struct Collected {
    pub experiments: Vec<Experiment>,
    /// Runs that are done and in no mean, each with the reason.
    pub left_out: Vec<String>,
}

/// Everything in `out`, and the recipes that were asked for: built-in ones in their order, then the others by name. A mean is
/// over runs of one recipe, on the images with `data_hash`.
pub fn collect(out: &Path, asked: &[Typed], data_hash: &str) -> Result<Collected> {
    let mut names: BTreeMap<(usize, String), Option<&Typed>> = BTreeMap::new();
    let place = |name: &str| catalogue::RECIPES.iter().position(|file| file.name == name).unwrap_or(usize::MAX);
    for entry in fs::read_dir(out)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !seeds(&entry.path()).is_empty() {
            names.insert((place(&name), name), None);
        }
    }
    for one in asked {
        let name = one.recipe.name.clone();
        names.insert((place(&name), name), Some(one));
    }
    let mut found = Collected::default();
    for ((_, name), typed) in names {
        let (one, left_out) = experiment(&out.join(&name), &name, typed, data_hash)?;
        found.experiments.extend(one);
        found.left_out.extend(left_out);
    }
    Ok(found)
}

/// Seeds with a folder, ascending.
fn seeds(folder: &Path) -> Vec<u64> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut seeds: Vec<u64> = names.filter_map(|name| name.strip_prefix("seed-")?.parse().ok()).collect();
    seeds.sort_unstable();
    seeds
}

/// None for a folder whose runs say nothing yet, and that nobody asked for; and the runs that are of something else.
fn experiment(
    folder: &Path,
    name: &str,
    typed: Option<&Typed>,
    data_hash: &str,
) -> Result<(Option<Experiment>, Vec<String>)> {
    let done: Vec<(Run, Option<Recipe>)> = seeds(folder).into_iter().filter_map(|seed| run(folder, seed)).collect();
    let shown = match typed {
        Some(typed) => Some(typed.recipe.clone()),
        None if done.is_empty() => None,
        // the figures of a recipe that is built in may have been put right since
        None if catalogue::recipe(name).is_ok() => Some(Recipe::resolve(Some(name), &[], &prepare::read_file)?),
        None => done.iter().find_map(|(_, kept)| kept.clone()),
    };
    let (mut runs, mut left_out) = (Vec::new(), Vec::new());
    for (run, kept) in done {
        match strange(&run, kept.as_ref(), shown.as_ref(), data_hash) {
            None => runs.push(run),
            Some(why) => left_out.push(format!("{name}/seed-{} {why}: left out", run.seed)),
        }
    }
    let Some(recipe) = shown.filter(|_| typed.is_some() || !runs.is_empty()) else { return Ok((None, left_out)) };
    let typed_as = typed.map_or(name, |typed| typed.typed.as_str());
    let seeds: Vec<String> = runs.iter().map(|run| run.seed.to_string()).collect();
    let own = runs.is_empty() || runs.iter().all(|run| run.seed == recipe.seed);
    let seeds = if own { String::new() } else { format!(" --seeds {}", seeds.join(",")) };
    let figures = figures(&recipe, &runs);
    let experiment = Experiment {
        recipe: name.to_owned(),
        source: recipe.source,
        command: format!("lockstep reproduce {typed_as}{seeds}"),
        reported: recipe.reported,
        figures,
        runs,
        asked: typed.is_some(),
    };
    Ok((Some(experiment), left_out))
}

/// Why `run`, trained by the recipe `kept`, is no repetition of `shown` on the images with `data_hash`; none if it is one.
fn strange(run: &Run, kept: Option<&Recipe>, shown: Option<&Recipe>, data_hash: &str) -> Option<String> {
    let Some((kept, shown)) = kept.zip(shown) else {
        return Some("has no recipe.toml that can be read".to_owned());
    };
    // the seed is what repetitions differ in, and the folder's name says it
    let shown = Recipe { seed: run.seed, ..shown.clone() };
    let differences = kept.differences(&shown);
    if let Some(first) = differences.first() {
        let more = if differences.len() > 1 { ", and more" } else { "" };
        return Some(format!("was another recipe ({} {}, not {}{more})", first.key, first.ours, first.theirs));
    }
    (run.data_hash != data_hash)
        .then(|| format!("was trained on other images ({} {:.12}, not {data_hash:.12})", run.data, run.data_hash))
}

/// The run of `seed`, if it is done, and its recipe, if that can be read.
fn run(folder: &Path, seed: u64) -> Option<(Run, Option<Recipe>)> {
    let folder = folder.join(format!("seed-{seed}"));
    let summary = Summary::read(&folder).ok().filter(|summary| !summary.stopped_early)?;
    let recipe = regular::read_to_string(&folder.join("recipe.toml")).ok();
    let recipe = recipe.and_then(|text| Recipe::parse(&text, "recipe.toml").ok());
    let run = Run {
        seed,
        folder: folder.display().to_string(),
        data: summary.data,
        data_hash: summary.data_hash,
        device_class: summary.device_class,
        workers: summary.workers,
        steps: summary.steps,
        seconds: summary.seconds,
        images_per_s: summary.images_per_s,
        weights_hash: summary.weights_hash,
        classes: summary.per_class.into_iter().map(|class| class.class).collect(),
        // a run whose curve is gone still has its hash and its time
        epochs: History::read(&folder).unwrap_or_default().epochs,
    };
    Some((run, recipe))
}

/// `results.json`.
pub fn json(experiments: &[Experiment]) -> Result<String> {
    let build = crate::commands::BUILD;
    let value = serde_json::json!({ "build": build, "experiments": experiments });
    serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(Failure::ours)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A run that is done, in `out`, with these test accuracies epoch by epoch.
    pub fn made(out: &Path, recipe: &Recipe, accuracies: &[f64]) {
        let folder = super::super::job::folder_of(out, &recipe.name, recipe.seed);
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join("recipe.toml"), recipe.to_toml()).expect("written");
        let lines = accuracies.iter().enumerate().map(|(i, accuracy)| {
            format!(
                "{{\"time\":1,\"seconds\":1,\"event\":\"evaluated\",\"step\":1,\"epoch\":{},\"split\":\"test\",\"loss\":1.5,\
                 \"accuracy\":{accuracy},\"per_class\":[],\"confusion\":[],\"images\":4,\"best\":false}}\n",
                i + 1
            )
        });
        fs::write(folder.join("metrics.jsonl"), lines.collect::<String>()).expect("written");
        let (data, weights_hash) = ("cifar10".to_owned(), "0123456789abcdef".to_owned());
        let summary = Summary { seed: recipe.seed, seconds: 61.4, data, weights_hash, ..Summary::default() };
        summary.write(&folder).expect("written");
    }

    pub fn mine() -> Recipe {
        let row = |epoch| Reported { epoch, test_accuracy: Some(0.5), ..Reported::default() };
        let reported =
            vec![row(2), Reported { test_loss: Some(2.0), test_accuracy: None, note: "seen".to_owned(), ..row(1) }];
        Recipe { name: "mine".to_owned(), reported, ..Recipe::default() }
    }

    #[test]
    fn means_spreads_and_differences_are_over_the_runs_that_are_done() {
        let out = tempfile::tempdir().expect("folder");
        for (seed, last) in [(0, 0.5), (7, 0.75), (2, 0.625)] {
            made(out.path(), &Recipe { seed, ..mine() }, &[0.25, last]);
        }
        let stopped = out.path().join("mine/seed-9");
        fs::create_dir(&stopped).expect("folder");
        Summary { stopped_early: true, ..Summary::default() }.write(&stopped).expect("written");
        fs::create_dir(out.path().join("mine/seed-3.torn-1")).expect("folder");
        let found = collect(out.path(), &[], "").expect("read").experiments;
        let [experiment] = &found[..] else { panic!("{found:?}") };
        assert_eq!((experiment.recipe.as_str(), experiment.asked), ("mine", false));
        assert_eq!(experiment.command, "lockstep reproduce mine --seeds 0,2,7");
        assert_eq!(experiment.runs.iter().map(|run| run.seed).collect::<Vec<_>>(), [0, 2, 7]);
        let [accuracy, loss] = &experiment.figures[..] else { panic!("{experiment:?}") };
        // by hand: the deviations from 0.625 are -1/8, 0 and 1/8
        assert_eq!((accuracy.mean, accuracy.spread, accuracy.difference), (Some(0.625), Some(0.125), Some(0.125)));
        assert_eq!(accuracy.ours, [0.5, 0.625, 0.75]);
        assert_eq!((loss.epoch, loss.mean, loss.spread, loss.difference), (1, Some(1.5), Some(0.0), Some(-0.5)));
        let value: serde_json::Value = serde_json::from_str(&json(&found).expect("printed")).expect("JSON");
        assert_eq!(value["experiments"][0]["figures"][1]["quantity"], "test_loss");
    }

    /// A second pass over the training images has no penalties, and the report's loss has.
    #[test]
    fn a_loss_with_penalties_is_compared_with_the_one_as_trained() {
        let out = tempfile::tempdir().expect("folder");
        let row = Reported { epoch: 1, train_loss: Some(2.0), ..Reported::default() };
        let mut recipe = Recipe { reported: vec![row], ..mine() };
        for (name, l2, expected) in [("plain", 0.0, 1.5), ("with", 1e-4, 1.75)] {
            (recipe.name, recipe.loss.l2) = (name.to_owned(), l2);
            made(out.path(), &recipe, &[0.25]);
            let metrics = out.path().join(name).join("seed-0/metrics.jsonl");
            let again = fs::read_to_string(&metrics).expect("made").replace("\"test\"", "\"train_eval\"");
            let trained = "{\"time\":1,\"seconds\":1,\"event\":\"epoch_ended\",\"epoch\":1,\"step\":1,\"train_loss\":1.75,\
                           \"train_accuracy\":0.5,\"images_per_s\":1,\"lr\":0.1}\n";
            fs::write(&metrics, again + trained).expect("written");
            let found = collect(out.path(), &[], "").expect("read").experiments;
            let one = found.iter().find(|one| one.recipe == name).expect("collected");
            assert_eq!(one.figures[0].ours, [expected], "{name}");
        }
    }

    #[test]
    fn what_was_asked_for_is_there_without_a_run_and_built_in_ones_come_first() {
        let out = tempfile::tempdir().expect("folder");
        made(out.path(), &mine(), &[0.5]);
        let lenet = Recipe::resolve(Some("lenet"), &[], &prepare::read_file).expect("built in");
        made(out.path(), &lenet, &[0.5]);
        let base = Recipe::resolve(Some("base"), &[], &prepare::read_file).expect("built in");
        let asked = [Typed { typed: "base".to_owned(), recipe: base }];
        let found = collect(out.path(), &asked, "").expect("read").experiments;
        let names: Vec<_> = found.iter().map(|one| (one.recipe.as_str(), one.runs.len(), one.asked)).collect();
        assert_eq!(names, [("lenet", 1, false), ("base", 0, true), ("mine", 1, false)]);
        assert_eq!(found[1].figures[0].mean, None);
        // the run has only one of twenty epochs
        assert_eq!((found[0].figures[0].reported, found[0].figures[0].mean), (Some(0.5736), None));
    }

    #[test]
    fn without_reported_numbers_the_last_test_accuracy_is_told() {
        let out = tempfile::tempdir().expect("folder");
        made(out.path(), &Recipe { reported: Vec::new(), ..mine() }, &[0.25, 0.5, 0.75]);
        let found = collect(out.path(), &[], "").expect("read").experiments;
        let [figure] = &found[0].figures[..] else { panic!("{found:?}") };
        assert_eq!((figure.epoch, figure.reported, figure.mean, figure.difference), (3, None, Some(0.75), None));
    }

    #[test]
    fn a_mean_is_over_runs_of_one_recipe_on_one_set_of_images() {
        let out = tempfile::tempdir().expect("folder");
        made(out.path(), &mine(), &[0.25, 0.5]);
        made(out.path(), &Recipe { seed: 1, ..mine() }, &[0.25, 0.75]);
        made(out.path(), &Recipe { seed: 7, epochs: 2, ..mine() }, &[0.1, 0.1]);
        made(out.path(), &Recipe { seed: 8, ..mine() }, &[0.1, 0.1]);
        let folder = out.path().join("mine/seed-8");
        let summary = Summary::read(&folder).expect("made");
        let (data, data_hash) = ("builtin".to_owned(), "fedcba".to_owned());
        Summary { data, data_hash, ..summary }.write(&folder).expect("written");
        made(out.path(), &Recipe { seed: 9, ..mine() }, &[0.1, 0.1]);
        fs::write(out.path().join("mine/seed-9/recipe.toml"), "[[[").expect("written");
        // a folder that was copied says a seed that its run had not
        made(out.path(), &Recipe { seed: 5, ..mine() }, &[0.1, 0.1]);
        fs::rename(out.path().join("mine/seed-5"), out.path().join("mine/seed-6")).expect("renamed");
        let typed = Typed { typed: "mine.toml".to_owned(), recipe: mine() };
        for asked in [vec![], vec![typed]] {
            let found = collect(out.path(), &asked, "").expect("read");
            assert_eq!(found.experiments[0].figures[0].ours, [0.5, 0.75], "{found:?}");
            assert_eq!(
                found.left_out,
                [
                    "mine/seed-6 was another recipe (seed 5, not 6): left out",
                    "mine/seed-7 was another recipe (epochs 2, not 20): left out",
                    "mine/seed-8 was trained on other images (builtin fedcba, not ): left out",
                    "mine/seed-9 has no recipe.toml that can be read: left out",
                ]
            );
        }
        // of a built-in recipe, the one that is built in is shown
        made(out.path(), &Recipe { name: "lenet".to_owned(), epochs: 1, ..mine() }, &[0.5]);
        let found = collect(out.path(), &[], "").expect("read");
        assert_eq!(found.experiments.len(), 1, "{found:?}");
        assert!(found.left_out.iter().any(|one| one.starts_with("lenet/seed-0 was another recipe")), "{found:?}");
    }
}
