//! One value against the default of its key: the same type and length, or an error in words.

use toml::{Table, Value};

use super::choice::{
    BatchNormStatistics, EvaluationMode, LossName, OptimizerName, PartitionName, ScheduleName, ScheduleUnit, Subset,
    Wire,
};
use super::{RecipeError, nearest};

/// The words that the key takes, where it takes only some.
pub(super) fn words(key: &str) -> Option<&'static [&'static str]> {
    match key {
        "batch_norm" => Some(BatchNormStatistics::WORDS),
        "data.subset" => Some(Subset::WORDS),
        "data.partition" => Some(PartitionName::WORDS),
        "loss.name" => Some(LossName::WORDS),
        "evaluation.mode" => Some(EvaluationMode::WORDS),
        "optimizer.name" => Some(OptimizerName::WORDS),
        "schedule.name" => Some(ScheduleName::WORDS),
        "schedule.unit" => Some(ScheduleUnit::WORDS),
        "wire" => Some(Wire::WORDS),
        _ => None,
    }
}

/// The value at a dotted key.
pub(super) fn at<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    match (table.get(first)?, rest) {
        (value, None) => Some(value),
        (Value::Table(inner), Some(rest)) => at(inner, rest),
        _ => None,
    }
}

/// Every dotted key, sections included. The model counts as one key: it is replaced as a whole.
pub(super) fn keys(table: &Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (name, value) in table {
        keys.push(name.clone());
        if let (Value::Table(inner), true) = (value, name != "model") {
            keys.extend(inner.keys().map(|key| format!("{name}.{key}")));
        }
    }
    keys
}

/// `found` with whole numbers made floats where the default is one.
pub(super) fn conform(place: &str, key: &str, found: Value, default: &Value) -> Result<Value, RecipeError> {
    let wrong = |expected: String, found: &Value| RecipeError::WrongType {
        place: place.to_owned(),
        key: key.to_owned(),
        found: describe(found),
        expected,
    };
    match (found, default) {
        (found @ (Value::String(_) | Value::Table(_)), _) if key == "model" => Ok(found),
        (found, _) if key == "model" => {
            Err(wrong("the name of a built-in model, the path of a model file, or a table".to_owned(), &found))
        }
        (Value::String(word), Value::String(_)) => match words(key) {
            Some(words) if !words.contains(&word.as_str()) => Err(RecipeError::UnknownWord {
                place: place.to_owned(),
                key: key.to_owned(),
                nearest: nearest::word(&word, words.iter().copied()).map(str::to_owned),
                words: words.join(", "),
                found: word,
            }),
            _ => Ok(Value::String(word)),
        },
        (Value::Integer(n), Value::Integer(_)) if n < 0 => {
            Err(wrong("a whole number that is not negative".to_owned(), &Value::Integer(n)))
        }
        (Value::Integer(n), Value::Integer(_)) if n > most(key) => {
            Err(wrong(format!("a whole number of at most {}", most(key)), &Value::Integer(n)))
        }
        (Value::Integer(n), Value::Float(_)) => Ok(Value::Float(n as f64)),
        (found @ Value::Integer(_), Value::Integer(_))
        | (found @ Value::Float(_), Value::Float(_))
        | (found @ Value::Boolean(_), Value::Boolean(_)) => Ok(found),
        (Value::Array(items), Value::Array(defaults)) => {
            // an empty default is a list of whole numbers of any length; any other fixes type and length
            if !defaults.is_empty() && items.len() != defaults.len() {
                return Err(wrong(expectation(key, default), &Value::Array(items)));
            }
            let whole = Value::Integer(0);
            let items = items.into_iter().map(|item| conform(place, key, item, defaults.first().unwrap_or(&whole)));
            Ok(Value::Array(items.collect::<Result<_, _>>()?))
        }
        (found, _) => Err(wrong(expectation(key, default), &found)),
    }
}

/// The largest number that the key's type holds.
fn most(key: &str) -> i64 {
    // an epoch is a 32-bit coordinate of the keyed generator
    if key == "epochs" || key == "evaluation.every_epochs" || key == "checkpoint.every_epochs" {
        i64::from(u32::MAX)
    } else {
        i64::MAX
    }
}

fn expectation(key: &str, default: &Value) -> String {
    match default {
        Value::String(_) => {
            words(key).map_or_else(|| "text".to_owned(), |words| format!("one of {}", words.join(", ")))
        }
        Value::Integer(_) => "a whole number".to_owned(),
        Value::Float(_) => "a number".to_owned(),
        Value::Boolean(_) => "true or false".to_owned(),
        Value::Datetime(_) => "a date".to_owned(),
        Value::Array(items) if items.is_empty() => "a list of whole numbers".to_owned(),
        Value::Array(items) => format!("a list of {} numbers", items.len()),
        Value::Table(inner) => {
            let keys: Vec<String> = inner.keys().map(|inner| format!("{key}.{inner}")).collect();
            format!("a section; its keys are {}", keys.join(", "))
        }
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() > 18 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{text}, more than a whole number of TOML can be")
        }
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(items) => format!("a list of {}: {value}", items.len()),
        Value::Table(_) => "a section".to_owned(),
        Value::Datetime(_) => format!("the date {value}"),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Recipe;
    use super::*;

    /// A new setting that is one word of a few must be listed in [`words`], or its errors would be serde's.
    #[test]
    fn every_text_setting_has_its_words_or_is_free() {
        let table = Recipe::default().table();
        for key in keys(&table) {
            match at(&table, &key) {
                Some(Value::String(word)) if !["name", "source", "init_from", "init_hash"].contains(&key.as_str()) => {
                    assert!(words(&key).is_some_and(|words| words.contains(&word.as_str())), "{key}");
                }
                _ => {}
            }
        }
    }
}
