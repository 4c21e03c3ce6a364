//! What a convolution is computed with: algorithms of a fixed table, or those that a trial finds fastest.

#![allow(unsafe_code)] // cuDNN's C functions

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::{Error, Result};

use super::convolution::{Descriptors, wrap};
use super::gpu::Gpu;
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

#[derive(Clone, Copy, Debug)]
pub(super) struct Algorithms {
    pub(super) forward: sys::cudnnConvolutionFwdAlgo_t,
    pub(super) input: sys::cudnnConvolutionBwdDataAlgo_t,
    pub(super) weight: sys::cudnnConvolutionBwdFilterAlgo_t,
    /// That any of the three wants beside.
    pub(super) bytes: usize,
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
    Err(problem.map_or_else(|| Error::msg("the table is empty"), wrap))
}

impl Algorithms {
    pub(super) fn of_table(gpu: &Gpu, descriptors: &Descriptors) -> Result<Self> {
        let (&Descriptors { x, y, w, conv: [one, two, three] }, dnn) = (descriptors, gpu.lane(0)?.dnn);
        // SAFETY: descriptors that are set
        let (forward, input, weight) = unsafe {
            (
                choose(&FORWARD, |algorithm| {
                    result::get_convolution_forward_workspace_size(dnn, x, w, one, y, algorithm)
                })?,
                choose(&INPUT, |algorithm| {
                    result::get_convolution_backward_data_workspace_size(dnn, w, y, two, x, algorithm)
                })?,
                choose(&WEIGHT, |algorithm| {
                    result::get_convolution_backward_filter_workspace_size(dnn, x, y, three, w, algorithm)
                })?,
            )
        };
        let bytes = forward.1.max(input.1).max(weight.1);
        Ok(Self { forward: forward.0, input: input.0, weight: weight.0, bytes })
    }

    /// Sets the products with which each was fastest, too.
    pub(super) fn by_trial(gpu: &Gpu, window: &Window, descriptors: &Descriptors) -> Result<Self> {
        let (&Descriptors { x, y, w, conv }, dnn) = (descriptors, gpu.lane(0)?.dnn);
        let [one, two, three] = conv;
        // SAFETY: descriptors that are set; cuDNN allocates what it tries them on, and writes as many answers as there is room for
        let find = || unsafe {
            Ok([
                fastest(gpu, |most, given, all| {
                    sys::cudnnFindConvolutionForwardAlgorithm(dnn, x, w, one, y, most, given, all.cast())
                })?,
                fastest(gpu, |most, given, all| {
                    sys::cudnnFindConvolutionBackwardDataAlgorithm(dnn, w, y, two, x, most, given, all.cast())
                })?,
                fastest(gpu, |most, given, all| {
                    sys::cudnnFindConvolutionBackwardFilterAlgorithm(dnn, x, y, three, w, most, given, all.cast())
                })?,
            ])
        };
        let found = gpu.trials.of(window, find)?;
        for (conv, found) in conv.into_iter().zip(&found) {
            // SAFETY: as above
            unsafe { result::set_convolution_math_type(conv, found.maths) }.map_err(wrap)?;
        }
        let bytes = found.iter().map(|found| found.bytes).max().unwrap_or(0);
        let [forward, input, weight] = found.map(|found| found.algorithm);
        let (forward, input, weight) = (trial::forward(forward)?, trial::input(input)?, trial::weight(weight)?);
        Ok(Self { forward, input, weight, bytes })
    }
}
