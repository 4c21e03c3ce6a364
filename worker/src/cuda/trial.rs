//! A pass's fastest algorithm, by trying all: for runs that do not promise bits, since another trial may find another.

#![allow(unsafe_code)] // cuDNN's C functions

use candle_core::cuda_backend::cudarc::cudnn::sys;
use candle_core::{Error, Result};

use super::gpu::Gpu;

/// What an algorithm may take beside: memory that one layer's speed should not cost the others.
const MOST_BYTES: usize = 1 << 30;

/// More than cuDNN has for any pass: its algorithms, each with all kinds of products.
const MOST_ANSWERS: usize = 32;

/// `cudnnConvolution…AlgoPerf_t` of all three passes, with numbers where cuDNN may have values that a Rust enum lacks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    algorithm: u32,
    status: u32,
    /// Milliseconds.
    time: f32,
    memory: usize,
    determinism: u32,
    maths: u32,
    reserved: [i32; 3],
}

/// An algorithm by its number in cuDNN's enum, the products that it was tried with, and the bytes that it wants beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fastest {
    pub(super) algorithm: u32,
    pub(super) maths: sys::cudnnMathType_t,
    pub(super) bytes: usize,
}

/// Has cuDNN try all algorithms of a pass. `find` is its function, given room for so many answers.
pub(super) fn fastest(
    gpu: &Gpu,
    find: impl FnOnce(i32, &mut i32, *mut Answer) -> sys::cudnnStatus_t,
) -> Result<Fastest> {
    let (mut answers, mut given) = ([Answer::default(); MOST_ANSWERS], 0);
    let status = find(MOST_ANSWERS as i32, &mut given, answers.as_mut_ptr());
    status.result().map_err(|error| Error::msg(format!("cuDNN: trying its algorithms: {error}")))?;
    let given = usize::try_from(given).unwrap_or(0).min(MOST_ANSWERS);
    pick(&answers[..given], gpu.tf32).ok_or_else(|| {
        Error::msg(format!(
            "cuDNN: none of the {given} algorithms that it tried has this shape in {} MB",
            MOST_BYTES >> 20
        ))
    })
}

/// cuDNN sorts its answers by time. Products of 16-bit factors, and of TF32 where that is off, are no answer.
fn pick(answers: &[Answer], tf32: bool) -> Option<Fastest> {
    let maths = |number: u32| match number {
        0 if tf32 => Some(sys::cudnnMathType_t::CUDNN_DEFAULT_MATH),
        1 if tf32 => Some(sys::cudnnMathType_t::CUDNN_TENSOR_OP_MATH),
        3 => Some(sys::cudnnMathType_t::CUDNN_FMA_MATH),
        _ => None,
    };
    let fits = |answer: &&Answer| answer.status == 0 && answer.memory <= MOST_BYTES;
    answers.iter().filter(fits).find_map(|answer| {
        let maths = maths(answer.maths)?;
        Some(Fastest { algorithm: answer.algorithm, maths, bytes: answer.memory })
    })
}

fn known<A>(found: Option<A>, number: u32) -> Result<A> {
    found.ok_or_else(|| {
        Error::msg(format!("cuDNN: it found algorithm {number} fastest, which is none of those known here"))
    })
}

pub(super) fn forward(number: u32) -> Result<sys::cudnnConvolutionFwdAlgo_t> {
    use sys::cudnnConvolutionFwdAlgo_t as Algorithm;
    let all = [
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_GEMM,
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_DIRECT,
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_FFT,
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING,
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD,
        Algorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
    ];
    known(all.into_iter().find(|algorithm| *algorithm as u32 == number), number)
}

pub(super) fn input(number: u32) -> Result<sys::cudnnConvolutionBwdDataAlgo_t> {
    use sys::cudnnConvolutionBwdDataAlgo_t as Algorithm;
    let all = [
        Algorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_0,
        Algorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
        Algorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT,
        Algorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING,
        Algorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD,
        Algorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED,
    ];
    known(all.into_iter().find(|algorithm| *algorithm as u32 == number), number)
}

pub(super) fn weight(number: u32) -> Result<sys::cudnnConvolutionBwdFilterAlgo_t> {
    use sys::cudnnConvolutionBwdFilterAlgo_t as Algorithm;
    let all = [
        Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_0,
        Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
        Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT,
        Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_3,
        Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD,
        Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
        Algorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING,
    ];
    known(all.into_iter().find(|algorithm| *algorithm as u32 == number), number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(algorithm: u32, status: u32, memory: usize, maths: u32) -> Answer {
        Answer { algorithm, status, memory, maths, ..Answer::default() }
    }

    #[test]
    fn the_first_that_works_fits_and_multiplies_as_asked_is_taken() {
        let answers = [
            answer(4, 3000, 0, 0),           // not for this shape
            answer(5, 0, MOST_BYTES + 1, 0), // too much memory
            answer(6, 0, 0, 2),              // 16-bit factors
            answer(1, 0, 8, 1),
            answer(0, 0, 0, 3),
        ];
        let taken = |tf32| pick(&answers, tf32).map(|it| (it.algorithm, it.bytes));
        assert_eq!((taken(true), taken(false)), (Some((1, 8)), Some((0, 0))));
        assert_eq!(pick(&answers[..3], true), None);
    }
}
