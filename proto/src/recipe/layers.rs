//! The values of a recipe while defaults, file and command line are laid over each other, and where each came from.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::model::ModelSpec;
use super::ownership::{OWNED, refusal};
use super::resolve::is_path;
use super::{Load, Origin, Recipe, RecipeError, Setting, catalogue, conform, nearest, text};

/// The values so far, and where each came from.
pub(super) struct Layers {
    defaults: Table,
    pub(super) values: Table,
    pub(super) places: BTreeMap<String, String>,
    typed: BTreeMap<String, Origin>,
}

impl Layers {
    pub(super) fn new() -> Self {
        let mut defaults = Recipe::default().table();
        defaults.insert("model".to_owned(), Value::String(catalogue::DEFAULT_MODEL.name.to_owned()));
        Self { values: defaults.clone(), defaults, places: BTreeMap::new(), typed: BTreeMap::new() }
    }

    pub(super) fn add_file(&mut self, origin: &str, text: &str) -> Result<(), RecipeError> {
        let syntax = |error: toml::de::Error| RecipeError::Syntax {
            origin: origin.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        };
        text::check(text).map_err(|message| RecipeError::Unreadable { path: origin.to_owned(), message })?;
        let table: Table = toml::from_str(text).map_err(syntax)?;
        let spans = DeTable::parse(text).map_err(syntax)?;
        let place = |key: &str| match offset(spans.get_ref(), key) {
            Some(at) => format!("{origin}:{}", 1 + text[..at].matches('\n').count()),
            None => origin.to_owned(),
        };
        for (name, value) in table {
            match (value, self.defaults.get(&name)) {
                (Value::Table(section), Some(Value::Table(_))) => {
                    for (inner, value) in section {
                        let key = format!("{name}.{inner}");
                        self.add(&place(&key), &key, value)?;
                    }
                }
                (value, _) => self.add(&place(&name), &name, value)?,
            }
        }
        Ok(())
    }

    pub(super) fn add_setting(&mut self, setting: &Setting) -> Result<(), RecipeError> {
        let place = match &setting.origin {
            Origin::Set => format!("--set {}", setting.key),
            Origin::Flag(flag) => flag.clone(),
        };
        let value = setting.toml(conform::at(&self.defaults, &setting.key));
        self.add(&place, &setting.key, value)?;
        self.typed.insert(setting.key.clone(), setting.origin.clone());
        Ok(())
    }

    fn add(&mut self, place: &str, key: &str, value: Value) -> Result<(), RecipeError> {
        let Some(default) = conform::at(&self.defaults, key) else {
            let known = conform::keys(&self.defaults);
            return Err(RecipeError::UnknownKey {
                place: place.to_owned(),
                key: key.to_owned(),
                nearest: nearest::key(key, known.iter().map(String::as_str)).map(str::to_owned),
            });
        };
        let value = conform::conform(place, key, value, default)?;
        self.put(key, value);
        self.places.insert(key.to_owned(), place.to_owned());
        Ok(())
    }

    /// `key` is known: it was found in the defaults.
    fn put(&mut self, key: &str, value: Value) {
        match key.split_once('.') {
            None => {
                self.values.insert(key.to_owned(), value);
            }
            Some((section, inner)) => {
                if let Some(Value::Table(section)) = self.values.get_mut(section) {
                    section.insert(inner.to_owned(), value);
                }
            }
        }
    }

    pub(super) fn choices(&self) -> Vec<Value> {
        OWNED.iter().filter_map(|(_, chooser, _)| conform::at(&self.values, chooser).cloned()).collect()
    }

    /// `before`: the choices as the recipe made them.
    pub(super) fn drop_what_no_longer_applies(&mut self, before: &[Value]) -> Result<(), RecipeError> {
        let now = self.choices();
        for (((key, chooser, owners), before), now) in OWNED.iter().zip(before).zip(&now) {
            let chosen = now.as_str().unwrap_or_default();
            if owners.contains(&chosen) {
                continue;
            }
            if self.typed.contains_key(*key) {
                return Err(RecipeError::Rule {
                    place: self.places.get(*key).cloned().unwrap_or_default(),
                    key: (*key).to_owned(),
                    found: conform::at(&self.values, key).map(Value::to_string).unwrap_or_default(),
                    rule: refusal(chooser, chosen, owners),
                });
            }
            if let (true, Some(default)) = (before != now, conform::at(&self.defaults, key).cloned()) {
                self.put(key, default);
            }
        }
        Ok(())
    }

    /// A file without a name is called as the file is. A recipe whose model was swapped on the command line is not what its
    /// name and source say it is: it takes the model's name, unless a name was typed too.
    pub(super) fn name_it(&mut self, origin: &str) {
        let swapped = self.typed.contains_key("model");
        if swapped && !self.typed.contains_key("source") {
            self.put("source", Value::String(String::new()));
        }
        let named = if swapped { self.typed.contains_key("name") } else { self.places.contains_key("name") };
        if !named {
            let given = match (self.values.get("model"), swapped) {
                (Some(Value::String(model)), true) => model.clone(),
                (Some(Value::Table(model)), true) => {
                    model.get("name").and_then(Value::as_str).unwrap_or("model").to_owned()
                }
                _ => origin.to_owned(),
            };
            let stem = Path::new(&given).file_stem().and_then(|stem| stem.to_str()).unwrap_or(&given);
            self.put("name", Value::String(stem.to_owned()));
        }
    }

    pub(super) fn load_model(&mut self, origin: &str, load: Load<'_>) -> Result<(), RecipeError> {
        let place = self.places.get("model").cloned().unwrap_or_else(|| "default".to_owned());
        let spec = match self.values.get("model") {
            Some(Value::String(name)) if is_path(name) => {
                // a path in a file is relative to the file, one that was typed to where it was typed
                let folder = Path::new(origin).parent().filter(|_| !self.typed.contains_key("model"));
                let path = folder.map_or_else(|| Path::new(name).to_path_buf(), |folder| folder.join(name));
                let path = path.to_string_lossy().into_owned();
                let text = load(&path)
                    .map_err(|message| RecipeError::Unreadable { path: format!("{place}: {path}"), message })?;
                parse_model(&text, &path)?
            }
            Some(Value::String(name)) => {
                let built_in = catalogue::find("model", catalogue::MODELS, name, &place)?;
                parse_model(built_in.text, &format!("built-in model {name}"))?
            }
            Some(Value::Table(table)) => parse_model(&table.to_string(), &place)?,
            // conform() let nothing else in
            _ => return Ok(()),
        };
        let table =
            Table::try_from(&spec).map_err(|error| RecipeError::Model { message: format!("{place}: {error}") })?;
        self.values.insert("model".to_owned(), Value::Table(table));
        Ok(())
    }
}

/// The model in `text`; `origin` is named in errors.
pub(super) fn parse_model(text: &str, origin: &str) -> Result<ModelSpec, RecipeError> {
    ModelSpec::parse(text, origin)
        .map_err(|error| RecipeError::Model { message: error.to_string().trim_end().to_owned() })
}

/// Where `key` begins in the text.
fn offset(table: &DeTable<'_>, key: &str) -> Option<usize> {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let (name, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == first)?;
    match (value.get_ref(), rest) {
        (DeValue::Table(inner), Some(rest)) => offset(inner, rest),
        _ => Some(name.span().start),
    }
}
