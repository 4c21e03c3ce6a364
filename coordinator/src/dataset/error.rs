//! What can be wrong with the data, in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};

/// Why no data set was loaded.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The path that was asked for does not exist.
    #[error("{path}: no such file or folder ({asked}); give a path that exists, or \"builtin\"")]
    Missing { path: PathBuf, asked: &'static str },
    /// The path holds nothing that is read here, or too much.
    #[error("{path}: {problem}")]
    Layout { path: PathBuf, problem: String },
    /// A file was found and says something impossible.
    #[error("{place}: {problem}")]
    Content { place: String, problem: String },
    /// A setting is outside what the data allow.
    #[error("{name} = {found}: {rule}")]
    Setting { name: &'static str, found: String, rule: String },
    /// The operating system refused.
    #[error("{path}: {doing} failed: {source}")]
    Io { path: PathBuf, doing: &'static str, source: io::Error },
    /// No byte came from the server.
    #[error("{url}: {reason}; give --data PATH, or --data builtin to train on the built-in set")]
    Unavailable { url: String, reason: String },
    /// The download began and did not end well.
    #[error("{url}: {problem}")]
    Download { url: String, problem: String },
}

impl DataError {
    /// Whether the user can put it right (exit code 64), rather than the disk or the network (exit code 1).
    #[must_use]
    pub fn is_users_mistake(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Layout { .. } | Self::Content { .. } | Self::Setting { .. } => true,
            Self::Io { .. } | Self::Unavailable { .. } | Self::Download { .. } => false,
        }
    }

    pub(super) fn layout(path: &Path, problem: impl Into<String>) -> Self {
        Self::Layout { path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn content(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Content { place: place.into(), problem: problem.into() }
    }

    /// For `map_err`: names the path and what was being done to it.
    pub(super) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }
}
