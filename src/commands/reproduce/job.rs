//! One training of a reproduction: a recipe with a seed, and what its folder holds of it.

use std::fs;
use std::path::{Path, PathBuf};

use lockstep_coordinator::regular;
use lockstep_coordinator::telemetry::Summary;
use lockstep_coordinator::telemetry::format::clock;
use lockstep_proto::recipe::Recipe;

use crate::exit::{Failure, Result};
use crate::folder;

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    New,
    /// It has a checkpoint to go on from.
    Begun,
    /// It was killed before its first checkpoint: there is nothing to go on from.
    Torn,
    Done,
}

#[derive(Debug)]
pub struct Job {
    /// The recipe as typed: a name or a path.
    pub typed: String,
    /// With the seed to train.
    pub recipe: Recipe,
    /// The run's folder.
    pub folder: PathBuf,
    /// The weights to begin with.
    pub init_from: Option<PathBuf>,
    pub state: State,
    /// About how long it takes; 0 once it is done.
    pub seconds: f64,
}

/// The folder of the training of `recipe` with `seed`, below that of all.
pub fn folder_of(out: &Path, recipe: &str, seed: u64) -> PathBuf {
    out.join(recipe).join(format!("seed-{seed}"))
}

impl Job {
    pub fn name(&self) -> String {
        format!("{} with seed {}", self.recipe.name, self.recipe.seed)
    }

    /// What the plan says of its time.
    pub fn about(&self) -> String {
        match self.state {
            State::Done => "done".to_owned(),
            State::Begun => format!("at most {}", clock(self.seconds)),
            State::New | State::Torn => clock(self.seconds),
        }
    }

    /// Nothing is deleted: what can't go on gets another name.
    pub fn put_aside(&self) -> Result {
        // its writer may be alive
        let _lock = crate::lock::take(&self.folder)?;
        for n in 1_u32.. {
            let aside = self.folder.with_extension(format!("torn-{n}"));
            if !aside.exists() {
                return fs::rename(&self.folder, &aside).map_err(|error| {
                    Failure::ours(format!("can't rename {} to {}: {error}", self.folder.display(), aside.display()))
                });
            }
        }
        Err(Failure::ours("no free name for a run that can't go on"))
    }
}

/// How far the training of `recipe` in `folder` is. Another recipe's is refused.
pub fn state(folder: &Path, recipe: &Recipe) -> Result<State> {
    if !folder.exists() {
        return Ok(State::New);
    }
    let file = folder.join("recipe.toml");
    let Ok(text) = regular::read_to_string(&file) else { return Ok(State::Torn) };
    // a file cut short by a full disk is no recipe, and its run never began
    let Ok(kept) = Recipe::parse(&text, &file.display().to_string()) else { return Ok(State::Torn) };
    if let Some(first) = kept.differences(recipe).first() {
        return Err(Failure::mistake(format!(
            "{} was trained with another recipe: {} was {}, and is {} now; choose another --out",
            folder.display(),
            first.key,
            first.ours,
            first.theirs
        )));
    }
    Ok(match Summary::read(folder) {
        Ok(summary) if !summary.stopped_early => State::Done,
        _ if folder::begun(folder) => State::Begun,
        _ => State::Torn,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_new_torn_begun_or_done_and_another_recipes_is_refused() {
        let out = tempfile::tempdir().expect("folder");
        let recipe = Recipe { seed: 3, ..Recipe::default() };
        let folder = folder_of(out.path(), &recipe.name, 3);
        assert!(folder.ends_with("lenet/seed-3"), "{folder:?}");
        let state = |recipe: &Recipe| state(&folder, recipe).expect("the same recipe");
        assert_eq!(state(&recipe), State::New);
        fs::create_dir_all(folder.join("checkpoints")).expect("folder");
        assert_eq!(state(&recipe), State::Torn);
        fs::write(folder.join("recipe.toml"), recipe.to_toml()).expect("written");
        assert_eq!(state(&recipe), State::Torn);
        fs::write(folder.join("checkpoints/step-00000004.safetensors"), "").expect("written");
        assert_eq!(state(&recipe), State::Begun);
        Summary { stopped_early: true, ..Summary::default() }.write(&folder).expect("written");
        assert_eq!(state(&recipe), State::Begun);
        Summary::default().write(&folder).expect("written");
        assert_eq!(state(&recipe), State::Done);
        let other = Recipe { epochs: 7, ..recipe };
        let refused = format!("{:?}", super::state(&folder, &other).expect_err("another recipe"));
        assert!(refused.contains("epochs was 20, and is 7 now") && refused.contains("--out"), "{refused}");
    }

    #[test]
    fn what_is_put_aside_keeps_its_files_and_overwrites_nothing() {
        let out = tempfile::tempdir().expect("folder");
        let recipe = Recipe::default();
        let folder = folder_of(out.path(), "a", 0);
        for n in 1..3 {
            fs::create_dir_all(&folder).expect("folder");
            fs::write(folder.join("kept"), n.to_string()).expect("written");
            let (recipe, folder) = (recipe.clone(), folder.clone());
            let job = Job { typed: "a".to_owned(), recipe, folder, init_from: None, state: State::Torn, seconds: 0.0 };
            job.put_aside().expect("renamed");
        }
        assert!(!folder.exists());
        for n in 1..3 {
            let kept = fs::read_to_string(out.path().join(format!("a/seed-0.torn-{n}/kept"))).expect("there");
            assert_eq!(kept, n.to_string());
        }
    }
}
