//! What can be wrong with a recipe. Every message says where, what was found, the rule, and what to do.

/// A recipe that cannot be used. `place` is a file and line, a flag, or `default`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file could not be read (`message` comes from the loader), or it is too long or too deep for a recipe.
    #[error("{path}: {message}")]
    Unreadable { path: String, message: String },

    #[error("{origin}: not TOML: {message}")]
    Syntax { origin: String, message: String },

    #[error("{place}: unknown key `{key}`; {}", nearest_key(nearest.as_deref()))]
    UnknownKey { place: String, key: String, nearest: Option<String> },

    #[error("{place}: `{key}` is {found}; expected {expected}")]
    WrongType { place: String, key: String, found: String, expected: String },

    #[error("{place}: {key} = {found:?} is not one of {words}{}", nearest_word(nearest.as_deref()))]
    UnknownWord { place: String, key: String, found: String, words: String, nearest: Option<String> },

    /// `kind` is `recipe` or `model`.
    #[error(
        "{place}: no built-in {kind} is called {name:?}{}. To use a file, give its path with a `/` or its `.toml`",
        among(kind, nearest.as_deref(), known)
    )]
    UnknownName { place: String, kind: &'static str, name: String, nearest: Option<String>, known: String },

    /// What [`ModelSpec::parse`](super::model::ModelSpec::parse) said.
    #[error("{message}")]
    Model { message: String },

    /// A value of the right type that breaks a rule; `rule` ends with what to do.
    #[error("{place}: {key} = {found}: {rule}")]
    Rule { place: String, key: String, found: String, rule: String },

    #[error("--set {given:?}: write it as key=value, for instance --set optimizer.lr=0.1")]
    NotASetting { given: String },
}

fn nearest_key(nearest: Option<&str>) -> String {
    match nearest {
        Some(key) => format!("the nearest known one is `{key}`"),
        None => "`lockstep recipes lenet` shows every key".to_owned(),
    }
}

/// All names only where none is near: there are many recipes.
fn among(kind: &str, nearest: Option<&str>, known: &str) -> String {
    let lists = if kind == "recipe" { "lockstep recipes" } else { "lockstep model" };
    match nearest {
        Some(word) => format!("; the nearest is {word:?} (`{lists}` lists all)"),
        None => format!(" (there are {known})"),
    }
}

fn nearest_word(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |word| format!("; the nearest is {word:?}"))
}
