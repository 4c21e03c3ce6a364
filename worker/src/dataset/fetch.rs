//! The run's images: from this machine's cache, or from the coordinator and then into the cache.

use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};

use lockstep_proto::records::Records;
use lockstep_proto::wire::FetchRecordsRequest;
use lockstep_proto::wire::coordinator_client::CoordinatorClient;
use tonic::transport::Channel;

use crate::error::WorkerError;

/// Gets the records with this hash: they are checked wherever they come from.
pub(crate) async fn records(
    client: CoordinatorClient<Channel>,
    hash: &str,
    length: u64,
    cache: bool,
) -> Result<Records, WorkerError> {
    let path = if cache { cache_path(hash) } else { None };
    let (cached, name) = (path.clone(), hash.to_owned());
    if let Some(records) = blocking(move || cached.and_then(|path| read(&path, &name))).await? {
        tracing::debug!("images {hash:.16} are in the cache");
        return Ok(records);
    }
    let bytes = download(client, hash, length).await?;
    let name = hash.to_owned();
    blocking(move || take(&bytes, &name, path)).await?
}

/// Disk and checksum work, off the network's thread: it must go on answering pings meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WorkerError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| WorkerError::Compute)
}

/// Checks what came, and keeps it in the cache.
fn take(bytes: &[u8], hash: &str, path: Option<PathBuf>) -> Result<Records, WorkerError> {
    let records = Records::decode(bytes)?;
    let found = records.hash();
    if found != hash {
        let text = format!("it sent images with the hash {found:.16}, not {hash:.16}");
        return Err(WorkerError::Protocol(text));
    }
    if let Some(path) = path
        && let Err(error) = keep(&path, bytes)
    {
        // the next worker fetches them again: slower, not wrong
        tracing::debug!("can't keep the images in {}: {error}", path.display());
    }
    Ok(records)
}

/// Where records with this hash lie on this machine.
fn cache_path(hash: &str) -> Option<PathBuf> {
    let plain = !hash.is_empty() && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| dirs::cache_dir().map(|folder| folder.join("lockstep").join("records").join(hash)))?
}

fn read(path: &Path, hash: &str) -> Option<Records> {
    let file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    match Records::read(&mut BufReader::with_capacity(1 << 20, file), length) {
        Ok(records) if records.hash() == hash => Some(records),
        Ok(_) | Err(_) => {
            tracing::warn!("{} is damaged; fetching the images again", path.display());
            None
        }
    }
}

/// Several workers may do this at once: each writes a file of its own, and the last rename wins with the same bytes.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| file.write_all(bytes));
    let result = written.and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}

async fn download(mut client: CoordinatorClient<Channel>, hash: &str, length: u64) -> Result<Vec<u8>, WorkerError> {
    let mut parts = client.fetch_records(FetchRecordsRequest { data_hash: hash.to_owned() }).await?.into_inner();
    // grown as data come: `length` is the sender's word
    let mut bytes = Vec::new();
    while let Some(part) = parts.message().await? {
        if part.offset != bytes.len() as u64 || part.offset + part.data.len() as u64 > length {
            let text = format!("part at byte {} of the images, where {} of {length} is next", part.offset, bytes.len());
            return Err(WorkerError::Protocol(text));
        }
        bytes.extend_from_slice(&part.data);
    }
    if bytes.len() as u64 != length {
        let text = format!("the images end at byte {} of {length}", bytes.len());
        return Err(WorkerError::Lost(text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use lockstep_fuzz::{Bound, cases, damaged};
    use lockstep_proto::records::{PIXELS, Split};
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Records {
        let split = Split { pixels: vec![7; PIXELS], labels: vec![1] };
        Records { classes: vec!["ant".to_owned(), "bee".to_owned()], train: split.clone(), test: split }
    }

    /// A copy, a read buffer of 1 MiB, and the copies that growing takes.
    const COPY: Bound = Bound { each: 4, constant: 2 << 20 };

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn fuzz_cached_records(file in damaged(vec![sample().encode().expect("fits")])) {
            let memory = Path::new("/dev/shm");
            let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("folder");
            let (path, hash) = (folder.path().join("records"), sample().hash());
            fs::write(&path, &file).expect("written");
            // whatever else is wrong with the file, the images are those that were asked for
            if let Some(records) = COPY.hold(file.len(), || read(&path, &hash)) {
                prop_assert_eq!(records.train, sample().train);
            }
            if let Ok(records) = COPY.hold(file.len(), || take(&file, &hash, None)) {
                prop_assert_eq!(records.test, sample().test);
            }
        }
    }

    #[test]
    fn a_cache_file_is_named_by_a_hash_and_nothing_else() {
        for hash in ["", "../../etc/passwd", "ab/cd", "xyz"] {
            assert_eq!(cache_path(hash), None, "{hash}");
        }
    }
}
