//! The files of both official layouts, `data_batch_1` to `data_batch_5` and `test_batch`, put together to one set.

use std::collections::BTreeMap;
use std::path::Path;

use lockstep_proto::records::{Records, Split};

use super::known::CIFAR10_CLASSES;
use super::{DataError, Progress, binary, python};

/// Which of the two official layouts a file belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Binary,
    Python,
}

/// What a file is to its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// A training batch, counted from 1.
    Train(u32),
    Test,
    /// The class names.
    Meta,
}

/// Training batches of the official layouts.
const TRAIN: u32 = 5;
/// No file of either layout is larger: the official ones have 31 MB.
pub(super) const LARGEST_FILE: u64 = 256 << 20;

/// What the file called `name` is, if its name is one of the official ones.
pub(super) fn slot(name: &str) -> Option<(Format, Slot)> {
    match name {
        "batches.meta.txt" => return Some((Format::Binary, Slot::Meta)),
        "batches.meta" => return Some((Format::Python, Slot::Meta)),
        _ => {}
    }
    let (stem, format) = match name.strip_suffix(".bin") {
        Some(stem) => (stem, Format::Binary),
        None => (name, Format::Python),
    };
    if stem == "test_batch" {
        return Some((format, Slot::Test));
    }
    let number = stem.strip_prefix("data_batch_")?;
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    Some((format, Slot::Train(number.parse().ok().filter(|_| plain)?)))
}

/// Batches as they arrive, in any order.
pub(super) struct Batches<'a> {
    /// The folder or archive, for messages.
    root: &'a Path,
    format: Option<Format>,
    /// Training batches 1 to `next − 1`, in order.
    train: Split,
    next: u32,
    /// Training batches that came early: in an archive they may have any order.
    early: BTreeMap<u32, Split>,
    sizes: BTreeMap<u32, usize>,
    test: Option<Split>,
    classes: Option<Vec<String>>,
}

impl<'a> Batches<'a> {
    pub(super) fn new(root: &'a Path) -> Self {
        Self {
            root,
            format: None,
            train: Split::default(),
            next: 1,
            early: BTreeMap::new(),
            sizes: BTreeMap::new(),
            test: None,
            classes: None,
        }
    }

    /// Reads the file `name` inside the root, if it is part of a layout; others (`readme.html`) are left alone.
    pub(super) fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), DataError> {
        let file = name.rsplit('/').next().unwrap_or(name);
        let Some((format, slot)) = slot(file) else { return Ok(()) };
        let place = self.root.join(name).display().to_string();
        if self.format.is_some_and(|seen| seen != format) {
            return Err(DataError::layout(
                self.root,
                format!(
                    "holds binary batches and Python pickles ({name}); keep one of the two, they are the same images"
                ),
            ));
        }
        self.format = Some(format);
        if slot == Slot::Meta {
            let classes = match format {
                Format::Binary => binary::class_names(&place, bytes)?,
                Format::Python => python::class_names(&place, bytes)?,
            };
            if classes.len() != CIFAR10_CLASSES.len() {
                return Err(DataError::content(place, format!("names {} classes; the layout has 10", classes.len())));
            }
            self.classes = Some(classes);
            return Ok(());
        }
        let split = match format {
            Format::Binary => binary::parse(&place, bytes)?,
            Format::Python => python::parse(&place, bytes)?,
        };
        let twice = match slot {
            Slot::Train(number) if number == 0 || number > TRAIN => {
                return Err(DataError::layout(
                    self.root,
                    format!("holds {name}; the layout has training batches 1 to {TRAIN}"),
                ));
            }
            Slot::Train(number) => {
                let twice = self.sizes.insert(number, split.len()).is_some();
                self.early.insert(number, split);
                twice
            }
            _ => self.test.replace(split).is_some(),
        };
        if twice {
            return Err(DataError::layout(self.root, format!("holds {file} twice; which one is meant?")));
        }
        self.append_what_is_next();
        Ok(())
    }

    fn append_what_is_next(&mut self) {
        while let Some(split) = self.early.remove(&self.next) {
            if self.next == 1 {
                // one allocation: a full set is held once
                self.train.labels.reserve_exact(split.labels.len() * TRAIN as usize);
                self.train.pixels.reserve_exact(split.pixels.len() * TRAIN as usize);
            }
            self.train.labels.extend_from_slice(&split.labels);
            self.train.pixels.extend_from_slice(&split.pixels);
            self.next += 1;
        }
    }

    /// The set, once all files were added.
    pub(super) fn finish(self, progress: &dyn Progress) -> Result<Records, DataError> {
        let suffix = if self.format == Some(Format::Binary) { ".bin" } else { "" };
        let missing = (1..=TRAIN)
            .filter(|number| !self.sizes.contains_key(number))
            .map(|number| format!("data_batch_{number}{suffix}"))
            .chain(self.test.is_none().then(|| format!("test_batch{suffix}")))
            .collect::<Vec<_>>();
        let Some(test) = self.test.filter(|_| missing.is_empty()) else {
            return Err(DataError::layout(
                self.root,
                format!("lacks {} of the official layout's six batches; unpack the archive again", missing.join(", ")),
            ));
        };
        let largest = self.sizes.values().max().copied().unwrap_or(0);
        if let Some((number, size)) = self.sizes.iter().find(|(_, size)| **size != largest) {
            progress.warn(&format!(
                "{}: data_batch_{number}{suffix} has {size} images, another batch {largest}: was it cut short?",
                self.root.display()
            ));
        }
        let classes = self.classes.unwrap_or_else(|| CIFAR10_CLASSES.map(str::to_owned).to_vec());
        Ok(Records { classes, train: self.train, test })
    }
}

