//! Writes checkpoints on a thread of its own, so that no step waits for a disk.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::file::CheckpointError;
use super::snapshot::Snapshot;
use super::store::Store;

/// What became of a checkpoint.
#[derive(Debug)]
pub struct Written {
    pub step: u64,
    pub best: bool,
    pub seconds: f64,
    pub result: Result<PathBuf, String>,
}

/// The last checkpoint that stands, and why the one after it does not.
pub type Kept = (Option<u64>, Option<CheckpointError>);

/// The thread and the way to it.
#[derive(Debug)]
pub struct Writer {
    desk: Arc<Desk>,
    thread: JoinHandle<Kept>,
}

/// What waits to be written. A newer snapshot takes the place of an older one: a disk that is slower than the cadence
/// costs checkpoints in between, neither time nor memory, and never the last one.
#[derive(Debug, Default)]
struct Desk {
    /// Held for an exchange of pointers only.
    pending: Mutex<Pending>,
    /// Rung when something was laid down, or nothing more will be.
    bell: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    step: Option<Snapshot>,
    best: Option<Snapshot>,
    closed: bool,
}

impl Desk {
    /// Nobody panics while holding the lock, and a snapshot is whole or not there.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next snapshot; true with it if it is the best one.
    fn next(&self) -> Option<(Snapshot, bool)> {
        let mut pending = self.pending();
        loop {
            if let Some(snapshot) = pending.step.take() {
                return Some((snapshot, false));
            }
            if let Some(snapshot) = pending.best.take() {
                return Some((snapshot, true));
            }
            if pending.closed {
                return None;
            }
            pending = self.bell.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Writer {
    /// Starts the thread. There `before` is called before each checkpoint is written, and `report` after it.
    pub fn start(
        store: Store,
        before: impl Fn() + Send + 'static,
        report: impl Fn(Written) + Send + 'static,
    ) -> std::io::Result<Self> {
        let desk = Arc::new(Desk::default());
        let theirs = desk.clone();
        let thread = std::thread::Builder::new().name("checkpoints".to_owned()).spawn(move || {
            let mut kept: Kept = (None, None);
            while let Some((snapshot, best)) = theirs.next() {
                let (step, start) = (snapshot.state.version, Instant::now());
                before();
                let result = if best { store.save_best(&snapshot) } else { store.save(&snapshot) };
                let told = result.as_ref().map(Clone::clone).map_err(ToString::to_string);
                if !best {
                    match result {
                        Ok(_) => kept = (Some(step), None),
                        Err(error) => kept.1 = Some(error),
                    }
                }
                report(Written { step, best, seconds: start.elapsed().as_secs_f64(), result: told });
            }
            kept
        })?;
        Ok(Self { desk, thread })
    }

    /// Hands a snapshot over, to be kept under its step or as the best one, in place of an unwritten one of its kind.
    pub fn save(&self, snapshot: Snapshot, best: bool) {
        let mut pending = self.desk.pending();
        let place = if best { &mut pending.best } else { &mut pending.step };
        let older = place.replace(snapshot);
        drop(pending);
        self.desk.bell.notify_one();
        if let Some(older) = older {
            tracing::warn!("step {} is not kept: the disk is slower than the checkpoints come", older.state.version);
        }
    }

    /// Returns once everything is on the disk, or is known not to be.
    pub fn finish(self) -> Kept {
        self.desk.pending().closed = true;
        self.desk.bell.notify_one();
        self.thread.join().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::file::tests::sample;
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_slow_disk_costs_checkpoints_in_between_and_never_the_last() {
        let run = tempfile::tempdir().expect("folder");
        let (written, told) = mpsc::channel();
        let (go, gate) = mpsc::channel::<()>();
        let report = move |w: Written| {
            written.send(w.step).expect("listening");
            // the next one is not begun before the test says so
            let _ = gate.recv();
        };
        let writer = Writer::start(Store::open(run.path(), 9).expect("store"), || {}, report).expect("thread");
        writer.save(sample(1), false);
        assert_eq!(told.recv().expect("written"), 1);
        for step in 2..=5 {
            writer.save(sample(step), false);
        }
        drop(go);
        assert_eq!(writer.finish().0, Some(5));
        assert_eq!(told.into_iter().collect::<Vec<_>>(), [5]);
    }
}
