//! cuDNN's convolutions: descriptors, algorithms and workspaces of one shape, made once.

#![allow(unsafe_code)] // cuDNN's C functions

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::{Error, Result};

use super::gpu::Gpu;
use super::memory::Address;
use super::plan::Window;
use super::trial::{self, fastest};

/// The first of these that has the shape is taken: never the fastest of a trial, which another run may not find. All of them add in
/// one order each time (cuDNN's guide lists which do; ALGO_0 of the two gradients adds atomically).
const FORWARD: [sys::cudnnConvolutionFwdAlgo_t; 2] = [
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    sys::cudnnConvolutionFwdAlgo_t::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
];
const INPUT: [sys::cudnnConvolutionBwdDataAlgo_t; 2] = [
    sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
    sys::cudnnConvolutionBwdDataAlgo_t::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD,
];
const WEIGHT: [sys::cudnnConvolutionBwdFilterAlgo_t; 2] = [
    sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
    sys::cudnnConvolutionBwdFilterAlgo_t::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
];

/// One convolution without bias, for a number of examples.
pub(super) struct Convolution {
    x: sys::cudnnTensorDescriptor_t,
    y: sys::cudnnTensorDescriptor_t,
    w: sys::cudnnFilterDescriptor_t,
    /// Of the forward pass, of the input's and of the weight's gradient: an algorithm may want products of its own.
    conv: [sys::cudnnConvolutionDescriptor_t; 3],
    forward: sys::cudnnConvolutionFwdAlgo_t,
    input: sys::cudnnConvolutionBwdDataAlgo_t,
    weight: sys::cudnnConvolutionBwdFilterAlgo_t,
    /// Bytes that any of the three wants beside.
    workspace: usize,
}

// SAFETY: descriptors are plain memory of cuDNN's, read by one thread at a time (see `Gpu`)
unsafe impl Send for Convolution {}
unsafe impl Sync for Convolution {}

/// Beside x, y and w.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) start: Address,
    pub(super) bytes: usize,
}

fn wrap(error: CudnnError) -> Error {
    Error::msg(format!("cuDNN: {error}"))
}

/// The first algorithm that has the shape, and what it wants.
fn choose<A: Copy>(all: &[A], bytes: impl Fn(A) -> std::result::Result<usize, CudnnError>) -> Result<(A, usize)> {
    let mut problem = None;
    for &algorithm in all {
        match bytes(algorithm) {
            Ok(bytes) => return Ok((algorithm, bytes)),
            Err(error) => problem = Some(error),
        }
    }
    Err(problem.map_or_else(|| Error::msg("no algorithm"), wrap))
}

impl Convolution {
    /// `trial`: with whatever algorithms are fastest here, instead of those of the table.
    pub(super) fn new(gpu: &Gpu, window: &Window, trial: bool) -> Result<Self> {
        let int = |size: usize| i32::try_from(size).map_err(Error::wrap);
        let Window { examples, x: [channels, height, width], y: [filters, out_height, out_width], .. } = *window;
        let (kernel, stride, padding) = (int(window.kernel)?, int(window.stride)?, int(window.padding)?);
        let x_shape = [int(examples)?, int(channels)?, int(height)?, int(width)?];
        let y_shape = [int(examples)?, int(filters)?, int(out_height)?, int(out_width)?];
        let w_shape = [int(filters)?, int(channels)?, kernel, kernel];
        let (format, float) = (sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW, sys::cudnnDataType_t::CUDNN_DATA_FLOAT);
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        // default: factors may be rounded to TF32 where the GPU has it
        let maths =
            if gpu.tf32 { sys::cudnnMathType_t::CUDNN_DEFAULT_MATH } else { sys::cudnnMathType_t::CUDNN_FMA_MATH };
        // SAFETY: each descriptor was just made, and is set before it is used
        unsafe {
            let (x, y) =
                (result::create_tensor_descriptor().map_err(wrap)?, result::create_tensor_descriptor().map_err(wrap)?);
            let w = result::create_filter_descriptor().map_err(wrap)?;
            result::set_tensor4d_descriptor(x, format, float, x_shape).map_err(wrap)?;
            result::set_tensor4d_descriptor(y, format, float, y_shape).map_err(wrap)?;
            result::set_filter4d_descriptor(w, float, format, w_shape).map_err(wrap)?;
            let mut conv = [std::ptr::null_mut(); 3];
            for conv in &mut conv {
                *conv = result::create_convolution_descriptor().map_err(wrap)?;
                result::set_convolution2d_descriptor(*conv, padding, padding, stride, stride, 1, 1, mode, float)
                    .map_err(wrap)?;
                result::set_convolution_math_type(*conv, maths).map_err(wrap)?;
            }
            let (forward, one) = choose(&FORWARD, |algorithm| {
                result::get_convolution_forward_workspace_size(gpu.dnn, x, w, conv[0], y, algorithm)
            })?;
            let (input, two) = choose(&INPUT, |algorithm| {
                result::get_convolution_backward_data_workspace_size(gpu.dnn, w, y, conv[1], x, algorithm)
            })?;
            let (weight, three) = choose(&WEIGHT, |algorithm| {
                result::get_convolution_backward_filter_workspace_size(gpu.dnn, x, y, conv[2], w, algorithm)
            })?;
            let mut it = Self { x, y, w, conv, forward, input, weight, workspace: one.max(two).max(three) };
            if trial {
                it.try_all(gpu)?;
            }
            Ok(it)
        }
    }

