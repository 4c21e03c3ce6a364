//! What a batch's logits are worth, fused with its gradient.
//!
//! - [`op`]: the loss of a recipe's name, and what all of them share
//! - [`cross_entropy`], [`l1`]: the loss of one example

mod cross_entropy;
mod l1;
mod op;
mod softmax;

pub use cross_entropy::cross_entropy;
pub use l1::{l1_logits, l1_softmax};
pub use op::{Loss, loss};
