//! What is known of a run at this moment, and how that looks in a few lines. No terminal here, so that tests can read it.

use std::collections::BTreeMap;

use console::measure_text_width;

use super::colours::Colours;
use super::event::{Event, Record, RunStarted, Split};
use super::format::{clean, clock, loss, percent, rate, thousands};
use super::pace::Pace;

/// A worker that reported nothing for so long is shown as silent: longer than any step of a healthy run on small networks,
/// and short enough to be seen before its lease runs out.
const SILENT_AFTER: f64 = 10.0;

/// Lost workers leave the screen after this.
const FORGET_AFTER: f64 = 60.0;

/// The rates shown are those of about the last seconds: steady enough to read, quick enough to show a lost worker.
const RATE_SECONDS: f64 = 10.0;
const WORKER_RATE_SECONDS: f64 = 2.0;

/// The time left is judged by the last minutes, evaluations included, so that it doesn't jump about.
const LEFT_SECONDS: f64 = 300.0;

/// Which characters draw the bar.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Glyphs {
    Unicode,
    Ascii,
}

/// What there is to see at a moment, before anything is cut to the terminal's width.
#[derive(Debug, PartialEq)]
pub(super) struct View {
    pub epoch: String,
    pub step: u64,
    /// At least 1, so that an unknown run is no finished one.
    pub steps: u64,
    /// Percentage and time left.
    pub left: String,
    /// What the run is doing, and its workers.
    pub lines: Vec<String>,
}

pub(super) struct Board {
    pub run: RunStarted,
    /// Images, in the time of steps; steps, in all the time.
    images_pace: Pace,
    steps_pace: Pace,
    epoch: u32,
    step: u64,
    /// When that step was done; none before this session's first.
    stepped: Option<f64>,
    /// Sums over the current epoch, weighted by images.
    loss: f64,
    accuracy: f64,
    images: f64,
    activity: Option<Activity>,
    workers: BTreeMap<u32, Worker>,
}

enum Activity {
    Evaluating { split: Split, done: u64, images: u64 },
    Waiting { what: String, until: f64 },
}

struct Worker {
    name: String,
    device_class: String,
    seen: f64,
    /// Shards since it joined: none means that it has never had work.
    shards: u64,
    images: Pace,
    /// Seconds spent computing.
    busy: Pace,
    lost: Option<(f64, String)>,
}

impl Board {
    pub(super) fn new() -> Board {
        Board {
            run: RunStarted::default(),
            images_pace: Pace::over(RATE_SECONDS),
            steps_pace: Pace::over(LEFT_SECONDS),
            epoch: 0,
            step: 0,
            stepped: None,
            loss: 0.0,
            accuracy: 0.0,
            images: 0.0,
            activity: None,
            workers: BTreeMap::new(),
        }
    }

    /// Takes in what a record says.
    pub(super) fn take(&mut self, record: &Record) {
        let now = record.seconds;
        match &record.event {
            Event::RunStarted(run) => {
                self.step = run.resumed_from.unwrap_or(0);
                self.run = run.clone();
            }
            &Event::Step { step, epoch, loss, accuracy, images, images_per_s, .. } => {
                if epoch != self.epoch {
                    (self.loss, self.accuracy, self.images) = (0.0, 0.0, 0.0);
                }
                (self.step, self.epoch) = (step, epoch);
                self.loss += loss * images as f64;
                self.accuracy += accuracy * images as f64;
                self.images += images as f64;
                let took = images as f64 / images_per_s;
                self.images_pace.add(images as f64, took);
                self.steps_pace.add(1.0, self.stepped.map_or(took, |before| now - before));
                self.stepped = Some(now);
                self.activity = None;
            }
            &Event::EvaluationProgress { split, done, images, .. } => {
                self.activity = Some(Activity::Evaluating { split, done, images });
            }
            Event::Evaluated { .. } => self.activity = None,
            Event::Waiting { what, deadline_seconds } => {
                self.activity = Some(Activity::Waiting { what: what.clone(), until: now + deadline_seconds });
            }
            Event::WorkerJoined { worker, name, device_class, .. } => {
                let (name, device_class) = (short(name), clean(device_class));
                let (images, busy) = (Pace::over(WORKER_RATE_SECONDS), Pace::over(WORKER_RATE_SECONDS));
                let joined = Worker { name, device_class, seen: now, shards: 0, images, busy, lost: None };
                self.workers.insert(*worker, joined);
            }
            Event::WorkerLeft { worker, reason, .. } => {
                if let Some(worker) = self.workers.get_mut(worker) {
                    worker.lost = Some((now, clean(reason)));
                }
            }
            &Event::WorkerStats { worker, shards, images, compute_seconds, wait_seconds, .. } => {
                // What a lost worker did before it was lost may arrive after: it stays lost until it joins again.
                if let Some(worker) = self.workers.get_mut(&worker).filter(|worker| worker.lost.is_none()) {
                    worker.work(now, shards, images, compute_seconds, wait_seconds);
                }
            }
            _ => {}
        }
        self.workers.retain(|_, worker| worker.lost.as_ref().is_none_or(|(at, _)| now - at < FORGET_AFTER));
    }

    /// What a worker is called on the screen: its own name, as in the lines of its log.
    pub(super) fn name(&self, worker: u32) -> String {
        let known = self.workers.get(&worker).map(|worker| worker.name.clone()).filter(|name| !name.is_empty());
        known.unwrap_or_else(|| format!("worker {worker}"))
    }

