//! A file that grows by whole records and survives a full disk.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::TelemetryError;
use super::replace::sync_folder;

/// While a disk is full, records wait here, hours of them, in the hope that someone frees space; then they are lost.
const PENDING_MAX: usize = 8 << 20;

/// A full disk is tried again this often: soon enough to notice freed space, rare enough to cost nothing.
const RETRY_AFTER: Duration = Duration::from_secs(5);

pub(super) struct AppendFile {
    path: PathBuf,
    file: File,
    /// Bytes on disk that are whole records: a failed write is cut back to here, so that no record is ever torn.
    whole: u64,
    pending: Vec<u8>,
    pending_records: u64,
    lost: u64,
    failed_at: Option<Instant>,
}

impl AppendFile {
    /// A new file, which must not exist.
    pub(super) fn create(path: &Path) -> Result<AppendFile, TelemetryError> {
        let file =
            OpenOptions::new().write(true).create_new(true).open(path).map_err(|source| match source.kind() {
                ErrorKind::AlreadyExists => TelemetryError::Exists { path: path.to_path_buf() },
                _ => TelemetryError::io("create", path)(source),
            })?;
        sync_folder(path).map_err(TelemetryError::io("create", path))?;
        Ok(AppendFile::at(path, file, 0))
    }

    /// An existing file, or a new one, to write behind its end.
    pub(super) fn append(path: &Path) -> Result<AppendFile, TelemetryError> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(TelemetryError::io("open", path))?;
        let whole = file.metadata().map_err(TelemetryError::io("open", path))?.len();
        Ok(AppendFile::at(path, file, whole))
    }

    fn at(path: &Path, file: File, whole: u64) -> AppendFile {
        let path = path.to_path_buf();
        AppendFile { path, file, whole, pending: Vec::new(), pending_records: 0, lost: 0, failed_at: None }
    }

    /// Takes one record; it is on its way to the disk after the next [`AppendFile::flush`].
    pub(super) fn push(&mut self, record: &[u8]) {
        if self.pending.len() + record.len() > PENDING_MAX {
            self.lost += 1;
            return;
        }
        self.pending.extend_from_slice(record);
        self.pending_records += 1;
    }

    /// Hands what is pending to the operating system.
    ///
    /// # Errors
    /// Once for each time that the disk begins to fail; while it goes on failing, this is quiet and tries again now and then.
    pub(super) fn flush(&mut self) -> Result<(), TelemetryError> {
        if self.failed_at.is_some_and(|failed| failed.elapsed() < RETRY_AFTER) {
            return Ok(());
        }
        let known = self.failed_at.is_some();
        match self.write_pending() {
            Err(_) if known => Ok(()),
            result => result,
        }
    }

    /// Makes what was flushed durable.
    pub(super) fn sync(&mut self) -> Result<(), TelemetryError> {
        self.flush()?;
        match self.failed_at {
            Some(_) => Ok(()), // already told
            None => self.file.sync_data().map_err(TelemetryError::io("write", &self.path)),
        }
    }

    /// A last attempt, and what is lost after it.
    pub(super) fn close(&mut self) -> Result<(), TelemetryError> {
        let written = self.write_pending();
        let lost = self.lost + self.pending_records;
        if lost > 0 {
            return Err(TelemetryError::Lost { path: self.path.clone(), records: lost });
        }
        written?;
        self.sync()
    }

    fn write_pending(&mut self) -> Result<(), TelemetryError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let written = self.file.seek(SeekFrom::Start(self.whole)).and_then(|_| self.file.write_all(&self.pending));
        match written {
            Ok(()) => {
                self.whole += self.pending.len() as u64;
                self.pending.clear();
                self.pending_records = 0;
                self.failed_at = None;
                Ok(())
            }
            Err(error) => {
                // Part of a record may be on disk. Cutting needs no space; if it fails too, the next write covers it.
                let _ = self.file.set_len(self.whole);
                self.failed_at = Some(Instant::now());
                Err(TelemetryError::io("write", &self.path)(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_new_file_is_never_an_old_one() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "mine").expect("write");
        assert!(matches!(AppendFile::create(&path), Err(TelemetryError::Exists { .. })));
        assert_eq!(fs::read(&path).expect("read"), b"mine");
    }

    #[test]
    fn appends_behind_what_is_there() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "one\n").expect("write");
        let mut file = AppendFile::append(&path).expect("open");
        file.push(b"two\n");
        file.push(b"three\n");
        file.close().expect("close");
        assert_eq!(fs::read(&path).expect("read"), b"one\ntwo\nthree\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_once_and_loses_only_what_never_fits() {
        let mut file = AppendFile::append(Path::new("/dev/full")).expect("open");
        file.push(b"one\n");
        let error = file.flush().expect_err("full").to_string();
        assert!(error.contains("/dev/full") && error.contains("free some space"), "{error}");
        file.push(b"two\n");
        file.flush().expect("known already");
        file.failed_at = Some(Instant::now() - 2 * RETRY_AFTER);
        file.flush().expect("tried again, still known");

        // Someone frees space: everything is there, in order.
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("metrics.jsonl");
        file.file = File::create(&path).expect("create");
        file.failed_at = Some(Instant::now() - 2 * RETRY_AFTER);
        file.flush().expect("space again");
        assert_eq!(fs::read(&path).expect("read"), b"one\ntwo\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_lost_is_counted() {
        let mut file = AppendFile::append(Path::new("/dev/full")).expect("open");
        let record = vec![b'x'; PENDING_MAX / 2];
        for _ in 0..5 {
            file.push(&record);
        }
        assert_eq!(file.pending.len(), PENDING_MAX);
        assert!(file.flush().is_err());
        let error = file.close().expect_err("lost").to_string();
        assert!(error.contains("5 records"), "{error}");
    }
}
