//! Results as a table: aligned for a terminal, or as Markdown for `docs/reproduction.md`.

use lockstep_coordinator::dataset::CIFAR10_CLASSES;
use lockstep_coordinator::telemetry::format::{clean, clock, loss, percent};
use lockstep_proto::recipe::catalogue;

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
    let rows = rows.map(|row| row.iter().map(|cell| clean(cell)).collect());
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
            let title = escaped(if experiment.source.is_empty() { &experiment.recipe } else { &experiment.source });
            let bars = ALIGN.map(|align| if align == Align::Right { "---:" } else { "---" });
            text += &format!("\n## {title}\n\n| {} |\n| {} |\n", HEAD.join(" | "), bars.join(" | "));
        }
        for row in rows(experiment, true) {
            let cells: Vec<String> = row.iter().map(|cell| escaped(cell)).collect();
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    text
}

/// Text that stays in its cell: a note or a class may be called anything.
fn escaped(cell: &str) -> String {
    clean(cell).replace('\\', "\\\\").replace('|', "\\|")
}

/// As many rows as there are figures or runs, whichever are more. `whole`: with notes.
fn rows(experiment: &Experiment, whole: bool) -> Vec<Vec<String>> {
    let count = experiment.figures.len().max(experiment.runs.len());
    let row = |i: usize| {
        let name = if i == 0 { experiment.recipe.clone() } else { String::new() };
        let figures = &experiment.figures;
        // a note is of a row of the report, and stands at its first figure
        let said = |figure: &Figure| i > 0 && figures[i - 1].note == figure.note;
        let cells = |figure| cells(experiment, figure, whole && !said(figure));
        let figure = figures.get(i).map_or_else(Default::default, cells);
        let run = experiment.runs.get(i).map_or_else(Default::default, of_run);
        [&[name][..], &figure, &run].concat()
    };
    (0..count).map(row).collect()
}

fn cells(experiment: &Experiment, figure: &Figure, noted: bool) -> [String; 5] {
    // before a run, only a built-in recipe's classes are known: all reports are of CIFAR-10
    let known =
        || catalogue::recipe(&experiment.recipe).map_or(Vec::new(), |_| CIFAR10_CLASSES.map(str::to_owned).to_vec());
    let name = match (figure.quantity, figure.class) {
        (Quantity::TestAccuracy, Some(class)) => {
            let names = experiment.runs.first().map_or_else(known, |run| run.classes.clone());
            names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
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
        (None, _) if experiment.runs.is_empty() => "not run".to_owned(),
        // it ended earlier, or evaluates at other epochs
        (None, _) => "not measured".to_owned(),
        (Some(mean), None) => number(mean),
        (Some(mean), Some(spread)) if is_loss => format!("{} ± {}", loss(mean), loss(spread)),
        (Some(mean), Some(spread)) => format!("{} ± {:.2}", percent(mean), spread * 100.0),
    };
    let difference = figure.difference.map_or_else(String::new, |value| match is_loss {
        true => format!("{}{}", if value < 0.0 { '-' } else { '+' }, loss(value.abs())),
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
    use lockstep_coordinator::dataset::BUILTIN;
    use lockstep_coordinator::telemetry::{ClassAccuracy, Summary};
    use lockstep_proto::recipe::{Recipe, Reported};

    use super::super::result::tests::{made, mine};
    use super::*;

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

    #[test]
    fn no_figure_of_a_report_is_held_against_the_built_in_images() {
        let out = tempfile::tempdir().expect("folder");
        made(out.path(), &mine(), &[0.25, 0.5]);
        let differences = || {
            let found = collect(out.path(), &[], "").expect("read").experiments;
            found[0].figures.iter().map(|figure| figure.difference.is_some()).collect::<Vec<_>>()
        };
        assert!(differences().contains(&true));
        let folder = out.path().join("mine/seed-0");
        let summary = Summary { data: BUILTIN.to_owned(), ..Summary::read(&folder).expect("made") };
        summary.write(&folder).expect("written");
        assert!(!differences().contains(&true));
    }

    #[test]
    fn a_loss_that_diverged_has_as_few_digits_as_its_spread_and_difference() {
        let out = tempfile::tempdir().expect("folder");
        made(out.path(), &mine(), &[0.25, 0.5]);
        let mut found = collect(out.path(), &[], "").expect("read").experiments;
        let figure = found[0].figures.last_mut().expect("a loss");
        (figure.reported, figure.mean) = (Some(2e5), Some(100_975.9));
        (figure.spread, figure.difference) = (Some(57_005.02), Some(-99_024.12));
        let words = plain(&found).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("2.000e5 1.010e5 ± 5.701e4 -9.902e4"), "{words}");
    }

    /// The cells of a table's lines; a bar that is escaped is none.
    fn columns(line: &str) -> usize {
        line.replace("\\\\", "").replace("\\|", "").matches('|').count()
    }

    #[test]
    fn no_note_and_no_class_breaks_the_table_and_what_was_not_measured_is_no_missing_run() {
        let out = tempfile::tempdir().expect("folder");
        let row = Reported {
            epoch: 2,
            per_class: vec![0.5, 0.25, 0.75],
            note: "a | b\nc \\| d\u{1b}[2J".to_owned(),
            ..Reported::default()
        };
        let recipe = Recipe { reported: vec![row], source: "one\n# two".to_owned(), ..mine() };
        made(out.path(), &recipe, &[0.25, 0.5]);
        let folder = out.path().join("mine/seed-0");
        let class = |class: &str| ClassAccuracy { class: class.to_owned(), accuracy: None };
        let summary = Summary::read(&folder).expect("made");
        Summary { per_class: vec![class("cat"), class("x|y")], ..summary }.write(&folder).expect("written");
        let found = collect(out.path(), &[], "").expect("read").experiments;
        let page = markdown(&found);
        let lines: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).collect();
        assert_eq!(lines.len(), 5, "{page}");
        assert!(lines.iter().all(|line| columns(line) == HEAD.len() + 1), "{page}");
        assert!(lines[2].contains("| cat (a \\| b c \\\\\\| d") && page.contains("## one # two\n"), "{page}");
        assert!(lines[3].contains("| x\\|y | 25.00% | not measured |"), "{page}");
        assert!(lines[4].contains("| class 2 | 75.00% | not measured |"), "{page}");
        assert!(!page.contains('\u{1b}') && !plain(&found).contains("airplane"), "{page}");
    }

    #[test]
    fn a_recipe_that_was_not_run_has_the_names_of_its_reports_classes() {
        let out = tempfile::tempdir().expect("folder");
        let typed = super::super::plan::recipes(&["net6".to_owned()]).expect("built in");
        let text = plain(&collect(out.path(), &typed, "").expect("read").experiments);
        assert!(text.contains("airplane") && text.contains("not run") && !text.contains("not measured"), "{text}");
    }
}
