//! `lockstep recipes`: what there is to train, and what its reports came to.

use lockstep_coordinator::dataset::CIFAR10_CLASSES;
use lockstep_proto::recipe::catalogue::{self, BuiltIn};
use lockstep_proto::recipe::{Recipe, Reported};
use serde_json::{Value, json};

use crate::cli::{RecipeArgs, RecipesArgs, RecipesCommand, ShownArgs};
use crate::columns::{Align, TOGETHER, aligned, folded};
use crate::exit::{Failure, Result};
use crate::prepare;

/// Letters of a line at most: two such lists side by side fit on a wide screen.
const WIDTH: usize = 108;

pub fn run(args: &RecipesArgs) -> Result {
    let (recipe, shown) = match &args.command {
        Some(RecipesCommand::Show { recipe, shown }) => (Some(recipe), shown.clone()),
        Some(RecipesCommand::List { json }) => (None, ShownArgs { json: *json, set: Vec::new() }),
        None => (args.recipe.as_ref(), args.shown.clone()),
    };
    if let Some(name) = recipe {
        let recipe = RecipeArgs { recipe: Some(name.clone()), set: shown.set.clone(), ..RecipeArgs::default() };
        let recipe = prepare::recipe(&recipe)?;
        match shown.json {
            true => say!("{}", serde_json::to_string(&recipe).map_err(Failure::ours)?),
            false => say!("{}{}", choices(name, &recipe.model.name), recipe.to_toml().trim_end()),
        }
        return Ok(());
    }
    if !shown.set.is_empty() {
        return Err(Failure::mistake("--set goes with a recipe; name one, for instance lockstep recipes show lenet"));
    }
    let built_in = |file: &'static BuiltIn| Ok((file, Recipe::resolve(Some(file.name), &[], &prepare::read_file)?));
    let recipes: Vec<(&BuiltIn, Recipe)> = catalogue::RECIPES.iter().map(built_in).collect::<Result<_>>()?;
    match shown.json {
        true => say!("{}", Value::from_iter(recipes.iter().map(|(file, recipe)| line(file, recipe)))),
        false => list(&recipes),
    }
    Ok(())
}

/// The comments of the built-in recipe called `name`, of those that it extends, and of its model: what a report does not say was
/// chosen, and nothing else tells why. Empty for other recipes, whose file the user has.
fn choices(name: &str, model: &str) -> String {
    let mut text = String::new();
    let mut next = catalogue::recipe(name).ok();
    while let Some(file) = next {
        if file.name != name {
            text += &format!("#\n# {}, which it extends:\n", file.name);
        }
        for line in file.comments() {
            text += &format!("{line}\n");
        }
        next = file.extends();
    }
    let of_model: String = match (text.is_empty(), catalogue::model(model)) {
        (false, Ok(file)) => file.comments().map(|line| format!("{line}\n")).collect(),
        _ => String::new(),
    };
    if !of_model.is_empty() {
        text += &format!("#\n# its model, {model}:\n{of_model}");
    }
    if text.is_empty() { text } else { text + "#\n" }
}

fn line(file: &BuiltIn, recipe: &Recipe) -> Value {
    json!({
        "name": file.name, "report": file.report(), "description": file.description(), "source": recipe.source,
        "model": recipe.model.name, "epochs": recipe.epochs, "batch_size": recipe.batch_size, "seed": recipe.seed,
        "reported": recipe.reported,
    })
}

/// A heading a report, and below a recipe's name a row for each epoch that is reported.
fn list(recipes: &[(&BuiltIn, Recipe)]) {
    let head = ["  at epoch", "test acc.", "held-out acc.", "train acc.", "test loss", "train loss"].map(str::to_owned);
    let figures = recipes.iter().flat_map(|(_, recipe)| recipe.reported.iter().map(|row| cells(row).to_vec()));
    // aligned over all reports, then cut where a recipe begins
    let text = aligned(&[Align::Right; 6], &[head.to_vec()].into_iter().chain(figures).collect::<Vec<_>>());
    let mut rows = text.lines();
    let name = recipes.iter().map(|(file, _)| file.name.len()).max().unwrap_or(0);
    say!("{}", rows.next().unwrap_or_default());
    for (i, (file, recipe)) in recipes.iter().enumerate() {
        if i == 0 || recipes[i - 1].0.report() != file.report() {
            say!("\n{}", recipe.source);
        }
        say!("{}", folded(&format!("  {:name$}  ", file.name), file.description(), WIDTH));
        for (reported, row) in recipe.reported.iter().zip(rows.by_ref()) {
            say!("{row}");
            remarks(reported).iter().for_each(|remark| say!("{}", folded("            ", remark, WIDTH)));
        }
    }
    say!(
        "\nheld-out acc.: on training images that were held out. Show one with every default: lockstep recipes show NAME"
    );
    say!("Train them and put our numbers beside these: lockstep reproduce NAME…|all");
}

fn percent(fraction: f64) -> String {
    format!("{:.2}%", fraction * 100.0)
}

fn cells(row: &Reported) -> [String; 6] {
    let accuracy = |fraction: Option<f64>| fraction.map_or_else(String::new, percent);
    let loss = |loss: Option<f64>| match loss {
        None => String::new(),
        // as short as it was reported
        Some(large) if large >= 1e5 => format!("{large:e}"),
        Some(loss) => loss.to_string(),
    };
    [
        row.epoch.to_string(),
        accuracy(row.test_accuracy),
        accuracy(row.validation_accuracy),
        accuracy(row.train_accuracy),
        loss(row.test_loss),
        loss(row.train_loss),
    ]
}

/// What has no column.
fn remarks(row: &Reported) -> Vec<String> {
    // all reports are of CIFAR-10
    let name = |class: usize| CIFAR10_CLASSES.get(class).map_or_else(|| class.to_string(), |name| (*name).to_owned());
    let classes =
        row.per_class.iter().enumerate().map(|(class, value)| format!("{}{TOGETHER}{}", name(class), percent(*value)));
    let classes = classes.collect::<Vec<_>>().join(", ");
    [classes, row.note.clone()].into_iter().filter(|remark| !remark.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_is_told_of_the_recipe_and_of_what_it_extends() {
        let text = choices("net6-lenet-sgd", "lenet");
        assert!(!text.contains("its model"), "lenet's file has no comment: {text}");
        let other = choices("net6-lenet-4x4", "lenet-4x4");
        assert!(other.contains("# its model, lenet-4x4:\n# chosen: channels"), "{other}");
        for words in ["The first loss is 1.39", "# net6-lenet, which it extends:", "Chosen as for net6."] {
            assert!(text.contains(words), "no {words:?} in {text}");
        }
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
        assert_eq!(choices("mine/net6.toml", "net6"), "");
    }

    #[test]
    fn a_row_has_every_figure() {
        let row = Reported {
            epoch: 3,
            train_loss: Some(2e5),
            train_accuracy: Some(0.1),
            validation_accuracy: Some(0.2),
            test_loss: Some(0.0819),
            test_accuracy: Some(0.3),
            per_class: vec![0.5, 0.25],
            note: "n".to_owned(),
        };
        assert_eq!(cells(&row), ["3", "30.00%", "20.00%", "10.00%", "0.0819", "2e5"]);
        assert_eq!(remarks(&row), ["airplane\u{a0}50.00%, automobile\u{a0}25.00%", "n"]);
    }
}
