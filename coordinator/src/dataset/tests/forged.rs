//! Parquet files made by hand, field by field: sound ones, and such as say what no writer would.

use lockstep_fuzz::{cases, numbers};
use proptest::prelude::*;

use super::fuzz::read_parquet;
use super::*;

/// A struct of Thrift's compact protocol on its way to bytes.
#[derive(Default)]
struct Struct {
    bytes: Vec<u8>,
    last: u8,
}

fn varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

impl Struct {
    fn header(mut self, field: u8, kind: u8) -> Self {
        self.bytes.push((field - self.last) << 4 | kind);
        self.last = field;
        self
    }

    fn int(self, field: u8, number: i64) -> Self {
        let mut this = self.header(field, 6);
        varint(((number << 1) ^ (number >> 63)) as u64, &mut this.bytes);
        this
    }

    fn binary(self, field: u8, data: &[u8]) -> Self {
        let mut this = self.header(field, 8);
        varint(data.len() as u64, &mut this.bytes);
        this.bytes.extend_from_slice(data);
        this
    }

    fn inner(self, field: u8, inner: Self) -> Self {
        let mut this = self.header(field, 12);
        this.bytes.extend(inner.end());
        this
    }

    fn list(self, field: u8, kind: u8, items: &[Vec<u8>]) -> Self {
        let mut this = self.header(field, 9);
        this.bytes.push(0xf0 | kind);
        varint(items.len() as u64, &mut this.bytes);
        this.bytes.extend(items.concat());
        this
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

/// What a file says of its two columns. The default is sound: two images and their labels.
#[derive(Clone, Debug)]
struct Forged {
    /// Of the root, and of a group around the images, if there is one.
    children: i64,
    around: Option<i64>,
    /// Uncompressed, Snappy, …
    codec: i64,
    values: i64,
    rows: i64,
    encoding: i64,
    /// None: what they are.
    uncompressed: Option<i64>,
    compressed: Option<i64>,
    chunk: Option<i64>,
    offset: Option<i64>,
    /// Entries of a dictionary page before the images' page.
    dictionary: Option<i64>,
    /// Row groups, all of the same bytes.
    groups: usize,
    /// Images and labels that are there.
    images: usize,
}

impl Default for Forged {
    fn default() -> Self {
        Self {
            children: 2,
            around: None,
            codec: 0,
            values: 2,
            rows: 2,
            encoding: 0,
            uncompressed: None,
            compressed: None,
            chunk: None,
            offset: None,
            dictionary: None,
            groups: 1,
            images: 2,
        }
    }
}

impl Forged {
    fn bytes(&self) -> Vec<u8> {
        let mut png = std::io::Cursor::new(Vec::new());
        ::image::RgbImage::new(32, 32).write_to(&mut png, ::image::ImageFormat::Png).expect("memory");
        let png = png.into_inner();
        let image = [&(png.len() as u32).to_le_bytes()[..], &png].concat();
        let mut file = b"PAR1".to_vec();
        let images =
            self.chunk(&mut file, &image.repeat(self.images), self.dictionary.map(|entries| (entries, &image[..])));
        let numbers: Vec<_> = (0..self.images as i64).map(|i| (3 + i % 7).to_le_bytes()).collect();
        let labels = self.chunk(&mut file, &numbers.concat(), None);

        let name = |name: &str| Struct::default().binary(4, name.as_bytes());
        let leaf = |kind: i64, name: &str| Struct::default().int(1, kind).int(3, 0).binary(4, name.as_bytes()).end();
        let mut schema = vec![name("schema").int(5, self.children).end()];
        schema.extend(self.around.map(|children| Struct::default().int(3, 0).binary(4, b"img").int(5, children).end()));
        schema.extend([leaf(6, if self.around.is_some() { "bytes" } else { "image" }), leaf(2, "label")]);
        let column = |kind: i64, path: &[&str], (start, length): (usize, usize)| {
            let path: Vec<_> = path.iter().map(|part| [&[part.len() as u8], part.as_bytes()].concat()).collect();
            let length = self.chunk.unwrap_or(length as i64);
            let meta = Struct::default().int(1, kind).list(2, 5, &[vec![0]]).list(3, 8, &path).int(4, self.codec);
            let meta =
                meta.int(5, self.values).int(6, length).int(7, length).int(9, self.offset.unwrap_or(start as i64));
            Struct::default().int(2, start as i64).inner(3, meta).end()
        };
        let path = if self.around.is_some() { &["img", "bytes"][..] } else { &["image"] };
        let columns = [column(6, path, images), column(2, &["label"], labels)];
        let group = Struct::default().list(1, 12, &columns).int(2, 100).int(3, self.rows).end();
        let footer =
            Struct::default().int(1, 2).list(2, 12, &schema).int(3, self.rows).list(4, 12, &vec![group; self.groups]);
        let footer = footer.end();
        file.extend(&footer);
        file.extend((footer.len() as u32).to_le_bytes());
        file.extend(b"PAR1");
        file
    }

    /// Appends a column's pages; where they are.
    fn chunk(&self, file: &mut Vec<u8>, data: &[u8], dictionary: Option<(i64, &[u8])>) -> (usize, usize) {
        let start = file.len();
        let page = |kind: i64, data: &[u8]| {
            let length = data.len() as i64;
            let sizes = (self.uncompressed.unwrap_or(length), self.compressed.unwrap_or(length));
            Struct::default().int(1, kind).int(2, sizes.0).int(3, sizes.1)
        };
        if let Some((entries, data)) = dictionary {
            file.extend(page(2, data).inner(7, Struct::default().int(1, entries).int(2, 0)).end());
            file.extend_from_slice(data);
        }
        let inner = Struct::default().int(1, self.values).int(2, self.encoding).int(3, 3).int(4, 3);
        file.extend(page(0, data).inner(5, inner).end());
        file.extend_from_slice(data);
        (start, file.len() - start)
    }

    /// Reads it as the training part of a set.
    fn read(&self) -> Result<Records, DataError> {
        read_parquet(&self.bytes())
    }
}

fn small_or_wild() -> impl Strategy<Value = i64> {
    prop_oneof![2 => 0..10_i64, 1 => numbers().prop_map(|n| n as i64), 1 => -3..0_i64]
}

fn files() -> impl Strategy<Value = Forged> {
    let maybe = || prop::option::weighted(0.15, small_or_wild());
    let wrong = |right: i64| prop_oneof![6 => Just(right), 1 => small_or_wild()];
    (
        (wrong(2), prop::option::weighted(0.3, wrong(1)), prop_oneof![3 => Just(0_i64), 2 => Just(1), 1 => 0..9_i64]),
        (wrong(2), wrong(2), prop_oneof![4 => Just(0_i64), 2 => 0..11_i64, 1 => small_or_wild()]),
        (maybe(), maybe(), maybe(), maybe()),
        (prop::option::weighted(0.3, wrong(1)), prop_oneof![6 => Just(1_usize), 1 => 0..4_usize]),
    )
        .prop_map(
            |(
                (children, around, codec),
                (values, rows, encoding),
                (uncompressed, compressed, chunk, offset),
                (dictionary, groups),
            )| {
                Forged {
                    children,
                    around,
                    codec,
                    values,
                    rows,
                    encoding,
                    uncompressed,
                    compressed,
                    chunk,
                    offset,
                    dictionary,
                    groups,
                    images: 2,
                }
            },
        )
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn fuzz_forged_parquet(file in files()) {
        drop(file.read());
    }
}

#[test]
fn what_is_made_by_hand_is_read() {
    let records = Forged::default().read().expect("sound");
    assert_eq!((records.train.labels, records.train.pixels), (vec![3, 4], vec![0; 2 * PIXELS]));
    let around = Forged { around: Some(1), ..Default::default() };
    assert_eq!(around.read().expect("sound").train.labels, [3, 4]);
}

/// Each made the Parquet library ask for more memory than a machine has, which ends a process, or work for hours.
#[test]
fn files_that_ask_for_more_than_they_hold() {
    let sound = Forged::default;
    for (file, words) in [
        (Forged { children: i64::from(i32::MAX), ..sound() }, ["a group of 2147483647", "at most 1000"]),
        (
            Forged { uncompressed: Some(i64::from(i32::MAX)), codec: 1, ..sound() },
            ["become 2147483647", "column image"],
        ),
        (Forged { dictionary: Some(i64::from(i32::MAX)), ..sound() }, ["2147483647 entries", "column image"]),
        (Forged { encoding: 6, ..sound() }, ["encoding 6", "plain values"]),
        (Forged { encoding: 8, ..sound() }, ["numbers of a dictionary", "column image"]),
        (Forged { compressed: Some(1 << 20), ..sound() }, ["it has 1048576 bytes", "are left"]),
        (
            Forged { groups: 2000, images: 100, values: 100, ..sound() },
            ["more than", "images, which a file of this size can't hold"],
        ),
        (Forged { groups: 20_000, ..sound() }, ["its footer has", "at most 1048576"]),
    ] {
        let text = file.read().expect_err("refused").to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    }
}
