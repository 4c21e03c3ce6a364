//! conv2d: the op, and the ways to compute it.

mod direct;
mod im2col;
mod op;
mod spectral;
mod weight_gradient;

pub use op::conv2d;
