//! Reading a file that somebody named or put into a folder. Opening a named pipe waits for a writer that may never come, and a
//! device may never end: what is no regular file is refused before it is opened.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::path::Path;

/// Opens a regular file, or a link to one, for reading.
///
/// # Errors
/// It can't be opened, or is something else: a folder, a pipe, a socket, a device.
pub fn open(path: &Path) -> Result<File> {
    let found = fs::metadata(path)?;
    if found.is_file() {
        return File::open(path);
    }
    let kind = if found.is_dir() { "is a folder" } else { "is a pipe, a socket or a device" };
    Err(Error::new(ErrorKind::InvalidInput, format!("{kind} and no regular file; copy what it holds into one")))
}

/// All of a regular file.
///
/// # Errors
/// As [`open`], and where it can't be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All of a regular file, as text.
///
/// # Errors
/// As [`read`], and where it is not UTF-8.
pub fn read_to_string(path: &Path) -> Result<String> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_and_links_to_them_are_opened() {
        let folder = tempfile::tempdir().expect("folder");
        let [file, link, socket] = ["file", "link", "socket"].map(|name| folder.path().join(name));
        fs::write(&file, "text").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        assert_eq!(read_to_string(&link).expect("a file"), "text");
        assert_eq!(read(&file).expect("a file"), b"text");
        let _held = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
        for (path, words) in [
            (socket.as_path(), "a pipe, a socket"),
            (folder.path(), "is a folder"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = open(path).expect_err("no file");
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(open(&folder.path().join("gone")).expect_err("gone").kind(), ErrorKind::NotFound);
    }
}
