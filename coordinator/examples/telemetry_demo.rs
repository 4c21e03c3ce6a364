//! Plays a made-up run, to look at what people see of a real one:
//! `cargo run --release -p lockstep-coordinator --example telemetry_demo -- [bars|plain|json|quiet] [steps a second] [workers] [folder]`

use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use lockstep_coordinator::telemetry::event::RunStarted;
use lockstep_coordinator::telemetry::summary::accuracy_by_class;
use lockstep_coordinator::telemetry::{
    ClassAccuracy, Display, Event, Ledger, Settings, Split, Summary, Telemetry, TelemetryError, table, writer,
};

const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
const EPOCHS: u32 = 5;
const STEPS: u64 = 200;

fn main() -> Result<(), TelemetryError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let display = match arguments.first().map(String::as_str) {
        Some("bars") => Display::Bars,
        Some("plain") => Display::Plain,
        Some("json") => Display::Json,
        Some("quiet") => Display::Quiet,
        _ => Display::detect(),
    };
    let number = |at: usize, default| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (speed, workers) = (number(1, 40), number(2, 3) as u32);
    let folder = arguments.get(3).map(PathBuf::from);
    let telemetry = Telemetry::start(Settings { folder: folder.clone(), display, ..Settings::default() })?;
    let confusion = play(&telemetry, speed.max(1), workers, folder.unwrap_or_default());
    for problem in telemetry.finish() {
        eprintln!("finish: {problem}");
    }
    if matches!(display, Display::Bars | Display::Plain) {
        // Nobody may be reading any more.
        let _ = writeln!(std::io::stdout(), "\n{confusion}");
    }
    Ok(())
}

fn play(telemetry: &Telemetry, speed: u64, workers: u32, folder: PathBuf) -> String {
    let started = Instant::now();
    let run = RunStarted {
        run: folder.display().to_string(),
        model: "lenet".into(),
        data: "cifar10 (binary)".into(),
        classes: CLASSES.map(String::from).to_vec(),
        workers,
        shards: 4,
        batch_size: 64,
        epochs: EPOCHS,
        steps: STEPS * u64::from(EPOCHS),
        parameters: 61_706,
        seed: 7,
        device_class: "cpu-v4".into(),
        train_images: false,
        resumed_from: None,
    };
    telemetry.emit(Event::RunStarted(run.clone()));
    telemetry.emit(Event::Waiting { what: format!("{workers} workers"), deadline_seconds: 60.0 });
    sleep(Duration::from_millis(800));
    for worker in 0..workers {
        telemetry.emit(Event::WorkerJoined {
            worker,
            name: format!("worker-{worker}"),
            device_class: "cpu-v4".into(),
            threads: 1,
        });
    }
    telemetry.emit(Event::Notice { text: format!("{workers} workers for 4 shards: some work more than others") });
    let mut last = (2.3, 0.1);
    for step in 1..=run.steps {
        let epoch = ((step - 1) / STEPS) as u32 + 1;
        sleep(Duration::from_secs_f64(1.0 / speed as f64));
        let done = step as f64 / run.steps as f64;
        let noise = (step as f64 * 12.9898).sin() * 0.1;
        last = (2.3 - 1.2 * done.sqrt() + noise, 0.1 + 0.5 * done.sqrt() + noise / 4.0);
        let images_per_s = 64.0 * speed as f64 * (1.0 + noise);
        for worker in 0..workers.min(4) {
            let (shards, images) = (4 / workers.clamp(1, 4), 64 / u64::from(workers.clamp(1, 4)));
            let seconds = 1.0 / speed as f64;
            telemetry.emit(Event::WorkerStats {
                worker,
                step,
                shards,
                images,
                compute_seconds: seconds * (0.9 - noise),
                wait_seconds: seconds * (0.1 + noise),
            });
        }
        telemetry.emit(Event::Step {
            step,
            epoch,
            lr: 0.01,
            loss: last.0,
            accuracy: last.1,
            images: 64,
            images_per_s,
            gradient_norm: 1.0,
        });
        if step == run.steps / 2 && workers > 1 {
            telemetry.emit(Event::WorkerLeft { worker: 1, reason: "connection reset by peer".into(), reissued: 2 });
            // The log is never fatal to anything.
            let _ = writeln!(writer(), "2026-01-02T03:04:05Z  INFO a line of the log, above the bars");
        }
        if step == run.steps * 6 / 10 && workers > 1 {
            telemetry.emit(Event::WorkerJoined {
                worker: 1,
                name: "worker-1".into(),
                device_class: "cpu-v4".into(),
                threads: 1,
            });
        }
        if step % STEPS == 0 {
            telemetry.emit(Event::EpochEnded {
                epoch,
                step,
                train_loss: last.0,
                train_accuracy: last.1,
                images_per_s,
                lr: 0.01,
            });
            evaluate(telemetry, step, epoch, last);
            telemetry.emit(Event::Checkpoint {
                step,
                path: "checkpoints/last".into(),
                best: true,
                write_seconds: 0.01,
            });
        }
    }
    let confusion = confusion();
    let accuracies = accuracy_by_class(&confusion).into_iter().zip(CLASSES);
    let summary = Summary {
        wire: "f32".to_owned(),
        model: run.model,
        data: run.data,
        workers,
        shards: run.shards,
        batch_size: run.batch_size,
        epochs: EPOCHS,
        steps: run.steps,
        seed: run.seed,
        device_class: run.device_class,
        train_loss: Some(last.0),
        train_accuracy: Some(last.1),
        train_penalty: None,
        train_eval_loss: None,
        train_eval_accuracy: None,
        test_loss: Some(last.0 + 0.1),
        test_accuracy: Some(last.1 - 0.02),
        test_images: 10_000,
        images_per_s: 64.0 * speed as f64,
        seconds: started.elapsed().as_secs_f64(),
        weights_hash: "made-up-".repeat(8),
        ledger: Ledger { used: run.steps * 64, reissued: 2, ..Ledger::default() },
        evaluation_mode: "eval".into(),
        recipe: "lenet".into(),
        parameters: run.parameters,
        data_hash: String::new(),
        best_accuracy: Some(last.1 - 0.02),
        best_step: Some(run.steps),
        per_class: accuracies.map(|(accuracy, class)| ClassAccuracy { class: class.into(), accuracy }).collect(),
        confusion,
        dead_outputs: None,
        folder: run.run,
        stopped_early: false,
        ..Summary::default()
    };
    let confusion = table::confusion(&summary);
    telemetry.emit(Event::RunEnded { summary: Box::new(summary) });
    confusion
}

fn evaluate(telemetry: &Telemetry, step: u64, epoch: u32, last: (f64, f64)) {
    let split = Split::Test;
    for done in (0..=10_000).step_by(500) {
        telemetry.emit(Event::EvaluationProgress { step, split, done, images: 10_000 });
        sleep(Duration::from_millis(40));
    }
    let confusion = confusion();
    telemetry.emit(Event::Evaluated {
        step,
        epoch,
        split,
        loss: last.0 + 0.1,
        accuracy: last.1 - 0.02,
        per_class: accuracy_by_class(&confusion),
        confusion,
        images: 10_000,
        dead_outputs: None,
        best: epoch != 3,
    });
}

fn confusion() -> Vec<Vec<u32>> {
    let cell = |actual: u32, predicted: u32| match actual == predicted {
        true => 1000 - 9 * (20 + 3 * actual),
        false => 20 + 3 * actual,
    };
    (0..10).map(|actual| (0..10).map(|predicted| cell(actual, predicted)).collect()).collect()
}
