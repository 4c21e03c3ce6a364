//! The run's folder: a new one for every run, an old one only to resume.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use lockstep_coordinator::telemetry::Summary;

use crate::exit::{Failure, Result};

const RUNS: &str = "runs";

/// Makes the folder of a new run: `out`, or `runs/<date>-<recipe>-<n>` with the first free n.
pub fn create(out: Option<&Path>, recipe: &str) -> Result<PathBuf> {
    if let Some(out) = out {
        let full = out.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        if full || out.is_file() {
            let text = format!("{} is there already; choose another --out, or --resume it", out.display());
            return Err(Failure::mistake(text));
        }
        fs::create_dir_all(out).map_err(|error| cannot(out, &error))?;
        return Ok(out.to_owned());
    }
    let runs = Path::new(RUNS);
    fs::create_dir_all(runs).map_err(|error| cannot(runs, &error))?;
    let date = jiff::Timestamp::now().strftime("%Y-%m-%d");
    for n in 1_u32.. {
        let folder = runs.join(format!("{date}-{recipe}-{n}"));
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(cannot(&folder, &error)),
        }
    }
    Err(Failure::ours("no free name for the run's folder"))
}

/// Writes one of the small files that a run's `folder` begins with.
pub fn write(folder: &Path, name: &str, text: &str) -> Result {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|error| {
        let path = path.display();
        Failure::ours(format!("{path}: {error}; check that the disk has room and that you may write there"))
    })
}

/// Checks that `out` may become the folder of several runs, or is one to `resume`.
pub fn check(out: &Path, resume: bool) -> Result {
    let used = out.is_file() || out.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let problem = match (used, resume) {
        (true, false) => "is there already; go on in it with --resume, or choose another --out",
        (false, true) => "is not there, so there is nothing to resume; start it without --resume",
        _ => return Ok(()),
    };
    Err(Failure::mistake(format!("{} {problem}", out.display())))
}

/// Makes the folder of several runs, if it is not there.
pub fn make(out: &Path) -> Result {
    fs::create_dir_all(out).map_err(|error| cannot(out, &error))
}

/// Writes a file that is made from others anew: all of it or nothing.
pub fn rewrite(folder: &Path, name: &str, text: &str) -> Result {
    let neighbour = format!(".{name}.new");
    write(folder, &neighbour, text)?;
    let path = folder.join(name);
    fs::rename(folder.join(&neighbour), &path).map_err(|error| Failure::ours(format!("{}: {error}", path.display())))
}

/// The folder to resume: `out`, or the newest run.
pub fn find(out: Option<&Path>) -> Result<PathBuf> {
    let folder = match out {
        Some(out) => out.to_owned(),
        None => newest(Path::new(RUNS)).ok_or_else(|| {
            Failure::mistake("no run in runs/ has a checkpoint to resume from; name another folder with --out")
        })?,
    };
    if last_checkpoint(&folder).is_none() {
        // a start that failed for want of room leaves a folder behind
        let (found, way_out) = match folder.is_dir() {
            true => ("has no checkpoint", "remove it, or choose another --out, and start without --resume"),
            false => ("is not there", "start it without --resume"),
        };
        let text = format!("{} {found}, so there is nothing to resume; {way_out}", folder.display());
        return Err(Failure::mistake(text));
    }
    Ok(folder)
}

/// Whether the run in `folder` has a checkpoint to go on from.
pub fn begun(folder: &Path) -> bool {
    last_checkpoint(folder).is_some()
}

/// Whether the run in `folder` said at its end that it made all its steps, the last of which is `version`. One that was killed
/// between its last checkpoint and that word is not.
pub fn finished(folder: &Path, version: u64) -> bool {
    Summary::read(folder).is_ok_and(|summary| !summary.stopped_early && summary.steps == version)
}

/// The run whose last checkpoint is the newest.
fn newest(runs: &Path) -> Option<PathBuf> {
    let folders = runs.read_dir().ok()?.flatten().map(|entry| entry.path());
    let dated = folders.filter_map(|folder| Some((last_checkpoint(&folder)?, folder)));
    dated.max().map(|(_, folder)| folder)
}

/// When the newest checkpoint of the run in `folder` was written.
fn last_checkpoint(folder: &Path) -> Option<SystemTime> {
    let entries = folder.join("checkpoints").read_dir().ok()?.flatten();
    let steps = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("step-"));
    steps.filter_map(|entry| entry.metadata().and_then(|data| data.modified()).ok()).max()
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::mistake(format!("can't make the run's folder {}: {error}; choose another with --out", path.display()))
}
