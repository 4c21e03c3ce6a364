//! What a Parquet file may ask for, checked before its library sees it. That one believes lengths and counts in a file: a
//! wrong one makes it ask for more memory than there is, which ends the process, or call itself until the stack is full.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use super::thrift::{Kind, Shape, walk};

/// Bytes of a footer. It describes columns and row groups; the library takes up to 600 bytes for one of these. A set of a
/// million images in groups of a thousand has half of it.
const MOST_FOOTER: u64 = 1 << 20;

/// Columns and groups of them. Sets of images have two or three.
const MOST_COLUMNS: i64 = 1000;

/// Groups of columns in each other: the library calls itself for each.
const DEEPEST: usize = 16;

/// Bytes that one compressed byte may become: Snappy's longest copy has 64 bytes and takes 2.
const MOST_RATIO: u64 = 32;

/// Bytes of one page's header: it may hold the smallest and the largest value.
const MOST_HEADER: u64 = 1 << 20;

/// Bytes that an image takes in a file at least, its share of the pages included. A PNG of one colour has 75.
const SMALLEST_IMAGE: u64 = 32;

/// A few images may be one, repeated.
const FREE_IMAGES: u64 = 1024;

/// Encodings of values that allocate no more than they hold: plain, the dictionary's two names, run lengths. pyarrow and Hugging
/// Face's library write no others unless told to.
const ENCODINGS: [i64; 4] = [0, 2, 3, 8];

const EMPTY: Shape = Shape { name: "empty", fields: &[] };
const KEY_VALUE: Shape = Shape { name: "key and value", fields: &[(1, Kind::Binary), (2, Kind::Binary)] };
const UNIT: Shape =
    Shape { name: "unit", fields: &[(1, Kind::Struct(&EMPTY)), (2, Kind::Struct(&EMPTY)), (3, Kind::Struct(&EMPTY))] };
const TIME: Shape = Shape { name: "time", fields: &[(1, Kind::Bool), (2, Kind::Struct(&UNIT))] };
const DECIMAL: Shape = Shape { name: "decimal", fields: &[(1, Kind::Int), (2, Kind::Int)] };
const INTEGER: Shape = Shape { name: "integer", fields: &[(1, Kind::Byte), (2, Kind::Bool)] };
const LOGICAL: Shape = Shape {
    name: "logical type",
    fields: &[
        (1, Kind::Struct(&EMPTY)),
        (2, Kind::Struct(&EMPTY)),
        (3, Kind::Struct(&EMPTY)),
        (4, Kind::Struct(&EMPTY)),
        (5, Kind::Struct(&DECIMAL)),
        (6, Kind::Struct(&EMPTY)),
        (7, Kind::Struct(&TIME)),
        (8, Kind::Struct(&TIME)),
        (10, Kind::Struct(&INTEGER)),
        (11, Kind::Struct(&EMPTY)),
        (12, Kind::Struct(&EMPTY)),
        (13, Kind::Struct(&EMPTY)),
        (14, Kind::Struct(&EMPTY)),
        (15, Kind::Struct(&EMPTY)),
    ],
};
const COLUMN: Shape = Shape {
    name: "column",
    fields: &[
        (1, Kind::Int),
        (2, Kind::Int),
        (3, Kind::Int),
        (4, Kind::Binary),
        (CHILDREN, Kind::Int),
        (6, Kind::Int),
        (7, Kind::Int),
        (8, Kind::Int),
        (9, Kind::Int),
        (10, Kind::Struct(&LOGICAL)),
    ],
};
const STATISTICS: Shape = Shape {
    name: "statistics",
    fields: &[
        (1, Kind::Binary),
        (2, Kind::Binary),
        (3, Kind::Int),
        (4, Kind::Int),
        (5, Kind::Binary),
        (6, Kind::Binary),
        (7, Kind::Bool),
        (8, Kind::Bool),
    ],
};
const PAGE_ENCODING: Shape = Shape { name: "page encoding", fields: &[(1, Kind::Int), (2, Kind::Int), (3, Kind::Int)] };
const SIZES: Shape =
    Shape { name: "sizes", fields: &[(1, Kind::Int), (2, Kind::List(&Kind::Int)), (3, Kind::List(&Kind::Int))] };
