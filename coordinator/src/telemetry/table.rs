//! A run's result as a table, at most as wide as asked.

use console::measure_text_width;
use lockstep_proto::recipe::EvaluationMode;

use super::colours::Colours;
use super::format::{clock, count, loss, percent, rate, thousands};
use super::summary::{ClassAccuracy, Ledger, Summary};

/// Width of a bar that stands for 100%.
const BAR: usize = 20;

/// The table as plain text, for a file or another command.
pub fn plain(summary: &Summary, width: usize) -> String {
    render(summary, width, &Colours::new(false))
}

pub(super) fn render(summary: &Summary, width: usize, colours: &Colours) -> String {
    let mut rows = rows(summary);
    rows.retain(|(_, value)| !value.is_empty());
    let label_width = rows.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (label, value) in rows {
        let strong = matches!(label, "test" | "weights");
        let room = width.saturating_sub(label_width + 4);
        for (i, part) in wrap(&value, room).into_iter().enumerate() {
            let label = if i == 0 { label } else { "" };
            let part = if strong { colours.strong.apply_to(part).to_string() } else { part };
            text += &format!("  {}  {part}\n", colours.dim.apply_to(format!("{label:<label_width$}")));
        }
    }
    if !summary.per_class.is_empty() {
        text += &format!("\n{}", classes(&summary.per_class, width, colours));
    }
    text.trim_end_matches('\n').to_string()
}

fn rows(summary: &Summary) -> Vec<(&'static str, String)> {
    let ledger = &summary.ledger;
    let early = if summary.stopped_early { ", stopped early" } else { "" };
    let mut best = String::new();
    if let (Some(accuracy), Some(step)) = (summary.best_accuracy, summary.best_step) {
        best = format!("best {} at step {}", percent(accuracy), thousands(step));
    }
    let held_out = measured(summary.validation_loss, summary.validation_accuracy);
    // below what it is the best of
    let (best_of_held_out, best_of_test) =
        if held_out.is_empty() { (String::new(), best) } else { (best, String::new()) };
    let mut test = measured(summary.test_loss, summary.test_accuracy);
    if !test.is_empty() {
        test += &format!("  of {}", count(summary.test_images, "image"));
    }
    if summary.evaluation_mode == EvaluationMode::Train.word() {
        test += ", in training mode";
    }
    let mut evaluated = measured(summary.train_eval_loss, summary.train_eval_accuracy);
    if !evaluated.is_empty() {
        evaluated += "  evaluated";
    }
    let dead = summary.dead_outputs.iter().flatten().map(|class| match summary.per_class.get(*class as usize) {
        Some(named) => named.class.clone(),
        None => class.to_string(),
    });
    let data_hash =
        if summary.data_hash.is_empty() { String::new() } else { format!(" {}", short(&summary.data_hash)) };
    vec![
        ("recipe", summary.recipe.clone()),
        ("model", format!("{}, {}", summary.model, count(summary.parameters, "parameter"))),
        ("data", format!("{}{data_hash}", summary.data)),
        (
            "workers",
            format!(
                "{} for {} of a batch of {}, {}",
                summary.workers,
                count(u64::from(summary.shards), "shard"),
                summary.batch_size,
                summary.device_class
            ),
        ),
        (
            "length",
            format!(
                "{}, {}, in {} at {} images/s{early}",
                count(u64::from(summary.epochs), "epoch"),
                count(summary.steps, "step"),
                clock(summary.seconds),
                rate(summary.images_per_s)
            ),
        ),
        ("train", measured(summary.train_loss, summary.train_accuracy)),
        ("", evaluated),
        ("valid", held_out),
        ("", best_of_held_out),
        ("test", test),
        ("", best_of_test),
        ("dead", dead.collect::<Vec<_>>().join(", ")),
        (
            "examples",
            format!(
                "{} used, {} repeated, {} lost, {} recomputed; {} re-issued{}",
                thousands(ledger.used),
                thousands(ledger.repeated),
                thousands(ledger.lost),
                thousands(ledger.recomputed),
                count(ledger.reissued, "shard"),
                rarely(ledger)
            ),
        ),
        ("traffic", summary.traffic.to_string()),
        ("seed", summary.seed.to_string()),
        ("weights", summary.weights_hash.clone()),
        (
            "",
            if summary.deterministic {
                String::new()
            } else {
                "of this run alone: deterministic = false promises no bits".to_owned()
            },
        ),
        (
            "plane",
            match summary.plane.as_str() {
                "nccl" => {
                    "nccl: gradients summed among the GPUs, in an order that depends on how many there are".to_owned()
                }
                "nccl-ordered" => {
                    "nccl-ordered: gradients summed among the GPUs, in the reduction tree's order".to_owned()
                }
                _ => String::new(),
            },
        ),
        ("folder", summary.folder.clone()),
    ]
}

