//! Images on the worker: from canonical records to the tensors of a shard.

mod augment;
mod batch;

pub use augment::{Augment, Augmenter};
pub use batch::{Batch, Normalise, Records};
