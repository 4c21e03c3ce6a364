//! Bad input: each is refused with its file, its number and the rule, as the user's mistake (exit code 64).

use tar::EntryType;

use super::*;

/// The text of the refusal of `path`; it must name the path and be the user's to mend.
fn refusal(path: &Path) -> String {
    let error = load_path(path).expect_err("broken");
    assert!(error.is_users_mistake(), "{error}");
    error.to_string()
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in: {text}");
    }
}

/// The binary fixture, unpacked.
fn binary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("temporary");
    unpack(&fixture("binary.tar.gz"), folder.path());
    let path = folder.path().join("cifar-10-batches-bin");
    (folder, path)
}

#[test]
fn a_truncated_batch() {
    let (_keep, folder) = binary();
    let file = folder.join("data_batch_3.bin");
    fs::write(&file, &fs::read(&file).expect("there")[..5000]).expect("written");
    says(&refusal(&folder), &["data_batch_3.bin", "5000 bytes", "1 records and 1927 bytes", "3073"]);
}

#[test]
fn a_label_of_ten() {
    let (_keep, folder) = binary();
    let file = folder.join("test_batch.bin");
    let mut bytes = fs::read(&file).expect("there");
    bytes[3073 * 4] = 10;
    fs::write(&file, bytes).expect("written");
    says(&refusal(&folder), &["test_batch.bin", "record 4", "label 10", "0 to 9"]);
}

#[test]
fn a_missing_batch_and_one_that_is_shorter() {
    let (_keep, folder) = binary();
    let file = folder.join("data_batch_2.bin");
    fs::write(&file, &fs::read(&file).expect("there")[..3073]).expect("written");
    let told = Told::default();
    let request = DataRequest { source: Source::Path(folder.clone()), ..Default::default() };
    let around = Surroundings { named: None, near: PathBuf::new() };
    assert_eq!(load_from(&request, &around, &told).expect("whole records").train.len(), 17);
    says(&told.0.borrow().join(" "), &["data_batch_2.bin has 1 images", "another batch 4"]);
    fs::remove_file(&file).expect("removed");
    says(&refusal(&folder), &["cifar-10-batches-bin", "lacks data_batch_2.bin"]);
}

#[test]
fn folders_that_are_empty_foreign_mixed_or_absent() {
    let folder = tempfile::tempdir().expect("temporary");
    says(&refusal(folder.path()), &["empty folder", "train/<class>"]);
    fs::write(folder.path().join("notes.txt"), b"x").expect("written");
    says(&refusal(folder.path()), &["holds no data set"]);
    says(&refusal(&folder.path().join("notes.txt")), &["neither an archive"]);
    says(&refusal(&folder.path().join("nowhere")), &["nowhere", "no such file"]);
    unpack(&fixture("binary.tar.gz"), folder.path());
    unpack(&fixture("python2.tar.gz"), folder.path());
    says(&refusal(folder.path()), &["cifar-10-batches-bin (binary)", "cifar-10-batches-py (python)", "name the one"]);
    says(&refusal(&folder.path().join("cifar-10-batches-bin/test_batch.bin")), &["one part of a set"]);
}

#[test]
fn a_torchvision_folder_with_the_archive_beside_it_is_not_mixed() {
    let folder = tempfile::tempdir().expect("temporary");
    unpack(&fixture("python2.tar.gz"), folder.path());
    fs::copy(fixture("python2.tar.gz"), folder.path().join("cifar-10-python.tar.gz")).expect("copied");
    assert_eq!(load_path(folder.path()).expect("one set").train.len(), 20);
    fs::remove_dir_all(folder.path().join("cifar-10-batches-py")).expect("removed");
    assert_eq!(load_path(folder.path()).expect("the archive alone").train.len(), 20);
}

#[test]
fn archives_that_climb_out_link_or_hold_devices() {
    let folder = tempfile::tempdir().expect("temporary");
    let path = folder.path().join("a.tar.gz");
    let cases: [(&str, EntryType, &str); 7] = [
        ("../data_batch_1.bin", EntryType::Regular, "\"..\""),
        ("a/../../x", EntryType::Regular, "\"..\""),
        ("a\\..\\x", EntryType::Regular, "\"..\""),
        ("/etc/data_batch_1.bin", EntryType::Regular, "absolute"),
        ("data_batch_1.bin", EntryType::Symlink, "Symlink"),
        ("data_batch_1.bin", EntryType::Link, "Link"),
        ("data_batch_1.bin", EntryType::Char, "Char"),
    ];
    for (name, kind, word) in cases {
        archive_of(&path, &[(name, kind, b"")]);
        says(&refusal(&path), &["a.tar.gz", &name.escape_debug().to_string(), word]);
    }
}

#[test]
fn archives_that_are_cut_corrupt_or_foreign() {
    let folder = tempfile::tempdir().expect("temporary");
    let path = folder.path().join("a.tar.gz");
    let sound = fs::read(fixture("binary.tar.gz")).expect("a fixture");
    for length in [20, sound.len() / 2, sound.len() - 9, sound.len() - 1] {
        fs::write(&path, &sound[..length]).expect("written");
        says(&refusal(&path), &["a.tar.gz", "cut short"]);
    }
    // the checksum at the end is read, although tar ended before it
    let mut flipped = sound.clone();
    let at = sound.len() - 6;
    flipped[at] ^= 1;
    fs::write(&path, flipped).expect("written");
    says(&refusal(&path), &["a.tar.gz", "damaged"]);
    archive_of(&path, &[("readme.txt", EntryType::Regular, b"hello")]);
    says(&refusal(&path), &["lacks data_batch_1"]);
    archive_of(&path, &[("test_batch.bin", EntryType::Regular, &[0; 100])]);
    says(&refusal(&path), &["test_batch.bin", "100 bytes"]);
}

