//! cuBLAS's products, for matrices whose rows lie one after the other. cuBLAS counts by columns: to it each of ours is its transpose.

#![allow(unsafe_code)] // cuBLAS's C functions

use candle_core::cuda_backend::cudarc::cublas::{result, sys::cublasOperation_t};
use candle_core::{Error, Result};

use super::lane::Lane;
use super::memory::Address;

/// A linear layer: rows × inputs, outputs × inputs, rows × outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// One of cuBLAS's operands: whether it is turned, where it is, and the length of its columns.
type Operand = (bool, Address, usize);

impl Product {
    /// y = x · wᵀ.
    pub(super) fn forward(&self, lane: &Lane, x: Address, w: Address, y: Address) -> Result<()> {
        let Self { rows, inputs, outputs } = *self;
        sgemm(lane, [outputs, rows, inputs], (true, w, inputs), (false, x, inputs), (y, outputs))
    }

    /// dx = dy · w.
    pub(super) fn input_gradient(&self, lane: &Lane, w: Address, dy: Address, dx: Address) -> Result<()> {
        let Self { rows, inputs, outputs } = *self;
        sgemm(lane, [inputs, rows, outputs], (false, w, inputs), (false, dy, outputs), (dx, inputs))
    }

    /// dw = dyᵀ · x.
    pub(super) fn weight_gradient(&self, lane: &Lane, x: Address, dy: Address, dw: Address) -> Result<()> {
        let Self { rows, inputs, outputs } = *self;
        sgemm(lane, [inputs, outputs, rows], (false, x, inputs), (true, dy, outputs), (dw, inputs))
    }
}

/// c (m × n) = a (m × k) · b (k × n), all by columns.
fn sgemm(lane: &Lane, [m, n, k]: [usize; 3], a: Operand, b: Operand, c: (Address, usize)) -> Result<()> {
    let int = |size: usize| i32::try_from(size).map_err(Error::wrap);
    let turned = |turned| if turned { cublasOperation_t::CUBLAS_OP_T } else { cublasOperation_t::CUBLAS_OP_N };
    let (one, zero) = (1.0_f32, 0.0_f32);
    // SAFETY: the regions of a plan's step have the sizes that the step names
    unsafe {
        result::sgemm(
            *lane.blas.handle(),
            turned(a.0),
            turned(b.0),
            int(m)?,
            int(n)?,
            int(k)?,
            &one,
            a.1 as *const f32,
            int(a.2)?,
            b.1 as *const f32,
            int(b.2)?,
            &zero,
            c.0 as *mut f32,
            int(c.1)?,
        )
    }
    .map_err(|error| Error::msg(format!("cuBLAS: {error:?}")))
}
