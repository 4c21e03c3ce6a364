//! `lockstep report`: draws runs.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use lockstep_coordinator::regular;
use lockstep_coordinator::telemetry::format::{bytes, clean};
use lockstep_worker::layers;

use crate::cli::ReportArgs;
use crate::exit::{Failure, Result};
use crate::report::{self, Gallery, Run, Sampler};
use crate::{logging, processor};

/// A page or a picture says in its first bytes who made it.
const BEGINNING: u64 = 400;

pub fn run(args: &ReportArgs) -> Result {
    logging::start();
    let processor = processor::open(args.compute)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    layers::set_threads(threads).map_err(Failure::ours)?;
    // before the work: a name that can't be used should not cost it
    ours_or_free(&args.out)?;
    let mut runs: Vec<Run> = args
        .runs
        .iter()
        .map(|folder| Run::read(folder))
        .collect::<std::result::Result<_, _>>()
        .map_err(Failure::mistake)?;
    report::tell_apart(&mut runs);
    let mut sampler = Sampler::new(args.data.clone(), processor);
    let samples: Vec<_> = runs.iter().map(|run| sampler.look(&run.folder)).collect();
    for (run, samples) in runs.iter().zip(&samples) {
        for problem in run.problems.iter().chain(samples.as_ref().err()) {
            warn!("{}: {}", clean(&run.name), clean(problem));
        }
    }
    let gallery = Gallery::of(&runs);
    let page = report::write(&runs, &samples, &gallery);
    write(&args.out, &page)?;
    say!("{}  {}", args.out.display(), bytes(page.len() as u64));
    let Some(folder) = &args.pictures else { return Ok(()) };
    fs::create_dir_all(folder).map_err(|error| cannot(folder, &error))?;
    for (name, picture) in gallery.files() {
        let path = folder.join(name);
        write(&path, &picture)?;
        say!("{}", path.display());
    }
    Ok(())
}

/// Writes a file of ours. What somebody else put there stays.
fn write(path: &Path, text: &str) -> Result {
    ours_or_free(path)?;
    // a neighbour first, so that whoever has the page open never sees half of one
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let neighbour = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = fs::write(&neighbour, text).and_then(|()| fs::rename(&neighbour, path));
    written.map_err(|error| {
        // it may not exist; the first error is the one to tell
        let _ = fs::remove_file(&neighbour);
        cannot(path, &error)
    })
}

fn ours_or_free(path: &Path) -> Result {
    let mut beginning = Vec::new();
    match regular::open(path).and_then(|file| file.take(BEGINNING).read_to_end(&mut beginning)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(cannot(path, &error)),
        Ok(_) if String::from_utf8_lossy(&beginning).contains(report::BY) => Ok(()),
        Ok(_) => Err(Failure::mistake(format!(
            "{} is there already and is no report of ours; choose another name, or move it away",
            path.display()
        ))),
    }
}

fn cannot(path: &Path, error: &std::io::Error) -> Failure {
    Failure::mistake(format!("can't write {}: {error}; choose another place", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_files_are_replaced() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.html");
        let text = format!("<!DOCTYPE html>{}", report::BY);
        write(&path, &text).expect("free");
        write(&path, &text).expect("ours");
        fs::write(&path, "somebody's").expect("written");
        let error = format!("{:?}", write(&path, &text).expect_err("not ours"));
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("read"), "somebody's");
        assert!(write(folder.path(), &text).is_err(), "a folder");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1, "something is left over");
    }
}
