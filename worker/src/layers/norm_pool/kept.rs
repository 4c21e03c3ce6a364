//! Back through pooling and relu: the gradient is not zero at the kept places only, so BatchNorm's two sums run over them.

use super::super::simd::{Kernel, Lanes};
use super::lanes_last::LanesLast;
use super::normal::STOPPED;

/// Lanes of the longest register.
const MOST: usize = 16;

/// Of one output: Σ dy, and Σ dy × (z − mean).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) dy: f64,
    pub(super) product: f64,
}

/// One example.
pub(super) struct Kept<'a> {
    pub(super) layout: &'a LanesLast,
    pub(super) z: &'a [f32],
    /// The means, one an output, zeros for the padded ones.
    pub(super) means: &'a [f64],
    pub(super) winners: &'a [u32],
    /// A pooled example of the layout: the gradient, of which what relu stopped becomes zero.
    pub(super) dy: &'a mut [f32],
    /// One an output, the padded ones included.
    pub(super) sums: &'a mut [Sums],
}

impl Kernel for Kept<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (l, g) = (self.layout, &self.layout.geometry);
        let lanes = L::COUNT;
        for group in 0..l.groups {
            let mean = &self.means[group * lanes..][..lanes];
            let z = &self.z[group * l.places() * lanes..][..l.places() * lanes];
            let (mut first, mut second) = ([0.0; MOST], [0.0; MOST]);
            for row in 0..g.rows {
                for column in 0..g.columns {
                    let at = (group * g.places() + row * g.columns + column) * lanes;
                    let winners = &self.winners[at..][..lanes];
                    let dy = &mut self.dy[at..][..lanes];
                    let [a, b, c, d] = l.window(row, column).map(|place| &z[place * lanes..][..lanes]);
                    for i in 0..lanes {
                        // chosen, not looked up: a choice fits into a register
                        let winner = winners[i];
                        let top = if winner == 0 { a[i] } else { b[i] };
                        let bottom = if winner == 2 { c[i] } else { d[i] };
                        let z = if winner < 2 { top } else { bottom };
                        let value = if winner == STOPPED { 0.0 } else { dy[i] };
                        dy[i] = value;
                        first[i] += f64::from(value);
                        // a stopped NaN gradient is 0, and so is its share
                        second[i] += f64::from(value) * (f64::from(z) - mean[i]);
                    }
                }
            }
            for (i, sums) in self.sums[group * lanes..][..lanes].iter_mut().enumerate() {
                *sums = Sums { dy: first[i], product: second[i] };
            }
        }
    }
}
