//! Where a run's images come from, kept in its folder: a resumed run looks there again.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use lockstep_coordinator::dataset::Dataset;
use lockstep_coordinator::regular;
use serde::{Deserialize, Serialize};

use crate::cli::DataSource;
use crate::exit::{Failure, Result};
use crate::folder;

const FILE: &str = "data.toml";

const HEADER: &str = "# Where this run's images came from. `--resume` looks there again, and refuses others.\n";

/// What `--data` and `--data-url` have to be for the same images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    data: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_url: Option<String>,
    /// Which images they were. Older builds did not write it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
}

impl Kept {
    /// What finds `dataset` again. `auto` becomes what it came to, since tomorrow it may come to something else; only a download
    /// stays one, for the cache knows it.
    fn of(typed: &DataSource, dataset: &Dataset) -> Self {
        let path = Path::new(&dataset.source);
        let (data, data_url) = match typed.data.as_deref() {
            Some("builtin") => ("builtin".to_owned(), None),
            Some(path) if path != "auto" => (absolute(path.as_ref()), None),
            _ if typed.data_url.is_some() => ("auto".to_owned(), typed.data_url.clone()),
            _ if dataset.is_builtin() => ("builtin".to_owned(), None),
            // records in the cache are a download that was kept
            _ if path.exists() && path.extension().is_none_or(|end| end != "lsdata") => (absolute(path), None),
            _ => ("auto".to_owned(), None),
        };
        Self { data, data_url, hash: Some(dataset.hash()) }
    }
}

/// A run may be resumed from another folder than it was begun in.
fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path)).display().to_string()
}

/// Writes down in the run's `folder` where its images came from.
pub fn keep(folder: &Path, typed: &DataSource, dataset: &Dataset) -> Result {
    let text = toml::to_string(&Kept::of(typed, dataset)).map_err(Failure::ours)?;
    folder::write(folder, FILE, &format!("{HEADER}{text}"))
}

/// Whether the `folder` of several runs says which images they have. Others are refused: one table can't hold both.
pub fn check(folder: &Path, typed: &DataSource, dataset: &Dataset) -> Result<bool> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(false);
    }
    let kept = read(&path)?;
    let now = Kept::of(typed, dataset);
    // a file without a hash says no more than a place
    let same = match &kept.hash {
        Some(hash) => *hash == dataset.hash(),
        None => (&kept.data, &kept.data_url) == (&now.data, &now.data_url),
    };
    if same {
        return Ok(true);
    }
    Err(Failure::mistake(format!(
        "{} holds runs on the images of {}{}, and these are {} ({:.12}) of {}; leave out --data and --data-url to go on with \
         those images, or choose another --out",
        folder.display(),
        kept.data,
        kept.hash.as_ref().map_or_else(String::new, |hash| format!(" ({hash:.12})")),
        dataset.name,
        dataset.hash(),
        now.data
    )))
}

/// What was typed, or else what the run in `folder` was begun with.
pub fn resume(folder: &Path, typed: &DataSource) -> Result<DataSource> {
    let path = folder.join(FILE);
    if typed.is_given() {
        return Ok(typed.clone());
    }
    // a run of an older build: as if nothing had been typed then
    if fs::metadata(&path).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        return Ok(typed.clone());
    }
    let kept = read(&path)?;
    if kept.data != "auto" && kept.data != "builtin" && !Path::new(&kept.data).exists() {
        let text = format!(
            "the run's images were in {} (says {}), which is not there any more; give --data with a path to the same images",
            kept.data,
            path.display()
        );
        return Err(Failure::mistake(text));
    }
    Ok(DataSource { data: Some(kept.data), data_url: kept.data_url, offline: typed.offline })
}

fn read(path: &Path) -> Result<Kept> {
    let text = regular::read_to_string(path)
        .map_err(|error| Failure::mistake(format!("can't read {}: {error}; give --data", path.display())))?;
    toml::from_str(&text)
        .map_err(|error| Failure::mistake(format!("{}: {}; give --data", path.display(), error.message())))
}

