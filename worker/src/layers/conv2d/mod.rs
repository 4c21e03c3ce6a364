//! conv2d: the op, and the two ways to compute it.

mod direct;
mod im2col;
mod op;
mod weight_gradient;

pub use op::conv2d;
