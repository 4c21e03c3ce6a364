//! A folder of images: `train/<class>/*.png` (or `.jpg`, `.jpeg`) and `test/<class>/…`.
//!
//! Classes are the folders of `train`, sorted: CIFAR-10's names come out in CIFAR-10's order. Within a split the order is that
//! of the BLAKE3 of each `class/file`: the same on every machine, and mixed, so that a half of the set has all classes.

use std::fs;
use std::path::{Path, PathBuf};

use lockstep_proto::records::{PIXELS, Records, Split};

use super::{DataError, Progress, picture};

/// Files of images are a few kilobytes; what is larger is something else.
const LARGEST_FILE: u64 = 16 << 20;

/// Reads both splits below `root`.
pub(super) fn read(root: &Path, progress: &dyn Progress) -> Result<Records, DataError> {
    for split in ["train", "test"] {
        if !root.join(split).is_dir() {
            return Err(DataError::layout(
                root,
                format!("has no folder {split}/; an image folder has both, train/<class>/*.png and test/<class>/*.png"),
            ));
        }
    }
    let classes = names(&root.join("train"), true)?;
    if classes.is_empty() {
        return Err(DataError::layout(&root.join("train"), "has no class folders; images lie in train/<class>/"));
    }
    if classes.len() > 256 {
        return Err(DataError::layout(&root.join("train"), format!("has {} classes; at most 256", classes.len())));
    }
    for class in names(&root.join("test"), true)? {
        if !classes.contains(&class) {
            let known = classes.join(", ");
            return Err(DataError::layout(
                &root.join("test").join(class),
                format!("is a class that train/ does not have ({known})"),
            ));
        }
    }
    let train = read_split(&root.join("train"), &classes, progress)?;
    let test = read_split(&root.join("test"), &classes, progress)?;
    Ok(Records { classes, train, test })
}

fn read_split(root: &Path, classes: &[String], progress: &dyn Progress) -> Result<Split, DataError> {
    let mut files = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let folder = root.join(class);
        if !folder.is_dir() {
            continue; // only in test/: a class may lack test images
        }
        for name in names(&folder, false)? {
            let path = folder.join(&name);
            let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
            if !matches!(extension.as_deref(), Some("png" | "jpg" | "jpeg")) {
                return Err(DataError::layout(
                    &path,
                    "is no image: a class folder holds .png, .jpg and .jpeg files only",
                ));
            }
            files.push((*blake3::hash(format!("{class}/{name}").as_bytes()).as_bytes(), label as u8, path));
        }
    }
    files.sort_unstable();
    progress.start(&format!("reading {}", root.display()), Some(files.len() as u64));
    let split = decode_all(&files, progress);
    progress.finish();
    split
}

fn decode_all(files: &[([u8; 32], u8, PathBuf)], progress: &dyn Progress) -> Result<Split, DataError> {
    let mut split = Split { pixels: Vec::with_capacity(files.len() * PIXELS), labels: Vec::with_capacity(files.len()) };
    for (_, label, path) in files {
        let size = fs::metadata(path).map_err(DataError::io(path, "looking at the file"))?.len();
        if size > LARGEST_FILE {
            return Err(DataError::layout(path, format!("is {size} bytes; an image file has at most {LARGEST_FILE}")));
        }
        let bytes = fs::read(path).map_err(DataError::io(path, "reading"))?;
        picture::decode(&bytes, &mut split.pixels)
            .map_err(|problem| DataError::content(path.display().to_string(), problem))?;
        split.labels.push(*label);
        progress.advance(1);
    }
    Ok(split)
}

/// The names in `folder`, sorted; hidden files (`.DS_Store`) are left alone. With `folders`, sub-folders only.
fn names(folder: &Path, folders: bool) -> Result<Vec<String>, DataError> {
    let listing = DataError::io(folder, "listing the folder");
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(listing)? {
        let entry = entry.map_err(DataError::io(folder, "listing the folder"))?;
        let name = entry.file_name().into_string().map_err(|name| {
            DataError::layout(folder, format!("holds the name {name:?}, which is not UTF-8: rename it"))
        })?;
        if !name.starts_with('.') && (!folders || entry.path().is_dir()) {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}
