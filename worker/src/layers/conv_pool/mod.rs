//! Convolution, relu and max-pooling as one op: the convolution's own output is never stored, and the backward pass
//! touches only the places that pooling kept, a quarter of them.
//!
//! - [`op`]: the op, and when it is used
//! - [`geometry`]: sizes, and the image's layouts
//! - [`wide`], [`deep`]: the forward pass, with columns or with outputs in the lanes
//! - [`kept`]: the kept places; [`weight_gradient`], [`input_gradient`]: what they add to either

mod deep;
mod geometry;
mod input_gradient;
mod kept;
mod op;
mod weight_gradient;
mod wide;

pub(super) use deep::pack as pack_outputs;
pub(super) use geometry::Geometry;
pub use op::conv_relu_pool;
pub(crate) use op::conv_relu_pool_to;
