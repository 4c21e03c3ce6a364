//! A run's `checkpoints/` folder: names, the latest, the best, and what is thrown away.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::file::{self, CheckpointError};
use super::snapshot::Snapshot;

const BEST: &str = "best.safetensors";

/// The end of the name of a file that is not yet whole.
const TORN: &str = "tmp";

/// Where a run keeps its checkpoints.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    keep: usize,
}

impl Store {
    /// The store of the run in `run`, keeping the last `keep` checkpoints and the best.
    pub fn open(run: &Path, keep: usize) -> Result<Self, CheckpointError> {
        let folder = run.join("checkpoints");
        fs::create_dir_all(&folder).map_err(|source| CheckpointError::Write { path: folder.clone(), source })?;
        Ok(Self { folder, keep: keep.max(1) })
    }

    /// Writes `snapshot` as the best one so far.
    pub fn save_best(&self, snapshot: &Snapshot) -> Result<PathBuf, CheckpointError> {
        let path = self.folder.join(BEST);
        file::write(snapshot, &path)?;
        Ok(path)
    }

    /// Writes `snapshot` under its step. Older ones go only after it stands.
    pub fn save(&self, snapshot: &Snapshot) -> Result<PathBuf, CheckpointError> {
        let path = self.folder.join(format!("step-{:08}.safetensors", snapshot.state.version));
        file::write(snapshot, &path)?;
        let steps = self.steps();
        for (_, old) in &steps[..steps.len().saturating_sub(self.keep)] {
            // a checkpoint too many is no reason to stop a run
            let _ = fs::remove_file(old);
        }
        Ok(path)
    }

    /// Removes what a process that was killed left half written. Only for who knows that nobody else writes here.
    pub fn clear_torn(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|entry| entry.path());
        for torn in entries.filter(|path| path.extension().is_some_and(|end| end == TORN)) {
            // it costs space, nothing else
            let _ = fs::remove_file(torn);
        }
    }

    /// The newest checkpoint that can be read, and what was wrong with newer ones.
    pub fn latest(&self) -> Result<(PathBuf, Snapshot, Vec<CheckpointError>), CheckpointError> {
        let mut damaged = Vec::new();
        for (_, path) in self.steps().into_iter().rev() {
            match file::read(&path) {
                Ok(snapshot) => return Ok((path, snapshot, damaged)),
                Err(error) => damaged.push(error),
            }
        }
        Err(damaged.into_iter().next().unwrap_or_else(|| {
            CheckpointError::format(&self.folder, "there is no checkpoint in it, so there is nothing to resume")
        }))
    }

    /// Takes the checkpoints after `version` out of use without deleting them, the best one too if it is one of them.
    /// Returns the newest that is left.
    pub fn set_aside_after(&self, version: u64) -> Option<u64> {
        let best = self.folder.join(BEST);
        let best_is_later = file::read(&best).is_ok_and(|snapshot| snapshot.state.version > version);
        let (good, later): (Vec<_>, Vec<_>) = self.steps().into_iter().partition(|(step, _)| *step <= version);
        for path in later.into_iter().map(|(_, path)| path).chain(best_is_later.then_some(best)) {
            if let Err(error) = fs::rename(&path, path.with_extension("tainted")) {
                tracing::error!("can't set {} aside: {error}; do not resume from it", path.display());
            }
        }
        good.last().map(|(step, _)| *step)
    }

    /// Step and path of each checkpoint, ascending.
    fn steps(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut steps: Vec<_> = entries
            .filter_map(|entry| {
                let name = entry.file_name();
                let number = name.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?;
                Some((number.parse().ok()?, entry.path()))
            })
            .collect();
        steps.sort();
        steps
    }
}

/// Puts `bytes` at `path`: the old file or the new one is there at every instant, and the new one survives a power cut.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(TORN);
    let result = write_durably(&temporary, path, bytes);
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_durably(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // the rename itself is durable only once the folder is
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::sample;
    use super::*;

    #[test]
    fn keeps_the_last_ones_and_the_best() {
        let run = tempfile::tempdir().expect("folder");
        let store = Store::open(run.path(), 2).expect("open");
        store.save_best(&sample(1)).expect("saved");
        for version in [1, 2, 10] {
            store.save(&sample(version)).expect("saved");
        }
        let (path, snapshot, damaged) = store.latest().expect("latest");
        assert_eq!((snapshot.state.version, damaged.len()), (10, 0));
        let mut names: Vec<_> = fs::read_dir(path.parent().expect("parent"))
            .expect("list")
            .map(|e| e.expect("entry").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["best.safetensors", "step-00000002.safetensors", "step-00000010.safetensors"]);
    }

    #[test]
    fn what_a_killed_process_left_half_written_goes_and_nothing_else() {
        let run = tempfile::tempdir().expect("folder");
        let store = Store::open(run.path(), 3).expect("open");
        let path = store.save(&sample(1)).expect("saved");
        fs::write(path.with_file_name("step-00000002.tmp"), b"half").expect("written");
        store.clear_torn();
        let names = fs::read_dir(path.parent().expect("parent")).expect("list").map(|e| e.expect("entry").path());
        assert_eq!(names.collect::<Vec<_>>(), [path]);
    }

    #[test]
    fn what_rests_on_a_wrong_step_is_set_aside_and_not_deleted() {
        let run = tempfile::tempdir().expect("folder");
        let store = Store::open(run.path(), 9).expect("open");
        for version in [1, 2, 3] {
            store.save(&sample(version)).expect("saved");
        }
        store.save_best(&sample(3)).expect("saved");
        assert_eq!(store.set_aside_after(2), Some(2));
        let (_, snapshot, damaged) = store.latest().expect("latest");
        assert_eq!((snapshot.state.version, damaged.len()), (2, 0));
        for name in ["step-00000003.tainted", "best.tainted"] {
            assert!(run.path().join("checkpoints").join(name).is_file(), "{name}");
        }
    }

    #[test]
    fn a_damaged_newest_one_is_passed_over_with_a_word() {
        let run = tempfile::tempdir().expect("folder");
        let store = Store::open(run.path(), 3).expect("open");
        store.save(&sample(1)).expect("saved");
        let path = store.save(&sample(2)).expect("saved");
        fs::write(&path, b"torn").expect("torn");
        let (_, snapshot, damaged) = store.latest().expect("an older one");
        assert_eq!((snapshot.state.version, damaged.len()), (1, 1));
    }

    #[test]
    fn an_empty_folder_says_there_is_nothing_to_resume() {
        let run = tempfile::tempdir().expect("folder");
        let error = Store::open(run.path(), 1).expect("open").latest().expect_err("empty");
        assert!(error.to_string().contains("nothing to resume"), "{error}");
    }
}
