//! Matrix products whose bits depend on the length of the sums alone: not on threads, not on where in a matrix an element
//! is, not on how many rows and columns there are.
//!
//! Two shapes of one product, each written once over [`super::simd::Lanes`]:
//! - [`outer`] sums along an axis that neither operand has contiguous; lanes are columns of the result;
//! - [`dot`] sums along an axis that both operands have contiguous; lanes are parts of the sum.
//!
//! Neither packs its right operand: a table says where each row starts, which makes a convolution (whose rows are one
//! image, shifted) a product without im2col.

mod dot;
mod outer;
mod pack;

pub(super) use dot::{Dot, Segment, Segments};
pub(super) use outer::{Columns, Outer};
pub(super) use pack::{Packed, Starts};

/// Rows of the largest tile: with the widest row of registers, 24 sums at once in AVX-512, 12 elsewhere.
const ROWS: usize = 6;

/// Sums longer than this are cut into parts of this many products, each summed alone: the rounding error then grows with
/// the number of parts, and the packed operand stays in the first cache. A constant, since it decides bits.
const DEPTH: usize = 256;
