//! A run's folder, read as far as it goes. What is missing or damaged is said, and the rest is shown.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use lockstep_coordinator::regular;
use lockstep_coordinator::telemetry::Summary;
use lockstep_coordinator::telemetry::format::{count, thousands};
use lockstep_proto::recipe::{Recipe, Reported};

use crate::history::{self, Epoch, History};

/// Bytes of a recipe that are read: one more than a recipe may have, which tells one that is too long.
const LARGEST_RECIPE: u64 = (1 << 20) + 1;

/// Bytes of a summary at most: one of 256 classes has a matrix of 65,536 numbers, each on a line.
const LARGEST_SUMMARY: u64 = 8 << 20;

/// What nothing says.
const UNKNOWN: &str = "unknown";

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub folder: PathBuf,
    /// What people call it: the folder's name, or recipe and seed.
    pub name: String,
    pub recipe: Option<Recipe>,
    /// What its recipe says was reported, by epoch.
    pub reported: Vec<Reported>,
    pub history: History,
    pub summary: Option<Summary>,
    /// What could not be read, and what that means.
    pub problems: Vec<String>,
}

impl Run {
    /// Reads `folder`.
    ///
    /// # Errors
    /// It is no folder, or holds nothing of a run.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let place = folder.display();
        if !folder.is_dir() {
            let what = if folder.exists() { "is no folder" } else { "is not there" };
            return Err(format!("{place} {what}; give the folders of runs, as runs/2026-01-02-lenet-1"));
        }
        let mut problems = Vec::new();
        let parse = |text: String| Recipe::parse(&text, "recipe.toml").map_err(|error| error.to_string());
        let (recipe, reported) = match read_recipe(folder).and_then(parse) {
            Ok(recipe) => {
                let mut reported = recipe.reported.clone();
                reported.sort_by_key(|line| line.epoch);
                (Some(recipe), reported)
            }
            Err(problem) => {
                problems.push(format!("recipe.toml can't be read ({problem}): no settings, nothing reported"));
                (None, Vec::new())
            }
        };
        let (history, metrics) = match History::read(folder) {
            Ok(history) => (history, true),
            Err(problem) => {
                problems.push(format!("no curves: {problem}"));
                (History::default(), false)
            }
        };
        let summary = read_summary(folder);
        if recipe.is_none() && !metrics && !matches!(summary, Ok(Some(_))) {
            return Err(format!(
                "{place} has no recipe.toml, no metrics.jsonl and no summary.json that can be read: it is no run's folder"
            ));
        }
        let mut run = Self {
            folder: folder.to_owned(),
            name: last_names(folder, 1),
            recipe,
            reported,
            history,
            summary: None,
            problems,
        };
        run.add(summary);
        run.name_by_seed();
        Ok(run)
    }

    /// `lockstep reproduce` calls folders by their seeds: that says too little where nothing stands above it.
    fn name_by_seed(&mut self) {
        let seed = self.name.strip_prefix("seed-").and_then(|seed| seed.parse::<u64>().ok());
        if let Some(seed) = seed.filter(|_| self.recipe_name() != UNKNOWN) {
            let seed = self.recipe.as_ref().map_or(seed, |recipe| recipe.seed);
            self.name = format!("{}, seed {seed}", self.recipe_name());
        }
    }

    /// Takes in the summary, and says what is strange about all of it together.
    fn add(&mut self, summary: Result<Option<Summary>, String>) {
        match summary {
            Ok(Some(summary)) => self.summary = Some(summary),
            Ok(None) => self.problems.push(format!(
                "no summary.json: the run is not finished, or was killed; what is shown goes up to step {}",
                thousands(self.history.steps)
            )),
            Err(problem) => self.problems.push(problem),
        }
        if self.summary.as_ref().is_some_and(|summary| summary.stopped_early) {
            let steps = self.summary.as_ref().map_or(0, |summary| summary.steps);
            let all =
                self.history.started.as_ref().map_or(String::new(), |run| format!(" of {}", thousands(run.steps)));
            self.problems.push(format!("the run was stopped early, after step {}{all}", thousands(steps)));
        }
        if self.history.unreadable > 0 {
            let lines = count(self.history.unreadable as u64, "line");
            self.problems.push(format!("metrics.jsonl has {lines} that can't be read, and were passed over"));
        }
    }

    /// What the run calls its recipe.
    pub fn recipe_name(&self) -> &str {
        let summary = self.summary.as_ref().map(|summary| summary.recipe.as_str()).filter(|name| !name.is_empty());
        self.recipe.as_ref().map(|recipe| recipe.name.as_str()).or(summary).unwrap_or(UNKNOWN)
    }

    /// Whether its training loss has penalties in it.
    pub fn penalised(&self) -> bool {
        let said = self.summary.as_ref().is_some_and(|summary| summary.train_penalty.is_some());
        self.recipe.as_ref().map_or(said, history::penalised)
    }

    pub fn data(&self) -> &str {
        let started = self.history.started.as_ref().map(|run| run.data.as_str());
        self.summary.as_ref().map(|summary| summary.data.as_str()).or(started).unwrap_or(UNKNOWN)
    }

    /// The names of the classes, as far as anything says them.
    pub fn classes(&self) -> Vec<String> {
        let summary = self.summary.iter().flat_map(|summary| &summary.per_class).map(|class| class.class.clone());
        let classes: Vec<String> = summary.collect();
        let started = || self.history.started.as_ref().map(|run| run.classes.clone());
        if classes.is_empty() { started().unwrap_or_default() } else { classes }
    }

    /// `confusion[actual][predicted]` of the last evaluation; empty if there was none.
    pub fn confusion(&self) -> &[Vec<u32>] {
        let summary = self.summary.as_ref().map(|summary| summary.confusion.as_slice());
        summary.filter(|matrix| !matrix.is_empty()).unwrap_or(&self.history.confusion)
    }

    /// What the run came to at its end, or so far. Accuracies are fractions.
    pub fn result(&self) -> Epoch {
        let summary = self.summary.clone().unwrap_or_default();
        let history = &self.history;
        Epoch {
            train_loss: summary.train_loss.or_else(|| history.last(|epoch| epoch.train_loss)),
            train_accuracy: summary.train_accuracy.or_else(|| history.last(|epoch| epoch.train_accuracy)),
            train_eval_loss: summary.train_eval_loss.or_else(|| history.last(|epoch| epoch.train_eval_loss)),
            train_eval_accuracy: summary
                .train_eval_accuracy
                .or_else(|| history.last(|epoch| epoch.train_eval_accuracy)),
            validation_loss: history.last(|epoch| epoch.validation_loss),
            validation_accuracy: history.last(|epoch| epoch.validation_accuracy),
            test_loss: summary.test_loss.or_else(|| history.last(|epoch| epoch.test_loss)),
            test_accuracy: summary.test_accuracy.or_else(|| history.last(|epoch| epoch.test_accuracy)),
            per_class: Vec::new(),
        }
    }

    /// Of the last epoch that the run has and an accuracy is reported of, the first one; or else that of the last epoch of all. In
    /// validation where none is reported in the test.
    pub fn beside(&self) -> Option<Beside> {
        let test = self.beside_in("", |said| said.test_accuracy, |epoch| epoch.test_accuracy);
        let held =
            || self.beside_in(" in validation", |said| said.validation_accuracy, |epoch| epoch.validation_accuracy);
        test.or_else(held)
    }

    fn beside_in(
        &self,
        place: &'static str,
        said: impl Fn(&Reported) -> Option<f64>,
        ours: impl Fn(&Epoch) -> Option<f64>,
    ) -> Option<Beside> {
        let row = |line: &Reported| {
            let ours = self.history.epochs.get(&line.epoch).and_then(&ours);
            Some(Beside { epoch: line.epoch, place, reported: said(line)?, ours })
        };
        // several figures of one epoch: a recipe names its own first
        let rows = || self.reported.iter().filter_map(row);
        let reached = rows().filter(|row| row.ours.is_some()).map(|row| row.epoch).max();
        let last = reached.or_else(|| rows().map(|row| row.epoch).max())?;
        rows().find(|row| row.epoch == last)
    }
}

