//! TensorBoard event files: the run's curves.
//!
//! The axis of what belongs to an epoch counts epochs from 1, so that runs with different batches line up; the axis of all else
//! counts optimizer steps. The messages are the few fields that scalars need of `event.proto` and `summary.proto`
//! (<https://github.com/tensorflow/tensorboard/tree/master/tensorboard/compat/proto>).
//!
//! Loss and accuracy have two names each, always: `Loss_CIFAR10/train`, which says what was trained on, and `Loss train`, which
//! other reports use. Both are written because a few bytes an epoch are simpler than a setting. Where the training images are
//! measured again, `Train Accuracy` is that pass, as in the reports that make one; `Accuracy_CIFAR10/train` is always as trained.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use super::append::AppendFile;
use super::error::TelemetryError;
use super::event::{Event, Record, RunStarted, Split};
use super::jsonl::CutBack;
use super::replace::replace;
use super::sink::Sink;
use super::tfrecord::{self, Next};

/// TensorBoard takes files with this in their name, and reads them in the order of their names.
const PREFIX: &str = "events.out.tfevents.";

/// Points that a curve of steps has at most. TensorBoard draws 1,000 of them; twice that leaves room to zoom.
const POINTS: u64 = 2000;

/// Of the mean as trained, or of a pass over the training images where there is one.
const TRAIN_ACCURACY: &str = "Train Accuracy";

#[derive(Clone, PartialEq, Message)]
struct TbEvent {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<TbSummary>,
    /// The optimizer step where `step` is an epoch, for [`cut_back`]. Ours: TensorBoard skips fields that it doesn't know, and
    /// its own are numbered from 1.
    #[prost(int64, optional, tag = "1000")]
    optimizer_step: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct TbSummary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<TbValue>,
}

#[derive(Clone, PartialEq, Message)]
struct TbValue {
    #[prost(string, tag = "1")]
    tag: String,
    // Optional, since a value of exactly 0 would be left out of the bytes and then be no scalar at all.
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

fn value(tag: impl Into<String>, value: f64) -> TbValue {
    TbValue { tag: tag.into(), simple_value: Some(value as f32) }
}

fn summary(value: Vec<TbValue>) -> TbEvent {
    TbEvent { summary: Some(TbSummary { value }), ..Default::default() }
}

/// Writes a run's event file. A resumed run begins another one, which TensorBoard shows as the same curves.
pub struct TensorBoard {
    file: AppendFile,
    /// The data set's name in tags: nothing that is not CIFAR-10 is called so.
    set: String,
    classes: Vec<String>,
    /// The training images are measured again.
    train_images: bool,
    /// Steps between two points of a curve of steps.
    every: u64,
    images: u64,
    seconds: f64,
    /// Of the steps since the last point: losses of their examples, and examples.
    losses: (f64, u64),
    workers: BTreeMap<u32, WorkerTotals>,
}

#[derive(Default)]
struct WorkerTotals {
    since: u64,
    compute_seconds: f64,
    wait_seconds: f64,
}

impl TensorBoard {
    /// Begins a new event file in `folder`.
    ///
    /// # Errors
    /// The file can't be created.
    pub fn create(folder: &Path, time: f64) -> Result<TensorBoard, TelemetryError> {
        // Ten digits sort by time; a session within the second of an earlier one takes the next.
        let taken = event_files(folder)?.iter().filter_map(|path| second_of(path)).max();
        let second = taken.map_or(0, |second| second + 1).max(time as u64);
        let path = folder.join(format!("{PREFIX}{second:010}.{}.{}", host(), std::process::id()));
        let mut file = AppendFile::create(&path)?;
        let head = TbEvent { wall_time: time, file_version: Some("brain.Event:2".into()), ..Default::default() };
        file.push(&tfrecord::frame(&head.encode_to_vec()));
        file.flush()?;
        Ok(TensorBoard {
            file,
            set: String::new(),
            classes: Vec::new(),
            train_images: false,
            every: 1,
            images: 0,
            seconds: 0.0,
            losses: (0.0, 0),
            workers: BTreeMap::new(),
        })
    }

    fn write(&mut self, time: f64, step: u64, value: Vec<TbValue>) {
        self.push(TbEvent { wall_time: time, step: step as i64, ..summary(value) });
    }

    /// Values of an epoch, which hold for the parameters after `step`.
    fn write_epoch(&mut self, time: f64, epoch: u32, step: u64, value: Vec<TbValue>) {
        let optimizer_step = Some(step as i64);
        self.push(TbEvent { wall_time: time, step: epoch.into(), optimizer_step, ..summary(value) });
    }

    fn push(&mut self, event: TbEvent) {
        self.file.push(&tfrecord::frame(&event.encode_to_vec()));
    }

    /// Loss and accuracy of a part of the images, under both names.
    fn result(&self, part: &str, loss: f64, accuracy: f64) -> Vec<TbValue> {
        let mut title = part.to_owned();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        vec![
            value(format!("Loss_{}/{part}", self.set), loss),
            value(format!("Accuracy_{}/{part}", self.set), accuracy),
            value(format!("Loss {part}"), loss),
            value(format!("{title} Accuracy"), accuracy),
        ]
    }

    fn start(&mut self, run: &RunStarted) {
        self.set = set_name(&run.data);
        self.classes = run.classes.clone();
        self.train_images = run.train_images;
        self.every = run.steps.div_ceil(POINTS).max(1);
    }

