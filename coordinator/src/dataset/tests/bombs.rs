//! Small files that become large ones: each took memory or time beyond all proportion.

use lockstep_fuzz::Bound;
use tar::EntryType;

use super::*;
use crate::dataset::{archive, python};

/// A dict with the list or tuple that `fill` makes of memo 0, a string of `length` bytes.
fn pickle(length: u32, count: usize, fill: &[u8], end: &[u8]) -> Vec<u8> {
    let text = [&b"\x80\x02X"[..], &length.to_le_bytes(), &vec![b'a'; length as usize], b"q\x000"].concat();
    [&text[..], fill, &b"h\x00".repeat(count), end].concat()
}

#[test]
fn one_string_a_hundred_thousand_times() {
    // 400 KB of file were 20 GB of class names
    let names = pickle(200_000, 100_000, b"}U\x0blabel_names](", b"es.");
    let bound = Bound { each: 512, constant: 1 << 16 };
    let text = bound.hold(names.len(), || python::class_names("batches.meta", &names)).expect_err("many").to_string();
    assert!(text.contains("label_names has 100000 entries; at most 10"), "{text}");
    let names = pickle(200_000, 10, b"}U\x0blabel_names](", b"es.");
    let text = bound.hold(names.len(), || python::class_names("batches.meta", &names)).expect_err("long").to_string();
    assert!(text.contains("a name of 200000 bytes; at most 256"), "{text}");
}

#[test]
fn an_array_with_ten_thousand_axes() {
    // 20 KB of file were a copy of 80 KB with each array that followed
    let axes = [&b"\x80\x02("[..], &b"K\x01".repeat(10_000), b"tq\x00cnumpy\ndtype\nU\x02u1\x85Rq\x01"].concat();
    let array = b"cnumpy.core.numeric\n_frombuffer\n(C\x01ah\x01h\x00U\x01CtR";
    let bytes = [&axes[..], &array.repeat(1000), b"."].concat();
    let bound = Bound { each: 512, constant: 1 << 16 };
    let text = bound.hold(bytes.len(), || python::parse("data_batch_1", &bytes)).expect_err("refused").to_string();
    assert!(text.contains("an array has 10000 axes; NumPy's have at most 64"), "{text}");
}

#[test]
fn as_many_labels_as_a_file_has_bytes() {
    // an image, and a million labels of a byte, which were eight each before they were counted
    let shape = |n: u32, axes: &[u8]| [&b"J"[..], &n.to_le_bytes(), axes].concat();
    let array = |n: u32, axes: &[u8], bytes: usize| {
        let data = [&b"B"[..], &(bytes as u32).to_le_bytes(), &vec![1; bytes]].concat();
        [
            b"cnumpy.core.numeric\n_frombuffer\n(",
            &data[..],
            b"cnumpy\ndtype\nU\x02u1\x85R",
            &shape(n, axes),
            b"U\x01CtR",
        ]
        .concat()
    };
    let (images, labels) = (array(1, b"M\x00\x0c\x86", 3072), array(1_000_000, b"\x85", 1_000_000));
    let bytes = [&b"\x80\x02}(U\x04data"[..], &images, b"U\x06labels", &labels, b"u."].concat();
    let bound = Bound { each: 4, constant: 1 << 17 };
    let text = bound.hold(bytes.len(), || python::parse("data_batch_1", &bytes)).expect_err("refused").to_string();
    assert!(text.contains("has 1000000 labels and 1 images"), "{text}");
}

#[test]
fn a_name_of_a_hundred_million_bytes_in_an_archive_of_some_kilobytes() {
    let folder = tempfile::tempdir().expect("temporary");
    let path = folder.path().join("a.tar.gz");
    let zeros = vec![0; 100 << 20];
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        archive_of(&path, &[("long", kind, &zeros)]);
        let length = fs::metadata(&path).expect("written").len() as usize;
        assert!(length < 1 << 20, "{length} bytes");
        let bound = Bound { each: 0, constant: 2 << 20 };
        let text = bound.hold(length, || archive::read(&path, &Silent)).expect_err("refused").to_string();
        assert!(text.contains("headers have more than 262144 bytes"), "{text}");
    }
}

#[test]
fn an_entry_that_would_take_an_hour_to_pass_over() {
    let folder = tempfile::tempdir().expect("temporary");
    let path = folder.path().join("a.tar");
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..6].copy_from_slice(b"readme");
    header.set_size(1 << 40);
    header.set_cksum();
    fs::write(&path, header.as_bytes()).expect("written");
    let text = archive::read(&path, &Silent).expect_err("refused").to_string();
    assert!(text.contains("holds 1099511627776 bytes or more; at most 3221225472"), "{text}");
}
