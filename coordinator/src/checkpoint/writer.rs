//! Writes checkpoints on a thread of its own, so that no step waits for a disk.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;
use std::time::Instant;

use super::file::CheckpointError;
use super::snapshot::Snapshot;
use super::store::Store;

/// A checkpoint on its way to the disk.
struct Job {
    snapshot: Snapshot,
    best: bool,
}

/// What became of a checkpoint.
#[derive(Debug)]
pub struct Written {
    pub step: u64,
    pub best: bool,
    pub seconds: f64,
    pub result: Result<PathBuf, CheckpointError>,
}

/// The thread and the way to it.
#[derive(Debug)]
pub struct Writer {
    jobs: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread; `report` is called there, once a checkpoint.
    pub fn start(store: Store, report: impl Fn(Written) + Send + 'static) -> std::io::Result<Self> {
        // One waiting: a disk that is slower than the cadence slows the run down instead of filling the memory.
        let (jobs, inbox): (_, Receiver<Job>) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            for Job { snapshot, best } in inbox {
                let start = Instant::now();
                let result = store.save(&snapshot, best);
                report(Written { step: snapshot.state.version, best, seconds: start.elapsed().as_secs_f64(), result });
            }
        })?;
        Ok(Self { jobs, thread })
    }

    /// Hands a snapshot over. Waits only while two others are unwritten.
    pub fn save(&self, snapshot: Snapshot, best: bool) {
        // the thread lives until `finish`: it can't be gone
        let _ = self.jobs.send(Job { snapshot, best });
    }

    /// Returns once everything is on the disk.
    pub fn finish(self) {
        drop(self.jobs);
        let _ = self.thread.join();
    }
}
