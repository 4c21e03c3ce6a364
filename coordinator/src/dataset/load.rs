//! From what the user asked for to images in memory.

use std::path::{Path, PathBuf};

use super::layout::{self, Layout};
use super::{DataError, Dataset, Progress, archive, batches, builtin, cache, download, folder, parquet};

/// Where to take the images from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// See [`load`].
    #[default]
    Auto,
    /// The procedural set.
    Builtin,
    /// This path, in any layout that is read.
    Path(PathBuf),
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        match text {
            "auto" => Self::Auto,
            "builtin" => Self::Builtin,
            path => Self::Path(path.into()),
        }
    }
}

/// What [`load`] is asked for.
#[derive(Clone, Debug, Default)]
pub struct DataRequest {
    pub source: Source,
    /// An archive to download in place of the official one; `#md5=<32 digits>` at its end is checked. With
    /// [`Source::Auto`] it is the only source (and its cached copy): an address that was typed goes before paths that were not.
    pub url: Option<String>,
    /// The cache folder, in place of the user's.
    pub cache: Option<PathBuf>,
    /// Never touch the network.
    pub offline: bool,
    /// The seed of the built-in set.
    pub builtin_seed: u64,
}

/// Loads a data set. `Auto` looks, in this order, at the path in `LOCKSTEP_DATA`, at `./data`, at the user's cache, downloads
/// the official archive, and, where no server can be reached, makes the built-in set and warns loudly.
///
/// A path that is there and broken is an error, never passed over. Only a `./data` that holds no layout at all is passed
/// over, with a warning: other programs use that name too.
pub fn load(request: &DataRequest, progress: &dyn Progress) -> Result<Dataset, DataError> {
    let named = std::env::var_os("LOCKSTEP_DATA").filter(|path| !path.is_empty()).map(PathBuf::from);
    load_from(request, &Surroundings { named, near: PathBuf::from("data") }, progress)
}

/// What `Auto` looks at, so that tests need not change the process's environment.
pub(super) struct Surroundings {
    /// `LOCKSTEP_DATA`.
    pub(super) named: Option<PathBuf>,
    /// `./data`.
    pub(super) near: PathBuf,
}

pub(super) fn load_from(
    request: &DataRequest,
    around: &Surroundings,
    progress: &dyn Progress,
) -> Result<Dataset, DataError> {
    match &request.source {
        Source::Builtin => Ok(builtin::make(request.builtin_seed, progress)),
        Source::Path(path) => read_path(path, "asked for with --data", progress),
        Source::Auto if request.url.is_some() => fetch(request, progress),
        Source::Auto => {
            if let Some(path) = &around.named {
                return read_path(path, "named by LOCKSTEP_DATA", progress);
            }
            if around.near.exists() {
                match layout::detect(&around.near)? {
                    Some(layout) => return read_layout(&layout, progress),
                    None => progress.warn(&format!("{}; looking elsewhere", layout::nothing(&around.near))),
                }
            }
            match fetch(request, progress) {
                Err(DataError::Unavailable { url, reason }) => {
                    progress.warn(&format!(
                        "THIS IS NOT CIFAR-10: training on the built-in procedural set instead, because {url} gave nothing \
                         ({reason}). Its accuracies mean nothing for CIFAR-10. Give --data PATH or set LOCKSTEP_DATA for \
                         real images"
                    ));
                    Ok(builtin::make(request.builtin_seed, progress))
                }
                other => other,
            }
        }
    }
}

fn read_path(path: &Path, asked: &'static str, progress: &dyn Progress) -> Result<Dataset, DataError> {
    if !path.exists() {
        return Err(DataError::Missing { path: path.to_owned(), asked });
    }
    let layout = layout::detect(path)?.ok_or_else(|| layout::nothing(path))?;
    read_layout(&layout, progress)
}

pub(super) fn read_layout(layout: &Layout, progress: &dyn Progress) -> Result<Dataset, DataError> {
    let records = match layout {
        Layout::Batches(format, path) => batches::read_folder(path, *format, progress),
        Layout::Archive(path) => archive::read(path, progress),
        Layout::Parquet(path) => parquet::read(path, progress),
        Layout::Images(path) => folder::read(path, progress),
        Layout::Records(path) => cache::read(path),
    }?;
    let path = layout.path();
    let stem = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    Dataset::identify(records, path.display().to_string(), &format!("{}:{stem}", layout.kind()))
}

/// The cached copy, or a download that becomes one.
fn fetch(request: &DataRequest, progress: &dyn Progress) -> Result<Dataset, DataError> {
    let url = request.url.as_deref();
    let address = download::Address::parse(url)?;
    let Some(folder) = cache::folder(request.cache.as_deref()) else {
        return Err(address.unavailable("there is no home folder to keep it in; set a cache folder"));
    };
    let kept = cache::file(&folder, url);
    if kept.exists() {
        let name = url.unwrap_or("cifar10");
        return Dataset::identify(cache::read(&kept)?, kept.display().to_string(), &format!("download:{name}"));
    }
    if request.offline {
        return Err(address.unavailable("it is not in the cache, and the network is switched off"));
    }
    let archive_path = download::fetch(&address, &folder, progress)?;
    let records = archive::read(&archive_path, progress)?;
    let fallback = format!("download:{}", address.url);
    let dataset = Dataset::identify(records, address.url.clone(), &fallback)?;
    // without a copy the next run downloads again: a pity, no reason to stop this one
    match cache::write(&kept, &dataset) {
        Ok(()) => drop(std::fs::remove_file(&archive_path)),
        Err(error) => progress.warn(&format!("the downloaded images are not kept: {error}")),
    }
    Ok(dataset)
}
