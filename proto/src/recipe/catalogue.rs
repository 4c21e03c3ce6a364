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
pub const MODELS: &[BuiltIn] =
    files!("recipes/models": "lenet", "lenet-dropout", "lenet-dropout-bn", "base", "convnet", "net6");

/// What `lockstep train` trains when no recipe is named: small enough to finish on any machine.
pub const DEFAULT_RECIPE: &str = "lenet";

/// The model of a recipe that names none.
pub const DEFAULT_MODEL: BuiltIn = MODELS[0];

impl BuiltIn {
    /// The first line of comment in the file, without its `#`: one line about it. Empty for models: their `source` says it.
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
        nearest: nearest::word(name, names()).map(str::to_owned),
        known: names().collect::<Vec<_>>().join(", "),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Recipe;
    use super::*;

    fn files(folder: &str) -> BTreeSet<String> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
        let entries = std::fs::read_dir(folder).expect("the repository has this folder");
        let paths = entries.map(|entry| entry.expect("readable").path());
        let tomls = paths.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
        tomls.map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned()).collect()
    }

    fn names(list: &[BuiltIn]) -> BTreeSet<String> {
        list.iter().map(|file| file.name.to_owned()).collect()
    }

    #[test]
    fn every_file_is_built_in() {
        assert_eq!(names(RECIPES), files("recipes"));
        assert_eq!(names(MODELS), files("recipes/models"));
    }

    #[test]
    fn every_recipe_resolves_under_its_own_name_and_says_what_it_is() {
        for file in RECIPES {
            let recipe =
                Recipe::resolve(Some(file.name), &[], &|path| Err(format!("a built-in one reads no file: {path}")))
                    .unwrap_or_else(|error| panic!("{}: {error}", file.name));
            assert_eq!(recipe.name, file.name);
            assert!(!recipe.source.is_empty() && !file.description().is_empty(), "{}", file.name);
        }
    }

    #[test]
    fn every_model_parses_under_its_own_name() {
        for file in MODELS {
            assert_eq!(super::super::layers::parse_model(file.text, file.name).expect("valid").name, file.name);
        }
    }

    #[test]
    fn the_default_recipe_exists_and_an_unknown_one_names_its_nearest() {
        assert_eq!(recipe(DEFAULT_RECIPE).expect("it exists").name, DEFAULT_RECIPE);
        assert!(model("lenet-droput").expect_err("unknown").to_string().contains("nearest is \"lenet-dropout\""));
    }
}
