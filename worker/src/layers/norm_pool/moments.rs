//! Mean and variance of each channel: each example's own while it is in the first cache, then put together in order.

use super::super::simd::{Kernel, Lanes};
use super::lanes_last::LanesLast;

/// Lanes of the longest register.
const MOST: usize = 16;

/// Of one output: the mean of some values, and the sum of the squares of their distances from it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) squares: f64,
}

/// One example's, in two passes.
pub(super) struct Measure<'a> {
    pub(super) layout: &'a LanesLast,
    pub(super) z: &'a [f32],
    /// One an output, the padded ones included.
    pub(super) moments: &'a mut [Moments],
}

impl Kernel for Measure<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let places = self.layout.places();
        let groups = self.z.chunks_exact(places * L::COUNT).zip(self.moments.chunks_exact_mut(L::COUNT));
        for (z, moments) in groups {
            let mut means = [0.0; MOST];
            for z in z.chunks_exact(L::COUNT) {
                for i in 0..L::COUNT {
                    means[i] += f64::from(z[i]);
                }
            }
            for mean in &mut means {
                *mean /= places as f64;
            }
            let mut squares = [0.0; MOST];
            for z in z.chunks_exact(L::COUNT) {
                for i in 0..L::COUNT {
                    let distance = f64::from(z[i]) - means[i];
                    squares[i] += distance * distance;
                }
            }
            for (i, moments) in moments.iter_mut().enumerate() {
                *moments = Moments { mean: means[i], squares: squares[i] };
            }
        }
    }
}

/// The moments of output `o` over all examples, `each` of which has `count` values (Chan et al. 1979, "Updating formulae").
pub(super) fn together(each: &[Moments], outputs: usize, o: usize, count: usize) -> Moments {
    let examples = || each.iter().skip(o).step_by(outputs);
    let mean = examples().map(|one| one.mean).sum::<f64>() / (each.len() / outputs) as f64;
    let squares = examples().map(|one| one.squares + count as f64 * (one.mean - mean) * (one.mean - mean)).sum();
    Moments { mean, squares }
}
