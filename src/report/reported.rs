//! What a report says that a recipe reaches: the `[[reported]]` tables of the recipe.

use lockstep_proto::recipe::Recipe;
use serde::Deserialize;
use toml::{Table, Value};

/// The tables' key.
const KEY: &str = "reported";

/// More lines than a report has epochs are no report.
const MOST: usize = 1000;

/// What is said of one epoch, counted from 1 as a run's epochs are. Accuracies are fractions.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Reported {
    pub epoch: u32,
    pub train_loss: Option<f64>,
    pub test_loss: Option<f64>,
    pub train_accuracy: Option<f64>,
    pub test_accuracy: Option<f64>,
    #[serde(default)]
    pub note: String,
}

/// A recipe, and what it says was reported.
#[derive(Debug)]
pub struct Said {
    pub recipe: Recipe,
    pub reported: Vec<Reported>,
    /// Tables that can't be read.
    pub problems: Vec<String>,
}

/// Reads a resolved recipe; `origin` is named in errors. What was reported is read line by line: one that can't be does not cost the others.
pub fn read(text: &str, origin: &str) -> Result<Said, String> {
    lockstep_proto::recipe::check_text(text)?;
    let mut table: Table = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let said = table.remove(KEY);
    let recipe = Recipe::parse(&table.to_string(), origin).map_err(|error| error.to_string())?;
    let mut problems = Vec::new();
    let mut reported: Vec<Reported> = Vec::new();
    let lines = match said {
        None => Vec::new(),
        Some(Value::Array(lines)) => lines,
        Some(_) => {
            problems.push(format!("{origin}: `reported` is no list of tables, [[reported]]"));
            Vec::new()
        }
    };
    for line in lines.into_iter().take(MOST) {
        match line.try_into() {
            Ok(line) => reported.push(line),
            Err(error) => problems.push(format!("{origin}: a [[reported]] table is left out: {}", error.message())),
        }
    }
    reported.sort_by_key(|line| line.epoch);
    Ok(Said { recipe, reported, problems })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_and_bad_ones_named() {
        let text = format!(
            "{}\n[[reported]]\nepoch = 20\ntest_accuracy = 0.5736\nnote = \"the last\"\n[[reported]]\nepoch = \"x\"\n\
             [[reported]]\nepoch = 3\ntrain_loss = 1.5\n",
            Recipe::default().to_toml()
        );
        let said = read(&text, "recipe.toml").expect("a recipe");
        assert_eq!(said.recipe, Recipe::default());
        let (first, second) = (&said.reported[0], &said.reported[1]);
        assert_eq!((first.epoch, first.train_loss, first.test_accuracy), (3, Some(1.5), None));
        assert_eq!((second.epoch, second.test_accuracy, second.note.as_str()), (20, Some(0.5736), "the last"));
        assert_eq!((said.reported.len(), said.problems.len()), (2, 1));
        let said = read(&format!("reported = 3\n{}", Recipe::default().to_toml()), "recipe.toml").expect("a recipe");
        assert!(said.reported.is_empty() && said.problems[0].contains("[[reported]]"));
    }

    #[test]
    fn what_is_no_recipe_is_an_error_and_not_a_crash() {
        for text in ["epochs = \"many\"", "nonsense", &"[".repeat(100_000), &format!("a{} = 1", ".a".repeat(100_000))] {
            assert!(read(text, "recipe.toml").is_err(), "{:.20}", text);
        }
    }
}
