//! The operands of products, laid out or listed.

use super::{DEPTH, ROWS};

/// A left operand (rows × depth), in the order in which [`super::Outer`] reads it: part by part of the sum, tile by tile
/// of rows, then the tile's rows side by side.
pub(in super::super) struct Packed {
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) data: Vec<f32>,
}

impl Packed {
    /// Packs the matrix whose element (m, k) is `value(m, k)`.
    pub(in super::super) fn new(rows: usize, depth: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let mut data = Vec::with_capacity(rows * depth);
        for part in (0..depth).step_by(DEPTH) {
            for tile in (0..rows).step_by(ROWS) {
                for k in part..depth.min(part + DEPTH) {
                    data.extend((tile..rows.min(tile + ROWS)).map(|m| value(m, k)));
                }
            }
        }
        Self { rows, depth, data }
    }

    pub(in super::super) fn rows(&self) -> usize {
        self.rows
    }
}

/// Where each row of a right operand starts.
pub(in super::super) struct Starts {
    values: Vec<usize>,
    greatest: usize,
}

impl Starts {
    pub(in super::super) fn new(values: Vec<usize>) -> Self {
        Self { greatest: values.iter().copied().max().unwrap_or(0), values }
    }

    /// Rows of a matrix, `stride` elements apart.
    pub(in super::super) fn rows(count: usize, stride: usize) -> Self {
        Self::new((0..count).map(|row| row * stride).collect())
    }

    pub(super) fn values(&self) -> &[usize] {
        &self.values
    }

    pub(super) fn greatest(&self) -> usize {
        self.greatest
    }
}
