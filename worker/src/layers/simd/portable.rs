//! Plain Rust. Multiplication and addition are rounded apart, so that every architecture gives the same bits.
#![expect(unsafe_code, reason = "reads and writes through pointers, as the other sets do")]

use super::Lanes;

/// Four f32: what every vector unit has.
pub(super) struct Portable;

impl Lanes for Portable {
    type Vector = [f32; 4];
    const COUNT: usize = 4;
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 4] {
        [value; 4]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's pointer is good for four elements
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> [f32; 4] {
        // SAFETY: the caller's pointer is good for `count` elements
        let at = |i| unsafe { from.add(i).read() };
        // spelled out: a loop of unknown length is several times slower
        match count {
            0 => [0.0; 4],
            1 => [at(0), 0.0, 0.0, 0.0],
            2 => [at(0), at(1), 0.0, 0.0],
            3 => [at(0), at(1), at(2), 0.0],
            _ => [at(0), at(1), at(2), at(3)],
        }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: [f32; 4]) {
        // SAFETY: the caller's pointer is good for four elements
        unsafe { to.cast::<[f32; 4]>().write_unaligned(value) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, value: [f32; 4], count: usize) {
        for (i, &value) in value.iter().enumerate().take(count) {
            // SAFETY: the caller's pointer is good for `count` elements
            unsafe { to.add(i).write(value) }
        }
    }

    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }

    #[inline(always)]
    unsafe fn subtract(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]]
    }

    #[inline(always)]
    unsafe fn multiply_add(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }

    #[inline(always)]
    unsafe fn multiply_subtract(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        [c[0] - a[0] * b[0], c[1] - a[1] * b[1], c[2] - a[2] * b[2], c[3] - a[3] * b[3]]
    }

    #[inline(always)]
    unsafe fn transpose(block: &mut [[f32; 4]; 16]) {
        let [a, b, c, d] = [block[0], block[1], block[2], block[3]];
        for j in 0..4 {
            block[j] = [a[j], b[j], c[j], d[j]];
        }
    }

    #[inline(always)]
    unsafe fn relu(value: [f32; 4]) -> [f32; 4] {
        value.map(|v| if v <= 0.0 { 0.0 } else { v })
    }

    #[inline(always)]
    unsafe fn even_odd(a: [f32; 4], b: [f32; 4]) -> ([f32; 4], [f32; 4]) {
        ([a[0], a[2], b[0], b[2]], [a[1], a[3], b[1], b[3]])
    }

    #[inline(always)]
    unsafe fn greater(best: [[f32; 4]; 2], other: [[f32; 4]; 2]) -> [[f32; 4]; 2] {
        let mut result = best;
        for i in 0..4 {
            // `|` and not `||`: no branch
            let wins = (other[0][i] > best[0][i]) | other[0][i].is_nan();
            // bits and not numbers: the second must come through untouched
            let pick = |at: usize| f32::from_bits(if wins { other[at][i].to_bits() } else { best[at][i].to_bits() });
            (result[0][i], result[1][i]) = (pick(0), pick(1));
        }
        result
    }

    #[inline(always)]
    unsafe fn sum(v: [f32; 4]) -> f32 {
        (v[0] + v[2]) + (v[1] + v[3])
    }
}
