//! A thread with a queue, and the sinks that it feeds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::error::TelemetryError;
use super::event::Record;
use super::sink::Sink;

/// Records that may wait. At 100 steps a second this bridges minutes of a disk that hangs, for some 20 MB of memory.
const QUEUE: usize = 65_536;

/// Sinks are flushed this often while nothing comes: it is the rate at which bars show passing time.
const IDLE: Duration = Duration::from_millis(200);

/// Sinks are flushed at the latest after so many records, so that a busy run is visible too.
const BATCH: usize = 256;

type Warn = Box<dyn Fn(String) + Send>;

enum Message {
    Record(Arc<Record>),
    Finish,
}

/// One lane never waits for another: a terminal stopped by Ctrl-S doesn't keep metrics from the disk.
pub(super) struct Lane {
    name: &'static str,
    done: Receiver<Vec<String>>,
    entry: Entry,
}

/// Where records enter a lane. Cheap to clone, never blocks.
#[derive(Clone)]
pub(super) struct Entry {
    /// Unbounded by type, bounded by `queued`: unlike a bounded channel it can refuse the frequent events and still take the rare.
    records: Sender<Message>,
    queued: Arc<AtomicUsize>,
    left_out: Arc<AtomicU64>,
}

impl Entry {
    /// Queues a record. When the queue is full a frequent event is left out and counted; a rare one still finds room.
    pub(super) fn send(&self, record: Arc<Record>) {
        let room = if record.event.is_frequent() { QUEUE } else { 2 * QUEUE };
        // Relaxed: the count is a bound, not a signal; a few records more or less do no harm.
        if self.queued.load(Ordering::Relaxed) >= room {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.queued.fetch_add(1, Ordering::Relaxed);
        // The other end is gone only after `finish`: whoever still talks then has no listener.
        let _ = self.records.send(Message::Record(record));
    }
}

impl Lane {
    /// Starts the thread. What its sinks complain about goes to `warn`, and is returned by [`Lane::finish`].
    pub(super) fn start(name: &'static str, sinks: Vec<Box<dyn Sink>>, warn: Warn) -> Result<Lane, TelemetryError> {
        let (records, inbox) = mpsc::channel();
        let (tell_done, done) = mpsc::sync_channel(1);
        let entry = Entry { records, queued: Arc::default(), left_out: Arc::default() };
        let (queued, left_out) = (entry.queued.clone(), entry.left_out.clone());
        let mut feeder = Feeder { name, sinks, warn, problems: Vec::new(), queued, left_out, told_left_out: 0 };
        thread::Builder::new()
            .name(format!("telemetry-{name}"))
            .spawn(move || {
                feeder.run(&inbox);
                let _ = tell_done.send(feeder.problems); // nobody waits any more: `finish` gave up on us
            })
            .map_err(|source| TelemetryError::Thread { name, source })?;
        Ok(Lane { name, done, entry })
    }

    pub(super) fn entry(&self) -> Entry {
        self.entry.clone()
    }

    /// Lets the sinks take what is queued and finish, for at most `patience`. Returns everything that went wrong.
    pub(super) fn finish(&self, patience: Duration) -> Vec<String> {
        let _ = self.entry.records.send(Message::Finish); // fails only if the thread is gone; `done` says so below
        match self.done.recv_timeout(patience) {
            Ok(problems) => problems,
            Err(RecvTimeoutError::Timeout) => vec![format!(
                "telemetry ({}) did not finish writing within {} s and was left behind: check the disk or terminal",
                self.name,
                patience.as_secs()
            )],
            Err(RecvTimeoutError::Disconnected) => vec![format!("telemetry ({}) stopped; see the log", self.name)],
        }
    }
}

struct Feeder {
    name: &'static str,
    sinks: Vec<Box<dyn Sink>>,
    warn: Warn,
    problems: Vec<String>,
    queued: Arc<AtomicUsize>,
    left_out: Arc<AtomicU64>,
    told_left_out: u64,
}

impl Feeder {
    fn run(&mut self, inbox: &Receiver<Message>) {
        let mut unflushed = 0;
        loop {
            let waiting = if unflushed < BATCH { inbox.try_recv().ok() } else { None };
            let message = match waiting {
                Some(message) => message,
                None => {
                    self.tell_left_out(false);
                    self.each(|sink| sink.flush());
                    unflushed = 0;
                    match inbox.recv_timeout(IDLE) {
                        Ok(message) => message,
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => Message::Finish,
                    }
                }
            };
            match message {
                Message::Record(record) => {
                    self.queued.fetch_sub(1, Ordering::Relaxed);
                    self.each(|sink| sink.record(&record));
                    unflushed += 1;
                }
                Message::Finish => {
                    self.tell_left_out(true);
                    self.each(|sink| sink.finish());
                    return;
                }
            }
        }
    }

    fn each(&mut self, mut ask: impl FnMut(&mut dyn Sink) -> Result<(), TelemetryError>) {
        for sink in &mut self.sinks {
            if let Err(error) = ask(sink.as_mut()) {
                let text = error.to_string();
                (self.warn)(text.clone());
                self.problems.push(text);
            }
        }
    }

    /// Says that records were left out: when it begins, and how many at the end.
    fn tell_left_out(&mut self, last: bool) {
        let left_out = self.left_out.load(Ordering::Relaxed);
        if left_out > self.told_left_out && (last || self.told_left_out == 0) {
            let text = format!(
                "telemetry ({}) can't keep up: {left_out} records of steps were left out; the training itself is not affected",
                self.name
            );
            (self.warn)(text.clone());
            self.problems.push(text);
            self.told_left_out = left_out;
        }
    }
}
