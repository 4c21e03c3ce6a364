//! Results as a table: aligned for a terminal, or as Markdown for `docs/reproduction.md`.

use lockstep_coordinator::dataset::CIFAR10_CLASSES;
use lockstep_coordinator::telemetry::format::{clock, loss, percent};

use super::figure::{Figure, Quantity};
use super::result::{Experiment, Run};
use crate::columns::{Align, aligned};

/// What the table does not say itself.
pub const LEGEND: &str = "ours: mean ± sample standard deviation over the seeds; difference: points of accuracy, or loss; \
                          weights: the hash's first digits";

const HEAD: [&str; 10] =
    ["experiment", "epoch", "figure", "reported", "ours", "difference", "images", "seed", "time", "weights"];

const ALIGN: [Align; 10] = {
    use Align::{Left, Right};
    [Left, Right, Left, Right, Left, Right, Left, Right, Right, Left]
};

/// For a terminal: an experiment's figures on the left, its runs on the right.
pub fn plain(experiments: &[Experiment]) -> String {
    let rows = experiments.iter().flat_map(|experiment| rows(experiment, false));
    let head = HEAD.map(str::to_owned).to_vec();
    aligned(&ALIGN, &[head].into_iter().chain(rows).collect::<Vec<_>>())
}

/// For a page: a heading, the command and a table for each report.
pub fn markdown(experiments: &[Experiment]) -> String {
    let mut text = format!("{LEGEND}.\n");
    let mut report = None;
    for experiment in experiments {
        if report != Some(&experiment.source) {
            report = Some(&experiment.source);
            let title = if experiment.source.is_empty() { &experiment.recipe } else { &experiment.source };
            let bars = ALIGN.map(|align| if align == Align::Right { "---:" } else { "---" });
            text += &format!("\n## {title}\n\n| {} |\n| {} |\n", HEAD.join(" | "), bars.join(" | "));
        }
        for row in rows(experiment, true) {
            text += &format!("| {} |\n", row.join(" | "));
        }
    }
    text
}

/// As many rows as there are figures or runs, whichever are more. `whole`: with notes.
fn rows(experiment: &Experiment, whole: bool) -> Vec<Vec<String>> {
    let count = experiment.figures.len().max(experiment.runs.len());
    let row = |i: usize| {
        let name = if i == 0 { experiment.recipe.clone() } else { String::new() };
        let figures = &experiment.figures;
        // a note is of a row of the report, and stands at its first figure
        let said = |figure: &Figure| i > 0 && figures[i - 1].note == figure.note;
        let figure = figures.get(i).map_or_else(Default::default, |figure| cells(figure, whole && !said(figure)));
        let run = experiment.runs.get(i).map_or_else(Default::default, of_run);
        [&[name][..], &figure, &run].concat()
    };
    (0..count).map(row).collect()
}

fn cells(figure: &Figure, noted: bool) -> [String; 5] {
    let name = match (figure.quantity, figure.class) {
        (Quantity::TestAccuracy, Some(class)) => {
            CIFAR10_CLASSES.get(class).map_or_else(|| format!("class {class}"), |name| (*name).to_owned())
        }
        (Quantity::TestAccuracy, None) => "test accuracy".to_owned(),
        (Quantity::ValidationAccuracy, _) => "validation accuracy".to_owned(),
        (Quantity::TrainAccuracy, _) => "train accuracy".to_owned(),
        (Quantity::TestLoss, _) => "test loss".to_owned(),
        (Quantity::TrainLoss, _) => "train loss".to_owned(),
    };
    let note = if noted && !figure.note.is_empty() { format!(" ({})", figure.note) } else { String::new() };
    let is_loss = matches!(figure.quantity, Quantity::TestLoss | Quantity::TrainLoss);
    let number = |value: f64| if is_loss { loss(value) } else { percent(value) };
    let ours = match (figure.mean, figure.spread) {
        (None, _) => "not run".to_owned(),
        (Some(mean), None) => number(mean),
        (Some(mean), Some(spread)) if is_loss => format!("{} ± {spread:.4}", loss(mean)),
        (Some(mean), Some(spread)) => format!("{} ± {:.2}", percent(mean), spread * 100.0),
    };
    let difference = figure.difference.map_or_else(String::new, |value| match is_loss {
        true => format!("{value:+.4}"),
        false => format!("{:+.2}", value * 100.0),
    });
    let reported = figure.reported.map_or_else(|| "-".to_owned(), number);
    [figure.epoch.to_string(), name + &note, reported, ours, difference]
}

fn of_run(run: &Run) -> [String; 4] {
    let weights = run.weights_hash.chars().take(12).collect();
    [run.data.clone(), run.seed.to_string(), clock(run.seconds), weights]
}

#[cfg(test)]
mod tests {
    use super::super::result::collect;
    use super::super::result::tests::{made, mine};
    use super::*;
    use lockstep_proto::recipe::Recipe;

    #[test]
    fn figures_stand_beside_runs() {
        let out = tempfile::tempdir().expect("folder");
        for (seed, last) in [(0, 0.5), (1, 0.75), (2, 0.625)] {
            made(out.path(), &Recipe { seed, ..mine() }, &[0.25, last]);
        }
        let found = collect(out.path(), &[], "").expect("read").experiments;
        let expected = "\
experiment  epoch  figure         reported  ours             difference  images   seed  time  weights
mine            2  test accuracy    50.00%  62.50% ± 12.50       +12.50  cifar10     0  1:01  0123456789ab
                1  test loss        2.0000  1.5000 ± 0.0000     -0.5000  cifar10     1  1:01  0123456789ab
                                                                         cifar10     2  1:01  0123456789ab
";
        assert_eq!(plain(&found), expected);
        let page = markdown(&found);
        assert!(page.contains("\n## mine\n\n| experiment | epoch |"), "{page}");
        assert!(
            page.contains("|  | 1 | test loss (seen) | 2.0000 | 1.5000 ± 0.0000 | -0.5000 | cifar10 | 1 |"),
            "{page}"
        );
    }
}
