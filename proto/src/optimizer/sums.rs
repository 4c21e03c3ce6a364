//! Sums over all parameters, in `f64` over fixed blocks: the same bits however many threads make them.

use rayon::prelude::*;

use super::PART;
use crate::tensors;

/// Values that are summed before their sum joins the others: fixed, since another cut would give other bits.
const BLOCK: usize = 4096;
const _: () = assert!(PART.is_multiple_of(BLOCK), "a part of many threads is whole blocks");

/// Running sums in a block, added up in order at its end: enough for the widest vectors, so that one need not wait for the other.
const LANES: usize = 16;

/// Σ term(value).
pub(super) fn sum(values: &[f32], term: impl Fn(f64) -> f64 + Sync) -> f64 {
    // the blocks' sums are added in order, whoever made them
    let blocks = |part: &[f32]| part.chunks(BLOCK).map(|block| of_block(block, &term)).collect::<Vec<f64>>();
    let sums = match tensors::parallel(values.len()) {
        false => vec![blocks(values)],
        true => values.par_chunks(PART).map(blocks).collect(),
    };
    sums.iter().flatten().sum()
}

fn of_block(block: &[f32], term: impl Fn(f64) -> f64) -> f64 {
    let mut sums = [0.0_f64; LANES];
    let mut rows = block.chunks_exact(LANES);
    for row in &mut rows {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += term(f64::from(value));
        }
    }
    for (sum, &value) in sums.iter_mut().zip(rows.remainder()) {
        *sum += term(f64::from(value));
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers up to 1000 add up exactly in any order: what is left to find is a value lost or taken twice.
    #[test]
    fn every_value_counts_once_whatever_the_length() {
        for len in [0, 1, 15, 16, 17, BLOCK - 1, BLOCK, BLOCK + 1, PART + 7, 3 * PART + BLOCK + 5] {
            let values: Vec<f32> = (0..len).map(|i| (i % 1001) as f32 - 500.0).collect();
            let exact: i64 = (0..len as i64).map(|i| (i % 1001 - 500).abs()).sum();
            assert_eq!(sum(&values, f64::abs), exact as f64, "{len} values");
        }
    }
}
