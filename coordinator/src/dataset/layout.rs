//! What a path holds: found out from names and first bytes, before anything is read.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use lockstep_proto::records;

use super::batches::{self, Format};
use super::{DataError, parquet};

/// A layout and where it lies.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `data_batch_1.bin`, … or `data_batch_1`, … in a folder.
    Batches(Format, PathBuf),
    /// Either of them in a tar archive, compressed or not.
    Archive(PathBuf),
    Parquet(PathBuf),
    /// `train/<class>/` and `test/<class>/`.
    Images(PathBuf),
    /// The canonical file.
    Records(PathBuf),
}

/// Where the layouts may lie below the folder that the user names: itself, the official archives' folders, and the ones that
/// Hugging Face keeps Parquet files in.
const BELOW: [&str; 5] = ["", "cifar-10-batches-bin", "cifar-10-batches-py", "plain_text", "data"];
/// The official archives, as they are called when downloaded.
const ARCHIVES: [&str; 2] = ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"];

impl Layout {
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Batches(_, path) | Self::Archive(path) | Self::Parquet(path) => path,
            Self::Images(path) | Self::Records(path) => path,
        }
    }

    /// What its data are called if nobody recognises them.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Batches(Format::Binary, _) => "binary",
            Self::Batches(Format::Python, _) => "python",
            Self::Archive(_) => "archive",
            Self::Parquet(_) => "parquet",
            Self::Images(_) => "images",
            Self::Records(_) => "records",
        }
    }
}

/// The one layout at `path`; `None` if it is a folder that holds none. Two layouts are an error: which one is meant?
pub(super) fn detect(path: &Path) -> Result<Option<Layout>, DataError> {
    let metadata = fs::metadata(path).map_err(DataError::io(path, "looking at it"))?;
    if !metadata.is_dir() {
        return detect_file(path).map(Some);
    }
    let mut found = Vec::new();
    for below in BELOW {
        let folder = if below.is_empty() { path.to_owned() } else { path.join(below) };
        if folder.is_dir() {
            detect_folder(&folder, &mut found)?;
        }
    }
    if found.is_empty() {
        // beside its unpacked folder the archive is no second set, so it counts only alone
        found.extend(ARCHIVES.iter().map(|name| path.join(name)).filter(|p| p.is_file()).map(Layout::Archive));
    }
    if found.len() > 1 {
        let paths: Vec<String> = found.iter().map(|l| format!("{} ({})", l.path().display(), l.kind())).collect();
        return Err(DataError::layout(path, format!("holds {}; name the one you mean", paths.join(" and "))));
    }
    Ok(found.pop())
}

/// The refusal of a folder without a layout.
pub(super) fn nothing(path: &Path) -> DataError {
    let empty = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    let what = if empty { "is an empty folder" } else { "holds no data set" };
    DataError::layout(
        path,
        format!(
            "{what}; wanted: cifar-10-batches-bin or -py, their .tar.gz, train*.parquet and test*.parquet, \
             train/<class>/*.png and test/<class>/*.png, or a file of records"
        ),
    )
}

fn detect_file(path: &Path) -> Result<Layout, DataError> {
    let mut head = Vec::new();
    let file = File::open(path).map_err(DataError::io(path, "opening"))?;
    file.take(512).read_to_end(&mut head).map_err(DataError::io(path, "reading"))?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if head.starts_with(records::MAGIC) {
        Ok(Layout::Records(path.to_owned()))
    } else if head.starts_with(&[0x1f, 0x8b]) || head.get(257..262) == Some(b"ustar") {
        Ok(Layout::Archive(path.to_owned()))
    } else if head.is_empty() {
        Err(DataError::layout(path, "is an empty file"))
    } else if head.starts_with(b"PAR1") || batches::slot(name).is_some() {
        Err(DataError::layout(path, "is one part of a set; name the folder that holds the training and the test part"))
    } else {
        Err(DataError::layout(path, "is neither an archive (.tar.gz, .tar) nor a file of records"))
    }
}

fn detect_folder(folder: &Path, found: &mut Vec<Layout>) -> Result<(), DataError> {
    let (mut binary, mut python) = (false, false);
    for entry in fs::read_dir(folder).map_err(DataError::io(folder, "listing the folder"))? {
        let entry = entry.map_err(DataError::io(folder, "listing the folder"))?;
        // the class names alone are no layout: copies of them lie about
        match entry.file_name().to_str().and_then(batches::slot) {
            Some((_, batches::Slot::Meta)) | None => {}
            Some((Format::Binary, _)) => binary = true,
            Some((Format::Python, _)) => python = true,
        }
    }
    if binary {
        found.push(Layout::Batches(Format::Binary, folder.to_owned()));
    }
    if python {
        found.push(Layout::Batches(Format::Python, folder.to_owned()));
    }
    if !parquet::files(folder, "train")?.is_empty() || !parquet::files(folder, "test")?.is_empty() {
        found.push(Layout::Parquet(folder.to_owned()));
    }
    if folder.join("train").is_dir() || folder.join("test").is_dir() {
        found.push(Layout::Images(folder.to_owned()));
    }
    Ok(())
}
