//! The layers' arithmetic, as candle custom ops: right where candle is wrong, fast where it is slow, and the same bits
//! whatever the number of threads.
//!
//! Tensors are f32 on the CPU, images are (N, C, H, W). Every function here can be differentiated by candle's `backward()`.
//! The order of each sum depends on the shapes and on the [`KernelSet`] alone, and what an example gives does not depend
//! on the batch that it is in (training BatchNorm apart, which is about the batch).

mod activation;
mod avg_pool;
mod batch_norm;
mod collector;
mod conv2d;
mod conv_pool;
mod dropout;
mod gemm;
mod kernels;
mod linear;
mod loss;
mod max_pool;
mod norm_pool;
mod operand;
#[cfg(test)]
mod reference;
mod scratch;
mod simd;
#[cfg(test)]
mod speed;
mod sums;
#[cfg(test)]
mod testing;
mod threads;
mod window;

pub use activation::{leaky_relu, relu};
pub use avg_pool::avg_pool2d;
pub use batch_norm::{BatchStatistics, batch_norm, batch_norm_eval};
pub(crate) use collector::{Collector, Target};
pub use conv_pool::conv_relu_pool;
pub(crate) use conv_pool::conv_relu_pool_to;
pub use conv2d::conv2d;
pub use dropout::{dropout, dropout2d};
pub use kernels::{KernelSet, KernelSetError, kernel_set, set_kernels};
pub use linear::linear;
pub(crate) use linear::linear_to;
pub use loss::{Loss, cross_entropy, l1_logits, l1_softmax, loss};
pub use max_pool::max_pool2d;
pub(crate) use norm_pool::{ConvNorm, conv_norm_relu_pool};
pub(crate) use simd::{Kernel, Lanes, run};
pub use threads::{ThreadsError, each_alone, set_threads, threads};