    /// Takes the fastest algorithms instead, each with the products that it was fastest with.
    fn try_all(&mut self, gpu: &Gpu) -> Result<()> {
        let (x, y, w, [one, two, three], dnn) = (self.x, self.y, self.w, self.conv, gpu.dnn);
        // SAFETY: descriptors that are set; cuDNN allocates what it tries them on, and writes as many answers as there is room for
        let found = unsafe {
            [
                fastest(gpu, |most, given, all| {
                    sys::cudnnFindConvolutionForwardAlgorithm(dnn, x, w, one, y, most, given, all.cast())
                })?,
                fastest(gpu, |most, given, all| {
                    sys::cudnnFindConvolutionBackwardDataAlgorithm(dnn, w, y, two, x, most, given, all.cast())
                })?,
                fastest(gpu, |most, given, all| {
                    sys::cudnnFindConvolutionBackwardFilterAlgorithm(dnn, x, y, three, w, most, given, all.cast())
                })?,
            ]
        };
        for (conv, found) in self.conv.iter().zip(&found) {
            // SAFETY: as above
            unsafe { result::set_convolution_math_type(*conv, found.maths) }.map_err(wrap)?;
        }
        let [one, two, three] = found.map(|found| found.algorithm);
        (self.forward, self.input, self.weight) = (trial::forward(one)?, trial::input(two)?, trial::weight(three)?);
        self.workspace = found.iter().map(|found| found.bytes).max().unwrap_or(0);
        tracing::debug!("convolution algorithms by trial: {found:?}");
        Ok(())
    }

    /// By number: forward, the input's and the weight's gradient.
    #[cfg(test)]
    pub(super) fn algorithms(&self) -> [u32; 3] {
        [self.forward as u32, self.input as u32, self.weight as u32]
    }

    /// Bytes that it wants beside.
    pub(super) fn workspace(&self) -> usize {
        self.workspace
    }

    /// y from x and the weight.
    pub(super) fn forward(&self, gpu: &Gpu, x: Address, w: Address, y: Address, room: Room) -> Result<()> {
        let (one, zero) = (1.0_f32, 0.0_f32);
        // SAFETY: descriptors and regions come from one plan
        unsafe {
            result::convolution_forward(
                gpu.dnn,
                (&raw const one).cast(),
                self.x,
                x as *const _,
                self.w,
                w as *const _,
                self.conv[0],
                self.forward,
                room.start as *mut _,
                room.bytes,
                (&raw const zero).cast(),
                self.y,
                y as *mut _,
            )
        }
        .map_err(wrap)
    }

    /// dx from dy and the weight.
    pub(super) fn input_gradient(&self, gpu: &Gpu, w: Address, dy: Address, dx: Address, room: Room) -> Result<()> {
        let (one, zero) = (1.0_f32, 0.0_f32);
        // SAFETY: as above
        unsafe {
            result::convolution_backward_data(
                gpu.dnn,
                (&raw const one).cast(),
                self.w,
                w as *const _,
                self.y,
                dy as *const _,
                self.conv[1],
                self.input,
                room.start as *mut _,
                room.bytes,
                (&raw const zero).cast(),
                self.x,
                dx as *mut _,
            )
        }
        .map_err(wrap)
    }

    /// The weight's gradient from x and dy.
    pub(super) fn weight_gradient(&self, gpu: &Gpu, x: Address, dy: Address, dw: Address, room: Room) -> Result<()> {
        let (one, zero) = (1.0_f32, 0.0_f32);
        // SAFETY: as above
        unsafe {
            result::convolution_backward_filter(
                gpu.dnn,
                (&raw const one).cast(),
                self.x,
                x as *const _,
                self.y,
                dy as *const _,
                self.conv[2],
                self.weight,
                room.start as *mut _,
                room.bytes,
                (&raw const zero).cast(),
                self.w,
                dw as *mut _,
            )
        }
        .map_err(wrap)
    }
}

impl Drop for Convolution {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed once; at the end an error changes nothing
        unsafe {
            let _ = result::destroy_tensor_descriptor(self.x);
            let _ = result::destroy_tensor_descriptor(self.y);
            let _ = result::destroy_filter_descriptor(self.w);
            for conv in self.conv {
                let _ = result::destroy_convolution_descriptor(conv);
            }
        }
    }
}
