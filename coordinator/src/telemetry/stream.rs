//! The stream of a run's events: who may speak, and who listens.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::display::Display;
use super::error::TelemetryError;
use super::event::{Event, Record};
use super::jsonl::{self, JsonLines};
use super::lane::{Entry, Lane};
use super::sink::Sink;
use super::tensorboard::{self, TensorBoard};

/// The end of a run waits this long for a disk or a terminal that hangs, then says so and goes on.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where a run's events go.
#[derive(Default)]
pub struct Settings {
    /// The run's folder, which exists; none keeps no files.
    pub folder: Option<PathBuf>,
    pub display: Display,
    /// Set when the run goes on from a checkpoint: its files are cut back to there.
    pub resume: Option<Resume>,
    /// Further sinks (a dashboard, a metrics server), each on a thread of its own.
    pub sinks: Vec<Box<dyn Sink>>,
}

/// Where an earlier session of the run stopped.
#[derive(Clone, Copy, Debug)]
pub struct Resume {
    /// The checkpoint's step.
    pub step: u64,
    /// How long the run had taken until then.
    pub seconds: f64,
}

/// A run's telemetry, from its first event to its last.
pub struct Telemetry {
    emitter: Emitter,
    lanes: Vec<Lane>,
    finished: bool,
}

/// Says what happens; for whoever knows. Clones share one stream.
#[derive(Clone)]
pub struct Emitter {
    clock: Clock,
    entries: Arc<[Entry]>,
}

#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    start_time: f64,
    seconds_before: f64,
}

impl Clock {
    fn stamp(&self, event: Event) -> Record {
        let elapsed = self.start.elapsed().as_secs_f64();
        // Micro-seconds are plenty, and keep the lines short.
        let round = |seconds: f64| (seconds * 1e6).round() / 1e6;
        Record { time: round(self.start_time + elapsed), seconds: round(self.seconds_before + elapsed), event }
    }
}

impl Emitter {
    /// Takes an event. Never blocks and never fails; what a sink can't take is counted and told as a warning.
    pub fn emit(&self, event: Event) {
        let record = Arc::new(self.clock.stamp(event));
        for entry in self.entries.iter() {
            entry.send(record.clone());
        }
    }

    /// Returns once the run's files hold what was emitted, or `patience` is over. The display is not asked: a terminal may be
    /// stopped for as long as its user likes.
    pub fn settle(&self, patience: Duration) {
        for entry in self.entries.iter().skip(1) {
            entry.settle(patience);
        }
    }

    /// Seconds since the run began, earlier sessions included.
    pub fn seconds(&self) -> f64 {
        self.clock.seconds_before + self.clock.start.elapsed().as_secs_f64()
    }
}

impl Telemetry {
    /// Opens the files and starts the threads.
    ///
    /// # Errors
    /// The folder can't be used: better now than after an hour. Later on, the disk's errors are warnings.
    pub fn start(settings: Settings) -> Result<Telemetry, TelemetryError> {
        let start_time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let seconds_before = settings.resume.map_or(0.0, |resume| resume.seconds);
        let clock = Clock { start: Instant::now(), start_time, seconds_before };
        let mut notices = Vec::new();
        let mut files: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(folder) = &settings.folder {
            if let Some(resume) = settings.resume {
                let metrics = folder.join(jsonl::FILE);
                let torn = jsonl::cut_back(&metrics, resume.step)?.unreadable
                    + tensorboard::cut_back(folder, resume.step)?.unreadable;
                if torn > 0 {
                    notices.push(format!("{torn} torn records of the earlier session were removed"));
                }
            }
            files.push(Box::new(JsonLines::open(folder, settings.resume.is_some())?));
            files.push(Box::new(TensorBoard::create(folder, start_time)?));
        }

        let screen = Lane::start("display", vec![settings.display.sink()], Box::new(|_| {}))?;
        let mut lanes = vec![screen];
        let mut add = |name, sinks: Vec<Box<dyn Sink>>| {
            // What the files complain about is shown to the user, and not written to the files.
            let show = lanes[0].entry();
            let warn = move |text| show.send(Arc::new(clock.stamp(Event::Warning { text })));
            Lane::start(name, sinks, Box::new(warn)).map(|lane| lanes.push(lane))
        };
        add("files", files)?;
        for sink in settings.sinks {
            add("sink", vec![sink])?;
        }

        let emitter = Emitter { clock, entries: lanes.iter().map(Lane::entry).collect() };
        for text in notices {
            emitter.emit(Event::Notice { text });
        }
        Ok(Telemetry { emitter, lanes, finished: false })
    }

