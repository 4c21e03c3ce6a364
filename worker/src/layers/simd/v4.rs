//! AVX-512 (x86-64-v4).
#![expect(unsafe_code, reason = "vector instructions")]

use super::{Kernel, Lanes};
use std::arch::x86_64::*;

/// Sixteen f32.
pub(super) struct V4;

/// Compiles `kernel` for this set.
///
/// # Safety
/// The processor must have AVX-512 F, BW, CD, DQ and VL, AVX2 and FMA. (VL is not named below, but lets the compiler use the
/// upper sixteen registers for halves too: without it, it spills.)
#[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<V4>()
}

/// Ones for the first `count` lanes.
#[inline(always)]
fn mask(count: usize) -> __mmask16 {
    debug_assert!(count <= 16);
    ((1_u32 << count) - 1) as __mmask16
}

impl Lanes for V4 {
    type Vector = __m512;
    const COUNT: usize = 16;
    const VECTORS: usize = 4;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: called where AVX-512F is there
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: the caller's pointer is good for sixteen elements
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> __m512 {
        // SAFETY: masked lanes are not read; the others are the caller's `count` elements
        unsafe { _mm512_maskz_loadu_ps(mask(count), from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: __m512) {
        // SAFETY: the caller's pointer is good for sixteen elements
        unsafe { _mm512_storeu_ps(to, value) }
    }

    #[inline(always)]
    unsafe fn store_first(to: *mut f32, value: __m512, count: usize) {
        // SAFETY: masked lanes are not written; the others are the caller's `count` elements
        unsafe { _mm512_mask_storeu_ps(to, mask(count), value) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: called where AVX-512F is there
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn subtract(a: __m512, b: __m512) -> __m512 {
        // SAFETY: called where AVX-512F is there
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: called where AVX-512F is there
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn multiply_subtract(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: called where AVX-512F is there
        unsafe { _mm512_fnmadd_ps(a, b, c) }
    }

    #[inline(always)]
    unsafe fn transpose(block: &mut [__m512; 16]) {
        // SAFETY: called where AVX-512F is there
        unsafe {
            // four rows at a time within each quarter of the register, then the quarters
            let mut fours = [[block[0]; 4]; 4];
            for (rows, four) in block.chunks_exact(4).zip(&mut fours) {
                let (low, high) = (_mm512_unpacklo_ps(rows[0], rows[1]), _mm512_unpackhi_ps(rows[0], rows[1]));
                let (low2, high2) = (_mm512_unpacklo_ps(rows[2], rows[3]), _mm512_unpackhi_ps(rows[2], rows[3]));
                let (low, high) = (_mm512_castps_pd(low), _mm512_castps_pd(high));
                let (low2, high2) = (_mm512_castps_pd(low2), _mm512_castps_pd(high2));
                *four = [
                    _mm512_castpd_ps(_mm512_unpacklo_pd(low, low2)),
                    _mm512_castpd_ps(_mm512_unpackhi_pd(low, low2)),
                    _mm512_castpd_ps(_mm512_unpacklo_pd(high, high2)),
                    _mm512_castpd_ps(_mm512_unpackhi_pd(high, high2)),
                ];
            }
            for j in 0..4 {
                let low = _mm512_shuffle_f32x4::<0x44>(fours[0][j], fours[1][j]);
                let high = _mm512_shuffle_f32x4::<0xEE>(fours[0][j], fours[1][j]);
                let low2 = _mm512_shuffle_f32x4::<0x44>(fours[2][j], fours[3][j]);
                let high2 = _mm512_shuffle_f32x4::<0xEE>(fours[2][j], fours[3][j]);
                block[j] = _mm512_shuffle_f32x4::<0x88>(low, low2);
                block[4 + j] = _mm512_shuffle_f32x4::<0xDD>(low, low2);
                block[8 + j] = _mm512_shuffle_f32x4::<0x88>(high, high2);
                block[12 + j] = _mm512_shuffle_f32x4::<0xDD>(high, high2);
            }
        }
    }

    #[inline(always)]
    unsafe fn relu(value: __m512) -> __m512 {
        // SAFETY: called where AVX-512F is there
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_NLE_UQ>(value, _mm512_setzero_ps()), value) }
    }

    #[inline(always)]
    unsafe fn even_odd(a: __m512, b: __m512) -> (__m512, __m512) {
        // SAFETY: called where AVX-512F is there
        unsafe {
            let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
            let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
            (_mm512_permutex2var_ps(a, even, b), _mm512_permutex2var_ps(a, odd, b))
        }
    }

    #[inline(always)]
    unsafe fn greater(best: [__m512; 2], other: [__m512; 2]) -> [__m512; 2] {
        // SAFETY: called where AVX-512F is there
        unsafe {
            let wins = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(other[0], best[0])
                | _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(other[0], other[0]);
            [_mm512_mask_mov_ps(best[0], wins, other[0]), _mm512_mask_mov_ps(best[1], wins, other[1])]
        }
    }

    #[inline(always)]
    unsafe fn sum(value: __m512) -> f32 {
        // SAFETY: called where AVX-512F is there. Written out, since the order of `_mm512_reduce_add_ps` is the compiler's
        unsafe {
            let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(value)));
            let eight = _mm256_add_ps(_mm512_castps512_ps256(value), high);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
}
