//! Our kernels: their parameters, as `kernels/*.cu` declares them, and how they are launched.

#![allow(unsafe_code)] // a launch is a promise about addresses

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaFunction, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::{Error, Result};

use super::gpu::LANES;
use super::memory::Address;

/// What nvcc made of `kernels/*.cu`.
const PTX: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));

/// A few digits that tell this text from another's.
pub(super) fn digest() -> String {
    blake3::hash(PTX.as_bytes()).to_hex()[..6].to_owned()
}

/// Threads of a block, and values of a thread in some kernels: `BLOCK` and `EACH` in kernel.h.
pub(super) const BLOCK: u32 = 256;
const EACH: u32 = 4;

/// `struct window` of kernel.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Windows {
    pub(super) height: u32,
    pub(super) width: u32,
    pub(super) out_height: u32,
    pub(super) out_width: u32,
    pub(super) kernel: u32,
    pub(super) stride: u32,
    pub(super) padding: u32,
    pub(super) beside: u32,
}

/// `struct transposed` of transposed.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) len: u32,
    pub(super) channels: u32,
    pub(super) plane: u32,
}

// SAFETY: numbers, laid out as C does
unsafe impl DeviceRepr for Entry {}

/// The parameters of one kernel.
pub(super) trait Parameters: DeviceRepr {
    const NUMBER: usize;
}

macro_rules! kernels {
    ($($name:ident $text:ident { $($field:ident: $type:ty),* $(,)? })*) => {
        $(
            #[doc = concat!("`", stringify!($text), "`")]
            #[repr(C)]
            #[derive(Clone, Copy, Debug)]
            pub(super) struct $name { $(pub(super) $field: $type),* }

            // SAFETY: numbers and addresses, laid out as C does
            unsafe impl DeviceRepr for $name {}

            impl Parameters for $name {
                const NUMBER: usize = Number::$name as usize;
            }
        )*

        enum Number { $($name),* }

        const NAMES: &[&str] = &[$(stringify!($text)),*];
    };
}

kernels! {
    BiasAct bias_act { y: Address, bias: Address, count: u32, plane: u32, channels: u32, act: u32, slope: f32 }
    ActForward act_forward { x: Address, y: Address, count: u32, act: u32, slope: f32 }
    ActBackward act_backward { x: Address, dy: Address, dx: Address, count: u32, act: u32, slope: f32 }
    Add add { a: Address, b: Address, y: Address, count: u32 }
    Dropout dropout {
        inputs: Address, key: Address, examples: Address, x: Address, y: Address, count: u32, row: u32, repeat: u32,
        beside: u32, keep: f32, probability: f64,
    }
    BiasBackward bias_backward {
        y: Address, dy: Address, at: Address, dx: Address, partial: Address, channels: u32, plane: u32, total: u32, length: u32,
        width: u32, act: u32, slope: f32, windows: Windows,
    }
    PoolBackward pool_backward {
        y: Address, dy: Address, at: Address, dx: Address, partial: Address, channels: u32, total: u32, length: u32, width: u32,
        act: u32, slope: f32, windows: Windows,
    }
    FinishSums finish_sums { partial: Address, out: Address, channels: u32, splits: u32 }
    ColumnBackward column_backward { y: Address, dy: Address, db: Address, rows: u32, columns: u32, act: u32, slope: f32 }
    NormMoments norm_moments { x: Address, partial: Address, channels: u32, plane: u32, total: u32, length: u32, width: u32 }
    NormJoin norm_join {
        inputs: Address, partial: Address, shift: Address, moments: Address, running_mean: Address, running_variance: Address, channels: u32,
        splits: u32, total: u32, length: u32, eps: f64,
    }
    NormRunning norm_running { mean: Address, variance: Address, shift: Address, moments: Address, channels: u32, eps: f64 }
    NormForward norm_forward {
        x: Address, moments: Address, weight: Address, bias: Address, y: Address, count: u32, plane: u32, channels: u32,
        act: u32, slope: f32,
    }
    NormSums norm_sums {
        x: Address, dy: Address, moments: Address, weight: Address, bias: Address, partial: Address, channels: u32, plane: u32, total: u32,
        length: u32, width: u32, act: u32, slope: f32,
    }
    NormFinish norm_finish {
        partial: Address, moments: Address, dweight: Address, dbias: Address, channels: u32, splits: u32, total: u32,
    }
    NormBackward norm_backward {
        x: Address, dy: Address, moments: Address, weight: Address, bias: Address, dx: Address, count: u32, plane: u32,
        channels: u32, act: u32, slope: f32,
    }
    MaxPoolForward max_pool_forward {
        x: Address, bias: Address, y: Address, at: Address, count: u32, channels: u32, act: u32, slope: f32, windows: Windows,
    }
    MaxPoolBackward max_pool_backward { dy: Address, at: Address, dx: Address, count: u32, windows: Windows }
    AvgPoolForward avg_pool_forward { x: Address, y: Address, count: u32, windows: Windows }
    AvgPoolBackward avg_pool_backward { dy: Address, dx: Address, count: u32, windows: Windows }
    LossRows loss_rows { inputs: Address, logits: Address, labels: Address, gradient: Address, rows: u32, classes: u32 }
    JoinSums join_sums {
        inputs: [Address; LANES], gradients: [Address; LANES], transposed: Address, tensors: u32, shards: u32, count: u32,
    }
    Transpose transpose { x: Address, y: Address, count: u32, rows: u32, columns: u32 }
    TransposeWeights transpose_weights { w: Address, out: Address, transposed: Address, tensors: u32, count: u32 }
    SgdStep sgd_step {
        w: Address, m: Address, g: Address, scale: Address, count: u32, first: u32, nesterov: u32, rate: f32, momentum: f32, taken: f32, decay: f32,
        l1: f64, l2: f64,
    }
    AdamStep adam_step {
        w: Address, m: Address, v: Address, g: Address, scale: Address, count: u32, rate: f32, root: f32, new1: f32, new2: f32, old2: f32,
        shrink: f32, decay: f32, eps: f32, l1: f64, l2: f64,
    }
    StepSums step_sums {
        w: Address, g: Address, table: Address, partial: Address, tensors: u32, count: u32, blocks: u32, l1: f64, l2: f64,
    }
    StepTold step_told { partial: Address, told: Address, scale: Address, blocks: u32, l1: f64, l2: f64, most: f64 }
    Observe observe { w: Address, g: Address, count: u32, momentum: f64 }
    Images images {
        pixels: Address, examples: Address, draws: Address, out: Address, mean: [f32; 3], deviation: [f32; 3], plain: u32,
    }
}

