//! Downloads an archive: resumable, checksummed, and quick to say that there is no network.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use md5::{Digest, Md5};
use ureq::http::{Response, header};
use ureq::{Agent, Body};

use super::known::{BINARY_ARCHIVE_MD5, OFFICIAL_URL, hex};
use super::{DataError, Progress};

/// To find and reach a server: without a network the user waits this long, no longer.
const REACH: Duration = Duration::from_secs(5);
/// To hear from a server that was reached, and between two pieces of the archive.
const SILENCE: Duration = Duration::from_secs(30);
/// Tries in a row that bring no byte.
const BARREN_TRIES: u32 = 3;
/// Between tries: a server that dropped us needs a moment.
const PAUSE: Duration = Duration::from_millis(300);
/// The official archives have 170 MB.
const LARGEST: u64 = 1 << 30;

/// What to download and how to know that it is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) url: String,
    /// Given by the user, who can put it right.
    typed: bool,
    /// Lower-case hexadecimal; None: the archive's own checksum (gzip) must do.
    md5: Option<String>,
}

impl Address {
    /// `None` is the official archive. `#md5=<32 digits>` may follow an address.
    pub(super) fn parse(url: Option<&str>) -> Result<Self, DataError> {
        let Some(text) = url else {
            return Ok(Self { url: OFFICIAL_URL.to_owned(), typed: false, md5: Some(BINARY_ARCHIVE_MD5.to_owned()) });
        };
        let wrong =
            |rule: &str| DataError::Setting { name: "--data-url", found: text.to_owned(), rule: rule.to_owned() };
        let (url, md5) = match text.split_once('#') {
            None => (text, None),
            Some((url, fragment)) => {
                let digits = fragment.strip_prefix("md5=").map(str::to_ascii_lowercase);
                let digits = digits.filter(|d| d.len() == 32 && d.bytes().all(|b| b.is_ascii_hexdigit()));
                (url, Some(digits.ok_or_else(|| wrong("after # only md5=<32 hexadecimal digits> is known"))?))
            }
        };
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(wrong("an address begins with http:// or https://; for a file use --data PATH"));
        }
        Ok(Self { url: url.to_owned(), typed: true, md5 })
    }

    pub(super) fn unavailable(&self, reason: impl ToString) -> DataError {
        DataError::Unavailable { url: self.url.clone(), reason: reason.to_string() }
    }

    fn failed(&self, problem: impl Into<String>) -> DataError {
        DataError::Download { url: self.url.clone(), problem: problem.into() }
    }

    fn file_name(&self) -> String {
        format!("{}.tar.gz", &blake3::hash(self.url.as_bytes()).to_hex()[..16])
    }
}

/// Downloads to a file in `folder` and returns its path. What is there of an earlier try (`.part`) is continued.
/// [`DataError::Unavailable`] if not one byte came.
pub(super) fn fetch(address: &Address, folder: &Path, progress: &dyn Progress) -> Result<PathBuf, DataError> {
    fs::create_dir_all(folder).map_err(|e| address.unavailable(format!("{}: {e}", folder.display())))?;
    let path = folder.join(address.file_name());
    let part = folder.join(format!("{}.part", address.file_name()));
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .map_err(DataError::io(&part, "opening"))?;
    // two processes writing one .part would destroy it; a file system without locks leaves that to the checksum
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(address.failed("another process is downloading it; wait for that one to end"));
    }
    let mut announced = false;
    let received = receive_all(address, &part, &mut file, progress, &mut announced);
    if announced {
        progress.finish();
    }
    received?;
    verify(address, &part, &mut file)?;
    fs::rename(&part, &path).map_err(DataError::io(&part, "renaming"))?;
    Ok(path)
}

/// One exchange with the server, and how it ended.
enum Outcome {
    Complete,
    /// The connection ended early; the reason in words.
    Broken(String),
}

