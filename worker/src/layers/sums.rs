//! Long sums, in f64 and in an order that depends on the length alone.

use super::kernels::KernelSet;
use super::simd::{self, Kernel, Lanes};

/// Sums that run side by side, whatever the registers: every kernel set gives the same bits.
const SIDE_BY_SIDE: usize = 16;

/// Σ values.
pub(super) fn sum(set: KernelSet, values: &[f32]) -> f64 {
    simd::run(set, Sum { values })
}

/// Σ (value − shift) and Σ (value − shift)².
pub(super) fn moments(set: KernelSet, values: &[f32], shift: f64) -> (f64, f64) {
    simd::run(set, Moments { values, shift })
}

/// Σ value and Σ value × (other − shift), of as many others.
pub(super) fn products(set: KernelSet, values: &[f32], others: &[f32], shift: f64) -> (f64, f64) {
    debug_assert_eq!(values.len(), others.len());
    simd::run(set, Products { values, others, shift })
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

struct Moments<'a> {
    values: &'a [f32],
    shift: f64,
}

impl Kernel for Moments<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<L: Lanes>(self) -> (f64, f64) {
        let (mut sums, mut squares) = ([0.0; SIDE_BY_SIDE], [0.0; SIDE_BY_SIDE]);
        let (chunks, rest) = self.values.as_chunks::<SIDE_BY_SIDE>();
        for chunk in chunks {
            for i in 0..SIDE_BY_SIDE {
                let value = f64::from(chunk[i]) - self.shift;
                sums[i] += value;
                squares[i] += value * value;
            }
        }
        for (i, &value) in rest.iter().enumerate() {
            let value = f64::from(value) - self.shift;
            sums[i] += value;
            squares[i] += value * value;
        }
        (sums.iter().sum(), squares.iter().sum())
    }
}

struct Products<'a> {
    values: &'a [f32],
    others: &'a [f32],
    shift: f64,
}

impl Kernel for Products<'_> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run<L: Lanes>(self) -> (f64, f64) {
        let (mut sums, mut products) = ([0.0; SIDE_BY_SIDE], [0.0; SIDE_BY_SIDE]);
        let (chunks, rest) = self.values.as_chunks::<SIDE_BY_SIDE>();
        let (others, rest_others) = self.others.as_chunks::<SIDE_BY_SIDE>();
        for (chunk, others) in chunks.iter().zip(others) {
            for i in 0..SIDE_BY_SIDE {
                let value = f64::from(chunk[i]);
                sums[i] += value;
                products[i] += value * (f64::from(others[i]) - self.shift);
            }
        }
        for (i, (&value, &other)) in rest.iter().zip(rest_others).enumerate() {
            let value = f64::from(value);
            sums[i] += value;
            products[i] += value * (f64::from(other) - self.shift);
        }
        (sums.iter().sum(), products.iter().sum())
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernels::tests::with_each;
    use super::super::testing::random;
    use super::*;

    #[test]
    fn every_kernel_set_gives_the_sums_of_the_definition() {
        for len in [0, 1, 15, 16, 50] {
            let (values, others) = (random(1, len), random(2, len));
            let of = |f: &dyn Fn(f64, f64) -> f64| {
                values.iter().zip(&others).map(|(&v, &o)| f(f64::from(v), f64::from(o))).sum::<f64>()
            };
            with_each(|set| {
                let (sum, squares) = moments(set, &values, 0.25);
                let (plain, products) = products(set, &values, &others, 0.25);
                for (ours, exact) in [
                    (super::sum(set, &values), of(&|v, _| v)),
                    (sum, of(&|v, _| v - 0.25)),
                    (squares, of(&|v, _| (v - 0.25).powi(2))),
                    (plain, of(&|v, _| v)),
                    (products, of(&|v, o| v * (o - 0.25))),
                ] {
                    assert!((ours - exact).abs() < 1e-12, "{set}, {len} values: {ours}, not {exact}");
                }
            });
        }
    }
}
