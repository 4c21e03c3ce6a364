//! What coordinator and worker must agree on to the bit: the messages, the flat layout of a model, the keyed generator,
//! the reduction tree, the recipe and the optimizer's arithmetic. Nothing here reads a clock, a file or a socket; `shared` maps memory.

pub mod buffers;
pub mod codec;
pub mod frames;
#[cfg(test)]
mod fuzz;
pub mod hash;
pub mod keys;
pub mod optimizer;
pub mod recipe;
pub mod records;
pub mod schema;
pub mod seal;
#[cfg_attr(not(target_os = "linux"), path = "shared_elsewhere.rs")]
pub mod shared;
pub mod tensors;
pub mod tree;
pub mod wire;