/// Tries until it is all here. `announced`: whether `progress` was told of it, which waits for the first good answer.
fn receive_all(
    address: &Address,
    part: &Path,
    file: &mut File,
    progress: &dyn Progress,
    announced: &mut bool,
) -> Result<(), DataError> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(REACH))
        .timeout_connect(Some(REACH))
        .timeout_recv_response(Some(SILENCE))
        .timeout_per_read(Some(SILENCE))
        .build()
        .into();
    let (mut barren, mut came) = (0, false);
    loop {
        let before = file.seek(SeekFrom::End(0)).map_err(DataError::io(part, "looking at its end"))?;
        let reason = match receive(&agent, address, file, before, progress, announced)? {
            Outcome::Complete => return Ok(()),
            Outcome::Broken(reason) => reason,
        };
        let after = file.seek(SeekFrom::End(0)).map_err(DataError::io(part, "looking at its end"))?;
        came |= after > before;
        barren = if after > before { 0 } else { barren + 1 };
        if !came {
            return Err(address.unavailable(reason));
        }
        if barren == BARREN_TRIES {
            return Err(address.failed(format!(
                "{reason}, {BARREN_TRIES} times in a row; {after} bytes are kept in {}: run again to go on",
                part.display()
            )));
        }
        std::thread::sleep(PAUSE);
    }
}

fn receive(
    agent: &Agent,
    address: &Address,
    file: &mut File,
    have: u64,
    progress: &dyn Progress,
    announced: &mut bool,
) -> Result<Outcome, DataError> {
    let mut request = agent.get(&address.url);
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
    }
    let response = match request.call() {
        Ok(response) => response,
        Err(error) => return Ok(Outcome::Broken(error.to_string())),
    };
    let disk = |e: io::Error| address.failed(format!("writing it down failed: {e}"));
    let start = match response.status().as_u16() {
        206 if range_start(&response) == Some(have) => have,
        // the server ignores ranges, or offers another one: begin anew
        200 => 0,
        // the server has no such range (it may all be here already, or the file changed): ask for all of it
        206 | 416 if have > 0 => {
            file.set_len(0).map_err(disk)?;
            return receive(agent, address, file, 0, progress, announced);
        }
        status @ 400..500 if address.typed => {
            let rule = format!("the server answered {status}; check the address, or give --data PATH");
            return Err(DataError::Setting { name: "--data-url", found: address.url.clone(), rule });
        }
        status => return Ok(Outcome::Broken(format!("the server answered with status {status}"))),
    };
    let total = response.body().content_length().map(|n| n.saturating_add(start));
    if total.is_some_and(|total| total > LARGEST) {
        return Err(
            address.failed(format!("has {} bytes; archives of at most {LARGEST} are taken", total.unwrap_or(0)))
        );
    }
    file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start))).map_err(disk)?;
    if !std::mem::replace(announced, true) {
        progress.start(&format!("downloading {}", address.url), total);
        progress.advance(start);
    }
    let mut body = response.into_body().into_with_config().limit(LARGEST + 1).reader();
    let (mut buffer, mut length) = (vec![0; 1 << 16], start);
    loop {
        let n = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Ok(Outcome::Broken(format!("the connection broke after {length} bytes ({error})"))),
        };
        length += n as u64;
        if length > LARGEST {
            return Err(address.failed(format!("is larger than {LARGEST} bytes; that is no archive of small images")));
        }
        file.write_all(&buffer[..n]).map_err(disk)?;
        progress.advance(n as u64);
    }
    match total {
        Some(total) if length < total => {
            Ok(Outcome::Broken(format!("the connection ended after {length} of {total} bytes")))
        }
        _ => Ok(Outcome::Complete),
    }
}

/// Where a partial answer begins: `Content-Range: bytes 100-199/200`.
fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

/// Holds the whole file against the checksum; a wrong one is emptied, or every later try would begin with it.
fn verify(address: &Address, part: &Path, file: &mut File) -> Result<(), DataError> {
    let Some(wanted) = &address.md5 else { return Ok(()) };
    file.seek(SeekFrom::Start(0)).map_err(DataError::io(part, "reading it again"))?;
    let (mut md5, mut buffer) = (Md5::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer).map_err(DataError::io(part, "reading it again"))? {
            0 => break,
            n => md5.update(&buffer[..n]),
        }
    }
    let found = hex(&md5.finalize());
    if found != *wanted {
        let size = file.metadata().map_or(0, |m| m.len());
        file.set_len(0).map_err(DataError::io(part, "emptying"))?;
        let problem = format!("{size} bytes came with MD5 {found}, but {wanted} was promised");
        if address.typed {
            let rule = format!("{problem}: correct the digest after #md5= or the address; what came is thrown away");
            return Err(DataError::Setting { name: "--data-url", found: address.url.clone(), rule });
        }
        return Err(address.failed(format!("{problem}: it was damaged on its way, and is thrown away; try again")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
