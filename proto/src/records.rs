//! Labelled 32×32 colour images in memory, and the one byte format that cache files and workers read them in.
//!
//! ```text
//! "LSDATA1\n"                                 8 bytes
//! classes                                     u32 little-endian, 1 to 256
//!   each: length, name                        u32 (1 to 256), UTF-8
//! training images, test images                u64, u64
//! training labels, training pixels            n bytes, n × 3072 bytes
//! test labels, test pixels                    n bytes, n × 3072 bytes
//! BLAKE3 of everything above                  32 bytes
//! ```

use std::io::{self, Read, Write};

/// Bytes of one image: the red, the green and the blue plane, each 32 rows of 32.
pub const PIXELS: usize = 3 * 32 * 32;
/// What a file of records begins with.
pub const MAGIC: &[u8; 8] = b"LSDATA1\n";
/// Labels are one byte.
const MOST_CLASSES: u32 = 256;
/// Longer names than this are damage, not names.
const LONGEST_NAME: u32 = 256;
const CHECKSUM: usize = 32;

/// The examples of one split, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// [`PIXELS`] bytes an example.
    pub pixels: Vec<u8>,
    /// One class number an example.
    pub labels: Vec<u8>,
}

impl Split {
    /// The number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The pixels of example `at`: `[channel][row][column]`. Panics past the end, as slices do.
    #[must_use]
    pub fn image(&self, at: usize) -> &[u8] {
        &self.pixels[at * PIXELS..(at + 1) * PIXELS]
    }

    fn feed(&self, hash: &mut blake3::Hasher) {
        hash.update(&(self.len() as u64).to_le_bytes());
        hash.update(&self.labels);
        hash.update(&self.pixels);
    }
}

/// Both splits and what the class numbers mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    pub classes: Vec<String>,
    pub train: Split,
    pub test: Split,
}

/// Why bytes are not records.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    #[error("does not begin with \"LSDATA1\": not a file of records")]
    Magic,
    #[error("is {found} bytes long; its header asks for {wanted}")]
    Length { found: u64, wanted: u64 },
    #[error("has {found} {what}; the format allows 1 to {most}")]
    Count { what: &'static str, found: u32, most: u32 },
    #[error("has a class name that is not UTF-8")]
    Name,
    #[error("{split} example {at} has label {label}; there are {classes} classes, numbered from 0")]
    Label { split: &'static str, at: usize, label: u8, classes: usize },
    #[error("{split} split has {pixels} bytes of pixels and {labels} labels; an image is 3072 bytes")]
    Shape { split: &'static str, pixels: usize, labels: usize },
    #[error("checksum differs: some bytes changed since it was written")]
    Checksum,
    #[error("cannot be read or written: {0}")]
    Io(#[from] io::Error),
}

/// BLAKE3 over the labels and pixels of both splits, as 64 hexadecimal digits. Class names do not count: one set of
/// images has one hash, whatever layout it came in.
#[must_use]
pub fn hash(train: &Split, test: &Split) -> String {
    let mut hash = blake3::Hasher::new_derive_key("lockstep v1 records");
    train.feed(&mut hash);
    test.feed(&mut hash);
    hash.finalize().to_hex().to_string()
}

/// Checks that pixels fit labels and labels fit `classes`.
pub fn check(classes: &[String], train: &Split, test: &Split) -> Result<(), RecordsError> {
    bounded("classes", classes.len() as u64, MOST_CLASSES)?;
    for name in classes {
        bounded("bytes in a class name", name.len() as u64, LONGEST_NAME)?;
    }
    for (name, split) in [("training", train), ("test", test)] {
        if split.labels.len().checked_mul(PIXELS) != Some(split.pixels.len()) {
            return Err(RecordsError::Shape { split: name, pixels: split.pixels.len(), labels: split.labels.len() });
        }
        if let Some(at) = split.labels.iter().position(|&label| usize::from(label) >= classes.len()) {
            return Err(RecordsError::Label { split: name, at, label: split.labels[at], classes: classes.len() });
        }
    }
    Ok(())
}

/// Writes the format above. Nothing is copied, so a full set needs no second 184 MB.
pub fn write(classes: &[String], train: &Split, test: &Split, out: &mut impl Write) -> Result<(), RecordsError> {
    check(classes, train, test)?;
    let mut header = MAGIC.to_vec();
    header.extend((classes.len() as u32).to_le_bytes());
    for name in classes {
        header.extend((name.len() as u32).to_le_bytes());
        header.extend(name.as_bytes());
    }
    header.extend((train.len() as u64).to_le_bytes());
    header.extend((test.len() as u64).to_le_bytes());
    let mut hash = blake3::Hasher::new();
    for part in [&header, &train.labels, &train.pixels, &test.labels, &test.pixels] {
        hash.update(part);
        out.write_all(part)?;
    }
    out.write_all(hash.finalize().as_bytes())?;
    Ok(())
}

impl Records {
    /// See [`hash`].
    #[must_use]
    pub fn hash(&self) -> String {
        hash(&self.train, &self.test)
    }

    /// The whole format as bytes.
    pub fn encode(&self) -> Result<Vec<u8>, RecordsError> {
        let mut out = Vec::with_capacity(self.train.pixels.len() + self.test.pixels.len() + (1 << 17));
        write(&self.classes, &self.train, &self.test, &mut out)?;
        Ok(out)
    }

    /// Reads what [`Records::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordsError> {
        Self::read(&mut { bytes }, bytes.len() as u64)
    }

    /// Reads `length` bytes, the whole of a file or of a message. No allocation exceeds `length`: the header's counts are
    /// held against it first.
    pub fn read(input: &mut impl Read, length: u64) -> Result<Self, RecordsError> {
        let mut input = Checked { input, left: length, length, hash: blake3::Hasher::new() };
        if length < MAGIC.len() as u64 || &input.array::<8>()? != MAGIC {
            return Err(RecordsError::Magic);
        }
        let count = bounded("classes", u64::from(u32::from_le_bytes(input.array()?)), MOST_CLASSES)?;
        let mut classes = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let long = u64::from(u32::from_le_bytes(input.array()?));
            let name = input.bytes(u64::from(bounded("bytes in a class name", long, LONGEST_NAME)?))?;
            classes.push(String::from_utf8(name).map_err(|_| RecordsError::Name)?);
        }
        let counts = [u64::from_le_bytes(input.array()?), u64::from_le_bytes(input.array()?)];
        let body = counts[0].checked_add(counts[1]).and_then(|n| n.checked_mul(1 + PIXELS as u64));
        let wanted = body.and_then(|n| n.checked_add(length - input.left + CHECKSUM as u64)).unwrap_or(u64::MAX);
        if wanted != length {
            return Err(RecordsError::Length { found: length, wanted });
        }
        let mut split = |n: u64| -> Result<Split, RecordsError> {
            let labels = input.bytes(n)?;
            Ok(Split { pixels: input.bytes(n * PIXELS as u64)?, labels })
        };
        let (train, test) = (split(counts[0])?, split(counts[1])?);
        let expected = input.hash.finalize();
        if expected != blake3::Hash::from_bytes(input.array()?) {
            return Err(RecordsError::Checksum);
        }
        check(&classes, &train, &test)?;
        Ok(Self { classes, train, test })
    }
}

/// `found` if it is 1 to `most`.
fn bounded(what: &'static str, found: u64, most: u32) -> Result<u32, RecordsError> {
    let found = u32::try_from(found).unwrap_or(u32::MAX);
    if (1..=most).contains(&found) { Ok(found) } else { Err(RecordsError::Count { what, found, most }) }
}

/// Hashes what it reads and never reads, nor allocates, past the announced length.
struct Checked<'a, R> {
    input: &'a mut R,
    left: u64,
    length: u64,
    hash: blake3::Hasher,
}