const CHUNK_DATA: Shape = Shape {
    name: "chunk's data",
    fields: &[
        (1, Kind::Int),
        (2, Kind::List(&Kind::Int)),
        (3, Kind::List(&Kind::Binary)),
        (4, Kind::Int),
        (5, Kind::Int),
        (6, Kind::Int),
        (7, Kind::Int),
        (8, Kind::List(&Kind::Struct(&KEY_VALUE))),
        (9, Kind::Int),
        (10, Kind::Int),
        (11, Kind::Int),
        (12, Kind::Struct(&STATISTICS)),
        (13, Kind::List(&Kind::Struct(&PAGE_ENCODING))),
        (14, Kind::Int),
        (15, Kind::Int),
        (16, Kind::Struct(&SIZES)),
    ],
};
const CHUNK: Shape = Shape {
    name: "chunk",
    fields: &[
        (1, Kind::Binary),
        (2, Kind::Int),
        (3, Kind::Struct(&CHUNK_DATA)),
        (4, Kind::Int),
        (5, Kind::Int),
        (6, Kind::Int),
        (7, Kind::Int),
    ],
};
const SORTING: Shape = Shape { name: "sorting", fields: &[(1, Kind::Int), (2, Kind::Bool), (3, Kind::Bool)] };
const ROW_GROUP: Shape = Shape {
    name: "row group",
    fields: &[
        (1, Kind::List(&Kind::Struct(&CHUNK))),
        (2, Kind::Int),
        (3, Kind::Int),
        (4, Kind::List(&Kind::Struct(&SORTING))),
        (5, Kind::Int),
        (6, Kind::Int),
        (7, Kind::Int),
    ],
};
const ORDER: Shape = Shape { name: "order", fields: &[(1, Kind::Struct(&EMPTY))] };
const FOOTER: Shape = Shape {
    name: "footer",
    fields: &[
        (1, Kind::Int),
        (2, Kind::List(&Kind::Struct(&COLUMN))),
        (3, Kind::Int),
        (4, Kind::List(&Kind::Struct(&ROW_GROUP))),
        (5, Kind::List(&Kind::Struct(&KEY_VALUE))),
        (6, Kind::Binary),
        (7, Kind::List(&Kind::Struct(&ORDER))),
    ],
};
const CHILDREN: i16 = 5;

const DATA: Shape = Shape {
    name: "data page",
    fields: &[(1, Kind::Int), (2, Kind::Int), (3, Kind::Int), (4, Kind::Int), (5, Kind::Struct(&STATISTICS))],
};
const DICTIONARY: Shape = Shape { name: "dictionary page", fields: &[(1, Kind::Int), (2, Kind::Int), (3, Kind::Bool)] };
const DATA_V2: Shape = Shape {
    name: "data page 2",
    fields: &[
        (1, Kind::Int),
        (2, Kind::Int),
        (3, Kind::Int),
        (4, Kind::Int),
        (5, Kind::Int),
        (6, Kind::Int),
        (7, Kind::Bool),
        (8, Kind::Struct(&STATISTICS)),
    ],
};
const PAGE: Shape = Shape {
    name: "page",
    fields: &[
        (1, Kind::Int),
        (UNCOMPRESSED, Kind::Int),
        (COMPRESSED, Kind::Int),
        (4, Kind::Int),
        (5, Kind::Struct(&DATA)),
        (6, Kind::Struct(&EMPTY)),
        (7, Kind::Struct(&DICTIONARY)),
        (8, Kind::Struct(&DATA_V2)),
    ],
};
const UNCOMPRESSED: i16 = 2;
const COMPRESSED: i16 = 3;

