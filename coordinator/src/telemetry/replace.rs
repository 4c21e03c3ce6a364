//! A file that is replaced as a whole or not at all, also when the power fails.

use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::Path;

use super::error::TelemetryError;

/// Writes `path` anew with `write`: into a neighbour first, synced, renamed over it, the folder synced.
///
/// # Errors
/// Any step of that; `path` is then as it was, and the neighbour is removed.
pub(super) fn replace(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> Result<(), TelemetryError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let neighbour = path.with_file_name(format!(".{name}.new"));
    let written = (|| {
        let mut file = BufWriter::new(File::create(&neighbour)?);
        write(&mut file)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&neighbour, path)?;
        sync_folder(path)
    })();
    written.map_err(|error| {
        // It may not exist; the first error is the one to tell.
        let _ = fs::remove_file(&neighbour);
        TelemetryError::io("write", path)(error)
    })
}

/// Makes a rename or a new name durable: on POSIX that is the folder's content, not the file's.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) && !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_failed_write_leaves_the_old_file_alone() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a");
        replace(&path, |file| file.write_all(b"old")).expect("first");
        let error = replace(&path, |file| {
            file.write_all(b"ne")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert!(error.expect_err("full").to_string().contains("free some space"));
        assert_eq!(fs::read(&path).expect("read"), b"old");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
    }
}
