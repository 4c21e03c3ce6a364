//! One setting from the command line: `--set key=value`, or a flag of its own such as `--lr 0.1`.

use toml::{Table, Value};

use super::{RecipeError, text};

/// Where a setting was typed. Flags win over `--set`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Set,
    /// The flag as typed, with its dashes: `--lr`.
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Set => f.write_str("--set"),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A dotted key and its value as typed: TOML, or a bare word where the key holds text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub value: String,
    pub origin: Origin,
}

impl Setting {
    /// The argument of `--set`: `optimizer.lr=0.1`.
    pub fn parse(argument: &str) -> Result<Self, RecipeError> {
        match argument.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok(Self { key: key.trim().to_owned(), value: value.trim().to_owned(), origin: Origin::Set })
            }
            _ => Err(RecipeError::NotASetting { given: argument.to_owned() }),
        }
    }

    /// A flag that stands for a key: `Setting::flag("--lr", "optimizer.lr", 0.1)`.
    #[must_use]
    pub fn flag(flag: &str, key: &str, value: impl ToString) -> Self {
        Self { key: key.to_owned(), value: value.to_string(), origin: Origin::Flag(flag.to_owned()) }
    }

    /// What was typed, as TOML. Text needs no quotes, and a list no brackets, where the `default` is one.
    pub(super) fn toml(&self, default: Option<&Value>) -> Value {
        let text = self.value.as_str();
        let parse = |text: &str| {
            let line = format!("value = {text}");
            text::check(&line).ok()?;
            let table: Table = toml::from_str(&line).ok()?;
            // more than one key: the text had a line break in it, so it is no single value
            (table.len() == 1).then(|| table.get("value").cloned()).flatten()
        };
        let parsed = parse(text);
        match (default, parsed) {
            (Some(Value::String(_)), Some(value @ (Value::String(_) | Value::Table(_)))) => value,
            (Some(Value::String(_)), _) => Value::String(text.to_owned()),
            (Some(Value::Array(_)), Some(value @ Value::Array(_))) => value,
            (Some(Value::Array(_)), other) => {
                parse(&format!("[{text}]")).or(other).unwrap_or_else(|| Value::String(text.to_owned()))
            }
            // `nan` and `inf` in the spellings that other languages print
            (_, None) => match text.to_ascii_lowercase().as_str() {
                "nan" | "-nan" => Value::Float(f64::NAN),
                "inf" | "infinity" => Value::Float(f64::INFINITY),
                "-inf" | "-infinity" => Value::Float(f64::NEG_INFINITY),
                _ => Value::String(text.to_owned()),
            },
            (_, Some(value)) => value,
        }
    }
}
