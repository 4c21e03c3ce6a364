//! What a report says that its training came to: the numbers that a recipe is to reproduce. They decide no weight.

use serde::{Deserialize, Serialize};
use toml::Value;

use super::file::File;
use super::{RecipeError, nearest};

/// One row of a report's figures. Accuracies are fractions; what was not reported is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reported {
    /// After which epoch, from 1.
    pub epoch: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_accuracy: Option<f64>,
    /// On images held out of the training set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_accuracy: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_loss: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_accuracy: Option<f64>,
    /// Test accuracy of each class, in the order of the labels; empty where it was not reported.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub per_class: Vec<f64>,
    /// What else the report says of these numbers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// The key of the tables.
pub(super) const KEY: &str = "reported";

const KEYS: [&str; 8] =
    ["epoch", "train_loss", "train_accuracy", "validation_accuracy", "test_loss", "test_accuracy", "per_class", "note"];

/// The tables of `file` as a recipe keeps them: known keys, whole numbers made floats, everything in range.
pub(super) fn conform(file: &File, value: &Value) -> Result<Value, RecipeError> {
    let Value::Array(items) = value else {
        return Err(wrong_type(
            file,
            KEY,
            KEY,
            value,
            "a list of tables; begin each with [[reported]], in two brackets",
        ));
    };
    let rows = items.iter().enumerate().map(|(i, item)| row(file, &format!("{KEY}[{i}]"), item));
    Ok(Value::Array(rows.collect::<Result<_, _>>()?))
}

/// `at` is the row's key, with its number.
fn row(file: &File, at: &str, item: &Value) -> Result<Value, RecipeError> {
    let Value::Table(table) = item else {
        return Err(wrong_type(file, at, KEY, item, "a table; begin it with [[reported]]"));
    };
    if !table.contains_key("epoch") {
        return Err(RecipeError::Rule {
            place: file.place(at),
            key: format!("{KEY}.epoch"),
            found: "missing".to_owned(),
            rule: "say after which epoch the report has these numbers, for instance epoch = 20".to_owned(),
        });
    }
    let entry = |(key, value): (&String, &Value)| Ok((key.clone(), entry(file, &format!("{at}.{key}"), key, value)?));
    Ok(Value::Table(table.iter().map(entry).collect::<Result<_, RecipeError>>()?))
}

fn entry(file: &File, at: &str, key: &str, value: &Value) -> Result<Value, RecipeError> {
    let name = format!("{KEY}.{key}");
    let refused = |rule: &str| {
        let (place, key, found) = (file.place(at), name.clone(), value.to_string());
        Err(RecipeError::Rule { place, key, found, rule: rule.to_owned() })
    };
    const FRACTION: &str = "must be a fraction from 0 to 1, as 0.5736 for 57.36%";
    let number = |value: &Value| match value {
        Value::Integer(n) => Some(*n as f64),
        Value::Float(x) => Some(*x),
        _ => None,
    };
    let fraction = |value: &Value| number(value).filter(|x| (0.0..=1.0).contains(x)).map(Value::Float);
    match (key, value) {
        ("epoch", Value::Integer(n)) if (1..=i64::from(u32::MAX)).contains(n) => Ok(value.clone()),
        ("epoch", _) => refused("must be a whole number, 1 or more: epochs count from 1"),
        ("note", Value::String(_)) => Ok(value.clone()),
        ("note", _) => Err(wrong_type(file, at, &name, value, "text")),
        ("per_class", Value::Array(items)) => match items.iter().map(fraction).collect() {
            Some(fractions) => Ok(Value::Array(fractions)),
            None => refused(&format!("each {FRACTION}")),
        },
        ("per_class", _) => Err(wrong_type(file, at, &name, value, "a list of fractions, one a class")),
        ("train_loss" | "test_loss", _) => match number(value) {
            Some(loss) if loss >= 0.0 && loss.is_finite() => Ok(Value::Float(loss)),
            _ => refused("must be a finite number that is not negative; leave it out if the report has none"),
        },
        (key, _) if KEYS.contains(&key) => fraction(value).map_or_else(|| refused(FRACTION), Ok),
        _ => Err(RecipeError::UnknownKey {
            place: file.place(at),
            nearest: nearest::word(key, KEYS).map(|key| format!("{KEY}.{key}")),
            key: name,
        }),
    }
}

