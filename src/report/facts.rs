//! The numbers of a run, as words: what the page's tables and lists say.

use lockstep_coordinator::telemetry::Summary;
use lockstep_coordinator::telemetry::format::{bytes, clock, count, loss, percent, rate, thousands};

use super::run::{Beside, Run};

/// What stands where nothing is known.
pub const UNKNOWN: &str = "–";

/// A loss and an accuracy, as far as they are known.
fn measured(mean: Option<f64>, accuracy: Option<f64>) -> Option<String> {
    let accuracy = accuracy.map(percent);
    match (mean.map(loss), accuracy) {
        (None, None) => None,
        (None, Some(accuracy)) => Some(accuracy),
        (Some(loss), accuracy) => Some(format!("{}, loss {loss}", accuracy.unwrap_or_else(|| UNKNOWN.to_owned()))),
    }
}

/// `+1.24 points`: ours less theirs, of two fractions.
pub fn points(ours: f64, theirs: f64) -> String {
    format!("{:+.2} points", (ours - theirs) * 100.0)
}

/// How long the run took.
pub fn time(run: &Run) -> f64 {
    run.summary.as_ref().map_or(run.history.seconds, |summary| summary.seconds)
}

/// A run's list: what, and how much.
pub fn of(run: &Run) -> Vec<(&'static str, String)> {
    let result = run.result();
    let mut facts = Vec::new();
    let mut add = |what: &'static str, value: Option<String>| facts.extend(value.map(|value| (what, value)));
    add("Test", measured(result.test_loss, result.test_accuracy).map(|text| format!("{text}{}", of_images(run))));
    add(
        "Training",
        measured(result.train_loss, result.train_accuracy).map(|text| format!("{text}, as it was trained")),
    );
    add("Training images, measured again", measured(result.train_eval_loss, result.train_eval_accuracy));
    add("Validation", measured(result.validation_loss, result.validation_accuracy));
    add("Reported", beside(run));
    add("Recipe", Some(run.recipe_name().to_owned()));
    let said = run.recipe.as_ref().map(|recipe| recipe.source.clone());
    add("Source", said.filter(|source| !source.is_empty()));
    add("Images", Some(run.data().to_owned()));
    match &run.summary {
        Some(summary) => of_summary(summary, result.validation_accuracy.is_some(), &mut add),
        None => {
            add("Seed", run.recipe.as_ref().map(|recipe| recipe.seed.to_string()));
            add("Workers", Some(format!("{} joined so far", run.history.joined)));
            let steps = count(run.history.steps, "step");
            add("Length", Some(format!("{steps} so far, in {}", clock(run.history.seconds))));
        }
    }
    facts
}