impl<R: Read> Checked<'_, R> {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RecordsError> {
        let found = self.length;
        let needed = bytes.len() as u64;
        self.left =
            self.left.checked_sub(needed).ok_or(RecordsError::Length { found, wanted: found - self.left + needed })?;
        self.input.read_exact(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordsError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn bytes(&mut self, n: u64) -> Result<Vec<u8>, RecordsError> {
        if n > self.left {
            let found = self.length;
            return Err(RecordsError::Length { found, wanted: (found - self.left).saturating_add(n) });
        }
        let mut bytes = vec![0; n as usize];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(n: usize, step: usize) -> Split {
        Split {
            pixels: (0..n * PIXELS).map(|i| (i * step % 251) as u8).collect(),
            labels: (0..n).map(|i| (i % 2) as u8).collect(),
        }
    }

    fn records() -> Records {
        Records { classes: vec!["cat".into(), "dog".into()], train: split(3, 7), test: split(2, 5) }
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        let records = records();
        let bytes = records.encode().expect("fits");
        assert_eq!(bytes.len(), 8 + 4 + 2 * (4 + 3) + 16 + 5 * 3073 + 32);
        assert_eq!(Records::decode(&bytes).expect("own bytes"), records);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let bytes = records().encode().expect("fits");
        for at in (0..64).chain((64..bytes.len()).step_by(97)).chain([bytes.len() - 1]) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Records::decode(&flipped).is_err(), "byte {at}");
        }
        for length in (0..64).chain([bytes.len() - 1]) {
            assert!(Records::decode(&bytes[..length]).is_err(), "cut at {length}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(Records::decode(&longer), Err(RecordsError::Length { .. })));
    }

    #[test]
    fn a_huge_count_is_refused_before_memory_is_asked_for() {
        let mut bytes = records().encode().expect("fits");
        let at = 8 + 4 + 2 * 7;
        for count in [u64::MAX, u64::MAX / 3073, 1 << 50] {
            bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
            assert!(matches!(Records::decode(&bytes), Err(RecordsError::Length { .. })), "{count}");
        }
    }

    #[test]
    fn a_label_without_a_class_is_named() {
        let mut records = records();
        records.test.labels[1] = 2;
        let text = records.encode().expect_err("two classes").to_string();
        assert!(text.contains("test example 1") && text.contains("label 2"), "{text}");
    }

    #[test]
    fn the_hash_sees_each_split_and_no_name() {
        let base = records();
        let mut renamed = base.clone();
        renamed.classes[0] = "lion".into();
        assert_eq!(base.hash(), renamed.hash());
        let mut moved = base.clone();
        moved.train.labels.push(moved.test.labels.remove(0));
        let first: Vec<u8> = moved.test.pixels.drain(..PIXELS).collect();
        moved.train.pixels.extend(first);
        assert_ne!(base.hash(), moved.hash(), "the border between the splits counts");
    }
}
