//! One file of CIFAR-10's binary layout: records of a label byte and 3,072 pixel bytes
//! (<https://www.cs.toronto.edu/~kriz/cifar.html>, "Binary version").

use lockstep_proto::records::{PIXELS, Split};

use super::DataError;
use super::known::CIFAR10_CLASSES;

const RECORD: usize = 1 + PIXELS;

/// Bytes of a class's name: as many as the canonical file allows.
const LONGEST_NAME: usize = 256;

/// Splits `bytes` of the file `place` into labels and pixels. Any number of records will do; labels are 0 to 9.
pub(super) fn parse(place: &str, bytes: &[u8]) -> Result<Split, DataError> {
    let rest = bytes.len() % RECORD;
    if bytes.is_empty() || rest != 0 {
        let whole = bytes.len() / RECORD;
        return Err(DataError::content(
            place,
            format!(
                "{} bytes are {whole} records and {rest} bytes; a batch is whole records of {RECORD} bytes (the official \
                 files have 10000): the file is cut short or no batch; get it again",
                bytes.len()
            ),
        ));
    }
    let count = bytes.len() / RECORD;
    let mut split = Split { pixels: Vec::with_capacity(count * PIXELS), labels: Vec::with_capacity(count) };
    for (at, record) in bytes.chunks_exact(RECORD).enumerate() {
        if record[0] > 9 {
            return Err(DataError::content(place, format!("record {at} has label {}; labels are 0 to 9", record[0])));
        }
        split.labels.push(record[0]);
        split.pixels.extend_from_slice(&record[1..]);
    }
    Ok(split)
}

/// The class names in `batches.meta.txt`, one a line.
pub(super) fn class_names(place: &str, bytes: &[u8]) -> Result<Vec<String>, DataError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DataError::content(place, "is not UTF-8 text"))?;
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let (count, longest) = (lines().count(), lines().map(str::len).max().unwrap_or(0));
    // before they are copied: a line of one letter is two bytes of the file, and some 50 as a string
    if count > CIFAR10_CLASSES.len() || longest > LONGEST_NAME {
        let most = CIFAR10_CLASSES.len();
        return Err(DataError::content(
            place,
            format!(
                "has {count} lines, the longest of {longest} bytes; it holds {most} names of at most {LONGEST_NAME}"
            ),
        ));
    }
    Ok(lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_labels_and_planes() {
        let mut bytes = vec![9];
        bytes.extend((0..PIXELS).map(|i| (i % 256) as u8));
        bytes.push(3);
        bytes.extend([7; PIXELS]);
        let split = parse("a.bin", &bytes).expect("two records");
        assert_eq!(split.labels, [9, 3]);
        assert_eq!(split.image(0)[..3], [0, 1, 2]);
        assert_eq!(split.image(1), [7; PIXELS]);
    }

    #[test]
    fn class_names_are_few_and_short() {
        assert_eq!(class_names("m", b"ant\n\n bee \n").expect("two names"), ["ant", "bee"]);
        let text = class_names("m", &b"a\n".repeat(5000)).expect_err("many").to_string();
        assert!(text.contains("has 5000 lines") && text.contains("10 names"), "{text}");
        let text = class_names("m", &[b'a'; 300]).expect_err("long").to_string();
        assert!(text.contains("the longest of 300 bytes"), "{text}");
    }

    #[test]
    fn a_cut_file_and_a_label_of_ten_are_named_with_their_numbers() {
        let text = parse("a.bin", &[0; 3073 + 100]).expect_err("cut").to_string();
        assert!(text.contains("a.bin") && text.contains("3173 bytes are 1 records and 100 bytes"), "{text}");
        let mut bytes = vec![0; 3 * 3073];
        bytes[2 * 3073] = 10;
        let text = parse("a.bin", &bytes).expect_err("label").to_string();
        assert!(text.contains("record 2 has label 10; labels are 0 to 9"), "{text}");
        assert!(parse("a.bin", &[]).is_err());
    }
}