#[cfg(test)]
mod tests {
    use lockstep_coordinator::dataset::{DataRequest, Silent, Source, load};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn fuzz_data_toml(text in "(data|data_url|other) ?= ?(\"\\PC{0,12}\"|[0-9]{1,4}|\\[\\]|\\{a = 1\\})\n?|\\PC{0,30}|(data = \"builtin\"\n){0,2}") {
            let folder = tempfile::tempdir().expect("folder");
            fs::write(folder.path().join(FILE), &text).expect("written");
            match resume(folder.path(), &typed(None, None)) {
                Ok(found) => prop_assert!(found.data.is_some(), "{text}"),
                Err(error) => prop_assert!(format!("{error:?}").contains("--data"), "{text}: {error:?}"),
            }
        }
    }

    fn typed(data: Option<&str>, url: Option<&str>) -> DataSource {
        DataSource { data: data.map(str::to_owned), data_url: url.map(str::to_owned), offline: false }
    }

    #[test]
    fn what_is_kept_finds_the_same_images_from_anywhere() {
        let folder = tempfile::tempdir().expect("folder");
        let request = DataRequest { source: Source::Builtin, ..DataRequest::default() };
        let builtin = load(&request, &Silent).expect("made");
        let again = |data: Option<&str>, url: Option<&str>, dataset: &Dataset| {
            keep(folder.path(), &typed(data, url), dataset).expect("kept");
            let kept = resume(folder.path(), &typed(None, None)).expect("found");
            (kept.data.expect("always"), kept.data_url)
        };
        // auto that came to the built-in set for want of a network must not come to a download later
        assert_eq!(again(None, None, &builtin), ("builtin".to_owned(), None));
        // the tests run in the package's folder
        let here = std::env::current_dir().expect("a folder");
        assert_eq!(again(Some("src"), None, &builtin).0, here.join("src").display().to_string());
        let error = keep(folder.path(), &typed(Some("gone"), None), &builtin)
            .and_then(|()| resume(folder.path(), &typed(None, None)));
        assert!(format!("{error:?}").contains("gone"), "{error:?}");
        let url = "http://localhost/a.tar.gz";
        assert_eq!(again(Some("auto"), Some(url), &builtin), ("auto".to_owned(), Some(url.to_owned())));
        let found = Dataset { name: "cifar10".to_owned(), source: folder.path().display().to_string(), ..builtin };
        assert_eq!(again(Some("auto"), None, &found).0, folder.path().display().to_string());
    }

    #[test]
    fn a_folder_of_several_runs_keeps_its_images_and_refuses_others() {
        let folder = tempfile::tempdir().expect("folder");
        let request = DataRequest { source: Source::Builtin, ..DataRequest::default() };
        let first = load(&request, &Silent).expect("made");
        let mut other = load(&request, &Silent).expect("made");
        other.test.pixels[0] ^= 1;
        let check = |data: &str, dataset: &Dataset| check(folder.path(), &typed(Some(data), None), dataset);
        assert!(!check("builtin", &first).expect("nothing is kept"));
        keep(folder.path(), &typed(Some("builtin"), None), &first).expect("the first");
        // the same images may lie elsewhere
        assert!(check("src", &first).expect("the same images"));
        let refused = format!("{:?}", check("builtin", &other).expect_err("other images"));
        assert!(refused.contains("leave out --data") && refused.contains("another --out"), "{refused}");
        // an older build's file has no hash: the place decides
        fs::write(folder.path().join(FILE), "data = \"builtin\"\n").expect("written");
        assert!(check("builtin", &first).expect("the same place"));
        assert!(check("src", &first).is_err(), "nobody knows which images they were");
    }

    #[test]
    fn what_is_typed_goes_first_and_a_run_without_the_file_has_nothing_to_say() {
        let folder = tempfile::tempdir().expect("folder");
        assert_eq!(resume(folder.path(), &typed(None, None)).expect("nothing").data, None);
        fs::write(folder.path().join(FILE), "data = \"there\"\n").expect("written");
        assert_eq!(resume(folder.path(), &typed(Some("here"), None)).expect("typed").data.as_deref(), Some("here"));
        fs::write(folder.path().join(FILE), "date = 1\n").expect("written");
        let error = format!("{:?}", resume(folder.path(), &typed(None, None)).expect_err("no such key"));
        assert!(error.contains("data.toml") && error.contains("--data"), "{error}");
    }
}