/// A reported accuracy, and ours of the same epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beside {
    pub epoch: u32,
    /// On what images, where it is not the test.
    pub place: &'static str,
    pub reported: f64,
    pub ours: Option<f64>,
}

fn read_recipe(folder: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = regular::open(&folder.join("recipe.toml")).map_err(|error| error.to_string())?;
    file.take(LARGEST_RECIPE).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The summary, if there is one.
fn read_summary(folder: &Path) -> Result<Option<Summary>, String> {
    let path = folder.join(lockstep_coordinator::telemetry::summary::FILE);
    match fs::metadata(&path) {
        Err(_) => Ok(None),
        Ok(file) if file.len() > LARGEST_SUMMARY => {
            Err(format!("summary.json has {} bytes, which is no summary: left out", thousands(file.len())))
        }
        Ok(_) => Summary::read(folder).map(Some).map_err(|error| format!("the summary is left out: {error}")),
    }
}

/// The last so many names of the folder's full path, also of `.`.
fn last_names(folder: &Path, count: usize) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let names: Vec<_> = full.iter().map(|name| name.to_string_lossy()).collect();
    names[names.len().saturating_sub(count)..].join("/")
}

/// Seeds and series give their runs' folders the same names: where two runs are called alike, all are called by their folders,
/// with as many of those above as it takes.
pub fn tell_apart(runs: &mut [Run]) {
    /// Names of a path that are still read.
    const MOST: usize = 4;
    let different = |names: &[String]| names.iter().collect::<BTreeSet<_>>().len();
    let mut names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for count in 2..=MOST {
        if different(&names) == names.len() {
            break;
        }
        let longer: Vec<String> = runs.iter().map(|run| last_names(&run.folder, count)).collect();
        // a folder that was given twice stays what it is
        if different(&longer) > different(&names) {
            names = longer;
        }
    }
    for (run, name) in runs.iter_mut().zip(names) {
        run.name = name;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_anything_of_a_run_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        assert!(Run::read(folder.path()).expect_err("empty").contains("no run's folder"));
        assert!(Run::read(&folder.path().join("gone")).expect_err("missing").contains("is not there"));
        fs::write(folder.path().join("file"), "").expect("written");
        assert!(Run::read(&folder.path().join("file")).expect_err("a file").contains("is no folder"));
    }

    #[test]
    fn a_run_that_was_killed_shows_what_it_has() {
        let folder = tempfile::tempdir().expect("folder");
        fs::write(folder.path().join("recipe.toml"), Recipe::default().to_toml()).expect("written");
        fs::write(folder.path().join("summary.json"), "{\"model\": \"le").expect("written");
        let run = Run::read(folder.path()).expect("a recipe is something");
        assert_eq!((run.recipe_name(), run.data(), run.result()), ("lenet", "unknown", Epoch::default()));
        assert!(run.problems.iter().any(|problem| problem.contains("metrics.jsonl")), "{:?}", run.problems);
        assert!(run.problems.iter().any(|problem| problem.contains("summary.json")), "{:?}", run.problems);
    }

    #[test]
    fn runs_that_are_called_alike_get_the_folders_above_too() {
        let above = tempfile::tempdir().expect("folder");
        let mut runs: Vec<Run> = ["a/seed-0", "b/seed-0", "b/seed-1"]
            .map(|name| {
                let folder = above.path().join(name);
                fs::create_dir_all(&folder).expect("folder");
                let recipe = Recipe { seed: u64::from(name.ends_with('1')), ..Recipe::default() };
                fs::write(folder.join("recipe.toml"), recipe.to_toml()).expect("written");
                Run::read(&folder).expect("a run")
            })
            .into();
        runs.push(Run::read(&above.path().join("a/seed-0")).expect("once more"));
        let names = |runs: &[Run]| runs.iter().map(|run| run.name.clone()).collect::<Vec<_>>();
        tell_apart(&mut runs[2..]);
        assert_eq!(names(&runs), ["lenet, seed 0", "lenet, seed 0", "lenet, seed 1", "lenet, seed 0"]);
        tell_apart(&mut runs[..3]);
        assert_eq!(names(&runs[..3]), ["a/seed-0", "b/seed-0", "b/seed-1"]);
        // a folder that is given twice has no other name
        runs.iter_mut().for_each(|run| run.name = "lenet, seed 0".to_owned());
        tell_apart(&mut runs);
        assert_eq!(names(&runs), ["a/seed-0", "b/seed-0", "b/seed-1", "a/seed-0"]);
    }

    #[test]
    fn a_folder_called_by_its_seed_gets_its_recipes_name() {
        let above = tempfile::tempdir().expect("folder");
        let named = |folder: &str, recipe: &str| {
            let folder = above.path().join(folder);
            fs::create_dir_all(&folder).expect("folder");
            fs::write(folder.join("recipe.toml"), recipe).expect("written");
            fs::write(folder.join("metrics.jsonl"), "").expect("written");
            Run::read(&folder).expect("a run").name
        };
        assert_eq!(named("seed-7", "name = \"mine\"\nseed = 7"), "mine, seed 7");
        assert_eq!(named("seed-8", "[[["), "seed-8");
        assert_eq!(named("seed-one", "name = \"mine\""), "seed-one");
    }

    #[test]
    fn the_last_reported_accuracy_stands_beside_ours_of_the_same_epoch() {
        let line = |epoch, test_accuracy| Reported { epoch, test_accuracy, ..Reported::default() };
        let epoch = Epoch { test_accuracy: Some(0.5), ..Epoch::default() };
        let mut run = Run {
            folder: PathBuf::new(),
            name: String::new(),
            recipe: None,
            reported: vec![line(1, Some(0.25)), line(2, Some(0.75)), line(3, None)],
            history: History { epochs: [(2, epoch)].into(), ..History::default() },
            summary: None,
            problems: Vec::new(),
        };
        let beside = |run: &Run| run.beside().map(|it| (it.epoch, it.reported, it.ours));
        assert_eq!(beside(&run), Some((2, 0.75, Some(0.5))));
        // the same once more is not what the recipe names first; a run that was stopped never gets to the end
        run.reported.extend([line(2, Some(0.625)), line(9, Some(0.875))]);
        assert_eq!(beside(&run), Some((2, 0.75, Some(0.5))));
        run.reported.truncate(1);
        assert_eq!(beside(&run), Some((1, 0.25, None)));
        // of some only the validation is reported
        run.reported[0] = Reported { epoch: 2, validation_accuracy: Some(0.5), ..Reported::default() };
        let expected = Beside { epoch: 2, place: " in validation", reported: 0.5, ours: None };
        assert_eq!(run.beside(), Some(expected));
    }
}
