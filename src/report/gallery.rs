//! All pictures of a report: those of the page, and the same as files.

use lockstep_proto::recipe::Reported;

use super::bars;
use super::confusion::Confusion;
use super::curves::{Curve, Curves, Mark};
use super::history::Epoch;
use super::picture::Picture;
use super::run::Run;

/// What is drawn of some runs. None: there is nothing to draw.
pub struct Gallery {
    pub loss: Option<Picture>,
    pub accuracy: Option<Picture>,
    pub classes: Option<Picture>,
    /// One a run.
    pub confusion: Vec<Option<Picture>>,
}

impl Gallery {
    pub fn of(runs: &[Run]) -> Self {
        let loss = [(|epoch: &Epoch| epoch.test_loss) as Value, |epoch| epoch.train_loss];
        let accuracy =
            [(|epoch: &Epoch| epoch.test_accuracy.map(percent)) as Value, |epoch| epoch.train_accuracy.map(percent)];
        let rows: Vec<bars::Row> = runs.iter().enumerate().map(|(colour, run)| row(colour, run)).collect();
        Self {
            loss: curves(runs, "Loss", "", loss, |said| said.test_loss).draw(),
            accuracy: curves(runs, "Accuracy", "%", accuracy, |said| said.test_accuracy.map(percent)).draw(),
            classes: bars::draw(&rows),
            confusion: runs.iter().map(|run| Confusion::new(run.confusion(), &run.classes())?.draw()).collect(),
        }
    }

    /// File names and pictures. Names are ours alone: those of runs and recipes may be any text.
    pub fn files(self) -> Vec<(String, String)> {
        let all = [("loss", self.loss), ("accuracy", self.accuracy), ("classes", self.classes)];
        let shared = all.into_iter().map(|(name, picture)| (name.to_owned(), picture));
        let each =
            self.confusion.into_iter().enumerate().map(|(run, picture)| (format!("confusion-{}", run + 1), picture));
        shared.chain(each).filter_map(|(name, picture)| Some((format!("{name}.svg"), picture?.into_file()))).collect()
    }
}

type Value = fn(&Epoch) -> Option<f64>;

fn percent(fraction: f64) -> f64 {
    fraction * 100.0
}

/// A curve for test images and one for training images of each run.
fn curves(
    runs: &[Run],
    title: &'static str,
    unit: &'static str,
    values: [Value; 2],
    said: impl Fn(&Reported) -> Option<f64>,
) -> Curves {
    let alone = runs.len() == 1;
    let (mut curves, mut marks) = (Vec::new(), Vec::new());
    for (number, run) in runs.iter().enumerate() {
        for (images, (words, value)) in ["test images", "training images"].into_iter().zip(values).enumerate() {
            let (name, colour) = match alone {
                true => (words.to_owned(), images),
                false => (run.name.clone(), number),
            };
            let points = run.history.curve(value);
            curves.push(Curve { name, colour, dashed: images == 1, listed: alone || images == 0, points });
        }
        let name = run.name.clone();
        let mark = |line: &Reported| {
            let value = said(line)?;
            Some(Mark { name: name.clone(), colour: number, epoch: f64::from(line.epoch), value })
        };
        marks.extend(run.reported.iter().filter_map(mark));
    }
    let note = if alone { "" } else { "solid: test images; dashed: training images" };
    Curves { title, unit, curves, marks, note }
}

fn row(colour: usize, run: &Run) -> bars::Row {
    let accuracy = lockstep_coordinator::telemetry::summary::accuracy_by_class(run.confusion());
    let names = run.classes();
    let name = |class: usize| names.get(class).cloned().unwrap_or_else(|| class.to_string());
    let classes = accuracy.into_iter().enumerate().map(|(class, accuracy)| (name(class), accuracy)).collect();
    let reported = run.reported.iter().rev().find(|line| !line.per_class.is_empty());
    let reported = reported.map_or_else(Vec::new, |line| line.per_class.clone());
    bars::Row { name: run.name.clone(), colour, classes, reported }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::history::History;
    use super::*;

    fn run(name: &str) -> Run {
        let epoch = Epoch { test_loss: Some(2.0), test_accuracy: Some(0.25), ..Epoch::default() };
        let history =
            History { epochs: [(1, epoch)].into(), confusion: vec![vec![1, 3], vec![0, 0]], ..History::default() };
        let reported = vec![Reported { epoch: 5, test_accuracy: Some(0.5), ..Reported::default() }];
        let (folder, problems) = (PathBuf::new(), Vec::new());
        Run { folder, name: name.to_owned(), recipe: None, reported, history, summary: None, problems }
    }

    #[test]
    fn files_have_names_of_our_own() {
        let files = Gallery::of(&[run("../../etc/passwd"), run("b")]).files();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["loss.svg", "accuracy.svg", "classes.svg", "confusion-1.svg", "confusion-2.svg"]);
        let (_, accuracy) = &files[1];
        assert!(accuracy.contains("reported at epoch 5: 50.0000"), "{accuracy}");
        assert!(accuracy.contains("25.0000% at epoch 1"), "{accuracy}");
    }

    #[test]
    fn a_run_that_has_not_begun_has_no_pictures() {
        let run = Run { history: History::default(), reported: Vec::new(), ..run("a") };
        assert!(Gallery::of(&[run]).files().is_empty());
    }
}
