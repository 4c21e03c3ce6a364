//! Every layout of images, damaged: no panic, no memory beyond a bound.

use std::sync::LazyLock;

use lockstep_fuzz::{Bound, cases, damaged, numbers};
use proptest::prelude::*;

use super::*;
use crate::dataset::batches::Batches;
use crate::dataset::{archive, binary, cache, known, parquet, pickle, picture, python};

/// A copy of the pixels, and the copies that growing takes.
const COPY: Bound = Bound { each: 4, constant: 1 << 17 };

/// An opcode is a byte and makes a value of 32 bytes, a place on the stack and one in the memo; each grows by doubling, which
/// holds three halves. A million opcodes are the most (see `machine.rs`), so that 512 MiB are too.
const PICKLE: Bound = Bound { each: 512, constant: 1 << 16 };

/// A picture has 32×32 pixels of 8 bytes at most; `picture.rs` allows the decoders 16 MiB, for tables and profiles.
const PICTURE: Bound = Bound { each: 8, constant: 16 << 20 };

/// An entry of Parquet's footer takes some 600 bytes in memory for each byte that announces it. Pages and pixels are bounded by
/// `parquet/limits.rs`; pictures as above.
const PARQUET: Bound = Bound { each: 1024, constant: 32 << 20 };

/// Reads `bytes` as the training part of a set.
pub(super) fn read_parquet(bytes: &[u8]) -> Result<Records, DataError> {
    let folder = folder();
    fs::write(folder.path().join("train.parquet"), bytes).expect("written");
    fs::copy(fixture("parquet-bare/test.parquet"), folder.path().join("test.parquet")).expect("copied");
    let (result, peak) = lockstep_fuzz::peak(|| parquet::read(folder.path(), &Silent));
    match &result {
        Ok(records) => assert_eq!(records.train.pixels.len(), records.train.labels.len() * PIXELS),
        // the library panicked, which is caught; a backtrace, if one was made, takes 80 MB
        Err(error) if error.to_string().ends_with("cannot be read as Parquet: it is damaged") => return result,
        Err(_) => {}
    }
    PARQUET.check(bytes.len(), peak);
    result
}

/// For archives, of the bytes that come out of them: headers that are held (`MOST_HEADERS`, growing), buffers, gzip's window,
/// and the batches, of which the first reserves room for five.
const ARCHIVE: Bound = Bound { each: 16, constant: 4 << 20 };

/// A folder in memory where the system has such: a million inputs are a million files.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("temporary")
}

/// The files in an archive of the fixtures whose names begin with `name`.
fn files(archive: &str, name: &str) -> Vec<Vec<u8>> {
    let file = File::open(fixture(archive)).expect("a fixture");
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let mut found = Vec::new();
    for entry in archive.entries().expect("a sound archive") {
        let mut entry = entry.expect("a sound archive");
        if entry.path().expect("a name").file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)) {
            let mut bytes = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut bytes).expect("a sound archive");
            found.push(bytes);
        }
    }
    assert!(!found.is_empty(), "no {name} there");
    found
}

/// One batch of each Python and NumPy, as small as they come, and the class names.
static PICKLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let archives = ["python2.tar.gz", "python3-numpy1.tar.gz", "python3-numpy2.tar.gz"];
    let names = ["data_batch_1", "batches.meta"];
    archives.iter().flat_map(|archive| names.iter().flat_map(move |name| files(archive, name))).collect()
});

/// PNG in each of its colours and depths that are small, JPEG with and without colour.
static PICTURES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    use ::image::{DynamicImage, GrayImage, ImageFormat, RgbImage, RgbaImage};
    let at = |x: u32, y: u32| (x * 8 + y) as u8;
    let rgb = RgbImage::from_fn(32, 32, |x, y| ::image::Rgb([at(x, y), at(y, x), 200]));
    let rgba = RgbaImage::from_fn(32, 32, |x, y| ::image::Rgba([at(x, y), at(y, x), 200, at(x, x)]));
    let gray = GrayImage::from_fn(32, 32, |x, y| ::image::Luma([at(x, y)]));
    let encode = |image: &DynamicImage, format| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("memory");
        bytes.into_inner()
    };
    let (rgb, rgba, gray) = (DynamicImage::from(rgb), DynamicImage::from(rgba), DynamicImage::from(gray));
    let deep = DynamicImage::from(rgb.to_rgb16());
    let flat = DynamicImage::from(RgbImage::new(32, 32));
    let mut all: Vec<_> =
        [&rgb, &rgba, &gray, &deep, &flat].iter().map(|image| encode(image, ImageFormat::Png)).collect();
    all.extend([&rgb, &gray, &flat].iter().map(|image| encode(image, ImageFormat::Jpeg)));
    all
});

