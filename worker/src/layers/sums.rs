//! Long sums, in f64 and in an order that depends on the length alone.

use super::kernels::KernelSet;
use super::simd::{self, Kernel, Lanes};

/// Sums that run side by side, whatever the registers: every kernel set gives the same bits.
const SIDE_BY_SIDE: usize = 16;

/// Σ values.
pub(super) fn sum(set: KernelSet, values: &[f32]) -> f64 {
    simd::run(set, Sum { values })
}

struct Sum<'a> {
    values: &'a [f32],
}

impl Kernel for Sum<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lanes>(self) -> f64 {
        let mut sums = [0.0; SIDE_BY_SIDE];
        let (chunks, rest) = self.values.as_chunks::<SIDE_BY_SIDE>();
        for chunk in chunks {
            for (sum, &value) in sums.iter_mut().zip(chunk) {
                *sum += f64::from(value);
            }
        }
        for (sum, &value) in sums.iter_mut().zip(rest) {
            *sum += f64::from(value);
        }
        sums.iter().sum()
    }
}