#[test]
fn pickles_that_call_functions() {
    let folder = tempfile::tempdir().expect("temporary");
    let calls: [(&[u8], &str); 5] = [
        (b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.", "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.", "builtins.eval"),
        (b"\x80\x02c__builtin__\ngetattr\n.", "__builtin__.getattr"),
        (b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x05\0\0\0rot13\x86R.", "other than latin1"),
        (b"\x80\x02cnumpy\nload\n.", "numpy.load"),
    ];
    for (bytes, name) in calls {
        let path = folder.path().join("test_batch");
        fs::write(&path, bytes).expect("written");
        says(&refusal(folder.path()), &["test_batch", "refused", name]);
    }
}

#[test]
fn pickles_with_wrong_contents() {
    let folder = tempfile::tempdir().expect("temporary");
    let bytes = b"U\x04data";
    let cases: [(&[u8], &str); 8] = [
        (b"\x80\x02K\x01.", "is an int; a batch is a dict"),
        (b"\x80\x02}.", "no key \"data\""),
        (b"\x80\x02}U\x04dataK\x01s.", "data is an int; an array of uint8"),
        (b"\x80\x02T\xff\xff\xff\x7fabc", "2147483647 bytes are announced and 3 are left"),
        (b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc", "are left"),
        (b"\x80\x02R.", "empty stack"),
        (b"\x80\x00.", "protocol 0"),
        (b"\x80\x02]0\x97.", "0x97"),
    ];
    assert!(cases[2].0.windows(bytes.len()).any(|w| w == bytes));
    for (bytes, what) in cases {
        fs::write(folder.path().join("test_batch"), bytes).expect("written");
        says(&refusal(folder.path()), &["test_batch", what]);
    }
}

#[test]
fn no_damage_to_a_pickle_or_parquet_file_panics() {
    // every byte of the pickle's head and tail, then samples: an error or other pixels, never a panic
    let folder = tempfile::tempdir().expect("temporary");
    unpack(&fixture("python3-numpy2.tar.gz"), folder.path());
    for batch in 1..=5 {
        let sound = fs::read(folder.path().join(format!("cifar-10-batches-py/data_batch_{batch}"))).expect("there");
        let ends = (0..400).chain(sound.len() - 500..sound.len());
        for at in ends {
            for change in [1, 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] ^= change;
                drop(python::parse("x", &bytes));
            }
            drop(python::parse("x", &sound[..at]));
        }
    }
    let copy = tempfile::tempdir().expect("temporary");
    let path = copy.path().join("train.parquet");
    fs::copy(fixture("parquet-bare/test.parquet"), copy.path().join("test.parquet")).expect("copied");
    let sound = fs::read(fixture("parquet-bare/test.parquet")).expect("a fixture");
    for at in (0..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[at] ^= [1, 0x80, 0xff][at % 3];
        fs::write(&path, &bytes).expect("written");
        drop(load_path(copy.path()));
    }
}

#[test]
fn parquet_without_the_columns_or_a_split() {
    let folder = tempfile::tempdir().expect("temporary");
    fs::copy(fixture("parquet-bare/test.parquet"), folder.path().join("train.parquet")).expect("copied");
    says(&refusal(folder.path()), &["no test*.parquet"]);
    fs::copy(fixture("parquet-foreign.parquet"), folder.path().join("test.parquet")).expect("copied");
    says(&refusal(folder.path()), &["test.parquet", "no column of images", "img.bytes", "it has a, label"]);
    fs::copy(fixture("parquet-labels.parquet"), folder.path().join("test.parquet")).expect("copied");
    says(&refusal(folder.path()), &["test.parquet", "row 2", "label 10", "10 classes"]);
}

#[test]
fn image_folders_with_wrong_files() {
    let folder = tempfile::tempdir().expect("temporary");
    let path = |name: &str| folder.path().join(name);
    write_png(&path("train/ant/1.png"), 1);
    write_png(&path("test/ant/1.png"), 1);
    load_path(folder.path()).expect("sound so far");
    ::image::RgbImage::new(28, 32).save(path("train/ant/2.png")).expect("saved");
    says(&refusal(folder.path()), &["2.png", "28×32", "32×32"]);
    fs::write(path("train/ant/2.png"), b"no image").expect("written");
    says(&refusal(folder.path()), &["2.png", "neither PNG nor JPEG"]);
    fs::rename(path("train/ant/2.png"), path("train/ant/2.gif")).expect("renamed");
    says(&refusal(folder.path()), &["2.gif", ".png"]);
    fs::remove_file(path("train/ant/2.gif")).expect("removed");
    write_png(&path("test/bee/1.png"), 1);
    says(&refusal(folder.path()), &["bee", "train/ does not have"]);
    fs::remove_dir_all(path("test/bee")).expect("removed");
    fs::remove_file(path("test/ant/1.png")).expect("removed");
    says(&refusal(folder.path()), &["the test split has no images"]);
}

#[test]
fn a_canonical_file_with_a_flipped_byte() {
    let folder = tempfile::tempdir().expect("temporary");
    let path = folder.path().join("set.lsdata");
    let mut bytes = expected().encode().expect("fits");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("written");
    says(&refusal(&path), &["set.lsdata", "checksum"]);
}
