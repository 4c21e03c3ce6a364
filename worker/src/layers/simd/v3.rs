//! AVX2 and FMA (x86-64-v3).
#![expect(unsafe_code, reason = "vector instructions")]

use super::{Kernel, Lanes};
use std::arch::x86_64::*;

/// Eight f32.
pub(super) struct V3;

/// Compiles `kernel` for this set.
///
/// # Safety
/// The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<V3>()
}

/// Ones for the first `count` lanes: eight numbers from here, `8 − count` in.
static MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn mask(count: usize) -> __m256i {
    debug_assert!(count <= 8);
    // SAFETY: 8 − count + 8 ≤ 16 elements
    unsafe { _mm256_loadu_si256(MASK.as_ptr().add(8 - count).cast()) }
}

impl Lanes for V3 {
    type Vector = __m256;
    const COUNT: usize = 8;
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: called where AVX2 is there
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: the caller's pointer is good for eight elements
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> __m256 {
        // SAFETY: masked lanes are not read; the others are the caller's `count` elements
        unsafe { _mm256_maskload_ps(from, mask(count)) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m256) {
        // SAFETY: the caller's pointer is good for eight elements
        unsafe { _mm256_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, value: __m256, count: usize) {
        // SAFETY: masked lanes are not written; the others are the caller's `count` elements
        unsafe { _mm256_maskstore_ps(to, mask(count), value) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: called where AVX2 is there
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn subtract(a: __m256, b: __m256) -> __m256 {
        // SAFETY: called where AVX2 is there
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: called where FMA is there
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn multiply_subtract(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: called where FMA is there
        unsafe { _mm256_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn transpose(block: &mut [__m256; 16]) {
        // SAFETY: called where AVX2 is there
        unsafe {
            // four rows at a time within each half of the register, then the halves
            let mut fours = [[block[0]; 4]; 2];
            for (rows, four) in block.chunks_exact(4).zip(&mut fours) {
                let (low, high) = (_mm256_unpacklo_ps(rows[0], rows[1]), _mm256_unpackhi_ps(rows[0], rows[1]));
                let (low2, high2) = (_mm256_unpacklo_ps(rows[2], rows[3]), _mm256_unpackhi_ps(rows[2], rows[3]));
                *four = [
                    _mm256_shuffle_ps::<0x44>(low, low2),
                    _mm256_shuffle_ps::<0xEE>(low, low2),
                    _mm256_shuffle_ps::<0x44>(high, high2),
                    _mm256_shuffle_ps::<0xEE>(high, high2),
                ];
            }
            for j in 0..4 {
                block[j] = _mm256_permute2f128_ps::<0x20>(fours[0][j], fours[1][j]);
                block[4 + j] = _mm256_permute2f128_ps::<0x31>(fours[0][j], fours[1][j]);
            }
        }
    }

    #[inline(always)]
    unsafe fn relu(value: __m256) -> __m256 {
        // SAFETY: called where AVX2 is there
        unsafe { _mm256_and_ps(value, _mm256_cmp_ps::<_CMP_NLE_UQ>(value, _mm256_setzero_ps())) }
    }

    #[inline(always)]
    unsafe fn even_odd(a: __m256, b: __m256) -> (__m256, __m256) {
        // SAFETY: called where AVX2 is there
        unsafe {
            // within halves: a's, b's; then the quarters in order
            let (even, odd) = (_mm256_shuffle_ps::<0b10_00_10_00>(a, b), _mm256_shuffle_ps::<0b11_01_11_01>(a, b));
            let order = |v| _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(v)));
            (order(even), order(odd))
        }
    }

    #[inline(always)]
    unsafe fn greater(best: [__m256; 2], other: [__m256; 2]) -> [__m256; 2] {
        // SAFETY: called where AVX2 is there
        unsafe {
            let (greater, nan) =
                (_mm256_cmp_ps::<_CMP_GT_OQ>(other[0], best[0]), _mm256_cmp_ps::<_CMP_UNORD_Q>(other[0], other[0]));
            let wins = _mm256_or_ps(greater, nan);
            [_mm256_blendv_ps(best[0], other[0], wins), _mm256_blendv_ps(best[1], other[1], wins)]
        }
    }

    #[inline(always)]
    unsafe fn sum(value: __m256) -> f32 {
        // SAFETY: called where AVX2 is there
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps::<1>(value));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