fn of_summary(summary: &Summary, validated: bool, add: &mut impl FnMut(&'static str, Option<String>)) {
    if summary.evaluation_mode == "train" {
        add("Evaluated", Some("with layers as in training".to_owned()));
    }
    if let Some(dead) = summary.dead_outputs.as_ref().filter(|dead| !dead.is_empty()) {
        let name =
            |class: &u32| summary.per_class.get(*class as usize).map_or(class.to_string(), |one| one.class.clone());
        add("Dead outputs", Some(dead.iter().map(name).collect::<Vec<_>>().join(", ")));
    }
    if let (Some(accuracy), Some(step)) = (summary.best_accuracy, summary.best_step) {
        // the images that are held out decide, where there are some
        let place = if validated { " in validation" } else { "" };
        add("Best", Some(format!("{}{place} after step {}", percent(accuracy), thousands(step))));
    }
    add("Model", Some(format!("{}, {}", summary.model, count(summary.parameters, "parameter"))));
    let shards = count(u64::from(summary.shards), "shard");
    let workers = format!("{} for {shards} of a batch of {}", summary.workers, summary.batch_size);
    add("Workers", Some(workers));
    let (epochs, steps) = (count(u64::from(summary.epochs), "epoch"), count(summary.steps, "step"));
    add("Length", Some(format!("{epochs}, {steps}")));
    add("Time", Some(format!("{} at {} images/s", clock(summary.seconds), rate(summary.images_per_s))));
    add("Traffic", Some(summary.traffic.to_string()).filter(|words| !words.is_empty()));
    let ledger = summary.ledger;
    add(
        "Examples",
        Some(format!(
            "{} used, {} repeated, {} lost, {} recomputed",
            thousands(ledger.used),
            thousands(ledger.repeated),
            thousands(ledger.lost),
            thousands(ledger.recomputed)
        )),
    );
    add("Seed", Some(summary.seed.to_string()));
    add("Device class", Some(summary.device_class.clone()).filter(|class| !class.is_empty()));
    add("Weights", Some(summary.weights_hash.clone()).filter(|hash| !hash.is_empty()));
}

fn of_images(run: &Run) -> String {
    let images = run.summary.as_ref().map_or(0, |summary| summary.test_images);
    if images > 0 { format!(", of {}", count(images, "image")) } else { String::new() }
}

/// A reported accuracy beside ours of that epoch.
fn beside(run: &Run) -> Option<String> {
    let beside = run.beside()?;
    let ours = match beside.ours {
        Some(ours) => format!("ours {}, {}", percent(ours), points(ours, beside.reported)),
        None => "ours has no evaluation there".to_owned(),
    };
    Some(format!("{}; {ours}", said(&beside)))
}

fn said(beside: &Beside) -> String {
    format!("{}{} at epoch {}", percent(beside.reported), beside.place, beside.epoch)
}

/// The heads of the table of several runs.
pub const HEADS: [&str; 13] = [
    "Run",
    "Test accuracy",
    "Test loss",
    "Training accuracy",
    "Reported",
    "Ours there",
    "Difference",
    "Workers",
    "Time",
    "Images/s",
    "Wire",
    "Shared memory",
    "Weights",
];

/// A run's line in the table, without its name.
pub fn line(run: &Run) -> [String; HEADS.len() - 1] {
    let result = run.result();
    let known = |value: Option<String>| value.unwrap_or_else(|| UNKNOWN.to_owned());
    let beside = run.beside();
    let there = beside.and_then(|beside| beside.ours);
    let difference = beside.and_then(|beside| Some(points(there?, beside.reported)));
    let summary = run.summary.as_ref();
    // bytes over TCP and those that never left the host are no one number
    let wire =
        |summary: &Summary| Some(summary.traffic.sent.saturating_add(summary.traffic.received)).filter(|all| *all > 0);
    let shared = |summary: &Summary| wire(summary).map(|_| summary.traffic.shared);
    let hash = summary.map(|summary| summary.weights_hash.chars().take(12).collect::<String>());
    [
        known(result.test_accuracy.map(percent)),
        known(result.test_loss.map(loss)),
        known(result.train_accuracy.map(percent)),
        known(beside.as_ref().map(said)),
        known(there.map(percent)),
        known(difference),
        summary.map_or(run.history.joined, |summary| summary.workers as usize).to_string(),
        clock(time(run)),
        known(summary.map(|summary| rate(summary.images_per_s))),
        known(summary.and_then(wire).map(bytes)),
        known(summary.and_then(shared).map(bytes)),
        known(hash.filter(|hash| !hash.is_empty())),
    ]
}

/// Mean, standard deviation (of the sample) and range of the test accuracies of two or more runs.
pub fn spread(runs: &[Run]) -> Option<String> {
    let found: Vec<f64> = runs.iter().filter_map(|run| run.result().test_accuracy).filter(|a| a.is_finite()).collect();
    if found.len() < 2 {
        return None;
    }
    let n = found.len() as f64;
    let mean = found.iter().sum::<f64>() / n;
    let deviation = (found.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    let (low, high) = found.iter().fold((f64::MAX, f64::MIN), |(low, high), &a| (low.min(a), high.max(a)));
    Some(format!(
        "Test accuracy of {}: mean {}, standard deviation {:.2} points, from {} to {}",
        count(found.len() as u64, "run"),
        percent(mean),
        deviation * 100.0,
        percent(low),
        percent(high)
    ))
}

/// Reported figures of one kind: what the recipe says of them, and epoch, figure, theirs, ours, difference.
#[derive(Debug)]
pub struct Figures {
    pub note: String,
    pub lines: Vec<[String; 5]>,
}

/// Reported figures beside ours.
pub fn reported(run: &Run) -> Vec<Figures> {
    let classes = run.classes();
    let mut all = Vec::new();
    for said in &run.reported {
        let mut lines = Vec::new();
        let ours = run.history.epochs.get(&said.epoch).cloned().unwrap_or_default();
        let figures = [
            ("test accuracy", said.test_accuracy, ours.test_accuracy, true),
            ("validation accuracy", said.validation_accuracy, ours.validation_accuracy, true),
            ("training accuracy", said.train_accuracy, ours.training_accuracy(), true),
            ("test loss", said.test_loss, ours.test_loss, false),
            ("training loss", said.train_loss, ours.training_loss(run.penalised()), false),
        ];
        let figures = figures.map(|(figure, theirs, ours, is_share)| (figure.to_owned(), theirs, ours, is_share));
        let of_classes = said.per_class.iter().enumerate().map(|(class, theirs)| {
            let name = classes.get(class).cloned().unwrap_or_else(|| class.to_string());
            let ours = ours.per_class.get(class).copied().flatten();
            (name, Some(*theirs), ours, true)
        });
        for (figure, theirs, ours, is_share) in figures.into_iter().chain(of_classes) {
            let Some(theirs) = theirs else { continue };
            let show = |value: f64| if is_share { percent(value) } else { loss(value) };
            let difference =
                ours.map(|ours| if is_share { points(ours, theirs) } else { format!("{:+.4}", ours - theirs) });
            lines.push([
                said.epoch.to_string(),
                figure,
                show(theirs),
                ours.map_or_else(|| UNKNOWN.to_owned(), show),
                difference.unwrap_or_else(|| UNKNOWN.to_owned()),
            ]);
        }
        if !lines.is_empty() {
            all.push(Figures { note: said.note.clone(), lines });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use lockstep_coordinator::telemetry::Traffic;
    use lockstep_coordinator::telemetry::event::RunStarted;

    use super::*;
    use crate::history::{Epoch, History};
    use lockstep_proto::recipe::{Recipe, Reported};

    fn run(summary: Option<Summary>) -> Run {
        let epoch = Epoch { test_loss: Some(1.25), test_accuracy: Some(0.5), ..Epoch::default() };
        let history = History { epochs: [(2, epoch)].into(), steps: 7, ..History::default() };
        let said = Reported {
            epoch: 2,
            test_loss: Some(1.0),
            test_accuracy: Some(0.52),
            note: "n".into(),
            ..Reported::default()
        };
        let (folder, name) = (PathBuf::from("runs/a"), "a".to_owned());
        Run { folder, name, recipe: None, reported: vec![said], history, summary, problems: Vec::new() }
    }

    #[test]
    fn figures_stand_beside_those_of_the_report() {
        let figures = reported(&run(None));
        let lines = &figures[0].lines;
        assert_eq!(lines[0], ["2", "test accuracy", "52.00%", "50.00%", "-2.00 points"]);
        assert_eq!(lines[1], ["2", "test loss", "1.0000", "1.2500", "+0.2500"]);
        assert_eq!((figures.len(), lines.len(), figures[0].note.as_str()), (1, 2, "n"));
        // of two classes one is named, and one has no images of ours
        let mut run = run(None);
        run.reported[0].per_class = vec![0.25, 0.5];
        run.history.epochs.entry(2).or_default().per_class = vec![Some(0.75), None];
        run.history.started = Some(RunStarted { classes: vec!["cat".to_owned()], ..RunStarted::default() });
        let lines = &reported(&run)[0].lines;
        assert_eq!(lines[2], ["2", "cat", "25.00%", "75.00%", "+50.00 points"]);
        assert_eq!(lines[3], ["2", "1", "50.00%", UNKNOWN, UNKNOWN]);
    }

    /// What a second pass over the training images comes to has no penalties, and a report's loss has.
    #[test]
    fn a_loss_with_penalties_is_compared_with_the_one_as_trained() {
        let mut run = run(None);
        let twice = Epoch { train_loss: Some(1.5), train_eval_loss: Some(1.25), ..Epoch::default() };
        let accuracies = Epoch { train_accuracy: Some(0.5), train_eval_accuracy: Some(0.75), ..twice };
        run.history.epochs.insert(2, accuracies);
        run.reported =
            vec![Reported { epoch: 2, train_loss: Some(1.0), train_accuracy: Some(0.25), ..Reported::default() }];
        let ours = |run: &Run| reported(run)[0].lines.iter().map(|line| line[3].clone()).collect::<Vec<_>>();
        assert_eq!(ours(&run), ["75.00%", "1.2500"]);
        let mut recipe = Recipe::default();
        recipe.loss.l1 = 1e-4;
        run.recipe = Some(recipe);
        assert_eq!(ours(&run), ["75.00%", "1.5000"]);
        // the recipe can't be read, and the summary says it
        run.recipe = None;
        run.summary = Some(Summary { train_penalty: Some(0.1), ..Summary::default() });
        assert_eq!(ours(&run), ["75.00%", "1.5000"]);
    }

    #[test]
    fn a_run_that_is_not_finished_says_how_far_it_is() {
        let facts = of(&run(None));
        let value = |what: &str| facts.iter().find(|(one, _)| *one == what).map(|(_, value)| value.as_str());
        assert_eq!(value("Length"), Some("7 steps so far, in 0:00"));
        assert_eq!(value("Test"), Some("50.00%, loss 1.2500"));
        assert_eq!(value("Reported"), Some("52.00% at epoch 2; ours 50.00%, -2.00 points"));
        assert_eq!(value("Training"), None);
        assert_eq!(line(&run(None))[11], UNKNOWN);
    }

    #[test]
    fn the_spread_is_that_of_a_sample() {
        let with = |test_accuracy| run(Some(Summary { test_accuracy, ..Summary::default() }));
        // by hand: 50, 52, 57 have mean 53 and squares 9 + 1 + 16 = 26, over 2, root 3.606
        let runs = [with(Some(0.5)), with(Some(0.52)), with(Some(0.57))];
        let text = spread(&runs).expect("three");
        let words = "mean 53.00%, standard deviation 3.61 points, from 50.00% to 57.00%";
        assert!(text.contains(words) && text.contains("3 runs"), "{text}");
        assert!(spread(&runs[..1]).is_none());
    }

    #[test]
    fn bytes_are_told_apart_by_their_way() {
        let traffic = Traffic { received: 1500, sent: 2_500_000, shared: 4 };
        let summary = Summary { traffic, weights_hash: "0123456789abcdef".to_owned(), ..Summary::default() };
        let facts = of(&run(Some(summary.clone())));
        assert!(
            facts.contains(&("Traffic", "2.50 MB sent, 1.50 kB received, 4 B through shared memory".to_owned())),
            "{facts:?}"
        );
        let line = line(&run(Some(summary)));
        assert_eq!(line[9..], ["2.50 MB", "4 B", "0123456789ab"]);
    }
}
