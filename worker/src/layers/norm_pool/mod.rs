//! Convolution, BatchNorm with the batch's own statistics, relu and max-pooling as one op, for training where channels are
//! few: the convolution's output stays in one layout, a register of outputs side by side, from its sums to its gradient.
//!
//! - [`op`]: the op, and when it is used
//! - [`lanes_last`]: that layout
//! - [`convolution`], [`moments`], [`normal`]: the forward pass
//! - [`kept`], [`spread`]: back through pooling, relu and BatchNorm
//! - [`weight_gradient`], [`input_gradient`]: back through the convolution, whose gradient is dense here

mod convolution;
mod input_gradient;
mod kept;
mod lanes_last;
mod moments;
mod normal;
mod op;
mod spread;
mod weight_gradient;

pub(crate) use op::{ConvNorm, conv_norm_relu_pool};
