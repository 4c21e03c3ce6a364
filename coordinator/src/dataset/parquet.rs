//! Parquet files as Hugging Face lays them out: `train*.parquet` and `test*.parquet`, with the columns `img` or `image`
//! (a struct whose `bytes` are a PNG or JPEG file) and `label`.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lockstep_proto::records::{PIXELS, Records, Split};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};

use super::known::CIFAR10_CLASSES;
use super::{DataError, Progress, picture};

mod limits;
mod thrift;

/// Names that the image column goes by, as paths of its bytes.
const IMAGES: [&str; 4] = ["img.bytes", "image.bytes", "img", "image"];
/// Names that the label column goes by.
const LABELS: [&str; 3] = ["label", "labels", "fine_label"];
/// Rows decoded at a time: some 5 MB of PNG bytes.
const ROWS: usize = 2048;

/// The files of one split below `root`, sorted: `train-00000-of-00002.parquet` before its second part.
pub(super) fn files(root: &Path, split: &str) -> Result<Vec<PathBuf>, DataError> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root).map_err(DataError::io(root, "listing the folder"))? {
        let path = entry.map_err(DataError::io(root, "listing the folder"))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        if name.starts_with(split) && name.ends_with(".parquet") {
            files.push(path);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Reads both splits below `root`. Class names come from the files' `huggingface` metadata; files without it have
/// CIFAR-10's.
pub(super) fn read(root: &Path, progress: &dyn Progress) -> Result<Records, DataError> {
    let mut classes = None;
    let mut splits = [Split::default(), Split::default()];
    for (name, split) in ["train", "test"].into_iter().zip(&mut splits) {
        let files = files(root, name)?;
        if files.is_empty() {
            return Err(DataError::layout(root, format!("has no {name}*.parquet; both train and test are needed")));
        }
        for path in files {
            // the Parquet library panics on some damaged pages (fewer than one in a thousand changed bytes): to the user
            // that is a damaged file like any other. What it half appended goes with the error
            let names = catch_unwind(AssertUnwindSafe(|| read_file(&path, split, progress))).unwrap_or_else(|_| {
                Err(DataError::content(path.display().to_string(), "cannot be read as Parquet: it is damaged"))
            })?;
            if classes.is_some() && names.is_some() && classes != names {
                return Err(DataError::layout(&path, "has other class names than the files before it"));
            }
            classes = classes.or(names);
        }
    }
    let classes = classes.unwrap_or_else(|| CIFAR10_CLASSES.map(str::to_owned).to_vec());
    let [train, test] = splits;
    Ok(Records { classes, train, test })
}

/// Appends the rows of `path` to `split`; returns the class names, if the file says them.
fn read_file(path: &Path, split: &mut Split, progress: &dyn Progress) -> Result<Option<Vec<String>>, DataError> {
    let place = path.display().to_string();
    let damaged = |e: ParquetError| DataError::content(place.as_str(), format!("cannot be read as Parquet: {e}"));
    let refused = |problem: String| DataError::content(place.as_str(), problem);
    let file = File::open(path).map_err(DataError::io(path, "opening"))?;
    let size = file.metadata().map_err(DataError::io(path, "looking at the file"))?.len();
    // a second handle: a copy of this one would share its position
    let mut again = File::open(path).map_err(DataError::io(path, "opening"))?;
    limits::check_footer(&mut again, size).map_err(refused)?;
    let reader = SerializedFileReader::new(file).map_err(damaged)?;
    let metadata = reader.metadata();
    let columns: Vec<String> =
        metadata.file_metadata().schema_descr().columns().iter().map(|c| c.path().string()).collect();
    let find = |what: &str, names: &[&str]| {
        names.iter().find_map(|name| columns.iter().position(|column| column == name)).ok_or_else(|| {
            let (wanted, found) = (names.join(", "), columns.join(", "));
            DataError::content(place.as_str(), format!("has no column of {what} ({wanted}); it has {found}"))
        })
    };
    let (images, labels) = (find("images", &IMAGES)?, find("labels", &LABELS)?);
    for column in metadata.row_groups().iter().flat_map(|group| [group.column(images), group.column(labels)]) {
        let (start, length) = check_extent(column, size).map_err(refused)?;
        limits::check_pages(&mut again, &column.column_path().string(), start, length).map_err(refused)?;
    }
    let names = metadata.file_metadata().key_value_metadata().and_then(|pairs| {
        let json = pairs.iter().find(|pair| pair.key == "huggingface")?.value.as_ref()?;
        class_names(json, &columns[labels])
    });
    let classes = names.as_ref().map_or(CIFAR10_CLASSES.len(), Vec::len);
    progress.start(&format!("reading {place}"), u64::try_from(metadata.file_metadata().num_rows()).ok());
    let before = split.len();
    let most = before + limits::most_images(size);
    let rows = (0..reader.num_row_groups()).try_for_each(|group| {
        let group = reader.get_row_group(group).map_err(damaged)?;
        read_group(&*group, [images, labels], (classes, most), split, progress)
            .map_err(|(at, problem)| DataError::content(place.as_str(), format!("row {}: {problem}", at - before)))
    });
    progress.finish();
    rows?;
    Ok(names)
}

/// Holds where a column says it lies against the file's size: the Parquet library panics on negative numbers. Its first byte and
/// its length.
fn check_extent(column: &ColumnChunkMetaData, size: u64) -> Result<(u64, u64), String> {
    let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
    let end = start.checked_add(column.compressed_size());
    let fits = start >= 0 && column.compressed_size() >= 0 && column.num_values() >= 0;
    match end.and_then(|end| u64::try_from(end).ok()) {
        Some(end) if fits && end <= size => Ok((start as u64, column.compressed_size() as u64)),
        _ => {
            let (path, length) = (column.column_path().string(), column.compressed_size());
            Err(format!("column {path} has {length} bytes from byte {start}; the file has {size} bytes: it is damaged"))
        }
    }
}

/// The names in Hugging Face's description of the features.
fn class_names(json: &str, column: &str) -> Option<Vec<String>> {
    let description: serde_json::Value = serde_json::from_str(json).ok()?;
    let names = description.get("info")?.get("features")?.get(column)?.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

/// Appends the rows of one row group, `ROWS` at a time, as long as `split` has `most` images at most. An error says how many
/// examples there were before it.
fn read_group(
    group: &dyn RowGroupReader,
    columns: [usize; 2],
    (classes, most): (usize, usize),
    split: &mut Split,
    progress: &dyn Progress,
) -> Result<(), (usize, String)> {
    let at = split.len();
    let open = |column: usize| group.get_column_reader(column).map_err(|e| (at, e.to_string()));
    let (mut images, mut labels) = (open(columns[0])?, open(columns[1])?);
    loop {
        let at = split.len();
        let pictures = read_pictures(&mut images).map_err(|problem| (at, problem))?;
        let numbers = read_labels(&mut labels).map_err(|problem| (at, problem))?;
        if pictures.len() != numbers.len() {
            let (images, labels) = (pictures.len(), numbers.len());
            return Err((at, format!("{images} images and {labels} labels follow; every row has both")));
        }
        if pictures.is_empty() {
            return Ok(());
        }
        if at + pictures.len() > most {
            let problem =
                format!("there are more than {most} images, which a file of this size can't hold: it is damaged");
            return Err((at, problem));
        }
        split.pixels.reserve(pictures.len() * PIXELS);
        for (picture, &label) in pictures.iter().zip(&numbers) {
            let at = split.len();
            picture::decode(picture.data(), &mut split.pixels)
                .map_err(|problem| (at, format!("the image {problem}")))?;
            match u8::try_from(label) {
                Ok(label) if usize::from(label) < classes => split.labels.push(label),
                _ => return Err((at, format!("label {label}; there are {classes} classes, numbered from 0"))),
            }
        }
        progress.advance(pictures.len() as u64);
    }
}

fn read_pictures(column: &mut ColumnReader) -> Result<Vec<ByteArray>, String> {
    let ColumnReader::ByteArrayColumnReader(reader) = column else {
        return Err("the image column holds no bytes".to_owned());
    };
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    let (rows, found, _) = reader
        .read_records(ROWS, Some(&mut levels), None, &mut values)
        .map_err(|e| format!("the image column: {e}"))?;
    no_nulls("image", rows, found).map(|()| values)
}

fn read_labels(column: &mut ColumnReader) -> Result<Vec<i64>, String> {
    let mut levels = Vec::new();
    let failed = |e: ParquetError| format!("the label column: {e}");
    match column {
        ColumnReader::Int64ColumnReader(reader) => {
            let mut values = Vec::new();
            let (rows, found, _) = reader.read_records(ROWS, Some(&mut levels), None, &mut values).map_err(failed)?;
            no_nulls("label", rows, found).map(|()| values)
        }
        ColumnReader::Int32ColumnReader(reader) => {
            let mut values = Vec::new();
            let (rows, found, _) = reader.read_records(ROWS, Some(&mut levels), None, &mut values).map_err(failed)?;
            no_nulls("label", rows, found).map(|()| values.into_iter().map(i64::from).collect())
        }
        _ => Err("the label column holds no integers".to_owned()),
    }
}

fn no_nulls(column: &str, rows: usize, found: usize) -> Result<(), String> {
    if rows == found { Ok(()) } else { Err(format!("{} of {rows} rows have no {column}", rows.abs_diff(found))) }
}
