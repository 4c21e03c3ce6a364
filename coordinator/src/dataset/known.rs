//! Sets that are recognised by their bytes. A name is earned here and nowhere else: nothing pretends to be CIFAR-10.

use lockstep_proto::records::{PIXELS, Records, Split};
use md5::{Digest, Md5};

use super::statistics::class_counts;

/// CIFAR-10's classes in the order of its labels.
pub const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The official archive of the binary layout, by the data set's authors.
pub(super) const OFFICIAL_URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
/// MD5 of that archive. Confirmed: the authors' page (as quoted by several repositories) and independent loaders agree.
pub(super) const BINARY_ARCHIVE_MD5: &str = "c32a1d4ab5d03f1284b67883e8d87530";

/// MD5 of `data_batch_1.bin` to `data_batch_5.bin`. Confirmed by two independent loaders (one CMake, one Go), not by the
/// authors, who publish only the archive's.
const OFFICIAL_TRAIN: [&str; 5] = [
    "5dd7e06a14cb22eb9f671a540d1b7c25",
    "5ea93a67294ea407fff1d09f752e9692",
    "942cd6a4bcdd0dd3c604fbe906cb4421",
    "ae636b3ba5c66a11e91e8cb52e771fcb",
    "53f37980c15c3d472c316c40844f3f0d",
];
/// MD5 of `test_batch.bin`, as confirmed as the five above.
const OFFICIAL_TEST: &str = "803d5f7f4d78ea53de84dbe85f74fb6d";

/// Images in each official file.
const BATCH: usize = 10_000;

/// Other sets and the hash of their records.
const OTHERS: [(&str, &str); 2] = [
    // all of CIFAR-10 in its official split, JPEG-compressed once: accuracies are a little lower
    ("cifar10-jpeg", "cb544f73a9ad4970cb2e6ca05d7ee33e3ce2ff218e86f7aae8be0e7d17b42cb1"),
    ("builtin", super::builtin::DEFAULT_HASH),
];

/// The name that `records` have earned, if any.
///
/// The official training images may come with the five batches in another order (some parquet copies follow the order of
/// the archive's members): then they are put in the official order, so that one set has one hash.
pub(super) fn recognise(records: &mut Records) -> Option<String> {
    if records.classes == CIFAR10_CLASSES
        && class_counts(&records.train, 10) == [5000; 10]
        && class_counts(&records.test, 10) == [1000; 10]
        && batch_md5(&records.test, 0) == OFFICIAL_TEST
    {
        let found: Vec<String> = (0..5).map(|batch| batch_md5(&records.train, batch)).collect();
        let places: Vec<usize> =
            OFFICIAL_TRAIN.iter().filter_map(|md5| found.iter().position(|other| other == md5)).collect();
        if places.len() == OFFICIAL_TRAIN.len() {
            reorder(&mut records.train, &places, BATCH);
            return Some("cifar10".to_owned());
        }
    }
    let hash = records.hash();
    OTHERS.iter().find(|(_, known)| *known == hash).map(|(name, _)| (*name).to_owned())
}

/// MD5 of examples `batch * BATCH..` as the official binary layout writes them.
fn batch_md5(split: &Split, batch: usize) -> String {
    let mut md5 = Md5::new();
    for at in batch * BATCH..(batch + 1) * BATCH {
        md5.update([split.labels[at]]);
        md5.update(split.image(at));
    }
    hex(&md5.finalize())
}

/// Makes block i what block `from[i]` was. Does nothing where that is so already.
fn reorder(split: &mut Split, from: &[usize], block: usize) {
    if from.iter().enumerate().all(|(to, &from)| to == from) {
        return;
    }
    let pick = |bytes: &[u8], size: usize| {
        from.iter().flat_map(|&at| &bytes[at * size..(at + 1) * size]).copied().collect::<Vec<u8>>()
    };
    split.labels = pick(&split.labels, block);
    split.pixels = pick(&split.pixels, block * PIXELS);
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_put_in_order_together_with_their_labels() {
        let block = |tag: u8| (vec![tag; 2], vec![tag; 2 * PIXELS]);
        let (labels, pixels): (Vec<_>, Vec<_>) = [block(3), block(1), block(2)].into_iter().unzip();
        let mut split = Split { labels: labels.concat(), pixels: pixels.concat() };
        reorder(&mut split, &[1, 2, 0], 2);
        assert_eq!(split.labels, [1, 1, 2, 2, 3, 3]);
        assert!((0..6).all(|at| split.image(at).iter().all(|&p| p == split.labels[at])));
    }

    #[test]
    fn balanced_classes_alone_earn_no_name() {
        let split = |n: usize| Split { labels: (0..n).map(|i| (i % 10) as u8).collect(), pixels: vec![0; n * PIXELS] };
        let classes = CIFAR10_CLASSES.map(str::to_owned).to_vec();
        let mut records = Records { classes, train: split(50_000), test: split(10_000) };
        assert_eq!(recognise(&mut records), None);
    }
}
