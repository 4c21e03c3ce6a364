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
    /// Say when everything before is flushed.
    Settle(mpsc::SyncSender<()>),
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

impl Entry {
    /// Returns once what was sent before is flushed, or `patience` is over.
    pub(super) fn settle(&self, patience: Duration) {
        // room for one: the lane never waits for us
        let (tell, told) = mpsc::sync_channel(1);
        if self.records.send(Message::Settle(tell)).is_ok() {
            let _ = told.recv_timeout(patience);
        }
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
                Message::Settle(told) => {
                    self.each(|sink| sink.flush());
                    unflushed = 0;
                    // whoever asked may have lost patience
                    let _ = told.send(());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::event::Event;
    use std::path::Path;
    use std::sync::Mutex;

    /// Does with each record what its function says.
    struct With<F>(F);

    impl<F: FnMut(&Record) -> Result<(), TelemetryError> + Send> Sink for With<F> {
        fn record(&mut self, record: &Record) -> Result<(), TelemetryError> {
            (self.0)(record)
        }
    }

    fn notice(text: &str) -> Arc<Record> {
        Arc::new(Record { time: 0.0, seconds: 0.0, event: Event::Notice { text: text.into() } })
    }

    #[test]
    fn a_sink_that_fails_is_told_of_and_does_not_keep_records_from_the_next() {
        let seen = Arc::new(Mutex::new(0));
        let count = Arc::clone(&seen);
        let failing = With(|_: &Record| {
            Err(TelemetryError::io("write", Path::new("metrics.jsonl"))(std::io::ErrorKind::StorageFull.into()))
        });
        let counting = With(move |_: &Record| {
            *count.lock().expect("no panic elsewhere") += 1;
            Ok(())
        });
        let warned = Arc::new(Mutex::new(Vec::new()));
        let warnings = Arc::clone(&warned);
        let warn = Box::new(move |text| warnings.lock().expect("no panic elsewhere").push(text));
        let lane = Lane::start("test", vec![Box::new(failing), Box::new(counting)], warn).expect("start");
        for _ in 0..3 {
            lane.entry().send(notice("a"));
        }
        let problems = lane.finish(Duration::from_secs(60));
        assert_eq!(*seen.lock().expect("no panic elsewhere"), 3);
        assert_eq!(problems.len(), 3);
        assert!(problems[0].contains("metrics.jsonl") && problems[0].contains("free some space"), "{problems:?}");
        assert_eq!(*warned.lock().expect("no panic elsewhere"), problems);
    }

    #[test]
    fn settled_means_flushed() {
        #[derive(Default)]
        struct Counts(Arc<Mutex<(u32, u32)>>);
        impl Sink for Counts {
            fn record(&mut self, _: &Record) -> Result<(), TelemetryError> {
                self.0.lock().expect("no panic elsewhere").0 += 1;
                Ok(())
            }
            fn flush(&mut self) -> Result<(), TelemetryError> {
                let mut counts = self.0.lock().expect("no panic elsewhere");
                counts.1 = counts.0;
                Ok(())
            }
        }
        let counts = Counts::default();
        let seen = Arc::clone(&counts.0);
        let lane = Lane::start("test", vec![Box::new(counts)], Box::new(|_| {})).expect("start");
        for _ in 0..100 {
            lane.entry().send(notice("a"));
        }
        lane.entry().settle(Duration::from_secs(60));
        assert_eq!(*seen.lock().expect("no panic elsewhere"), (100, 100));
    }

    #[test]
    fn a_sink_that_hangs_for_good_is_left_behind_by_name() {
        let (open, gate) = mpsc::channel::<()>();
        let hanging = With(move |_: &Record| {
            let _ = gate.recv(); // until the test is over
            Ok(())
        });
        let lane = Lane::start("test", vec![Box::new(hanging)], Box::new(|_| {})).expect("start");
        lane.entry().send(notice("a"));
        let problems = lane.finish(Duration::from_millis(20));
        assert!(problems[0].contains("(test) did not finish"), "{problems:?}");
        drop(open);
    }

    #[test]
    fn what_is_said_after_the_end_does_no_harm() {
        let lane = Lane::start("test", Vec::new(), Box::new(|_| {})).expect("start");
        let entry = lane.entry();
        assert!(lane.finish(Duration::from_secs(60)).is_empty());
        entry.send(notice("late"));
    }
}
