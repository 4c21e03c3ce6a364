//! A run's folder has one writer at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::exit::{Failure, Result};

const FILE: &str = "lock";

/// Held while a process writes a run's folder. The kernel lets go of it however the process ends, so that a run that was killed
/// can be resumed at once.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Locks `folder`, which exists, or says who holds it.
pub fn take(folder: &Path) -> Result<Lock> {
    let path = folder.join(FILE);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(|error| {
        let path = path.display();
        Failure::ours(format!("{path}: {error}; check that the disk has room and that you may write there"))
    })?;
    match file.try_lock() {
        Ok(()) => {
            // for whoever is refused; without it the lock holds all the same
            let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
            Ok(Lock { _file: file })
        }
        Err(TryLockError::WouldBlock) => Err(Failure::mistake(format!(
            "{folder} is being written by {}, and a run has one coordinator at a time; wait for its end, end it (Ctrl-C, or \
             `lockstep stop`), or begin another run with another --out",
            holder(&mut file),
            folder = folder.display(),
        ))),
        // some network file systems have no locks: a run there is as safe as its user is careful
        Err(TryLockError::Error(error)) => {
            warn!("warning: can't lock {}: {error}; see to it that no other run writes there", path.display());
            Ok(Lock { _file: file })
        }
    }
}

/// The process that holds the lock, as far as it said.
fn holder(file: &mut File) -> String {
    // a number and a newline; whatever else stands there is not read
    let mut text = String::new();
    let _ = file.take(20).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(id) => format!("process {id}"),
        Err(_) => "another process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_by_name_until_the_first_is_gone() {
        let folder = tempfile::tempdir().expect("folder");
        let first = take(folder.path()).expect("free");
        let refused = take(folder.path()).expect_err("held");
        let Failure::Mistake(text) = refused else { panic!("{refused:?}") };
        for word in [&folder.path().display().to_string(), &format!("process {}", std::process::id()), "--out"] {
            assert!(text.contains(word), "no {word:?} in: {text}");
        }
        drop(first);
        take(folder.path()).expect("free again");
    }

    #[test]
    fn what_stands_in_the_file_does_not_matter() {
        let folder = tempfile::tempdir().expect("folder");
        std::fs::write(folder.path().join(FILE), [0xff; 4096]).expect("written");
        let _held = take(folder.path()).expect("free");
        let again = File::options().read(true).open(folder.path().join(FILE)).expect("readable");
        assert_eq!(again.metadata().expect("there").len() as usize, format!("{}\n", std::process::id()).len());
    }
}