/// What most runs have none of.
fn rarely(ledger: &Ledger) -> String {
    let Ledger { copied, audited, refused, disputed, .. } = *ledger;
    [(copied, "copied"), (audited, "audited"), (refused, "refused"), (disputed, "disputed")]
        .into_iter()
        .filter(|(times, _)| *times > 0)
        .map(|(times, what)| format!(", {} {what}", thousands(times)))
        .collect()
}

fn measured(mean_loss: Option<f64>, accuracy: Option<f64>) -> String {
    match (mean_loss, accuracy) {
        (None, None) => String::new(),
        _ => format!(
            "loss {}  accuracy {:>6}",
            loss(mean_loss.unwrap_or(f64::NAN)),
            percent(accuracy.unwrap_or(f64::NAN))
        ),
    }
}

/// The first digits of a hash: enough to compare by eye. The whole stands in `summary.json`.
fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

/// Accuracy of each class, in two columns where there is room.
fn classes(classes: &[ClassAccuracy], width: usize, colours: &Colours) -> String {
    let name_width = classes.iter().map(|class| measure_text_width(&class.class)).max().unwrap_or(0);
    let bar = if width >= 2 * (name_width + BAR + 14) { BAR } else { BAR / 2 };
    let cell = |class: &ClassAccuracy| {
        let pad = " ".repeat(name_width - measure_text_width(&class.class));
        let full = class.accuracy.map_or(0, |accuracy| (accuracy.clamp(0.0, 1.0) * bar as f64).round() as usize);
        let (done, rest) = ("#".repeat(full), " ".repeat(bar - full));
        let accuracy = class.accuracy.map_or_else(|| "-".into(), percent);
        format!("  {}{pad}  {accuracy:>7}  {}{rest}", class.class, colours.good.apply_to(done))
    };
    let two = width >= 2 * (name_width + bar + 13);
    let half = if two { classes.len().div_ceil(2) } else { classes.len() };
    let mut text = String::new();
    for row in 0..half {
        let line = classes.iter().skip(row).step_by(half).map(cell).collect::<Vec<_>>().join("");
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The confusion matrix: a row an actual class, a column a predicted one; columns are named by their first letters.
///
/// Empty where the summary holds none.
pub fn confusion(summary: &Summary) -> String {
    let matrix = &summary.confusion;
    let largest = matrix.iter().flatten().max().copied().unwrap_or(0);
    let column = thousands(u64::from(largest)).len().max(5);
    let name =
        |class: usize| summary.per_class.get(class).map_or_else(|| class.to_string(), |known| known.class.clone());
    let name_width = (0..matrix.len()).map(|class| measure_text_width(&name(class))).max().unwrap_or(0);
    let mut text = String::new();
    if !matrix.is_empty() {
        text += &" ".repeat(name_width + 2);
        for class in 0..matrix.len() {
            let head: String = name(class).chars().take(column).collect();
            text += &format!("  {head:>column$}");
        }
        text.push('\n');
    }
    for (class, row) in matrix.iter().enumerate() {
        let name = name(class);
        text += &format!("  {name}{}", " ".repeat(name_width - measure_text_width(&name)));
        for &images in row {
            text += &format!("  {:>column$}", thousands(u64::from(images)));
        }
        text.push('\n');
    }
    text.trim_end_matches('\n').to_string()
}

/// Breaks at spaces, and within a word only where it is longer than a line (a hash in a narrow window).
fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        if used > 0 && used + measure_text_width(word.trim_end()) > width {
            lines.push(String::new());
            used = 0;
        }
        for c in word.chars() {
            if used >= width && c != ' ' {
                lines.push(String::new());
                used = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.push(c);
            }
            used += 1;
        }
    }
    lines.iter().map(|line| line.trim_end().to_string()).collect()
}

#[cfg(test)]
mod tests;
