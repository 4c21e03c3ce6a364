//! What can be wrong with a recipe. Every message says where, what was found, the rule, and what to do.

/// A recipe that cannot be used. `place` is a file and line, a flag, or `default`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file could not be read; `message` comes from the loader.
    #[error("{path}: {message}")]
    Unreadable { path: String, message: String },

    #[error("{origin}: not TOML: {message}")]
    Syntax { origin: String, message: String },

    #[error("{place}: unknown key `{key}`; the nearest known one is `{nearest}`")]
    UnknownKey { place: String, key: String, nearest: String },

    #[error("{place}: `{key}` is {found}; expected {expected}")]
    WrongType { place: String, key: String, found: String, expected: String },

    #[error("{place}: {key} = {found:?} is not one of {words}; the nearest is {nearest:?}")]
    UnknownWord { place: String, key: String, found: String, words: String, nearest: String },

    /// `kind` is `recipe` or `model`.
    #[error(
        "{place}: no built-in {kind} is called {name:?}; the nearest is {nearest:?} (there are {known}). \
         To use a file, give its path with a `/` or its `.toml`"
    )]
    UnknownName { place: String, kind: &'static str, name: String, nearest: String, known: String },

    /// What [`ModelSpec::parse`](super::model::ModelSpec::parse) said.
    #[error("{message}")]
    Model { message: String },

    /// A value of the right type that breaks a rule; `rule` ends with what to do.
    #[error("{place}: {key} = {found}: {rule}")]
    Rule { place: String, key: String, found: String, rule: String },

    #[error("--set {given:?}: write it as key=value, for instance --set optimizer.lr=0.1")]
    NotASetting { given: String },
}
