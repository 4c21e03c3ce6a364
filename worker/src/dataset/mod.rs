//! Images on the worker: from the coordinator's records to the tensors of a shard.

mod augment;
mod batch;
mod batches;
pub(crate) mod fetch;

pub use augment::Augmenter;
#[cfg(feature = "cuda")]
pub(crate) use augment::{Adjustment, Draw};
pub use batch::{Batch, Normalise, Records};
pub use batches::{Batches, Purpose};

/// Channels, height, width of every image.
pub const IMAGE: [usize; 3] = [3, 32, 32];
