//! A model: a checked list of layers, its tensors, its initial weights and its forward pass.
//!
//! - [`plan`]: the checked model; [`planner`]: the walk over the file's layer list that makes it
//! - [`rules`]: what each type of layer demands and makes
//! - [`layer`], [`shape`]: one planned layer, the shape of one example between layers
//! - [`init`]: PyTorch's default initialisation, from keys
//! - [`weights`]: the flat vector as candle variables
//! - [`forward`]: images to logits, in training and in evaluation
//! - [`table`]: what `lockstep model show` prints

mod error;
mod forward;
#[cfg(test)]
mod fuzz;
mod init;
mod layer;
mod plan;
mod planner;
mod rules;
mod shape;
mod table;
mod weights;

#[cfg(feature = "cuda")]
pub(crate) use error::plain;
pub use error::{ComputeError, ModelError};
pub(crate) use forward::{Draws, Mode};
pub use plan::Model;
pub use shape::Shape;
pub use table::Row;
pub use weights::Weights;
#[cfg(feature = "cuda")]
pub(crate) use {forward::Turn, layer::Layer, layer::Op, layer::Slot};
