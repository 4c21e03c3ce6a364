//! Both official archives (`.tar.gz`, or a plain tar), read entry by entry. Nothing is ever unpacked to disk.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path};

use flate2::bufread::MultiGzDecoder;
use lockstep_proto::records::Records;
use tar::EntryType;

use super::batches::{self, Batches, LARGEST_FILE};
use super::{DataError, Progress};

/// Entries in an archive of images: the official ones have 9. More would only cost time.
const MOST_ENTRIES: usize = 10_000;
/// What may follow the last entry: tar pads to 10 KiB.
const MOST_PADDING: u64 = 1 << 20;
/// Bytes of all headers of one entry, long names and attributes included: they are held in memory, and compressed ones may be
/// a thousand times as long as the archive.
const MOST_HEADERS: u64 = 256 << 10;
/// Bytes of all entries together, those that are passed over too: six of the largest and as much again. The official archives
/// have 180 MB. A gigabyte of compressed zeros would keep us busy for an hour.
const MOST_BYTES: u64 = 12 * LARGEST_FILE;

/// Reads the batches in the archive at `path`.
pub(super) fn read(path: &Path, progress: &dyn Progress) -> Result<Records, DataError> {
    let file = File::open(path).map_err(DataError::io(path, "opening"))?;
    let size = file.metadata().map_err(DataError::io(path, "looking at the file"))?.len();
    progress.start(&format!("reading {}", path.display()), Some(size));
    let records = read_entries(path, BufReader::with_capacity(1 << 18, Counted { file, progress }), progress);
    progress.finish();
    records
}

fn read_entries(path: &Path, mut input: impl BufRead, progress: &dyn Progress) -> Result<Records, DataError> {
    let magic = input.fill_buf().map_err(DataError::io(path, "reading"))?;
    let input: Box<dyn Read + '_> =
        if magic.starts_with(&[0x1f, 0x8b]) { Box::new(MultiGzDecoder::new(input)) } else { Box::new(input) };
    let damaged = |e: io::Error| {
        let why = reason(&e);
        DataError::content(
            path.display().to_string(),
            format!("is damaged or cut short ({why}); get the archive again"),
        )
    };
    let mut batches = Batches::new(path);
    let ration = Cell::new(MOST_HEADERS);
    let mut archive = tar::Archive::new(Rationed { input, left: &ration });
    let (mut entries, mut total) = (0, 0_u64);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        entries += 1;
        total = total.saturating_add(entry.size());
        if total > MOST_BYTES {
            return Err(DataError::layout(
                path,
                format!("holds {total} bytes or more; at most {MOST_BYTES} are read, the official ones have 180 MB"),
            ));
        }
        // this entry, whether it is read or passed over, the rest of its last block, and the next one's headers
        ration.set(entry.size() + 512 + MOST_HEADERS);
        if entries > MOST_ENTRIES {
            return Err(DataError::layout(
                path,
                format!("has more than {MOST_ENTRIES} entries; the official ones have 9"),
            ));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let place = format!("{}, entry {name:?}", path.display());
        check_name(&place, &name)?;
        match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {}
            EntryType::Directory | EntryType::XGlobalHeader => continue,
            other => {
                return Err(DataError::content(
                    place,
                    format!("is {other:?}; an archive of images holds files and folders only, no links or devices"),
                ));
            }
        }
        if batches::slot(name.rsplit('/').next().unwrap_or(&name)).is_none() {
            continue;
        }
        if entry.size() > LARGEST_FILE {
            return Err(batches::too_large(&place, entry.size()));
        }
        let (mut bytes, size) = (Vec::new(), entry.size());
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != size {
            return Err(DataError::content(
                place,
                format!("ends after {} of {size} bytes: the archive is cut short; get it again", bytes.len()),
            ));
        }
        batches.add(&name, &bytes)?;
    }
    // gzip's own checksum stands at the very end: read to it
    ration.set(MOST_PADDING + 1);
    let mut rest = archive.into_inner().take(MOST_PADDING + 1);
    if io::copy(&mut rest, &mut io::sink()).map_err(damaged)? > MOST_PADDING {
        return Err(DataError::layout(path, format!("has more than {MOST_PADDING} bytes after its last entry")));
    }
    batches.finish(progress)
}

/// What the reader of archives complains of, without the bytes that it read: its messages quote whole headers.
fn reason(error: &io::Error) -> String {
    const LONGEST: usize = 100;
    let text = error.to_string();
    let readable = |c: char| !c.is_control() && c != char::REPLACEMENT_CHARACTER;
    if text.chars().count() <= LONGEST && text.chars().all(readable) { text } else { "a broken header".to_owned() }
}

/// A name that leaves the archive's folder has no business in a data set, even though nothing is unpacked.
fn check_name(place: &str, name: &str) -> Result<(), DataError> {
    let rule = "names in an archive are relative and stay below it; do not use this archive";
    // a backslash is a separator to some programs that unpack
    if name.split(['/', '\\']).any(|part| part == "..") {
        return Err(DataError::content(place, format!("its path climbs out with \"..\": {rule}")));
    }
    if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(DataError::content(place, format!("its path is absolute: {rule}")));
    }
    Ok(())
}

/// Gives no more than what is left of a ration that its owner sets.
struct Rationed<'a, R> {
    input: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Rationed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!("an entry's headers have more than {MOST_HEADERS} bytes")));
        }
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.input.read(&mut buffer[..most])?;
        self.left.set(left - n as u64);
        Ok(n)
    }
}

/// Tells how many bytes of the archive were read.
struct Counted<'a> {
    file: File,
    progress: &'a dyn Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(buffer)?;
        self.progress.advance(n as u64);
        Ok(n)
    }
}
