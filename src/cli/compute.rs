//! What computes: which device, and which instructions or products.

use std::fmt;

use clap::{Args, ValueEnum};

/// Which device computes, and how.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct ComputeArgs {
    /// What computes: auto (GPUs if this build and this machine have any, else the CPU), cpu, cuda (the GPUs, shared out over
    /// the workers), or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto", value_parser = device)]
    pub device: DeviceChoice,
    /// On a GPU, convolutions in full f32; without it their factors may be rounded to TF32, as PyTorch lets them
    #[arg(long)]
    pub no_tf32: bool,
    /// Kernel set of the CPU: v4 (AVX-512), v3 (AVX2 and FMA) or portable; default: the best of this processor
    #[arg(long, value_enum)]
    pub kernels: Option<KernelName>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    #[default]
    Auto,
    Cpu,
    /// All GPUs, or the one with this number.
    Cuda(Option<usize>),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(None) => f.write_str("cuda"),
            Self::Cuda(Some(number)) => write!(f, "cuda:{number}"),
        }
    }
}

fn device(text: &str) -> std::result::Result<DeviceChoice, String> {
    match text {
        "auto" => Ok(DeviceChoice::Auto),
        "cpu" => Ok(DeviceChoice::Cpu),
        "cuda" => Ok(DeviceChoice::Cuda(None)),
        _ => text
            .strip_prefix("cuda:")
            .and_then(|number| number.parse().ok())
            .map(|number| DeviceChoice::Cuda(Some(number)))
            .ok_or_else(|| "it is one of auto, cpu, cuda, and cuda:N with N from 0".to_owned()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KernelName {
    V4,
    V3,
    Portable,
}

impl KernelName {
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V3 => "v3",
            Self::Portable => "portable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_shown() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(None), DeviceChoice::Cuda(Some(12))] {
            assert_eq!(device(&choice.to_string()), Ok(choice));
        }
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CPU"] {
            assert!(device(text).expect_err(text).contains("cuda:N"));
        }
    }
}
