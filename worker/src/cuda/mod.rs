//! The GPU: the same network by cuDNN, cuBLAS and kernels of our own, as candle custom ops on candle's CUDA device.
//!
//! A network is one op. candle's graph has three nodes then (images, network, loss), and what lies between the layers is planned
//! once for a number of examples instead of being allocated, cleared and added up at each of them.
//!
//! - [`gpu`]: the device, its handles, its class; [`kernels`]: our kernels and how they are launched
//! - [`memory`]: device and pinned memory; [`regions`]: who lies where in it
//! - [`plan`]: from layers to steps; [`backward_plan`]: where their gradients lie
//! - [`network`]: the op; [`forward`], [`backward`]: its two passes; [`convolution`], [`product`]: the libraries' part of them;
//!   [`trial`]: a convolution's fastest algorithms
//! - [`loss`]: the op after it; [`gradient`]: all together; [`weights`]: one version's values on the device; [`workspace`]: a plan with its
//!   memory
//! - `ring`: sums among GPUs by NCCL, with that feature
//! - [`images`]: the data set on the device, augmented and normalised there
//!
//! Every sum has one order: algorithms are named here and never chosen by time or memory, workspaces are fixed, and no kernel adds
//! atomically.

mod backward;
mod backward_plan;
mod convolution;
mod forward;
mod gpu;
mod gradient;
mod images;
mod kernels;
mod loss;
mod memory;
mod network;
mod plan;
mod product;
mod regions;
#[cfg(feature = "nccl")]
mod ring;
#[cfg(test)]
mod tests;
mod trial;
mod weights;
mod workspace;

pub use gpu::{Gpu, GpuError, count};
pub(crate) use gradient::{Examples, gradient, logits};
pub use images::Resident;
#[cfg(feature = "nccl")]
pub(crate) use ring::{Ring, ring_identity, ring_name};
pub(crate) use weights::Packed;