/// Reads the batches that lie in the folder `root`.
pub(super) fn read_folder(root: &Path, format: Format, progress: &dyn Progress) -> Result<Records, DataError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(DataError::io(root, "listing the folder"))? {
        let entry = entry.map_err(DataError::io(root, "listing the folder"))?;
        names.extend(
            entry.file_name().to_str().filter(|name| slot(name).is_some_and(|(f, _)| f == format)).map(str::to_owned),
        );
    }
    names.sort_unstable(); // in order, so that no batch has to wait in memory
    progress.start(&format!("reading {}", root.display()), Some(names.len() as u64));
    let mut batches = Batches::new(root);
    let read = names.iter().try_for_each(|name| {
        let path = root.join(name);
        let size = std::fs::metadata(&path).map_err(DataError::io(&path, "looking at the file"))?.len();
        if size > LARGEST_FILE {
            return Err(too_large(&path.display().to_string(), size));
        }
        batches.add(name, &std::fs::read(&path).map_err(DataError::io(&path, "reading"))?)?;
        progress.advance(1);
        Ok(())
    });
    progress.finish();
    read?;
    batches.finish(progress)
}

/// The refusal of a file that can't be a batch.
pub(super) fn too_large(place: &str, size: u64) -> DataError {
    DataError::content(place, format!("is {size} bytes; no batch is larger than {LARGEST_FILE} (official: 31 MB)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Silent;

    fn record(label: u8) -> Vec<u8> {
        [vec![label], vec![label; 3072]].concat()
    }

    #[test]
    fn official_names_are_told_apart() {
        assert_eq!(slot("data_batch_3.bin"), Some((Format::Binary, Slot::Train(3))));
        assert_eq!(slot("data_batch_12"), Some((Format::Python, Slot::Train(12))));
        assert_eq!(slot("test_batch"), Some((Format::Python, Slot::Test)));
        assert_eq!(slot("batches.meta.txt"), Some((Format::Binary, Slot::Meta)));
        for other in ["readme.html", "data_batch_", "data_batch_1.bin.part", "data_batch_+1", "data_batch_99999999999"]
        {
            assert_eq!(slot(other), None, "{other}");
        }
    }

    #[test]
    fn batches_may_come_in_any_order() {
        let mut batches = Batches::new(Path::new("x"));
        for name in ["data_batch_4.bin", "test_batch.bin", "data_batch_1.bin", "data_batch_5.bin", "data_batch_3.bin"] {
            let number = name.bytes().find(u8::is_ascii_digit).map_or(0, |digit| digit - b'0');
            batches.add(name, &record(number)).expect("a record");
        }
        batches.add("a/data_batch_2.bin", &record(2)).expect("a record");
        let records = batches.finish(&Silent).expect("six batches");
        assert_eq!((records.train.labels, records.test.labels), (vec![1, 2, 3, 4, 5], vec![0]));
    }

    #[test]
    fn missing_double_extra_and_mixed_batches_are_named() {
        let mut batches = Batches::new(Path::new("x"));
        batches.add("data_batch_1.bin", &record(1)).expect("a record");
        let text = batches.add("again/data_batch_1.bin", &record(1)).expect_err("twice").to_string();
        assert!(text.contains("data_batch_1.bin twice"), "{text}");
        let text = batches.add("data_batch_6.bin", &record(1)).expect_err("six").to_string();
        assert!(text.contains("data_batch_6.bin"), "{text}");
        let text = batches.add("test_batch", &[]).expect_err("mixed").to_string();
        assert!(text.contains("binary batches and Python pickles"), "{text}");
        let text = batches.finish(&Silent).expect_err("missing").to_string();
        assert!(text.contains("lacks data_batch_2.bin, data_batch_3.bin"), "{text}");
        assert!(text.contains("test_batch.bin"), "{text}");
    }
}