    /// Takes an event; see [`Emitter::emit`].
    pub fn emit(&self, event: Event) {
        self.emitter.emit(event);
    }

    /// A handle for another thread or task.
    pub fn emitter(&self) -> Emitter {
        self.emitter.clone()
    }

    /// Writes out what was emitted and ends the threads, within a deadline. Returns the warnings about files that were shown: empty if
    /// all that happened is on disk.
    pub fn finish(mut self) -> Vec<String> {
        self.end()
    }

    fn end(&mut self) -> Vec<String> {
        self.finished = true;
        let mut problems = Vec::new();
        // The display (0) comes last, so that it can show what the others have to say.
        for lane in self.lanes.iter().rev() {
            problems.extend(lane.finish(PATIENCE));
        }
        problems
    }
}

impl Drop for Telemetry {
    /// A run that ends by an error still leaves its last lines, and a terminal in order.
    fn drop(&mut self) {
        if !self.finished {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::sync::mpsc;

    /// Remembers events; waits before the first until it may go on.
    struct Slow {
        gate: mpsc::Receiver<()>,
        seen: Arc<Mutex<Vec<Event>>>,
    }

    impl Sink for Slow {
        fn record(&mut self, record: &Record) -> Result<(), TelemetryError> {
            let mut seen = self.seen.lock().expect("no panic elsewhere");
            if seen.is_empty() {
                self.gate.recv().expect("opened");
            }
            seen.push(record.event.clone());
            Ok(())
        }
    }

    fn stats(step: u64) -> Event {
        Event::WorkerStats { worker: 0, step, shards: 1, images: 1, compute_seconds: 0.0, wait_seconds: 0.0 }
    }

    #[test]
    fn a_sink_that_hangs_holds_up_nobody_and_keeps_the_rare_events() {
        let (open, gate) = mpsc::channel();
        let seen = Arc::default();
        let sink = Slow { gate, seen: Arc::clone(&seen) };
        let folder = tempfile::tempdir().expect("folder");
        let telemetry = Telemetry::start(Settings {
            folder: Some(folder.path().to_path_buf()),
            display: Display::Silent,
            sinks: vec![Box::new(sink)],
            ..Settings::default()
        })
        .expect("start");
        let many = 70_000;
        for step in 1..=many {
            telemetry.emit(stats(step));
        }
        telemetry.emit(Event::Notice { text: "last".into() });
        open.send(()).expect("the sink waits");
        let problems = telemetry.finish();
        let seen = seen.lock().expect("no panic elsewhere");
        assert_eq!(seen.last(), Some(&Event::Notice { text: "last".into() }));
        assert!((65_000..66_000).contains(&seen.len()), "{} events", seen.len());
        assert!(problems.iter().any(|text| text.contains("left out")), "{problems:?}");
    }

    #[test]
    fn a_resumed_run_tells_each_step_once_and_goes_on_counting_seconds() {
        let folder = tempfile::tempdir().expect("folder");
        let session = |resume: Option<Resume>, steps: std::ops::RangeInclusive<u64>| {
            let settings = Settings {
                folder: Some(folder.path().to_path_buf()),
                display: Display::Silent,
                resume,
                ..Settings::default()
            };
            let telemetry = Telemetry::start(settings).expect("start");
            steps.for_each(|step| telemetry.emit(stats(step)));
            assert!(telemetry.finish().is_empty());
        };
        session(None, 1..=5);
        session(Some(Resume { step: 3, seconds: 100.0 }), 4..=6);
        let text = std::fs::read_to_string(folder.path().join(jsonl::FILE)).expect("metrics");
        let records: Vec<Record> = text.lines().map(|line| serde_json::from_str(line).expect("record")).collect();
        let steps: Vec<_> = records.iter().filter_map(|record| record.event.step()).collect();
        assert_eq!(steps, [1, 2, 3, 4, 5, 6]);
        assert!(records[2].seconds < 100.0 && records[3].seconds >= 100.0);
        assert!(records[3].time >= records[2].time);
    }

    #[test]
    fn a_folder_is_used_once_unless_resuming() {
        let folder = tempfile::tempdir().expect("folder");
        let settings =
            || Settings { folder: Some(folder.path().to_path_buf()), display: Display::Silent, ..Settings::default() };
        Telemetry::start(settings()).expect("first").finish();
        let error = Telemetry::start(settings()).err().expect("second").to_string();
        assert!(error.contains("metrics.jsonl") && error.contains("resume"), "{error}");
    }
}