/// Checks the footer of a file of `size` bytes. One that is no Parquet file passes: the library says it better.
pub(super) fn check_footer(file: &mut File, size: u64) -> Result<(), String> {
    let mut tail = [0; 8];
    if size < 12 || file.seek(SeekFrom::Start(size - 8)).and_then(|_| file.read_exact(&mut tail)).is_err() {
        return Ok(());
    }
    let length = u64::from(u32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]]));
    if &tail[4..] != b"PAR1" || length > size - 12 {
        return Ok(());
    }
    if length > MOST_FOOTER {
        return Err(format!(
            "its footer has {length} bytes; at most {MOST_FOOTER}: it is damaged, or no set of images"
        ));
    }
    file.seek(SeekFrom::Start(size - 8 - length)).map_err(|error| error.to_string())?;
    // what each group that is not complete still waits for
    let mut open: Vec<i64> = Vec::new();
    let (mut children, mut columns) = (0, 0);
    let mut visit = |shape, field, number| {
        if shape != COLUMN.name {
            return Ok(());
        }
        if field == CHILDREN {
            children = number;
        }
        if field != 0 {
            return Ok(());
        }
        columns += 1;
        if columns > MOST_COLUMNS || !(0..=MOST_COLUMNS).contains(&children) {
            return Err(format!("its footer has {columns} columns and a group of {children}; at most {MOST_COLUMNS}"));
        }
        if let Some(last) = open.last_mut() {
            *last -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        while open.pop_if(|left| *left <= 0).is_some() {}
        children = 0;
        match open.len() <= DEEPEST {
            true => Ok(()),
            false => Err(format!("its footer nests columns more than {DEEPEST} levels")),
        }
    };
    walk(BufReader::new(file), length, &FOOTER, &mut visit).map(drop)
}

/// Encodings that are numbers of a dictionary's entries.
const DICTIONARIES: [i64; 2] = [2, 8];

/// What a page's header says.
#[derive(Default)]
struct Page {
    uncompressed: u64,
    compressed: u64,
    /// Of a dictionary, if the page is one.
    entries: Option<u64>,
    encoding: Option<i64>,
}

/// Checks the headers of all pages in the `length` bytes from `start`; `path` is the column's.
pub(super) fn check_pages(file: &mut File, path: &str, start: u64, length: u64) -> Result<(), String> {
    let wrong = |problem: String| format!("column {path}: a page of it: {problem}; write the file again");
    file.seek(SeekFrom::Start(start)).map_err(|error| error.to_string())?;
    let mut input = BufReader::new(file);
    let (mut left, mut dictionary) = (length, false);
    while left > 0 {
        let page = page(&mut input, &mut left).map_err(wrong)?;
        if page.compressed > left {
            return Err(wrong(format!("it has {} bytes, and {left} are left", page.compressed)));
        }
        if page.uncompressed > MOST_RATIO * (page.compressed + 64) {
            let Page { compressed, uncompressed, .. } = page;
            return Err(wrong(format!(
                "its {compressed} bytes become {uncompressed}; at most {MOST_RATIO} for one are possible"
            )));
        }
        // a value has 4 bytes at least
        if let Some(entries) = page.entries.filter(|entries| *entries > page.uncompressed / 4) {
            return Err(wrong(format!("it has {entries} entries in {} bytes", page.uncompressed)));
        }
        dictionary |= page.entries.is_some();
        if let Some(encoding) = page.encoding.filter(|encoding| !ENCODINGS.contains(encoding)) {
            return Err(wrong(format!("it has encoding {encoding}; plain values and dictionaries are read")));
        }
        if !dictionary && page.encoding.is_some_and(|encoding| DICTIONARIES.contains(&encoding)) {
            return Err(wrong("its values are numbers of a dictionary, and none came before it".to_owned()));
        }
        // at most i32::MAX, so it fits
        input.seek_relative(page.compressed as i64).map_err(|error| wrong(error.to_string()))?;
        left -= page.compressed;
    }
    Ok(())
}

fn page(input: &mut impl Read, left: &mut u64) -> Result<Page, String> {
    let mut page = Page::default();
    let mut visit = |shape, field, number: i64| {
        let size = || {
            let size = u64::try_from(number).ok().filter(|size| *size <= i32::MAX as u64);
            size.ok_or_else(|| format!("field {field} of its {shape} is {number}"))
        };
        match (shape, field) {
            (shape, UNCOMPRESSED) if shape == PAGE.name => page.uncompressed = size()?,
            (shape, COMPRESSED) if shape == PAGE.name => page.compressed = size()?,
            (shape, 1) if shape == DICTIONARY.name => page.entries = Some(size()?),
            (shape, 2) if shape == DATA.name => page.encoding = Some(number),
            (shape, 4) if shape == DATA_V2.name => page.encoding = Some(number),
            _ => {}
        }
        Ok(())
    };
    *left -= walk(input, MOST_HEADER.min(*left), &PAGE, &mut visit)?;
    Ok(page)
}

/// Images that a file of `size` bytes may hold: a dictionary and run lengths could make any number of one.
pub(super) fn most_images(size: u64) -> usize {
    usize::try_from(FREE_IMAGES + size / SMALLEST_IMAGE).unwrap_or(usize::MAX)
}
