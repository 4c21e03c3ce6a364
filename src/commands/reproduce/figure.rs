//! The numbers of a report beside ours.

use lockstep_coordinator::dataset;
use lockstep_proto::recipe::{Recipe, Reported};
use serde::Serialize;

use super::result::Run;
use crate::history::{self, Epoch};

/// One number: a report's, and ours over the runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub epoch: u32,
    pub quantity: Quantity,
    /// The class, for an accuracy of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    pub reported: Option<f64>,
    /// A value a run, in their order; runs that did not measure it are left out.
    pub ours: Vec<f64>,
    pub mean: Option<f64>,
    /// The sample standard deviation, from two runs on.
    pub spread: Option<f64>,
    /// Our mean less the report's; none on built-in images.
    pub difference: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    TestAccuracy,
    ValidationAccuracy,
    TrainAccuracy,
    TestLoss,
    TrainLoss,
}

impl Figure {
    fn new(
        row: &Reported,
        quantity: Quantity,
        class: Option<usize>,
        reported: Option<f64>,
        (runs, penalised): (&[Run], bool),
    ) -> Self {
        let value = |epoch: &Epoch| match (quantity, class) {
            (Quantity::TestAccuracy, Some(class)) => epoch.per_class.get(class).copied().flatten(),
            (Quantity::TestAccuracy, None) => epoch.test_accuracy,
            (Quantity::ValidationAccuracy, _) => epoch.validation_accuracy,
            (Quantity::TrainAccuracy, _) => epoch.training_accuracy(),
            (Quantity::TestLoss, _) => epoch.test_loss,
            (Quantity::TrainLoss, _) => epoch.training_loss(penalised),
        };
        let ours: Vec<f64> = runs
            .iter()
            .filter_map(|run| run.epochs.get(&row.epoch).and_then(value))
            .filter(|value| value.is_finite())
            .collect();
        let (mean, spread) = (mean(&ours), spread(&ours));
        // the reports are of CIFAR-10: what a run on the procedural images comes to says nothing beside them
        let built_in = runs.iter().any(|run| run.data == dataset::BUILTIN);
        let difference = mean.zip(reported).filter(|_| !built_in).map(|(ours, theirs)| ours - theirs);
        Self { epoch: row.epoch, quantity, class, note: row.note.clone(), reported, ours, mean, spread, difference }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn spread(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    Some((values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64).sqrt())
}

/// A figure for each number of the report; where it has none, our test accuracy at the end.
pub fn figures(recipe: &Recipe, runs: &[Run]) -> Vec<Figure> {
    let of = (runs, history::penalised(recipe));
    let last = runs.iter().filter_map(|run| run.epochs.keys().last().copied()).max().unwrap_or(recipe.epochs);
    let none = [Reported { epoch: last, ..Reported::default() }];
    let rows = if recipe.reported.is_empty() { &none[..] } else { &recipe.reported };
    let mut figures = Vec::new();
    for row in rows {
        let before = figures.len();
        for (quantity, reported) in [
            (Quantity::TestAccuracy, row.test_accuracy),
            (Quantity::ValidationAccuracy, row.validation_accuracy),
            (Quantity::TrainAccuracy, row.train_accuracy),
            (Quantity::TestLoss, row.test_loss),
            (Quantity::TrainLoss, row.train_loss),
        ] {
            figures.extend(reported.map(|value| Figure::new(row, quantity, None, Some(value), of)));
        }
        let classes = row.per_class.iter().enumerate();
        figures.extend(
            classes.map(|(class, value)| Figure::new(row, Quantity::TestAccuracy, Some(class), Some(*value), of)),
        );
        if figures.len() == before {
            figures.push(Figure::new(row, Quantity::TestAccuracy, None, None, of));
        }
    }
    figures
}