/// All kernels of one device, by [`Parameters::NUMBER`].
pub(super) struct Kernels(Vec<CudaFunction>);

impl Kernels {
    pub(super) fn load(context: &Arc<CudaContext>) -> Result<Self> {
        let module = context.load_module(PTX.into()).map_err(|error| {
            Error::msg(format!("the GPU's driver does not take this build's kernels ({error}): update it, or build for its CUDA version"))
        })?;
        let functions = NAMES
            .iter()
            .map(|name| module.load_function(name).map_err(|error| Error::msg(format!("kernel {name}: {error}"))))
            .collect::<Result<_>>()?;
        Ok(Self(functions))
    }

    /// A thread for each of `threads`.
    pub(super) fn launch<P: Parameters>(&self, stream: &Arc<CudaStream>, parameters: P, threads: u32) -> Result<()> {
        self.launch_blocks(stream, parameters, (threads.div_ceil(BLOCK), 1))
    }

    /// A thread for each [`EACH`] of `values`.
    pub(super) fn launch_each<P: Parameters>(
        &self,
        stream: &Arc<CudaStream>,
        parameters: P,
        values: u32,
    ) -> Result<()> {
        self.launch_blocks(stream, parameters, (values.div_ceil(EACH * BLOCK), 1))
    }

    /// So many blocks of [`BLOCK`] threads.
    pub(super) fn launch_blocks<P: Parameters>(
        &self,
        stream: &Arc<CudaStream>,
        parameters: P,
        blocks: (u32, u32),
    ) -> Result<()> {
        if blocks.0 == 0 || blocks.1 == 0 {
            return Ok(());
        }
        let shape = LaunchConfig { grid_dim: (blocks.0, blocks.1, 1), block_dim: (BLOCK, 1, 1), shared_mem_bytes: 0 };
        let mut launch = stream.launch_builder(&self.0[P::NUMBER]);
        launch.arg(&parameters);
        // SAFETY: the parameters are the kernel's own; the plan that made the addresses gave each as many values as the kernel
        // touches, and what they lie in outlives the stream's work (it is freed on the GPU's own stream, which waits for its lanes)
        unsafe { launch.launch(shape) }.map(drop).map_err(Error::wrap)
    }
}