fn wrong_type(file: &File, at: &str, key: &str, found: &Value, expected: &str) -> RecipeError {
    let found = match found {
        Value::Table(_) => "a section".to_owned(),
        other => other.to_string(),
    };
    RecipeError::WrongType { place: file.place(at), key: key.to_owned(), found, expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::{Recipe, Setting};
    use super::*;

    fn refused(text: &str) -> String {
        Recipe::parse(text, "a.toml").expect_err("it should be refused").to_string()
    }

    const TABLES: &str = "[[reported]]\nepoch = 10\ntest_accuracy = 0.7549\ntrain_loss = 1\n\n[[reported]]\nepoch = 14\n\
                          per_class = [0.5, 1]\nnote = \"the last\"\n";

    #[test]
    fn tables_are_typed_and_kept_in_the_resolved_recipe() {
        let recipe = Recipe::parse(TABLES, "a.toml").expect("fine");
        let first = Reported { epoch: 10, test_accuracy: Some(0.7549), train_loss: Some(1.0), ..Reported::default() };
        let second =
            Reported { epoch: 14, per_class: vec![0.5, 1.0], note: "the last".to_owned(), ..Reported::default() };
        assert_eq!(recipe.reported, [first, second]);
        assert_eq!(Recipe::parse(&recipe.to_toml(), "printed").expect("printed").reported, recipe.reported);
        assert_eq!(Recipe::parse("reported = []", "a.toml").expect("none").reported, []);
    }

    #[test]
    fn what_a_report_says_is_no_difference_and_goes_with_the_model() {
        let (with, without) =
            (Recipe::parse(TABLES, "a.toml").expect("fine"), Recipe::parse("", "a.toml").expect("fine"));
        assert_ne!(with, without);
        assert_eq!(with.differences(&without), []);
        assert_eq!(with.fingerprint(), without.fingerprint());
        let swapped = Setting::parse("model=lenet-dropout").expect("key=value");
        let recipe = Recipe::resolve(Some("a.toml"), &[swapped], &|_| Ok(TABLES.to_owned())).expect("fine");
        assert_eq!(recipe.reported, []);
    }

    #[test]
    fn each_mistake_names_its_line() {
        for (text, start, word) in [
            ("\n[reported]\nepoch = 1", "a.toml:2: `reported` is a section", "[[reported]]"),
            ("reported = [3]", "a.toml:1: `reported` is 3", "[[reported]]"),
            (
                "[[reported]]\nepoch = 1\n[[reported]]\ntest_loss = 1",
                "a.toml:3: reported.epoch = missing",
                "epoch = 20",
            ),
            ("[[reported]]\nepoch = 0", "a.toml:2: reported.epoch = 0", "from 1"),
            ("[[reported]]\nepoch = 5000000000", "a.toml:2: reported.epoch = 5000000000", "1 or more"),
            ("[[reported]]\nepoch = 1\ntest_accuracy = 57.36", "a.toml:3: reported.test_accuracy = 57.36", "0.5736"),
            ("[[reported]]\nepoch = 1\ntrain_loss = nan", "a.toml:3: reported.train_loss = nan", "finite"),
            ("[[reported]]\nepoch = 1\nper_class = [1, 2]", "a.toml:3: reported.per_class = [1, 2]", "fraction"),
            ("[[reported]]\nepoch = 1\nnote = 1", "a.toml:3: `reported.note` is 1", "text"),
            (
                "[[reported]]\nepoch = 1\ntest_acuracy = 1",
                "a.toml:3: unknown key `reported.test_acuracy`",
                "`reported.test_accuracy`",
            ),
        ] {
            let message = refused(text);
            assert!(message.starts_with(start) && message.contains(word), "{text}: {message}");
        }
        let typed = Setting::parse("reported=[]").expect("key=value");
        let message = Recipe::resolve(None, &[typed], &|path| Err(path.to_owned())).expect_err("typed").to_string();
        assert!(
            message.starts_with("--set reported: reported = []: ") && message.contains("a recipe file"),
            "{message}"
        );
    }
}
