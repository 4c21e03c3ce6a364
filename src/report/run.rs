//! A run's folder, read as far as it goes. What is missing or damaged is said, and the rest is shown.

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

/// What a run left behind.
#[derive(Debug)]
pub struct Run {
    pub folder: PathBuf,
    /// The folder's name.
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
            name: name_of(folder),
            recipe,
            reported,
            history,
            summary: None,
            problems,
        };
        run.add(summary);
        Ok(run)
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
        self.recipe.as_ref().map(|recipe| recipe.name.as_str()).or(summary).unwrap_or("unknown")
    }

    /// Whether its training loss has penalties in it.
    pub fn penalised(&self) -> bool {
        let said = self.summary.as_ref().is_some_and(|summary| summary.train_penalty.is_some());
        self.recipe.as_ref().map_or(said, history::penalised)
    }

    pub fn data(&self) -> &str {
        let started = self.history.started.as_ref().map(|run| run.data.as_str());
        self.summary.as_ref().map(|summary| summary.data.as_str()).or(started).unwrap_or("unknown")
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

    /// The last reported test accuracy, with the epoch, and ours at that epoch.
    pub fn beside(&self) -> Option<(&Reported, f64, Option<f64>)> {
        let said = self.reported.iter().rev().find_map(|said| Some((said, said.test_accuracy?)))?;
        Some((said.0, said.1, self.history.epochs.get(&said.0.epoch).and_then(|epoch| epoch.test_accuracy)))
    }
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

/// A folder's own name, also of `.`.
fn name_of(folder: &Path) -> String {
    last_names(folder, 1)
}

/// The last so many names of the folder's full path.
fn last_names(folder: &Path, count: usize) -> String {
    let full = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let names: Vec<_> = full.iter().map(|name| name.to_string_lossy()).collect();
    names[names.len().saturating_sub(count)..].join("/")
}

/// Seeds and series give their runs' folders the same names: where two runs are called alike, the folders above are named, too.
pub fn tell_apart(runs: &mut [Run]) {
    /// Names of a path that are still read.
    const MOST: usize = 4;
    for count in 2..=MOST {
        let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
        for run in runs.iter_mut().filter(|run| names.iter().filter(|name| **name == run.name).count() > 1) {
            run.name = last_names(&run.folder, count);
        }
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
                fs::write(folder.join("recipe.toml"), Recipe::default().to_toml()).expect("written");
                Run::read(&folder).expect("a run")
            })
            .into();
        runs.push(Run::read(&above.path().join("a/seed-0")).expect("once more"));
        tell_apart(&mut runs[..3]);
        assert_eq!(runs.iter().map(|run| &*run.name).collect::<Vec<_>>(), ["a/seed-0", "b/seed-0", "seed-1", "seed-0"]);
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
        let (said, accuracy, ours) = run.beside().expect("reported");
        assert_eq!((said.epoch, accuracy, ours), (2, 0.75, Some(0.5)));
        run.reported.truncate(1);
        assert_eq!(run.beside().map(|(_, accuracy, ours)| (accuracy, ours)), Some((0.25, None)));
    }
}
