//! A rank among GPUs that sum their gradients themselves: NCCL's communicator, in a build that has it (`--features nccl`).

use std::time::Duration;

use crate::device::Processor;

/// Why there is no ring, or no sum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The coordinator called the ring off.
    #[error("its ring is dissolved")]
    Dissolved,
    #[error("{0}")]
    Failed(String),
}

/// Asked again and again while this rank waits for others, with how long it has waited: whether to go on.
pub(crate) type GoOn<'a> = &'a mut dyn FnMut(Duration) -> bool;

/// NCCL's version and the GPU's UUID in hex digits, if `processor` can be a rank; else 0 and nothing.
pub(crate) fn identity(processor: &Processor) -> (u32, String) {
    match processor {
        #[cfg(feature = "nccl")]
        Processor::Gpu(gpu) => crate::cuda::ring_identity(gpu).unwrap_or_default(),
        _ => (0, String::new()),
    }
}

#[cfg(feature = "nccl")]
pub(crate) use crate::cuda::{Ring, ring_name as name};

#[cfg(not(feature = "nccl"))]
pub(crate) use without::{Ring, name};

/// What a build without NCCL says. The coordinator lets none of them in, so nobody should hear it.
#[cfg(not(feature = "nccl"))]
mod without {
    use super::{GoOn, RingError};
    use crate::device::Processor;

    pub(crate) enum Ring {}

    fn none<T>() -> Result<T, RingError> {
        Err(RingError::Failed("this build has no NCCL; build with --features nccl".to_owned()))
    }

    pub(crate) fn name() -> Result<Vec<u8>, RingError> {
        none()
    }

    impl Ring {
        pub(crate) fn form(_: &Processor, _: &[u8], _: u32, _: u32, _: GoOn<'_>) -> Result<Self, RingError> {
            none()
        }
    }
}
