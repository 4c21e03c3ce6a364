//! Checkpoints: a snapshot of everything that the rest of the run depends on, written beside the work.
//!
//! A checkpoint is a safetensors file, so that other programs can look into it. Its tensors are the model's own, the
//! optimizer's flat state and the ledger; the rest is JSON in the metadata. A BLAKE3 over all that is read back stands
//! in the metadata too: a flipped byte is found, and refused.

mod export;
mod file;
#[cfg(test)]
mod fuzz;
mod snapshot;
mod store;
mod writer;

pub use export::{read_weights, write_weights};
pub use file::{CheckpointError, read, write};
pub use snapshot::{Epoch, Snapshot, State};
pub use store::{Store, replace};
pub use writer::{Writer, Written};