static PARQUETS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let names =
        ["parquet-bare/test.parquet", "parquet/plain_text/test-00000-of-00001.parquet", "parquet-labels.parquet"];
    names.iter().map(|name| fs::read(fixture(name)).expect("a fixture")).collect()
});

/// Opcodes that do something, so that most programs get further than the first byte.
fn programs() -> impl Strategy<Value = Vec<u8>> {
    let names = [
        &b"cnumpy\ndtype\n"[..],
        b"cnumpy\nndarray\n",
        b"cnumpy.core.multiarray\n_reconstruct\n",
        b"cnumpy.core.multiarray\nscalar\n",
        b"cnumpy.core.numeric\n_frombuffer\n",
        b"c_codecs\nencode\n",
        b"U\x04data",
        b"U\x06labels",
        b"U\x0blabel_names",
        b"U\x02u1",
        b"U\x01C",
        b"U\x06latin1",
        b"K\x01K\x01\x86",
        b"(K\x01K\x02t",
        b"]",
        b"}",
        b")",
        b"(",
        b"N",
        b"e",
        b"u",
        b"d",
        b"t",
        b"l",
        b"R",
        b"b",
        b"s",
        b"a",
        b"0",
        b"1",
        b"\x85",
        b"\x86",
        b"\x87",
        b"\x94",
        b"q\x00",
        b"h\x00",
        b"q\x01",
        b"h\x01",
        b"\x93",
        b"\x88",
        b".",
    ];
    let piece = prop_oneof![
        12 => prop::sample::select(names.to_vec()).prop_map(<[u8]>::to_vec),
        1 => any::<u8>().prop_map(|n| vec![b'K', n]),
        1 => numbers().prop_map(|n| [&[0x8e][..], &n.to_le_bytes()].concat()),
        1 => numbers().prop_map(|n| [&[0x8a, 8][..], &n.to_le_bytes()].concat()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| [&[0x80, 2][..], &pieces.concat()].concat())
}

/// Everything that is asked of a pickle.
fn read_pickle(bytes: &[u8]) {
    PICKLE.hold(bytes.len(), || {
        if let Ok(split) = python::parse("x", bytes) {
            assert_eq!(split.pixels.len(), split.labels.len() * PIXELS);
        }
        if let Ok(names) = python::class_names("x", bytes) {
            assert!(names.len() <= 10);
        }
        if let Err(error) = pickle::load(bytes) {
            // a message is for people
            assert!(error.to_string().len() < 4000, "{error}");
        }
    });
}

/// What `bytes` are as an archive, with the number of bytes that come out, ten million at most.
fn inflated(bytes: &[u8]) -> usize {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.len();
    }
    let mut out = Vec::new();
    let _ = std::io::Read::read_to_end(
        &mut std::io::Read::take(flate2::bufread::MultiGzDecoder::new(bytes), 10_000_000),
        &mut out,
    );
    out.len()
}

fn read_archive(bytes: &[u8], inflated: usize) {
    let folder = folder();
    let path = folder.path().join("a.tar.gz");
    fs::write(&path, bytes).expect("written");
    if let Ok(records) = ARCHIVE.hold(inflated, || archive::read(&path, &Silent)) {
        assert_eq!(records.train.pixels.len(), records.train.labels.len() * PIXELS);
    }
}

/// `tar` compressed.
fn gzip(tar: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(tar).expect("memory");
    out.finish().expect("memory")
}

