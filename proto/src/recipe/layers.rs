//! The values of a recipe while defaults, file and command line are laid over each other, and where each came from.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::file::File;
use super::model::ModelSpec;
use super::ownership::{OWNED, refusal};
use super::resolve::is_path;
use super::{Load, Origin, Recipe, RecipeError, Setting, catalogue, conform, extends, nearest, reported};

/// What one recipe is called and what it came to, which is not true of another one that extends it.
const ITS_OWN: [&str; 2] = ["name", reported::KEY];

/// Keys of recipe files that are no settings, and can't be typed.
const IN_FILES: [&str; 2] = ["extends", reported::KEY];

/// The values so far, and where each came from.
pub(super) struct Layers {
    defaults: Table,
    pub(super) values: Table,
    pub(super) places: BTreeMap<String, String>,
    typed: BTreeMap<String, Origin>,
    /// The file that names the model, whose folder a path starts from.
    names_model: String,
}

impl Layers {
    pub(super) fn new() -> Self {
        let mut defaults = Recipe::default().table();
        defaults.insert("model".to_owned(), Value::String(catalogue::DEFAULT_MODEL.name.to_owned()));
        Self {
            values: defaults.clone(),
            defaults,
            places: BTreeMap::new(),
            typed: BTreeMap::new(),
            names_model: String::new(),
        }
    }

    /// Lays `file` over what it extends.
    pub(super) fn add_file(&mut self, file: &File) -> Result<(), RecipeError> {
        for key in ITS_OWN {
            if let Some(default) = self.defaults.get(key).cloned() {
                self.put(key, default);
            }
            self.places.remove(key);
        }
        let before = self.choices();
        for (name, value) in &file.table {
            match (value, self.defaults.get(name)) {
                _ if name == "extends" => {}
                _ if name == reported::KEY => {
                    let value = reported::conform(file, value)?;
                    self.put(name, value);
                }
                (Value::Table(section), Some(Value::Table(_))) => {
                    for (inner, value) in section {
                        let key = format!("{name}.{inner}");
                        self.add(&file.place(&key), &key, value.clone())?;
                    }
                }
                (value, _) => self.add(&file.place(name), name, value.clone())?,
            }
        }
        if file.table.contains_key("model") {
            self.names_model.clone_from(&file.origin);
        }
        self.drop_what_no_longer_applies(&before, |key| conform::at(&file.table, key).is_some());
        Ok(())
    }

    pub(super) fn add_setting(&mut self, setting: &Setting) -> Result<(), RecipeError> {
        let place = match &setting.origin {
            Origin::Set => format!("--set {}", setting.key),
            Origin::Flag(flag) => flag.clone(),
        };
        if IN_FILES.contains(&setting.key.as_str()) {
            return Err(RecipeError::Rule {
                place,
                key: setting.key.clone(),
                found: setting.value.clone(),
                rule: "it stands in a recipe file; write one and give its path".to_owned(),
            });
        }
        let value = setting.toml(conform::at(&self.defaults, &setting.key));
        self.add(&place, &setting.key, value)?;
        self.typed.insert(setting.key.clone(), setting.origin.clone());
        Ok(())
    }

    fn add(&mut self, place: &str, key: &str, value: Value) -> Result<(), RecipeError> {
        let Some(default) = conform::at(&self.defaults, key) else {
            let known = conform::keys(&self.defaults);
            let known = known.iter().map(String::as_str).chain(["extends"]);
            return Err(RecipeError::UnknownKey {
                place: place.to_owned(),
                key: key.to_owned(),
                nearest: nearest::key(key, known).map(str::to_owned),
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

    /// What was typed goes over the recipe: `before` are the choices as that made them.
    pub(super) fn settle(&mut self, before: &[Value]) -> Result<(), RecipeError> {
        for ((key, chooser, owners), now) in OWNED.iter().zip(self.choices()) {
            let chosen = now.as_str().unwrap_or_default();
            if !owners.contains(&chosen) && self.typed.contains_key(*key) {
                return Err(RecipeError::Rule {
                    place: self.places.get(*key).cloned().unwrap_or_default(),
                    key: (*key).to_owned(),
                    found: conform::at(&self.values, key).map(Value::to_string).unwrap_or_default(),
                    rule: refusal(chooser, chosen, owners),
                });
            }
        }
        // what was typed and is not read was refused
        self.drop_what_no_longer_applies(before, |_| false);
        Ok(())
    }

    /// Settings that only the choices `before` read go back to their defaults, but for those that were `said` together with
    /// the new choice: these are a mistake, which the rules find.
    fn drop_what_no_longer_applies(&mut self, before: &[Value], said: impl Fn(&str) -> bool) {
        let now = self.choices();
        for (((key, _, owners), before), now) in OWNED.iter().zip(before).zip(&now) {
            let kept = before == now || owners.contains(&now.as_str().unwrap_or_default()) || said(key);
            if let (false, Some(default)) = (kept, conform::at(&self.defaults, key).cloned()) {
                self.put(key, default);
            }
        }
    }

    /// A file without a name is called as the file is. A recipe whose model was swapped on the command line is not what its
    /// name and source say it is: it takes the model's name, unless a name was typed too.
    pub(super) fn name_it(&mut self, origin: &str) {
        let swapped = self.typed.contains_key("model");
        if swapped {
            self.put(reported::KEY, Value::Array(Vec::new()));
            if !self.typed.contains_key("source") {
                self.put("source", Value::String(String::new()));
            }
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
            // not the stem: lenet5-sgd-0.001 would lose its rate
            let file = Path::new(&given).file_name().and_then(|name| name.to_str()).unwrap_or(&given);
            let name = file.strip_suffix(".toml").unwrap_or(file);
            let name = name.strip_prefix(catalogue::ORIGIN).unwrap_or(name);
            self.put("name", Value::String(name.to_owned()));
        }
    }

    pub(super) fn load_model(&mut self, load: Load<'_>) -> Result<(), RecipeError> {
        let place = self.places.get("model").cloned().unwrap_or_else(|| "default".to_owned());
        let spec = match self.values.get("model") {
            Some(Value::String(name)) if is_path(name) => {
                // a path in a file is relative to the file, one that was typed to where it was typed
                let typed = self.typed.contains_key("model");
                let path = if typed { name.clone() } else { extends::beside(&self.names_model, name) };
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
