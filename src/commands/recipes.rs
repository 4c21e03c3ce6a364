//! `lockstep recipes`: what there is to train, and what its reports came to.

use lockstep_proto::recipe::catalogue::{self, BuiltIn};
use lockstep_proto::recipe::{Recipe, Reported};
use serde_json::{Value, json};

use crate::cli::{RecipeArgs, RecipesArgs, RecipesCommand};
use crate::columns::{Align, aligned};
use crate::exit::{Failure, Result};
use crate::prepare;

pub fn run(args: &RecipesArgs) -> Result {
    let (recipe, shown) = match &args.command {
        Some(RecipesCommand::Show { recipe, shown }) => (Some(recipe), shown),
        None => (args.recipe.as_ref(), &args.shown),
    };
    if let Some(name) = recipe {
        let recipe = RecipeArgs { recipe: Some(name.clone()), set: shown.set.clone(), ..RecipeArgs::default() };
        let recipe = prepare::recipe(&recipe)?;
        match shown.json {
            true => say!("{}", serde_json::to_string(&recipe).map_err(Failure::ours)?),
            false => say!("{}", recipe.to_toml().trim_end()),
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

fn line(file: &BuiltIn, recipe: &Recipe) -> Value {
    json!({
        "name": file.name, "report": file.report(), "description": file.description(), "source": recipe.source,
        "model": recipe.model.name, "epochs": recipe.epochs, "batch_size": recipe.batch_size, "seed": recipe.seed,
        "reported": recipe.reported,
    })
}

/// A heading a report, a row for each of a recipe's reported figures.
fn list(recipes: &[(&BuiltIn, Recipe)]) {
    const COLUMNS: [Align; 7] =
        [Align::Left, Align::Right, Align::Right, Align::Right, Align::Right, Align::Right, Align::Left];
    let head = ["recipe", "at epoch", "test acc.", "test loss", "train acc.", "train loss", ""].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    for (file, recipe) in recipes {
        let none = [Reported::default()];
        let reported = if recipe.reported.is_empty() { &none[..] } else { &recipe.reported };
        for (i, figures) in reported.iter().enumerate() {
            let [name, description] = if i == 0 { [file.name, file.description()] } else { ["", &figures.note] };
            rows.push([&[format!("  {name}")][..], &cells(figures), &[description.to_owned()]].concat());
        }
    }
    // aligned over all reports, then cut where one begins
    let text = aligned(&COLUMNS, &rows);
    let mut lines = text.lines();
    say!("{}", lines.next().unwrap_or_default());
    for (i, (file, recipe)) in recipes.iter().enumerate() {
        if i == 0 || recipes[i - 1].0.report() != file.report() {
            say!("\n{}", recipe.source);
        }
        lines.by_ref().take(recipe.reported.len().max(1)).for_each(|line| say!("{line}"));
    }
    say!("\nv: on held-out images. Show one with every default: lockstep recipes show NAME");
    say!("Train them and put our numbers beside these: lockstep reproduce NAME…|all");
}

fn cells(figures: &Reported) -> [String; 5] {
    let percent = |fraction: f64| format!("{:.2}%", fraction * 100.0);
    let accuracy = |fraction: Option<f64>| fraction.map_or_else(String::new, percent);
    let loss = |loss: Option<f64>| loss.map_or_else(String::new, |loss| loss.to_string());
    let test = match (figures.test_accuracy, figures.validation_accuracy) {
        (None, Some(held_out)) => format!("v {}", percent(held_out)),
        (test, _) => accuracy(test),
    };
    let epoch = if figures.epoch == 0 { String::new() } else { figures.epoch.to_string() };
    [epoch, test, loss(figures.test_loss), accuracy(figures.train_accuracy), loss(figures.train_loss)]
}
