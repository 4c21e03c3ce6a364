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

/// In the order in which `lockstep recipes` lists them. A recipe is called after its report's first one, or that and a variant.
pub const RECIPES: &[BuiltIn] = files!(
    "recipes":
    "lenet",
    "lenet-dropout",
    "lenet-dropout-bn",
    "convnet",
    "convnet-step",
    "convnet-bn4",
    "convnet-lr-0.001",
    "convnet-lr-0.001-step",
    "convnet-bn4-lr-0.001",
    "lenet5",
    "lenet5-augmented",
    "lenet5-normalised",
    "lenet5-normalised-augmented",
    "lenet5-dropout",
    "lenet5-sgd-0.001",
    "lenet5-adam-0.001",
    "lenet5-adam-0.01",
    "lenet5-odd-even",
    "lenet5-l1-logits",
    "lenet5-l1-softmax",
    "base",
    "base-normalised",
    "base-augmented",
    "base-both",
    "base-dropout",
    "base-l1",
    "base-l2",
    "base-sgd-0.01",
    "base-sgd-0.001",
    "base-sgd-1e-5",
    "base-adam-0.01",
    "base-adam-1e-5",
    "net6",
    "net6-train-mode",
    "net6-lenet",
    "net6-lenet-4x4",
    "net6-lenet-bn",
    "net6-lenet-sgd",
    "net6-lenet-hue",
    "net6-lenet-diverges",
);

/// In the order in which `lockstep model` lists them.
pub const MODELS: &[BuiltIn] = files!(
    "recipes/models":
    "lenet",
    "lenet-dropout",
    "lenet-dropout-bn",
    "lenet-4x4",
    "lenet-bn-leaky",
    "lenet5",
    "lenet5-dropout",
    "base",
    "base-dropout",
    "convnet",
    "convnet-bn4",
    "net6",
);

/// What `lockstep train` trains when no recipe is named: small enough to finish on any machine.
pub const DEFAULT_RECIPE: &str = "lenet";

/// The model of a recipe that names none.
pub const DEFAULT_MODEL: BuiltIn = MODELS[0];

impl BuiltIn {
    /// The report that the recipe is of, by its first recipe's name.
    #[must_use]
    pub fn report(&self) -> &'static str {
        self.name.split_once('-').map_or(self.name, |(report, _)| report)
    }

    /// The first line of comment in the file, without its `#`: one line about it. Empty for models: their `source` says it.
    #[must_use]
    pub fn description(&self) -> &'static str {
        let line = self.text.lines().find_map(|line| line.strip_prefix('#'));
        line.map_or("", str::trim)
    }

    /// The file's lines of comment, in their order, each with its `#`.
    pub fn comments(&self) -> impl Iterator<Item = &'static str> {
        self.text.lines().filter(|line| line.starts_with('#'))
    }

    /// The built-in recipe that this one starts from.
    #[must_use]
    pub fn extends(&self) -> Option<&'static Self> {
        let line = self.text.lines().find_map(|line| line.strip_prefix("extends = \""))?;
        RECIPES.iter().find(|file| Some(file.name) == line.strip_suffix('"'))
    }
}

/// What errors call a built-in recipe, before its name.
pub(super) const ORIGIN: &str = "built-in recipe ";

/// What errors call the built-in recipe `name`.
pub(super) fn origin(name: &str) -> String {
    format!("{ORIGIN}{name}")
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
            assert!(RECIPES.iter().any(|first| first.name == file.report()), "{}", file.name);
            assert!(!recipe.source.is_empty() && !file.description().is_empty(), "{}", file.name);
            // a comment elsewhere in a line, or a key that is written otherwise, would not be found
            assert_eq!(
                file.text.matches('#').count(),
                file.comments().map(|line| line.matches('#').count()).sum::<usize>()
            );
            assert_eq!(file.text.contains("extends"), file.extends().is_some(), "{}", file.name);
        }
    }

    /// A variant differs from what it extends, or it would be the same experiment twice. Oracle for the two that do not: the
    /// report, whose normalisation with mean 0 and deviation 1 changes nothing.
    #[test]
    fn no_two_recipes_are_the_same_but_those_that_should_be() {
        let resolve = |name| Recipe::resolve(Some(name), &[], &|path| Err(path.to_owned())).expect("valid");
        let same = |a: &BuiltIn, b: &BuiltIn| {
            let other = Recipe { name: a.name.to_owned(), ..resolve(b.name) };
            resolve(a.name).differences(&other).is_empty()
        };
        let mut pairs = Vec::new();
        for (i, a) in RECIPES.iter().enumerate() {
            pairs.extend(RECIPES[..i].iter().filter(|b| same(a, b)).map(|b| (b.name, a.name)));
        }
        assert_eq!(pairs, [("lenet5", "lenet5-normalised"), ("lenet5-augmented", "lenet5-normalised-augmented")]);
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
