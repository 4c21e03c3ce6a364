//! Events as lines of text, for a log or above the bars. Aligned, so that a column of epochs can be read down.

use super::board::{Board, split_name};
use super::colours::Colours;
use super::event::{Event, Record, RunStarted, Split};
use super::format::{clean, clock, count, loss, percent, rate, thousands};

/// The line for a record, where it deserves one. `board` has taken it already. `alone`: there are no bars, which show the
/// time left and the workers themselves.
pub(super) fn line(record: &Record, board: &Board, alone: bool, colours: &Colours) -> Option<String> {
    let text = match &record.event {
        Event::RunStarted(run) => started(run, colours),
        &Event::EpochEnded { epoch, train_loss, train_accuracy, images_per_s, .. } => {
            let measured = measured(board.epoch_text(epoch), "train", train_loss, train_accuracy);
            let mut time = clock(record.seconds);
            if let Some(remaining) = board.left(record.seconds).filter(|_| alone) {
                time += &format!(", {remaining} left");
            }
            format!("{measured}  {:>6} images/s  {time}", rate(images_per_s))
        }
        &Event::Evaluated { epoch, split, loss, accuracy, best, ref dead_outputs, .. } => {
            let text = measured(board.epoch_text(epoch), split_name(split), loss, accuracy);
            let mut text = colours.strong.apply_to(text).to_string();
            if split == Split::TrainEval {
                // there is a line above that was measured while it was trained
                text += "  evaluated";
            }
            if let Some(dead) = dead_outputs.as_ref().filter(|dead| !dead.is_empty()) {
                text += &format!("  {}", colours.warn.apply_to(count(dead.len() as u64, "dead output")));
            }
            if best { format!("{text}  {}", colours.good.apply_to("best")) } else { text }
        }
        Event::WorkerJoined { worker, device_class, threads, .. } if alone => {
            let (name, threads) = (board.name(*worker), count(u64::from(*threads), "thread"));
            colours.dim.apply_to(format!("{name} joined: {}, {threads}", clean(device_class))).to_string()
        }
        Event::WorkerLeft { worker, reason, reissued } => {
            let taken_over = match reissued {
                0 => String::new(),
                &n => format!("; {} given to others", count(u64::from(n), "shard")),
            };
            format!("{} {}{taken_over}", colours.bad.apply_to(format!("{} lost:", board.name(*worker))), clean(reason))
        }
        Event::Waiting { what, deadline_seconds } if alone => {
            format!("waiting for {what}, for {} at most", clock(*deadline_seconds))
        }
        Event::Notice { text } => clean(text),
        Event::Warning { text } => format!("{} {}", colours.warn.apply_to("warning:"), clean(text)),
        _ => return None,
    };
    Some(text)
}

/// One for a train line and the test line below it: the same columns.
fn measured(epoch: String, what: &str, mean_loss: f64, accuracy: f64) -> String {
    format!("{epoch}  {what:<5}  loss {}  accuracy {:>6}", loss(mean_loss), percent(accuracy))
}

/// Labelled as in the table at the end.
fn started(run: &RunStarted, colours: &Colours) -> String {
    // known only once the first worker is there
    let class = if run.device_class.is_empty() { String::new() } else { format!(", {}", run.device_class) };
    let resumed = match run.resumed_from {
        Some(step) => format!(", resumed at step {}", thousands(step)),
        None => String::new(),
    };
    let (shards, batch) = (count(u64::from(run.shards), "shard"), thousands(u64::from(run.batch_size)));
    let (epochs, steps) = (count(u64::from(run.epochs), "epoch"), count(run.steps, "step"));
    let rows = [
        ("run", run.run.clone()),
        ("model", format!("{}, {}", colours.strong.apply_to(&run.model), count(run.parameters, "parameter"))),
        ("data", run.data.clone()),
        ("workers", format!("{} for {shards} of a batch of {batch}{class}", run.workers)),
        ("length", format!("{epochs}, {steps}{resumed}")),
        ("seed", run.seed.to_string()),
    ];
    let rows = rows.iter().filter(|(_, value)| !value.is_empty());
    let lines: Vec<_> =
        rows.map(|(label, value)| format!("{}  {value}", colours.dim.apply_to(format!("{label:<7}")))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(events: Vec<(f64, Event)>) -> Vec<String> {
        let mut board = Board::new();
        let mut lines = Vec::new();
        for (seconds, event) in events {
            let record = Record { time: 0.0, seconds, event };
            board.take(&record);
            lines.extend(line(&record, &board, true, &Colours::new(false)));
        }
        lines
    }

    #[test]
    fn a_run_in_lines() {
        let run = RunStarted {
            run: "runs/a".into(),
            model: "lenet".into(),
            data: "cifar10".into(),
            workers: 2,
            shards: 4,
            batch_size: 64,
            epochs: 20,
            steps: 200,
            parameters: 61_706,
            seed: 7,
            device_class: "cpu-v4".into(),
            ..Default::default()
        };
        let step = |step, epoch| Event::Step {
            step,
            epoch,
            lr: 0.1,
            loss: 2.0,
            accuracy: 0.5,
            images: 64,
            images_per_s: 64.0,
            gradient_norm: 1.0,
        };
        let mut events = vec![(0.0, Event::RunStarted(run))];
        events.push((
            0.5,
            Event::WorkerJoined { worker: 1, name: "anna".into(), device_class: "cpu-v4".into(), threads: 1 },
        ));
        events.extend((1..=10).map(|s| (s as f64, step(s, 1))));
        events.push((
            10.0,
            Event::EpochEnded {
                epoch: 1,
                step: 10,
                train_loss: 2.03125,
                train_accuracy: 0.0971,
                images_per_s: 5123.4,
                lr: 0.1,
            },
        ));
        let evaluated = |split, dead_outputs: &[u32], best| Event::Evaluated {
            step: 10,
            epoch: 1,
            split,
            loss: 1.75,
            accuracy: 0.5983,
            per_class: Vec::new(),
            confusion: Vec::new(),
            images: 100,
            dead_outputs: Some(dead_outputs.to_vec()),
            best,
        };
        events.push((11.0, evaluated(Split::Test, &[], true)));
        events.push((11.5, evaluated(Split::TrainEval, &[3, 5], false)));
        events.push((12.0, Event::WorkerLeft { worker: 1, reason: "connection reset".into(), reissued: 2 }));
        events.push((13.0, Event::Warning { text: "careful".into() }));
        let expected = "\
run      runs/a
model    lenet, 61,706 parameters
data     cifar10
workers  2 for 4 shards of a batch of 64, cpu-v4
length   20 epochs, 200 steps
seed     7
anna joined: cpu-v4, 1 thread
epoch  1/20  train  loss 2.0312  accuracy  9.71%   5,123 images/s  0:10, 3:10 left
epoch  1/20  test   loss 1.7500  accuracy 59.83%  best
epoch  1/20  train  loss 1.7500  accuracy 59.83%  evaluated  2 dead outputs
anna lost: connection reset; 2 shards given to others
warning: careful";
        assert_eq!(say(events).join("\n"), expected);
    }

    #[test]
    fn a_resumed_run_says_so() {
        let run = RunStarted { resumed_from: Some(1234), ..Default::default() };
        assert!(say(vec![(0.0, Event::RunStarted(run))])[0].contains("resumed at step 1,234"));
    }
}
