//! The recipe: what is trained, on what, how. Typed, with defaults, validated once.
//!
//! A recipe is a TOML file. [`Recipe::resolve`] lays it over what it extends and the defaults, then `--set key=value`, then flags, and refuses
//! what it does not know. The result prints in full ([`Recipe::to_toml`]) and what is printed resolves to itself.

pub mod catalogue;
mod choice;
mod conform;
mod error;
mod extends;
mod file;
mod layers;
pub mod model;
mod nearest;
mod ownership;
mod print;
mod reported;
mod resolve;
mod rules;
mod setting;
mod settings;
mod text;

pub use choice::{
    BatchNormStatistics, EvaluationMode, LossName, OptimizerName, PartitionName, ScheduleName, ScheduleUnit, Subset,
    Wire,
};
pub use error::RecipeError;
pub use print::Difference;
pub use reported::Reported;
pub use resolve::Load;
pub use setting::{Origin, Setting};
pub use settings::{
    CheckpointSettings, DataSettings, EvaluationSettings, LossSettings, OptimizerSettings, Recipe, ScheduleSettings,
};
