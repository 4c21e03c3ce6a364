//! max_pool2d: the op, and the pool of 2 × 2 that nearly every network uses.

mod halving;
mod op;

pub use op::max_pool2d;
