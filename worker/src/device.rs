//! The device class: what two workers must have in common for their bits to agree. And what computes.

use crate::layers::{KernelSetError, kernel_set};

/// The version of our exp, ln and square root and of the kernels' order of sums. Raise it with any change that moves a
/// bit of a result: runs of the two builds then refuse to mix.
const MATHS: u32 = 1;

/// What computes: this machine's processor, or one of its GPUs.
#[derive(Clone, Debug, Default)]
pub enum Processor {
    #[default]
    Cpu,
    #[cfg(feature = "cuda")]
    Gpu(std::sync::Arc<crate::cuda::Gpu>),
}

impl Processor {
    /// Whether only one thread at a time may use it, which must have let go of it before the process ends: CUDA's libraries end with the
    /// process, whoever is in them.
    pub(crate) fn is_one_threads(&self) -> bool {
        !matches!(self, Self::Cpu)
    }

    /// Its class: on the CPU for instance `cpu/v4/math1`, which is device, kernel set, maths functions.
    ///
    /// # Errors
    /// `LOCKSTEP_KERNELS` names a set that is unknown or that this processor lacks.
    pub fn class(&self) -> Result<String, KernelSetError> {
        match self {
            Self::Cpu => Ok(format!("cpu/{}/math{MATHS}", kernel_set()?)),
            #[cfg(feature = "cuda")]
            Self::Gpu(gpu) => Ok(gpu.class().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_names_device_kernels_and_maths() {
        let class = Processor::Cpu.class().expect("the default set runs");
        let parts: Vec<&str> = class.split('/').collect();
        assert_eq!((parts.len(), parts[0], parts[2]), (3, "cpu", "math1"), "{class}");
        assert!(["v4", "v3", "portable"].contains(&parts[1]), "{class}");
    }
}
