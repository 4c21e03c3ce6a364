//! Across layouts: the same images must come out of all of them, bit for bit, and damage must be named.
//! The fixtures are written by `tests/oracle/fixtures/dataset.py`, which also says which pixels they have.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;

use super::load::{Surroundings, load_from};
use super::*;

mod bombs;
mod broken;
mod forged;
mod fuzz;
mod order;
mod real;

/// Remembers what it is told.
#[derive(Default)]
struct Told(RefCell<Vec<String>>);

impl Progress for Told {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _n: u64) {}
    fn finish(&self) {}
    fn warn(&self, text: &str) {
        self.0.borrow_mut().push(text.to_owned());
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dataset").join(name)
}

/// Loads `path` as `--data PATH` does.
fn load_path(path: &Path) -> Result<Dataset, DataError> {
    let request = DataRequest { source: Source::Path(path.to_owned()), ..Default::default() };
    load_from(&request, &Surroundings { named: None, near: PathBuf::from("no such folder") }, &Silent)
}

fn unpack(archive: &Path, to: &Path) {
    let file = File::open(archive).expect("a fixture");
    tar::Archive::new(GzDecoder::new(file)).unpack(to).expect("a sound archive");
}

/// The formula of the fixture script.
fn pixel(image: usize, channel: usize, row: usize, column: usize) -> u8 {
    let mark = if row < 2 { 17 * image } else { 0 };
    ((80 * channel + 3 * row + 5 * column + row * column / 8 + mark) % 256) as u8
}

/// The images of the fixtures, from the formula.
fn expected() -> Records {
    let split = |numbers: std::ops::Range<usize>| Split {
        labels: numbers.clone().map(|i| ((3 * i + 1) % 10) as u8).collect(),
        pixels: numbers.flat_map(|i| (0..PIXELS).map(move |p| pixel(i, p / 1024, p / 32 % 32, p % 32))).collect(),
    };
    Records { classes: CIFAR10_CLASSES.map(str::to_owned).to_vec(), train: split(0..20), test: split(100..110) }
}

#[test]
fn every_layout_gives_the_same_images_and_one_hash() {
    let folder = tempfile::tempdir().expect("temporary");
    let unpacked = |archive: &str| {
        let to = folder.path().join(archive);
        unpack(&fixture(archive), &to);
        to
    };
    let plain_tar = folder.path().join("plain.tar");
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(File::open(fixture("binary.tar.gz")).expect("a fixture")), &mut tar)
        .expect("gzip");
    fs::write(&plain_tar, tar).expect("written");
    let paths = [
        fixture("binary.tar.gz"),
        unpacked("binary.tar.gz"),
        unpacked("binary.tar.gz").join("cifar-10-batches-bin"),
        plain_tar,
        fixture("python2.tar.gz"),
        unpacked("python2.tar.gz"),
        fixture("python3-numpy1.tar.gz"),
        fixture("python3-numpy2.tar.gz"),
        unpacked("python3-numpy2.tar.gz").join("cifar-10-batches-py"),
        fixture("parquet"),
        fixture("parquet/plain_text"),
        fixture("parquet-bare"),
    ];
    let expected = expected();
    for path in paths {
        let set = load_path(&path).unwrap_or_else(|e| panic!("{e}"));
        assert!(set.train == expected.train && set.test == expected.test, "{}", path.display());
        assert_eq!(set.classes, expected.classes, "{}", path.display());
        assert_eq!(set.hash(), expected.hash(), "{}", path.display());
        assert_eq!(set.name, "cifar10-like (20 train / 10 test)", "{}", path.display());
    }
}

#[test]
fn the_canonical_file_keeps_everything() {
    let folder = tempfile::tempdir().expect("temporary");
    let set = load_path(&fixture("binary.tar.gz")).expect("a fixture");
    let path = folder.path().join("set.lsdata");
    fs::write(&path, set.to_bytes().expect("fits")).expect("written");
    let again = load_path(&path).expect("own file");
    assert_eq!((again.hash(), again.classes, again.name), (set.hash(), set.classes, set.name));
}

/// Writes image `i` of the fixtures as a PNG.
fn write_png(path: &Path, image: usize) {
    let picture = ::image::RgbImage::from_fn(32, 32, |x, y| {
        ::image::Rgb(std::array::from_fn(|c| pixel(image, c, y as usize, x as usize)))
    });
    fs::create_dir_all(path.parent().expect("a folder")).expect("created");
    picture.save(path).expect("saved");
}

#[test]
fn an_image_folder_gives_sorted_classes_in_a_mixed_order() {
    let folder = tempfile::tempdir().expect("temporary");
    let at = |path: String| folder.path().join(path);
    for i in 0..30 {
        write_png(&at(format!("train/{}/{i:02}.png", ["moth", "ant"][i % 2])), i);
    }
    write_png(&at("test/moth/x.PNG".into()), 50);
    fs::write(at("train/ant/.DS_Store".into()), b"x").expect("written");
    let set = load_path(folder.path()).expect("an image folder");
    assert_eq!(set.classes, ["ant", "moth"]);
    assert!(set.name.starts_with("images:"), "{}", set.name);
    assert_eq!((set.test.labels.as_slice(), set.test.image(0)[0]), (&[1][..], pixel(50, 0, 0, 0)));
    // image i has 17 i at the first pixel and label i + 1 mod 2: pixels stayed with their labels
    let numbers: Vec<u8> = (0..30).map(|at| set.train.image(at)[0] / 17 + set.train.image(at)[0] % 17 * 15).collect();
    assert!(numbers.iter().zip(&set.train.labels).all(|(number, label)| (number + 1) % 2 == *label));
    for half in [&set.train.labels[..15], &set.train.labels[15..]] {
        assert!(half.contains(&0) && half.contains(&1), "a half lacks a class: {half:?}");
    }
    assert_eq!(set.hash(), load_path(folder.path()).expect("again").hash());
}

/// A `.tar.gz` with these entries.
fn archive_of(path: &Path, entries: &[(&str, tar::EntryType, &[u8])]) {
    let mut tar = tar::Builder::new(GzEncoder::new(File::create(path).expect("created"), Compression::fast()));
    for (name, kind, data) in entries {
        let mut header = tar::Header::new_gnu();
        // the builder refuses names that climb out: write them as an attacker does
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("data_batch_1.bin").expect("short");
        }
        header.set_cksum();
        tar.append(&header, *data).expect("appended");
    }
    tar.into_inner().expect("tar").finish().expect("gzip").flush().expect("written");
}
