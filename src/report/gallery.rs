//! All pictures of a report: those of the page, and the same as files.

use lockstep_proto::recipe::Reported;

use super::bars;
use super::confusion::Confusion;
use super::curves::{Curve, Curves, Mark};
use super::picture::Picture;
use super::run::Run;
use crate::history::Epoch;

/// The title of the losses' picture.
const LOSS: &str = "Loss";

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
        let loss = [
            Line::new("test images", |epoch, _| epoch.test_loss, |said| said.test_loss),
            Line::new("training images", Epoch::training_loss, |said| said.train_loss),
            Line::new("validation images", |epoch, _| epoch.validation_loss, |_| None),
        ];
        let accuracy = [
            Line::new("test images", |epoch, _| epoch.test_accuracy, |said| said.test_accuracy),
            Line::new("training images", |epoch, _| epoch.training_accuracy(), |said| said.train_accuracy),
            Line::new("validation images", |epoch, _| epoch.validation_accuracy, |said| said.validation_accuracy),
        ];
        let rows: Vec<bars::Row> = runs.iter().enumerate().map(|(colour, run)| row(colour, run)).collect();
        Self {
            loss: curves(runs, LOSS, "", 1.0, &loss).draw(),
            accuracy: curves(runs, "Accuracy", "%", 100.0, &accuracy).draw(),
            classes: bars::draw(&rows),
            confusion: runs
                .iter()
                .map(|run| Confusion::new(run.confusion(), &run.classes())?.draw(&run.name))
                .collect(),
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

/// What is drawn of a run: its values, and those of its report.
struct Line {
    name: &'static str,
    /// Of an epoch of a run that is penalised or not.
    ours: fn(&Epoch, bool) -> Option<f64>,
    said: fn(&Reported) -> Option<f64>,
}

impl Line {
    fn new(name: &'static str, ours: fn(&Epoch, bool) -> Option<f64>, said: fn(&Reported) -> Option<f64>) -> Self {
        Self { name, ours, said }
    }
}

/// One run in all its lines, a colour each; of several, which have a colour each, those that can still be told apart.
fn curves(runs: &[Run], title: &'static str, unit: &'static str, scale: f64, lines: &[Line; 3]) -> Curves {
    let alone = runs.len() == 1;
    let (mut curves, mut marks) = (Vec::new(), Vec::new());
    for (number, run) in runs.iter().enumerate() {
        for (kind, line) in lines.iter().enumerate().take(if alone { 3 } else { 2 }) {
            let (name, colour) = if alone { (line.name.to_owned(), kind) } else { (run.name.clone(), number) };
            let ours = run.history.curve(|epoch| (line.ours)(epoch, run.penalised()));
            let points: Vec<_> = ours.into_iter().map(|(epoch, value)| (epoch, value * scale)).collect();
            // a mark beside a dashed line of the same colour could be the solid line's
            if alone || kind == 0 {
                let mark = |said: &Reported| {
                    let (name, value) = (name.clone(), (line.said)(said)? * scale);
                    Some(Mark { name, colour: Some(colour), epoch: f64::from(said.epoch), value })
                };
                run.reported.iter().filter_map(mark).for_each(|mark| add(&mut marks, mark));
            }
            let listed = if alone { !points.is_empty() } else { kind == 0 };
            curves.push(Curve { name, colour, dashed: kind == 1, listed, points });
        }
    }
    let mut notes = Vec::new();
    if !alone {
        notes.push("solid: test images; dashed: training images");
    }
    if title == LOSS && runs.iter().any(Run::penalised) {
        notes.push("of training images: with the penalties");
    }
    let of = |run: &Run| run.recipe.as_ref().map(|recipe| recipe.loss.name);
    if title == LOSS && runs.iter().any(|run| of(run) != of(&runs[0])) {
        notes.push("the runs' losses are not of one kind");
    }
    Curves { title, unit, curves, marks, notes }
}

/// Several seeds of a recipe have one report: one mark, of no colour.
fn add(marks: &mut Vec<Mark>, mark: Mark) {
    match marks.iter_mut().find(|other| (other.epoch, other.value) == (mark.epoch, mark.value)) {
        Some(other) => {
            other.colour = None;
            other.name = format!("{}, {}", other.name, mark.name);
        }
        None => marks.push(mark),
    }
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

    use super::*;
    use crate::history::History;

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
        assert!(accuracy.contains("../../etc/passwd, b, reported at epoch 5: 50.0000"), "{accuracy}");
        assert!(accuracy.contains("class=\"mark\" d="), "one report of both has no colour: {accuracy}");
        assert!(accuracy.contains("25.0000% at epoch 1"), "{accuracy}");
        for (file, run) in [(3, "../../etc/passwd"), (4, "b")] {
            assert!(files[file].1.contains(&format!("<title>Confusion matrix: {run}</title>")), "{}", files[file].1);
        }
    }

    #[test]
    fn a_run_that_has_not_begun_has_no_pictures() {
        let run = Run { history: History::default(), reported: Vec::new(), ..run("a") };
        assert!(Gallery::of(&[run]).files().is_empty());
    }
}