/// An archive's entries: any kind, any size that is announced, with sums that are right.
fn tars() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(b"0\0LKxgS5127".to_vec());
    let name =
        prop::sample::select(vec!["data_batch_1.bin", "test_batch", "a/batches.meta.txt", "../x", "/x", "readme", ""]);
    let size = prop::option::weighted(0.4, numbers());
    let content = prop_oneof![
        Just(vec![3; 3073]),
        prop::collection::vec(any::<u8>(), 0..600),
        Just(b"30 size=99999999999999999999\n19 size=18446744073709\n".to_vec()),
        Just(b"27 GNU.sparse.realsize=99999\n".to_vec()),
    ];
    prop::collection::vec((kind, name, size, content, numbers()), 0..5).prop_map(|entries| {
        let mut tar = Vec::new();
        for (kind, name, size, content, sparse) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(size.unwrap_or(content.len() as u64));
            header.set_entry_type(tar::EntryType::new(kind));
            if let Some(gnu) = header.as_gnu_mut() {
                gnu.isextended[0] = u8::from(sparse % 3 == 1);
                gnu.realsize[..8].copy_from_slice(&sparse.to_be_bytes());
                gnu.sparse[0].numbytes[..8].copy_from_slice(&sparse.to_be_bytes());
            }
            header.set_cksum();
            tar.extend_from_slice(header.as_bytes());
            tar.extend_from_slice(&content);
            tar.resize(tar.len().next_multiple_of(512), 0);
        }
        tar.resize(tar.len() + 1024, 0);
        tar
    })
}

proptest! {
    #![proptest_config(cases(4000))]

    #[test]
    fn fuzz_binary(bytes in damaged(vec![[3; 2 * 3073].to_vec(), b"ant\nbee\ncat\n".to_vec()])) {
        if let Ok(split) = COPY.hold(bytes.len(), || binary::parse("x", &bytes)) {
            prop_assert_eq!(split.pixels.len(), split.labels.len() * PIXELS);
        }
        drop(COPY.hold(bytes.len(), || binary::class_names("x", &bytes)));
    }

    #[test]
    fn fuzz_batch_names(names in prop::collection::vec("(data_batch_|test_batch|batches.meta)[0-9+]{0,11}(.bin|.txt)?", 0..8)) {
        let mut batches = Batches::new(Path::new("x"));
        for name in names {
            let _ = batches.add(&name, &[3; 3073]);
        }
        if let Ok(records) = batches.finish(&Silent) {
            prop_assert_eq!(records.train.len(), 5);
        }
    }

    #[test]
    fn fuzz_pickle_bytes(bytes in damaged(PICKLES.clone())) {
        read_pickle(&bytes);
    }

    #[test]
    fn fuzz_pickle_programs(bytes in programs()) {
        read_pickle(&bytes);
    }

    #[test]
    fn fuzz_records_cache(bytes in damaged(vec![one_image().encode().expect("fits")])) {
        let folder = folder();
        let path = folder.path().join("a.lsdata");
        fs::write(&path, &bytes).expect("written");
        drop(COPY.hold(bytes.len(), || cache::read(&path)));
    }
}

proptest! {
    // a picture takes some 100 µs, a file of them more
    #![proptest_config(cases(1000))]

    #[test]
    fn fuzz_pictures(bytes in damaged(PICTURES.clone())) {
        let mut pixels = Vec::new();
        let decoded = PICTURE.hold(bytes.len(), || picture::decode(&bytes, &mut pixels));
        prop_assert_eq!(pixels.len(), if decoded.is_ok() { PIXELS } else { 0 });
    }

    #[test]
    fn fuzz_parquet(bytes in damaged(PARQUETS.clone())) {
        drop(read_parquet(&bytes));
    }

    #[test]
    fn fuzz_archive_bytes(bytes in damaged(["binary.tar.gz", "python2.tar.gz"].map(|name| fs::read(fixture(name)).expect("a fixture")).to_vec())) {
        read_archive(&bytes, inflated(&bytes));
    }

    #[test]
    fn fuzz_archive_entries(tar in tars(), compressed in any::<bool>()) {
        let bytes = if compressed { gzip(&tar) } else { tar.clone() };
        read_archive(&bytes, tar.len());
    }
}

fn one_image() -> Records {
    let split = Split { labels: vec![1], pixels: vec![7; PIXELS] };
    Records { classes: known::CIFAR10_CLASSES.map(str::to_owned).to_vec(), train: split.clone(), test: split }
}
