//! How fast the run is, and where a step's time goes. Evaluations do not count.

use std::time::{Duration, Instant};

use crate::run::Timing;

/// The clock of the steps.
#[derive(Debug)]
pub(super) struct Meter {
    last: Option<Instant>,
    epoch: Rate,
    all: Rate,
    steady: Rate,
    /// Steps before the steady part begins: connections, caches and clocks settle.
    warm_up: u64,
    pub(super) steps: u64,
    /// Seconds of each steady step.
    seconds: Vec<f32>,
    /// Sums over the steady steps.
    split: Split,
    /// What is known of the open step.
    open: Open,
    pub(super) told_workers: Instant,
    /// What checkpoints have kept the steps waiting; they are written meanwhile.
    pub(super) snapshots: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    images: u64,
    time: Duration,
}

impl Rate {
    fn add(&mut self, images: u64, time: Duration) {
        self.images += images;
        self.time += time;
    }

    fn per_second(self) -> f64 {
        if self.time.is_zero() { 0.0 } else { self.images as f64 / self.time.as_secs_f64() }
    }
}

/// Seconds, summed over steps.
#[derive(Clone, Copy, Debug, Default)]
struct Split {
    compute: f64,
    encode: f64,
    straggle: f64,
    sum: f64,
    optimizer: f64,
    publish: f64,
}

/// The answers of the open step.
#[derive(Debug, Default)]
struct Open {
    /// Microseconds of compute and encode, all workers.
    compute_us: u64,
    encode_us: u64,
    /// When each worker's last answer came.
    arrivals: Vec<(u64, Instant)>,
    sum: Duration,
    publish: Duration,
}

impl Meter {
    /// For a run with `steps` to go.
    pub(super) fn new(steps: u64) -> Self {
        Self {
            last: None,
            epoch: Rate::default(),
            all: Rate::default(),
            steady: Rate::default(),
            warm_up: (steps / 10).max(10),
            steps: 0,
            seconds: Vec::new(),
            split: Split::default(),
            open: Open::default(),
            told_workers: Instant::now(),
            snapshots: Duration::ZERO,
        }
    }

    /// An answer came.
    pub(super) fn answered(&mut self, worker: u64, compute_us: u64, encode_us: u64) {
        self.open.compute_us += compute_us;
        self.open.encode_us += encode_us;
        let now = Instant::now();
        match self.open.arrivals.iter_mut().find(|(other, _)| *other == worker) {
            Some((_, last)) => *last = now,
            None => self.open.arrivals.push((worker, now)),
        }
    }

    /// Adding an answer up took so long.
    pub(super) fn summed(&mut self, time: Duration) {
        self.open.sum += time;
    }

    /// Laying the parameters down for workers took so long. It counts for the step that they begin.
    pub(super) fn published(&mut self, time: Duration) {
        self.open.publish += time;
    }

    /// A step of `images` is done, whose optimizer took `optimizer`; returns its images a second.
    pub(super) fn step(&mut self, images: u64, optimizer: Duration) -> f64 {
        let now = Instant::now();
        self.steps += 1;
        let open = std::mem::take(&mut self.open);
        // The first step after a pause has no beginning: leases, connections and evaluations lie in between.
        let Some(last) = self.last.replace(now) else { return f64::NAN };
        let time = now - last;
        self.epoch.add(images, time);
        self.all.add(images, time);
        if self.steps > self.warm_up {
            self.steady.add(images, time);
            self.seconds.push(time.as_secs_f32());
            self.split.add(&open, optimizer);
        }
        images as f64 / time.as_secs_f64()
    }

    /// Images that were computed: of the epoch, of the run, of its steady part.
    pub(super) fn images(&self) -> [u64; 3] {
        [self.epoch, self.all, self.steady].map(|rate| rate.images)
    }

    /// All since then have to be computed again: their time stays (but for what an epoch took that had ended).
    pub(super) fn take_back(&mut self, images: [u64; 3]) {
        for (rate, images) in [&mut self.epoch, &mut self.all, &mut self.steady].into_iter().zip(images) {
            rate.images = images;
        }
    }

    pub(super) fn pause(&mut self) {
        self.last = None;
    }

    pub(super) fn resume(&mut self) {
        self.last = Some(Instant::now());
    }

    /// Images a second of the epoch that ends.
    pub(super) fn end_epoch(&mut self) -> f64 {
        std::mem::take(&mut self.epoch).per_second()
    }

    pub(super) fn average(&self) -> f64 {
        self.all.per_second()
    }

    pub(super) fn steady(&self) -> f64 {
        self.steady.per_second()
    }

    /// Means over the steady steps.
    pub(super) fn timing(&self) -> Timing {
        let steps = self.seconds.len().max(1) as f64;
        let Split { compute, encode, straggle, sum, optimizer, publish } = self.split;
        let step = self.steady.time.as_secs_f64() / steps;
        let known = (compute + encode + straggle + sum + optimizer + publish) / steps;
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f32::total_cmp);
        Timing {
            steps: self.seconds.len(),
            median: sorted.get(sorted.len() / 2).copied().unwrap_or(0.0).into(),
            step,
            compute: compute / steps,
            encode: encode / steps,
            // what nobody saw pass: messages on their way, threads waking up
            wire: (step - known).max(0.0),
            straggle: straggle / steps,
            sum: sum / steps,
            optimizer: optimizer / steps,
            publish: publish / steps,
        }
    }
}

impl Split {
    fn add(&mut self, open: &Open, optimizer: Duration) {
        let workers = open.arrivals.len().max(1) as f64;
        self.compute += open.compute_us as f64 / 1e6 / workers;
        self.encode += open.encode_us as f64 / 1e6 / workers;
        if let Some(last) = open.arrivals.iter().map(|(_, at)| *at).max() {
            // how long the mean worker had answered before the last one did
            self.straggle += open.arrivals.iter().map(|(_, at)| (last - *at).as_secs_f64()).sum::<f64>() / workers;
        }
        self.sum += open.sum.as_secs_f64();
        self.optimizer += optimizer.as_secs_f64();
        self.publish += open.publish.as_secs_f64();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_step_make_up_the_step() {
        let mut meter = Meter::new(20);
        meter.resume();
        for _ in 0..20 {
            meter.answered(1, 400, 20);
            meter.answered(2, 200, 20);
            meter.summed(Duration::from_micros(30));
            std::thread::sleep(Duration::from_millis(1));
            meter.step(64, Duration::from_micros(50));
        }
        let t = meter.timing();
        assert_eq!(t.steps, 10, "the first ten are not timed");
        let parts = t.compute + t.encode + t.wire + t.straggle + t.sum + t.optimizer + t.publish;
        assert!((parts - t.step).abs() < 1e-9, "{t:?}");
        assert!((t.compute - 300e-6).abs() < 1e-12 && (t.sum - 30e-6).abs() < 1e-12, "{t:?}");
        assert!(t.median >= 1e-3);
    }
}
