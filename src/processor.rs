//! From `--device` to what computes: in this process, or in each of several workers.

use lockstep_worker::device::Processor;
use lockstep_worker::layers::{self, KernelSet};

use crate::cli::{ComputeArgs, DeviceChoice, PlaneArgs};
use crate::exit::{Failure, Result};

/// Worker processes where nobody says how many, and there is no GPU.
const ON_CPU: usize = 2;

/// How many GPUs this build can use here.
#[cfg(feature = "cuda")]
fn gpus() -> usize {
    lockstep_worker::cuda::count()
}

#[cfg(not(feature = "cuda"))]
fn gpus() -> usize {
    0
}

/// What this process computes with.
pub fn open(args: ComputeArgs) -> Result<Processor> {
    if let Some(name) = args.kernels {
        let kernels: KernelSet = name.word().parse().map_err(Failure::mistake)?;
        layers::set_kernels(kernels).map_err(Failure::mistake)?;
    }
    match args.device {
        DeviceChoice::Cpu => Ok(Processor::Cpu),
        DeviceChoice::Auto if gpus() == 0 => Ok(Processor::Cpu),
        DeviceChoice::Auto | DeviceChoice::Cuda(None) => open_gpu(0, args),
        DeviceChoice::Cuda(Some(number)) => open_gpu(number, args),
    }
}

#[cfg(feature = "cuda")]
fn open_gpu(number: usize, args: ComputeArgs) -> Result<Processor> {
    let gpu = lockstep_worker::cuda::Gpu::open(number, !args.no_tf32).map_err(Failure::mistake)?;
    Ok(Processor::Gpu(std::sync::Arc::new(gpu)))
}

#[cfg(not(feature = "cuda"))]
fn open_gpu(_: usize, args: ComputeArgs) -> Result<Processor> {
    Err(no_gpu(args.device))
}

/// How many worker processes: as asked, else one a GPU, else two.
pub fn workers(asked: Option<usize>, device: DeviceChoice) -> usize {
    let own = match device {
        DeviceChoice::Cpu => ON_CPU,
        DeviceChoice::Cuda(Some(_)) => 1,
        DeviceChoice::Auto if gpus() == 0 => ON_CPU,
        DeviceChoice::Auto | DeviceChoice::Cuda(None) => gpus().max(1),
    };
    asked.unwrap_or(own)
}

/// What worker `number` of several on this machine gets as its `--device`: they share out the GPUs.
pub fn of_worker(device: DeviceChoice, number: usize) -> Result<DeviceChoice> {
    if device == DeviceChoice::Cpu {
        return Ok(device); // whoever asks for the CPU may have a driver that is better not woken
    }
    match (device, gpus()) {
        (DeviceChoice::Auto, 0) => Ok(DeviceChoice::Cpu),
        (DeviceChoice::Cuda(_), 0) => Err(no_gpu(device)),
        (DeviceChoice::Cuda(Some(asked)), gpus) if asked >= gpus => {
            Err(Failure::mistake(format!("--device {device}: the GPUs of this machine are 0 to {}", gpus - 1)))
        }
        (DeviceChoice::Auto | DeviceChoice::Cuda(None), gpus) => Ok(DeviceChoice::Cuda(Some(number % gpus))),
        (device, _) => Ok(device),
    }
}

/// Whether `workers` on this machine can be NCCL's ranks, if that is asked for: it is said before anything is started.
pub fn check_plane(plane: PlaneArgs, workers: usize, device: DeviceChoice) -> Result {
    if plane.nccl().is_none() {
        return Ok(());
    }
    let own = match device {
        DeviceChoice::Cpu => 0,
        DeviceChoice::Cuda(Some(_)) => 1,
        DeviceChoice::Auto | DeviceChoice::Cuda(None) => gpus(),
    };
    let problem = if !cfg!(feature = "nccl") {
        "this build has no NCCL; build with --features nccl (docs/gpu.md)".to_owned()
    } else if own == 0 || gpus() == 0 {
        format!("it sums gradients among GPUs, and --device {device} gives none here")
    } else if workers > own {
        let gpus = if own == 1 { "1 GPU".to_owned() } else { format!("{own} GPUs") };
        format!("{workers} workers for {gpus}, and NCCL has one rank a GPU; give --workers {own} or another --device")
    } else {
        return Ok(());
    };
    Err(Failure::mistake(format!("--plane {}: {problem}, or leave --plane out", plane.name())))
}

fn no_gpu(device: DeviceChoice) -> Failure {
    Failure::mistake(if cfg!(feature = "cuda") {
        format!("--device {device}: there is no GPU here; use auto or cpu")
    } else {
        format!(
            "--device {device}: this build computes on the CPU; build with --features cuda (docs/gpu.md), or use auto or cpu"
        )
    })
}