    /// The time left, as seen at `now`.
    pub(super) fn left(&self, now: f64) -> Option<String> {
        let at_last = self.run.steps.saturating_sub(self.step) as f64 / self.steps_pace.rate();
        // Counts down between slow steps, too.
        self.stepped.filter(|_| at_last.is_finite()).map(|stepped| clock(at_last - (now - stepped).max(0.0)))
    }

    /// `epoch  3/20`, of constant width within a run.
    pub(super) fn epoch_text(&self, epoch: u32) -> String {
        if self.run.epochs == 0 {
            return "epoch -".to_owned(); // the run has not said yet how many it has
        }
        let epochs = self.run.epochs.to_string();
        format!("epoch {epoch:>width$}/{epochs}", width = epochs.len())
    }

    /// What is seen at `now`, in at most `height` lines below the bar's.
    pub(super) fn view(&self, now: f64, height: usize, colours: &Colours) -> View {
        let mut lines = vec![self.state(now, colours)];
        let room = height.saturating_sub(lines.len());
        let shown = if self.workers.len() > room { room.saturating_sub(1) } else { self.workers.len() };
        let names: Vec<(String, &Worker)> =
            self.workers.iter().take(shown).map(|(id, worker)| (self.name(*id), worker)).collect();
        let widest = names.iter().map(|(name, _)| measure_text_width(name)).max().unwrap_or(0);
        lines.extend(names.iter().map(|(name, worker)| {
            let pad = " ".repeat(widest - measure_text_width(name));
            worker.line(&format!("  {name}{pad}"), now, colours)
        }));
        let hidden = self.workers.len() - shown;
        if hidden > 0 && room > 0 {
            let lost = self.workers.values().skip(shown).filter(|worker| worker.lost.is_some()).count();
            let lost = if lost > 0 { format!(", {lost} of them lost") } else { String::new() };
            lines.push(colours.dim.apply_to(format!("  and {hidden} more workers{lost}")).to_string());
        }
        let (step, steps) = (self.step, self.run.steps.max(1));
        // Never 100% before the last step.
        let percent = (step as f64 * 100.0 / steps as f64).floor();
        let left = self.left(now).map_or_else(|| "-".into(), |left| format!("{left} left"));
        View { epoch: self.epoch_text(self.epoch.max(1)), step, steps, left: format!("{percent:>3}%  {left}"), lines }
    }

    /// What the run is doing, for a line of its own.
    pub(super) fn state(&self, now: f64, colours: &Colours) -> String {
        match &self.activity {
            Some(Activity::Waiting { what, until }) => {
                let left = clock(until - now);
                colours.warn.apply_to(format!("waiting for {what}, for {left} at most")).to_string()
            }
            Some(Activity::Evaluating { split, done, images }) => {
                let split = split_name(*split);
                format!("evaluating {split} {}/{}", thousands(*done), thousands(*images))
            }
            None if self.images == 0.0 => colours.dim.apply_to("starting").to_string(),
            None => {
                let steps = thousands(self.run.steps);
                let step = format!("step {:>width$}/{steps}", thousands(self.step), width = steps.len());
                let mean_loss = self.loss / self.images;
                let mean_loss_text = loss(mean_loss);
                let mean_loss_text =
                    if mean_loss.is_finite() { &colours.strong } else { &colours.bad }.apply_to(mean_loss_text);
                let accuracy = percent(self.accuracy / self.images);
                let accuracy = colours.strong.apply_to(format!("{accuracy:>6}"));
                let speed = rate(self.images_pace.rate());
                format!("{step}  loss {mean_loss_text}  accuracy {accuracy}  {speed:>6} images/s")
            }
        }
    }
}

impl Worker {
    fn work(&mut self, now: f64, shards: u32, images: u64, compute_seconds: f64, wait_seconds: f64) {
        let span = compute_seconds + wait_seconds;
        self.images.add(images as f64, span);
        self.busy.add(compute_seconds, span);
        self.shards += u64::from(shards);
        self.seen = now;
    }

    /// At most 80 columns while it computes: its device class, which is the whole run's, is told only before that.
    fn line(&self, head: &str, now: f64, colours: &Colours) -> String {
        let silent = now - self.seen;
        if let Some((_, reason)) = &self.lost {
            return format!("{head}  {}", colours.bad.apply_to(format!("lost: {reason}")));
        }
        let state = if self.shards == 0 {
            colours.dim.apply_to("idle".into())
        } else if silent >= SILENT_AFTER {
            colours.warn.apply_to(format!("silent {}", clock(silent)))
        } else {
            colours.good.apply_to("computing".into())
        };
        if self.shards == 0 {
            return format!("{head}  {state}        {}", colours.dim.apply_to(&self.device_class));
        }
        let pad = " ".repeat(12usize.saturating_sub(measure_text_width(&state.to_string())));
        let (speed, busy) = (rate(self.images.rate()), (self.busy.rate() * 100.0).round());
        format!("{head}  {state}{pad}{:>9} shards  {speed:>6} images/s  {busy:>3}% busy", thousands(self.shards))
    }
}

/// A worker's name as it fits into a line of 80 columns beside its numbers.
fn short(name: &str) -> String {
    const MOST: usize = 20;
    let name = clean(name);
    if name.chars().count() <= MOST { name } else { name.chars().take(MOST - 1).chain(['~']).collect() }
}

/// The word for a split in what people read.
pub(super) fn split_name(split: Split) -> &'static str {
    match split {
        Split::Test => "test",
        Split::Validation => "valid",
        Split::TrainEval => "train",
    }
}

#[cfg(test)]
mod tests;
