//! The recipe: what is trained, on what, how. Typed, with defaults, validated once.

pub mod model;
