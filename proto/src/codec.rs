//! bf16 on the wire: the upper half of an f32, rounded to nearest even. Half the bytes, 8 bits of precision.
//!
//! Rounding happens where a value is made, so that it does not depend on the way that the value travels: a shard's gradient
//! is rounded before anything is added to it, and workers train on rounded parameters. Sums, evaluation and checkpoints
//! keep f32. Buffers are never rounded.

use half::bf16;
use half::slice::HalfFloatSliceExt as _;

/// Rounds each value to the nearest bf16, ties to even. NaN stays NaN; what is too large becomes infinite.
pub fn round(values: &mut [f32]) {
    for value in values {
        *value = bf16::from_f32(*value).to_f32();
    }
}

/// Words (4 bytes) in which a vector of `total` values travels whose first `parameters` are bf16.
#[must_use]
pub fn words(parameters: usize, total: usize) -> usize {
    parameters.div_ceil(2) + (total - parameters)
}

/// The vector as it travels: rounded `parameters` two to a word, then the other values as they are.
#[must_use]
pub fn pack(values: &[f32], parameters: usize) -> Vec<f32> {
    let (rounded, rest) = values.split_at(parameters);
    let mut words = vec![0.0_f32; words(parameters, values.len())];
    let (halves, others) = words.split_at_mut(parameters.div_ceil(2));
    let halves: &mut [bf16] = bytemuck::cast_slice_mut(halves);
    halves[..parameters].convert_from_f32_slice(rounded);
    others.copy_from_slice(rest);
    words
}

/// The `total` values of a packed vector, which has [`words`] words.
#[must_use]
pub fn unpack(words: &[f32], parameters: usize, total: usize) -> Vec<f32> {
    let (halves, others) = words.split_at(parameters.div_ceil(2));
    let halves: &[bf16] = bytemuck::cast_slice(halves);
    let mut values = vec![0.0; total];
    halves[..parameters].convert_to_f32_slice(&mut values[..parameters]);
    values[parameters..].copy_from_slice(others);
    values
}

/// `values` with its first `parameters` rounded.
#[must_use]
pub fn rounded(values: &[f32], parameters: usize) -> Vec<f32> {
    let mut values = values.to_vec();
    round(&mut values[..parameters]);
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: bf16 keeps 8 bits of the mantissa, so between 1 and 2 its steps are 1/128.
    #[test]
    fn ties_go_to_even_and_nothing_finite_is_lost() {
        let step = 1.0 / 128.0;
        for (value, expected) in [
            (1.0 + 0.4 * step, 1.0),
            (1.0 + 0.5 * step, 1.0),
            (1.0 + 0.6 * step, 1.0 + step),
            (1.0 + 1.5 * step, 1.0 + 2.0 * step),
            (-1.0 - 1.5 * step, -1.0 - 2.0 * step),
            (-0.0, -0.0),
            (f32::INFINITY, f32::INFINITY),
            (f32::MAX, f32::INFINITY),
        ] {
            let mut one = [value];
            round(&mut one);
            assert_eq!(one[0].to_bits(), expected.to_bits(), "{value}");
        }
        let mut nan = [f32::from_bits(0x7f80_0001)];
        round(&mut nan);
        assert!(nan[0].is_nan(), "the payload's low half must not make it infinite");
    }

    #[test]
    fn what_is_rounded_survives_packing_and_the_rest_is_untouched() {
        for (parameters, total) in [(0, 0), (1, 1), (4, 4), (5, 8), (0, 3)] {
            let mut values: Vec<f32> = (0..total).map(|i| 0.1 + i as f32 * 1.7).collect();
            round(&mut values[..parameters]);
            let packed = pack(&values, parameters);
            assert_eq!(packed.len(), words(parameters, total));
            assert_eq!(unpack(&packed, parameters, total), values);
        }
    }
}
