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
    pub result: Result<PathBuf, String>,
}

/// The thread and the way to it.
#[derive(Debug)]
pub struct Writer {
    jobs: SyncSender<Job>,
    thread: JoinHandle<Kept>,
}

/// The last checkpoint that stands, and why the one after it does not.
pub type Kept = (Option<u64>, Option<CheckpointError>);

impl Writer {
    /// Starts the thread; `report` is called there, once a checkpoint.
    pub fn start(store: Store, report: impl Fn(Written) + Send + 'static) -> std::io::Result<Self> {
        // Two waiting, a step's and the best one: a disk that is slower than the cadence slows the run down instead of
        // filling the memory.
        let (jobs, inbox): (_, Receiver<Job>) = mpsc::sync_channel(2);
        let thread = std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            let mut kept: Kept = (None, None);
            for Job { snapshot, best } in inbox {
                let (step, start) = (snapshot.state.version, Instant::now());
                let result = if best { store.save_best(&snapshot) } else { store.save(&snapshot) };
                let problem = result.as_ref().err().map(ToString::to_string);
                let result = match result {
                    Ok(path) if !best => {
                        kept = (Some(step), None);
                        Ok(path)
                    }
                    Err(error) if !best => {
                        kept.1 = Some(error);
                        Err(problem.unwrap_or_default())
                    }
                    other => other.map_err(|error| error.to_string()),
                };
                report(Written { step, best, seconds: start.elapsed().as_secs_f64(), result });
            }
            kept
        })?;
        Ok(Self { jobs, thread })
    }

    /// Hands a snapshot over, to be kept under its step or as the best one. Waits only while three others are unwritten.
    pub fn save(&self, snapshot: Snapshot, best: bool) {
        // the thread lives until `finish`: it can't be gone
        let _ = self.jobs.send(Job { snapshot, best });
    }

    /// Returns once everything is on the disk, or is known not to be.
    pub fn finish(self) -> Kept {
        drop(self.jobs);
        self.thread.join().unwrap_or_default()
    }
}
