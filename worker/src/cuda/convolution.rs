//! cuDNN's convolutions: descriptors and algorithms of one shape, made once.

#![allow(unsafe_code)] // cuDNN's C functions

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::{Error, Result};

use super::algorithms::Algorithms;
use super::format::Format;
use super::gpu::Gpu;
use super::lane::Lane;
use super::memory::Address;
use super::plan::Window;

/// What cuDNN is told of a convolution.
pub(super) struct Descriptors {
    pub(super) x: sys::cudnnTensorDescriptor_t,
    pub(super) y: sys::cudnnTensorDescriptor_t,
    pub(super) w: sys::cudnnFilterDescriptor_t,
    /// Of the forward pass, of the input's and of the weight's gradient: an algorithm may want products of its own.
    pub(super) conv: [sys::cudnnConvolutionDescriptor_t; 3],
}

/// One convolution without bias, for a number of examples.
pub(super) struct Convolution {
    descriptors: Descriptors,
    algorithms: Algorithms,
}

// SAFETY: descriptors are plain memory of cuDNN's, read by one thread at a time (see `Gpu`)
unsafe impl Send for Descriptors {}
unsafe impl Sync for Descriptors {}

/// Beside x, y and w.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) start: Address,
    pub(super) bytes: usize,
}

pub(super) fn wrap(error: CudnnError) -> Error {
    Error::msg(format!("cuDNN: {error}"))
}

impl Descriptors {
    pub(super) fn new(gpu: &Gpu, window: &Window) -> Result<Self> {
        let int = |size: usize| i32::try_from(size).map_err(Error::wrap);
        let Window { examples, x: [channels, height, width], y: [filters, out_height, out_width], .. } = *window;
        let (kernel, stride, padding) = (int(window.kernel)?, int(window.stride)?, int(window.padding)?);
        let x_shape = [int(examples)?, int(channels)?, int(height)?, int(width)?];
        let y_shape = [int(examples)?, int(filters)?, int(out_height)?, int(out_width)?];
        let w_shape = [int(filters)?, int(channels)?, kernel, kernel];
        let format = match window.format {
            Format::Contiguous => sys::cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
            // filters too: places before channels
            Format::ChannelsLast => sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
        };
        let float = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        // default: factors may be rounded to TF32 where the GPU has it
        let maths =
            if gpu.tf32 { sys::cudnnMathType_t::CUDNN_DEFAULT_MATH } else { sys::cudnnMathType_t::CUDNN_FMA_MATH };
        let (x, y) =
            (result::create_tensor_descriptor().map_err(wrap)?, result::create_tensor_descriptor().map_err(wrap)?);
        let w = result::create_filter_descriptor().map_err(wrap)?;
        let conv = || result::create_convolution_descriptor().map_err(wrap);
        let it = Self { x, y, w, conv: [conv()?, conv()?, conv()?] };
        // SAFETY: each descriptor was just made
        unsafe {
            result::set_tensor4d_descriptor(x, format, float, x_shape).map_err(wrap)?;
            result::set_tensor4d_descriptor(y, format, float, y_shape).map_err(wrap)?;
            result::set_filter4d_descriptor(w, float, format, w_shape).map_err(wrap)?;
            for conv in it.conv {
                result::set_convolution2d_descriptor(conv, padding, padding, stride, stride, 1, 1, mode, float)
                    .map_err(wrap)?;
                result::set_convolution_math_type(conv, maths).map_err(wrap)?;
            }
        }
        Ok(it)
    }
}

impl Convolution {
    /// `trial`: with whatever algorithms are fastest here, instead of those of the table.
    pub(super) fn new(gpu: &Gpu, window: &Window, trial: bool) -> Result<Self> {
        let make = || {
            let descriptors = Descriptors::new(gpu, window)?;
            let algorithms = match trial {
                true => Algorithms::by_trial(gpu, window, &descriptors)?,
                false => Algorithms::of_table(gpu, &descriptors)?,
            };
            Ok(Self { descriptors, algorithms })
        };
        make().map_err(|error: Error| {
            let Window { examples, x, y, kernel, stride, padding, .. } = window;
            Error::msg(format!(
                "a convolution of {examples} images, {x:?} to {y:?}, kernel {kernel}, stride {stride}, padding {padding}: {error}"
            ))
        })
    }

    /// By number: forward, the input's and the weight's gradient.
    #[cfg(test)]
    pub(super) fn algorithms(&self) -> [u32; 3] {
        let Algorithms { forward, input, weight, .. } = self.algorithms;
        [forward as u32, input as u32, weight as u32]
    }

    /// Bytes that it wants beside.
    pub(super) fn workspace(&self) -> usize {
        self.algorithms.bytes
    }

    /// y from x and the weight.
    pub(super) fn forward(&self, lane: &Lane, x: Address, w: Address, y: Address, room: Room) -> Result<()> {
        let (one, zero) = (1.0_f32, 0.0_f32);
        // SAFETY: descriptors and regions come from one plan
        unsafe {
            result::convolution_forward(
                lane.dnn,
                (&raw const one).cast(),
                self.descriptors.x,
                x as *const _,
                self.descriptors.w,
                w as *const _,
                self.descriptors.conv[0],
                self.algorithms.forward,
                room.start as *mut _,
                room.bytes,
                (&raw const zero).cast(),
                self.descriptors.y,
                y as *mut _,
            )
        }
        .map_err(wrap)
    }

    /// dx from dy and the weight.
    pub(super) fn input_gradient(&self, lane: &Lane, w: Address, dy: Address, dx: Address, room: Room) -> Result<()> {
        let (one, zero) = (1.0_f32, 0.0_f32);
        // SAFETY: as above
        unsafe {
            result::convolution_backward_data(
                lane.dnn,
                (&raw const one).cast(),
                self.descriptors.w,
                w as *const _,
                self.descriptors.y,
                dy as *const _,
                self.descriptors.conv[1],
                self.algorithms.input,
                room.start as *mut _,
                room.bytes,
                (&raw const zero).cast(),
                self.descriptors.x,
                dx as *mut _,
            )
        }
        .map_err(wrap)
    }

    /// The weight's gradient from x and dy.
    pub(super) fn weight_gradient(&self, lane: &Lane, x: Address, dy: Address, dw: Address, room: Room) -> Result<()> {
        let (one, zero) = (1.0_f32, 0.0_f32);
        // SAFETY: as above
        unsafe {
            result::convolution_backward_filter(
                lane.dnn,
                (&raw const one).cast(),
                self.descriptors.x,
                x as *const _,
                self.descriptors.y,
                dy as *const _,
                self.descriptors.conv[2],
                self.algorithms.weight,
                room.start as *mut _,
                room.bytes,
                (&raw const zero).cast(),
                self.descriptors.w,
                dw as *mut _,
            )
        }
        .map_err(wrap)
    }
}

impl Drop for Descriptors {
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
