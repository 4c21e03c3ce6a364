//! Back through BatchNorm: the gradient at every place of the convolution, from the kept places' and the two sums.

use super::super::simd::{Kernel, Lanes};
use super::lanes_last::LanesLast;

/// gain × dy + offset + (z + shift) × slope, one of each for an output, zeros for the padded ones.
pub(super) struct Factors {
    pub(super) shift: Vec<f32>,
    pub(super) gain: Vec<f32>,
    pub(super) offset: Vec<f32>,
    pub(super) slope: Vec<f32>,
}

/// One example.
pub(super) struct Spread<'a> {
    pub(super) layout: &'a LanesLast,
    pub(super) z: &'a [f32],
    pub(super) factors: &'a Factors,
    /// Pooled examples of the layout: the gradient, zero where relu stopped it, and whose it is.
    pub(super) dy: &'a [f32],
    pub(super) winners: &'a [u32],
    /// An example of the layout.
    pub(super) dz: &'a mut [f32],
}

impl Kernel for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (l, g) = (self.layout, &self.layout.geometry);
        let lanes = L::COUNT;
        let Factors { shift, gain, offset, slope } = self.factors;
        for group in 0..l.groups {
            let of = group * lanes..(group + 1) * lanes;
            let [shift, gain, offset, slope] = [shift, gain, offset, slope].map(|factor| &factor[of.clone()]);
            let all = group * l.places() * lanes..(group + 1) * l.places() * lanes;
            let (z, dz) = (&self.z[all.clone()], &mut self.dz[all]);
            for (z, dz) in z.chunks_exact(lanes).zip(dz.chunks_exact_mut(lanes)) {
                for i in 0..lanes {
                    dz[i] = (z[i] + shift[i]) * slope[i] + offset[i];
                }
            }
            for row in 0..g.rows {
                for column in 0..g.columns {
                    let at = (group * g.places() + row * g.columns + column) * lanes;
                    let (winners, dy) = (&self.winners[at..][..lanes], &self.dy[at..][..lanes]);
                    for (place, number) in l.window(row, column).into_iter().zip(0..) {
                        let dz = &mut dz[place * lanes..][..lanes];
                        for i in 0..lanes {
                            let more = if winners[i] == number { gain[i] * dy[i] } else { 0.0 };
                            dz[i] += more;
                        }
                    }
                }
            }
        }
    }
}
