//! The recipes and models that are built into the executable: the files of `recipes/`.

use super::{RecipeError, nearest};

/// A file of `recipes/` or `recipes/models/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuiltIn {
    /// The file's name without `.toml`.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

macro_rules! files {
    ($folder:literal: $($name:literal),+ $(,)?) => {
        &[$(BuiltIn { name: $name, text: include_str!(concat!("../../../", $folder, "/", $name, ".toml")) }),+]
    };
}

/// In the order in which `lockstep recipes` lists them.
pub const RECIPES: &[BuiltIn] = files!("recipes": "lenet", "lenet-dropout", "lenet-dropout-bn");

/// In the order in which `lockstep model` lists them.
pub const MODELS: &[BuiltIn] = files!("recipes/models": "lenet", "lenet-dropout", "lenet-dropout-bn");

/// What `lockstep train` trains when no recipe is named: small enough to finish on any machine.
pub const DEFAULT_RECIPE: &str = "lenet";

/// The model of a recipe that names none.
pub const DEFAULT_MODEL: BuiltIn = MODELS[0];

impl BuiltIn {
    /// The first line of comment in the file, without its `#`: one line about it.
    #[must_use]
    pub fn description(&self) -> &'static str {
        let line = self.text.lines().find_map(|line| line.strip_prefix('#'));
        line.map_or("", str::trim)
    }
}

/// The built-in recipe called `name`.
pub fn recipe(name: &str) -> Result<&'static BuiltIn, RecipeError> {
    find("recipe", RECIPES, name, "recipe")
}

/// The built-in model called `name`.
pub fn model(name: &str) -> Result<&'static BuiltIn, RecipeError> {
    find("model", MODELS, name, "model")
}

/// `place` is where the name was written.
pub(super) fn find(
    kind: &'static str,
    list: &'static [BuiltIn],
    name: &str,
    place: &str,
) -> Result<&'static BuiltIn, RecipeError> {
    let names = || list.iter().map(|file| file.name);
    list.iter().find(|file| file.name == name).ok_or_else(|| RecipeError::UnknownName {
        place: place.to_owned(),
        kind,
        name: name.to_owned(),
        nearest: nearest::word(name, names()).to_owned(),
        known: names().collect::<Vec<_>>().join(", "),
    })
}
