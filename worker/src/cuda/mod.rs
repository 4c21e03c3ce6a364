//! The GPU: the same network by cuDNN, cuBLAS and kernels of our own, as one candle op on candle's CUDA device. What lies between the
//! layers is planned once for a number of examples instead of being allocated, cleared and added up at each of them, and each way is asked
//! for as one CUDA graph.
//!
//! - [`gpu`]: the device and its handles; [`class`]: what tells its bits from another's; [`kernels`]: our kernels and how they are launched
//! - [`memory`]: device and pinned memory; [`regions`]: who lies where in it
//! - [`plan`]: from layers to steps; [`format`]: how images lie in between; [`channels`]: how sums over channels are cut; [`backward_plan`]:
//!   where gradients lie; [`inputs`]: what differs from pass to pass
//! - [`network`]: the op; [`group`]: shards side by side, in a [`lane`] each; [`pass`]: one of them; [`forward`], [`backward`]: its two ways;
//!   [`convolution`], [`product`]: the libraries' part of them; [`algorithms`], [`trial`]: what cuDNN computes with; [`graph`]: a way as a CUDA
//!   graph
//! - [`gradient`]: all together; [`sums`]: a node's gradients, added on the device; [`asked`]: on their way home; [`rooms`]: what a node is asked
//!   with and leaves; [`weights`]: one version's values there, [`layout`]: each tensor's place, [`transposed`]: convolutions' once more; [`staging`]: where they are copied from;
//!   [`workspace`]: a plan with its memory; [`groups`]: all of them
//! - [`optimizer`]: the step that a lone worker makes itself
//! - `ring`: sums among GPUs by NCCL, with that feature; `tree_sum`: in the tree's order; `deadline`: for leaving one
//! - [`images`]: the data set on the device, augmented and normalised there
//!
//! Every sum has one order: algorithms are named here and never chosen by time or memory, workspaces are fixed, and no kernel adds
//! atomically. (`--fast` gives that up for convolutions.)

mod algorithms;
mod asked;
mod backward;
mod backward_plan;
mod channels;
mod class;
mod convolution;
#[cfg(feature = "nccl")]
mod deadline;
mod format;
mod forward;
mod gpu;
mod gradient;
mod graph;
mod group;
mod groups;
mod images;
mod inputs;
mod kernels;
mod lane;
mod layout;
mod memory;
mod network;
mod optimizer;
mod pass;
mod plan;
mod product;
mod regions;
#[cfg(feature = "nccl")]
mod ring;
mod rooms;
mod staging;
mod step_norm;
mod sums;
#[cfg(test)]
mod tests;
mod transposed;
#[cfg(feature = "nccl")]
mod tree_sum;
mod trial;
mod weights;
mod workspace;

pub(crate) use asked::Asked;
pub use gpu::{Gpu, GpuError, count};
pub(crate) use gradient::{Examples, Step, ask, logits};
pub use images::Resident;
#[cfg(feature = "nccl")]
pub(crate) use memory::Address;
pub(crate) use optimizer::{Gradient, OnDevice};
#[cfg(feature = "nccl")]
pub(crate) use ring::{Ring, ring_identity, ring_name};
pub(crate) use weights::Packed;
