//! What can go wrong with a run's files, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// A run's file or thread that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("cannot {doing} {}: {source}; {}", path.display(), advice(source))]
    Io { doing: &'static str, path: PathBuf, source: io::Error },

    #[error(
        "{} exists already: a run's folder is used once; resume that run or choose another folder",
        path.display()
    )]
    Exists { path: PathBuf },

    #[error("{}: {records} records could not be written and are lost; the training itself is not affected", path.display())]
    Lost { path: PathBuf, records: u64 },

    #[error("cannot start the {name} thread: {source}; raise the limit on threads (ulimit -u)")]
    Thread { name: &'static str, source: io::Error },
}

impl TelemetryError {
    /// For `map_err`: which file, and what was being done to it.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TelemetryError {
        let path = path.to_path_buf();
        move |source| TelemetryError::Io { doing, path, source }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space on that disk",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "choose a folder that you may write to (--out)"
        }
        io::ErrorKind::NotFound => "check that its folder still exists",
        _ => "check the disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_file_and_the_way_out() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let text = TelemetryError::io("write", Path::new("runs/a/metrics.jsonl"))(full).to_string();
        assert!(text.contains("runs/a/metrics.jsonl") && text.contains("free some space"), "{text}");
    }
}
