//! The user's cache: what was downloaded once, as one file of records that loads in a fraction of a second.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use lockstep_proto::records::{self, Records, RecordsError};

use super::{DataError, Dataset};

/// The cache folder: `wanted`, or the platform's (`~/.cache/lockstep` on Linux). None where there is no home.
pub(super) fn folder(wanted: Option<&Path>) -> Option<PathBuf> {
    wanted.map(Path::to_owned).or_else(|| dirs::cache_dir().map(|cache| cache.join("lockstep")))
}

/// The cache file of what `url` gives; `None` is the official archive.
pub(super) fn file(folder: &Path, url: Option<&str>) -> PathBuf {
    match url {
        None => folder.join("cifar10.lsdata"),
        Some(url) => folder.join(format!("url-{}.lsdata", &blake3::hash(url.as_bytes()).to_hex()[..16])),
    }
}

/// Reads a file of records.
pub(super) fn read(path: &Path) -> Result<Records, DataError> {
    let file = File::open(path).map_err(DataError::io(path, "opening"))?;
    let length = file.metadata().map_err(DataError::io(path, "looking at the file"))?.len();
    // large reads: the pixels are one piece
    Records::read(&mut BufReader::with_capacity(1 << 16, file), length).map_err(|error| match error {
        RecordsError::Io(source) => DataError::Io { path: path.to_owned(), doing: "reading", source },
        other => DataError::content(path.display().to_string(), format!("{other}; delete the file or make it again")),
    })
}

/// Writes a file of records, whole or not at all: under a name of its own first.
pub(super) fn write(path: &Path, dataset: &Dataset) -> Result<(), DataError> {
    // two runs may write at once: each has its own, and both are right
    let part = path.with_extension(format!("lsdata.{}", std::process::id()));
    let written =
        write_part(&part, dataset).and_then(|()| fs::rename(&part, path).map_err(DataError::io(path, "renaming")));
    if written.is_err() {
        drop(fs::remove_file(&part)); // the first error says more than this one could
    }
    written
}

fn write_part(part: &Path, dataset: &Dataset) -> Result<(), DataError> {
    let mut out = BufWriter::new(File::create(part).map_err(DataError::io(part, "creating"))?);
    records::write(&dataset.classes, &dataset.train, &dataset.test, &mut out).map_err(|error| match error {
        RecordsError::Io(source) => DataError::Io { path: part.to_owned(), doing: "writing", source },
        other => DataError::content(dataset.source.as_str(), other.to_string()),
    })?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(DataError::io(part, "writing"))
}