    /// What a worker spends on a step, as the mean since its last point.
    fn worker(&mut self, worker: u32, step: u64, compute_seconds: f64, wait_seconds: f64) -> Option<Vec<TbValue>> {
        let totals =
            self.workers.entry(worker).or_insert(WorkerTotals { since: step.saturating_sub(1), ..Default::default() });
        totals.compute_seconds += compute_seconds;
        totals.wait_seconds += wait_seconds;
        let steps = step.saturating_sub(totals.since);
        if steps < self.every {
            return None;
        }
        let per_step = |seconds: f64| seconds / steps as f64;
        let values = vec![
            value(format!("Worker compute seconds per step/worker {worker}"), per_step(totals.compute_seconds)),
            value(format!("Worker wait seconds per step/worker {worker}"), per_step(totals.wait_seconds)),
        ];
        *totals = WorkerTotals { since: step, ..Default::default() };
        Some(values)
    }
}

impl Sink for TensorBoard {
    fn record(&mut self, record: &Record) -> Result<(), TelemetryError> {
        match &record.event {
            Event::RunStarted(run) => self.start(run),
            &Event::Step { step, lr, loss, images, images_per_s, gradient_norm, .. } => {
                self.losses = (self.losses.0 + loss * images as f64, self.losses.1 + images);
                // a session's first step has no step before it that says how long it took
                if images_per_s > 0.0 {
                    self.images += images;
                    self.seconds += images as f64 / images_per_s;
                }
                if step % self.every == 0 {
                    let mut values = vec![value("Learning rate", lr), value("Gradient norm", gradient_norm)];
                    if self.seconds > 0.0 {
                        values.push(value("Throughput/images_per_s", self.images as f64 / self.seconds));
                    }
                    values.push(value("Running loss", self.losses.0 / self.losses.1.max(1) as f64));
                    (self.images, self.seconds, self.losses) = (0, 0.0, (0.0, 0));
                    self.write(record.time, step, values);
                }
            }
            &Event::EpochEnded { epoch, step, train_loss, train_accuracy, .. } => {
                let mut values = self.result("train", train_loss, train_accuracy);
                values.retain(|value| !self.train_images || value.tag != TRAIN_ACCURACY);
                self.write_epoch(record.time, epoch, step, values);
            }
            Event::Evaluated { step, epoch, split, loss, accuracy, per_class, .. } => {
                let part = match split {
                    Split::Test => "test",
                    Split::Validation => "validation",
                    Split::TrainEval => "train_eval",
                };
                let mut values = self.result(part, *loss, *accuracy);
                if *split == Split::TrainEval {
                    values.push(value(TRAIN_ACCURACY, *accuracy));
                }
                for (class, accuracy) in per_class.iter().enumerate() {
                    let name = self.classes.get(class).map_or_else(|| class.to_string(), String::clone);
                    values.extend(accuracy.map(|accuracy| value(format!("Class accuracy {part}/{name}"), accuracy)));
                }
                self.write_epoch(record.time, *epoch, *step, values);
            }
            &Event::WorkerStats { worker, step, compute_seconds, wait_seconds, .. } => {
                if let Some(values) = self.worker(worker, step, compute_seconds, wait_seconds) {
                    self.write(record.time, step, values);
                }
            }
            Event::Checkpoint { .. } => return self.file.sync(),
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), TelemetryError> {
        self.file.flush()
    }

    fn finish(&mut self) -> Result<(), TelemetryError> {
        self.file.close()
    }
}

/// The data set's name in tags: the first word of what the run calls its data.
fn set_name(data: &str) -> String {
    let word: String = data.trim().chars().take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).collect();
    match word.to_lowercase().as_str() {
        "cifar10" | "cifar-10" | "cifar_10" => "CIFAR10".into(),
        "" => "data".into(),
        _ => word,
    }
}

/// The machine's name, which tells files on a shared disk apart. TensorBoard doesn't read it.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(64).collect();
    if name.is_empty() { "host".into() } else { name }
}

fn second_of(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(PREFIX)?.split('.').next()?.parse().ok()
}

fn event_files(folder: &Path) -> Result<Vec<PathBuf>, TelemetryError> {
    let list = || -> io::Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    };
    list().map_err(TelemetryError::io("read", folder))
}

/// Takes back everything that the event files of `folder` say about what came after `step`, and what a crash has torn.
///
/// Files that need no change are not touched.
///
/// # Errors
/// A file can't be read or replaced; it is then as it was.
pub fn cut_back(folder: &Path, step: u64) -> Result<CutBack, TelemetryError> {
    let mut total = CutBack::default();
    for path in event_files(folder)? {
        let open = || File::open(&path).map(BufReader::new);
        let seen = open().and_then(|file| sift(file, step, io::sink())).map_err(TelemetryError::io("read", &path))?;
        if seen.cut + seen.unreadable > 0 {
            replace(&path, |new| sift(open()?, step, new).map(|_| ()))?;
        }
        total.kept += seen.kept;
        total.cut += seen.cut;
        total.unreadable += seen.unreadable;
    }
    Ok(total)
}

/// Copies the records to keep byte for byte, and counts all. What follows a broken record can't be found: that is one.
fn sift(mut file: impl io::Read, step: u64, mut kept: impl Write) -> io::Result<CutBack> {
    let mut seen = CutBack::default();
    loop {
        match tfrecord::read(&mut file)? {
            Next::End => return Ok(seen),
            Next::Broken(_) => {
                seen.unreadable += 1;
                return Ok(seen);
            }
            Next::Payload(payload) => match TbEvent::decode(&payload[..]) {
                Err(_) => seen.unreadable += 1,
                Ok(event) if event.optimizer_step.unwrap_or(event.step) > step as i64 => seen.cut += 1,
                Ok(_) => {
                    kept.write_all(&tfrecord::frame(&payload))?;
                    seen.kept += 1;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests;
