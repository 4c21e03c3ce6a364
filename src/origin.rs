//! Where weights come from: the recipe that they were trained with, the run's folder, its images, its classes' names.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use lockstep_coordinator::checkpoint::{self, CheckpointError, Store};
use lockstep_coordinator::dataset::{BUILTIN_CLASSES, CIFAR10_CLASSES};
use lockstep_coordinator::regular;
use lockstep_coordinator::telemetry::{Event, Record, Summary, jsonl};
use lockstep_proto::recipe::Recipe;
use lockstep_proto::recipe::model::{LayerKind, LayerSpec};

use crate::exit::{Failure, Result};
use crate::prepare;

/// The first line of `metrics.jsonl` names the classes, of which there are at most 256 with 256 bytes each.
const LONGEST_LINE: u64 = 1 << 20;

/// What is known of where weights come from.
pub struct Origin {
    pub recipe: Recipe,
    /// The run's folder.
    pub folder: Option<PathBuf>,
    /// Name and hash of the images that the run had.
    pub data: Option<(String, String)>,
    /// Optimizer steps behind the weights; 0 where nobody says.
    pub steps: u64,
    /// What the run came to when the weights were written.
    summary: Option<Summary>,
}

/// The recipe that the weights in `path` were trained with: in the checkpoint, or beside the weights, or a bare `model`.
pub fn of(path: &Path, model: Option<&str>) -> Result<Origin> {
    if let Some(name) = model {
        let recipe = Recipe { model: prepare::model_spec(name)?, ..Recipe::default() };
        return Ok(Origin { recipe, folder: None, data: None, steps: 0, summary: None });
    }
    let beside = path.parent().unwrap_or(Path::new(""));
    let recipe_file = beside.join("recipe.toml");
    match checkpoint::read(path) {
        Ok(snapshot) => Ok(Origin {
            recipe: Recipe::parse(&snapshot.state.recipe, &path.display().to_string())?,
            // the run's, above its checkpoints
            folder: beside.parent().map(Path::to_owned),
            data: Some((snapshot.state.data, snapshot.state.data_hash)),
            steps: snapshot.state.version,
            summary: Some(snapshot.state.summary),
        }),
        // weights alone: no checkpoint, but no damage either
        Err(CheckpointError::Format { .. }) if path.is_file() && recipe_file.is_file() => {
            let text = regular::read_to_string(&recipe_file)?;
            let summary = Summary::read(beside).ok();
            Ok(Origin {
                recipe: Recipe::parse(&text, &recipe_file.display().to_string())?,
                folder: Some(beside.to_owned()),
                data: summary.as_ref().map(|summary| (summary.data.clone(), summary.data_hash.clone())),
                steps: summary.as_ref().map_or(0, |summary| summary.steps),
                summary,
            })
        }
        Err(CheckpointError::Format { .. }) if path.is_file() => Err(Failure::mistake(format!(
            "{} does not say which model it is of, and no recipe.toml lies beside it; name the model with --model",
            path.display()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// The weights that stand for the run in `folder`: the final ones, or else the best, or else the newest checkpoint.
pub fn weights_in(folder: &Path) -> Result<PathBuf> {
    let (last, checkpoints) = (folder.join("model.safetensors"), folder.join("checkpoints"));
    let best = checkpoints.join("best.safetensors");
    if let Some(file) = [last, best].into_iter().find(|file| file.is_file()) {
        return Ok(file);
    }
    if checkpoints.is_dir() {
        return Ok(Store::open(folder, 1)?.latest()?.0);
    }
    Err(Failure::mistake(format!(
        "{0} is a folder without model.safetensors and without checkpoints/; give a run's folder or a file with weights",
        folder.display()
    )))
}

impl Origin {
    /// What the classes are called, and whether anything said so: otherwise they have numbers.
    pub fn classes(&self) -> (Vec<String>, bool) {
        let summary = self.summary.iter().map(|summary| &summary.per_class).find(|classes| !classes.is_empty());
        let summary = summary.map(|classes| classes.iter().map(|class| class.class.clone()).collect());
        let known =
            summary.or_else(|| self.folder.as_deref().and_then(said_at_the_start)).or_else(|| self.of_the_set());
        match known {
            Some(classes) => (classes, true),
            None => {
                ((0..outputs(&self.recipe.model.layers).unwrap_or(10)).map(|class| class.to_string()).collect(), false)
            }
        }
    }

    /// The classes of a set that has a name of its own.
    fn of_the_set(&self) -> Option<Vec<String>> {
        let (name, _) = self.data.as_ref()?;
        match name.as_str() {
            "builtin" => Some(BUILTIN_CLASSES.map(str::to_owned).to_vec()),
            name if name.starts_with("cifar10") => Some(CIFAR10_CLASSES.map(str::to_owned).to_vec()),
            _ => None,
        }
    }
}

/// The classes in the first line of the run's metrics.
fn said_at_the_start(folder: &Path) -> Option<Vec<String>> {
    let file = regular::open(&folder.join(jsonl::FILE)).ok()?;
    let mut line = Vec::new();
    BufReader::new(file.take(LONGEST_LINE)).read_until(b'\n', &mut line).ok()?;
    match serde_json::from_slice::<Record>(&line).ok()?.event {
        Event::RunStarted(run) if !run.classes.is_empty() => Some(run.classes),
        _ => None,
    }
}

/// How many values the last layer with a size of its own makes.
fn outputs(layers: &[LayerSpec]) -> Option<usize> {
    layers.iter().rev().find_map(|layer| match &layer.kind {
        LayerKind::Linear { out_features, .. } => Some(*out_features),
        LayerKind::Conv { out_channels, .. } => Some(*out_channels),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use lockstep_coordinator::telemetry::ClassAccuracy;

    use super::*;

    fn origin(data: &str, folder: Option<&Path>, summary: Option<Summary>) -> Origin {
        let data = Some((data.to_owned(), String::new()));
        Origin { recipe: Recipe::default(), folder: folder.map(Path::to_owned), data, steps: 0, summary }
    }

    #[test]
    fn classes_are_named_by_whoever_knows() {
        let per_class = ["cat", "dog"].map(|class| ClassAccuracy { class: class.to_owned(), accuracy: None }).to_vec();
        let summary = Summary { per_class, ..Summary::default() };
        assert_eq!(
            origin("images:pets", None, Some(summary)).classes(),
            (vec!["cat".to_owned(), "dog".to_owned()], true)
        );
        let folder = tempfile::tempdir().expect("folder");
        let line = r#"{"time":0,"seconds":0,"event":"run_started","run":"r","model":"m","data":"d","classes":["x","y"],"workers":1,"shards":1,"batch_size":1,"epochs":1,"steps":1,"parameters":1,"seed":0,"device_class":"c","resumed_from":null}"#;
        std::fs::write(folder.path().join(jsonl::FILE), format!("{line}\n{{\"torn")).expect("written");
        assert_eq!(origin("images:pets", Some(folder.path()), None).classes().0, ["x", "y"]);
        assert_eq!(origin("cifar10-jpeg", None, Some(Summary::default())).classes().0, CIFAR10_CLASSES);
        // lenet's last layer has ten outputs
        assert_eq!(origin("images:pets", None, None).classes(), ((0..10).map(|n| n.to_string()).collect(), false));
    }

    #[test]
    fn a_folder_stands_for_its_final_weights_or_says_what_it_lacks() {
        let folder = tempfile::tempdir().expect("folder");
        let error = format!("{:?}", weights_in(folder.path()).expect_err("empty"));
        assert!(error.contains("without model.safetensors"), "{error}");
        std::fs::create_dir(folder.path().join("checkpoints")).expect("folder");
        assert!(format!("{:?}", weights_in(folder.path()).expect_err("none")).contains("no checkpoint"));
        std::fs::write(folder.path().join("checkpoints/best.safetensors"), "").expect("written");
        assert!(weights_in(folder.path()).expect("best").ends_with("best.safetensors"));
        std::fs::write(folder.path().join("model.safetensors"), "").expect("written");
        assert!(weights_in(folder.path()).expect("final").ends_with("model.safetensors"));
    }
}
