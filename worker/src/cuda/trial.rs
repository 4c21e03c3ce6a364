//! A pass's fastest algorithm, by trying all: for runs that do not promise bits, since another trial may find another.

#![allow(unsafe_code)] // cuDNN's C functions

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::cudnn::sys;
use candle_core::{Error, Result};

use super::gpu::Gpu;
use super::plan::Window;

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

/// The fastest of each shape: forward, for the input's gradient, for the weight's. A trial waits for the GPU, and two of one shape may find
/// two algorithms, with which lanes, or a worker before and after it lost its coordinator, would differ.
#[derive(Default)]
pub(super) struct Trials(Mutex<HashMap<Window, [Fastest; 3]>>);

impl Trials {
    /// Those of a shape, which `find` finds if it is new.
    pub(super) fn of(&self, window: &Window, find: impl FnOnce() -> Result<[Fastest; 3]>) -> Result<[Fastest; 3]> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = all.get(window) {
            return Ok(*found);
        }
        let found = find()?;
        tracing::debug!("convolution algorithms by trial: {window:?}: {found:?}");
        all.insert(*window, found);
        Ok(found)
    }
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
    fn a_shape_is_tried_once_unless_that_fails() {
        let format = super::super::format::Format::Contiguous;
        let window = Window { examples: 2, x: [3, 9, 9], y: [4, 7, 7], kernel: 3, stride: 1, padding: 0, format };
        let (trials, tried) = (Trials::default(), std::cell::Cell::new(0));
        let found = |algorithm| Fastest { algorithm, maths: sys::cudnnMathType_t::CUDNN_FMA_MATH, bytes: 0 };
        let find = || {
            tried.set(tried.get() + 1);
            Ok([found(tried.get()); 3])
        };
        assert!(trials.of(&window, || Err(Error::msg("no memory"))).is_err());
        for (examples, algorithm) in [(2, 1), (2, 1), (3, 2), (2, 1), (3, 2)] {
            let window = Window { examples, ..window };
            assert_eq!(trials.of(&window, find).expect("found"), [found(algorithm); 3]);
        }
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
