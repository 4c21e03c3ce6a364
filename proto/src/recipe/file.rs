//! A recipe file: its tables, and the line of each key.

use std::collections::BTreeMap;

use toml::Table;
use toml::de::{DeTable, DeValue};

use super::{RecipeError, text};

/// A recipe file that was read, but not yet understood.
pub(super) struct File {
    /// What errors call it: a path, or `built-in recipe lenet`.
    pub(super) origin: String,
    pub(super) table: Table,
    text: String,
    /// Where each key begins, in bytes: `epochs`, `optimizer.lr`, `reported[0].epoch`. Lines are counted only for an error: a
    /// hostile file may have a hundred thousand keys.
    offsets: BTreeMap<String, usize>,
}

impl File {
    pub(super) fn read(origin: &str, text: &str) -> Result<Self, RecipeError> {
        let syntax = |error: toml::de::Error| RecipeError::Syntax {
            origin: origin.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        };
        text::check(text).map_err(|message| RecipeError::Unreadable { path: origin.to_owned(), message })?;
        let table: Table = toml::from_str(text).map_err(syntax)?;
        let offsets = offsets(DeTable::parse(text).map_err(syntax)?.get_ref());
        Ok(Self { origin: origin.to_owned(), table, text: text.to_owned(), offsets })
    }

    /// The file and the line in which `key` begins.
    pub(super) fn place(&self, key: &str) -> String {
        match self.offsets.get(key).and_then(|at| self.text.get(..*at)) {
            Some(before) => format!("{}:{}", self.origin, 1 + before.matches('\n').count()),
            None => self.origin.clone(),
        }
    }
}

/// Two levels are enough: a deeper key is the model's, whose errors name the layer.
fn offsets(table: &DeTable<'_>) -> BTreeMap<String, usize> {
    let mut offsets = BTreeMap::new();
    let inside = |name: &str, inner: &DeTable<'_>, offsets: &mut BTreeMap<String, usize>| {
        for (key, _) in inner.iter() {
            offsets.insert(format!("{name}.{}", key.get_ref()), key.span().start);
        }
    };
    for (name, value) in table.iter() {
        let (at, name) = (name.span().start, name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if name != "model" => inside(name, inner, &mut offsets),
            DeValue::Array(items) if name == "reported" => {
                for (i, item) in items.iter().enumerate() {
                    let name = format!("{name}[{i}]");
                    if let DeValue::Table(inner) = item.get_ref() {
                        inside(&name, inner, &mut offsets);
                    }
                    offsets.insert(name, item.span().start);
                }
            }
            _ => {}
        }
        offsets.insert(name.to_string(), at);
    }
    offsets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_lines_in_which_they_begin() {
        let text = "extends = \"x\"\nepochs = 3\n\n[optimizer]\nlr = 1\ndata.mean = 1\n\n[[reported]]\nepoch = 1\n\n[[reported]]\n\
                    note = \"a\"\nepoch = 2\n";
        let file = File::read("a.toml", text).expect("TOML");
        // by hand
        for (key, line) in [
            ("extends", 1),
            ("epochs", 2),
            ("optimizer", 4),
            ("optimizer.lr", 5),
            ("reported[0].epoch", 9),
            ("reported[1]", 11),
            ("reported[1].note", 12),
        ] {
            assert_eq!(file.place(key), format!("a.toml:{line}"), "{key}");
        }
        assert_eq!(file.place("seed"), "a.toml");
    }
}
