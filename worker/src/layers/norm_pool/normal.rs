//! Normalising, relu and pooling in one pass over the convolution's places.
#![expect(unsafe_code, reason = "the innermost loops: vector registers and pointers without bounds checks")]

use super::super::simd::{Kernel, Lanes};
use super::lanes_last::LanesLast;

/// Instead of the number of a window's winner: relu stopped it.
pub(super) const STOPPED: u32 = 4;

/// (z + shift) × gain + bias, one of each for an output, zeros for the padded ones.
pub(super) struct Scales {
    pub(super) shift: Vec<f32>,
    pub(super) gain: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

/// One example.
pub(super) struct Normal<'a> {
    pub(super) layout: &'a LanesLast,
    pub(super) z: &'a [f32],
    pub(super) scales: &'a Scales,
    /// A pooled example of the layout: the values, and which of the window's four won, or [`STOPPED`].
    pub(super) values: &'a mut [f32],
    pub(super) winners: &'a mut [u32],
}

impl Kernel for Normal<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self) {
        let (l, g) = (self.layout, &self.layout.geometry);
        // what every unchecked access below rests on
        assert!(l.lanes == L::COUNT && 2 * g.rows <= l.height && 2 * g.columns <= l.width);
        assert!(self.z.len() == l.example() && self.values.len() == l.pooled() && self.winners.len() == l.pooled());
        let Scales { shift, gain, bias } = self.scales;
        assert!([shift, gain, bias].into_iter().all(|scale| scale.len() == l.outputs()));
        let winners = self.winners.as_mut_ptr().cast::<f32>();
        for group in 0..l.groups {
            // SAFETY: scales are as many as outputs; windows lie in the group's places, pooled places in the results
            unsafe {
                let [shift, gain, bias] =
                    [shift, gain, bias].map(|scale| L::load(scale.as_ptr().add(group * L::COUNT)));
                let z = self.z.as_ptr().add(group * l.places() * L::COUNT);
                for row in 0..g.rows {
                    for column in 0..g.columns {
                        let [first, rest @ ..] = l.window(row, column).map(|place| {
                            let z = L::add(L::load(z.add(place * L::COUNT)), shift);
                            L::multiply_add(z, gain, bias)
                        });
                        let mut best = [first, L::splat(f32::from_bits(0))];
                        for (i, place) in rest.into_iter().enumerate() {
                            best = L::greater(best, [place, L::splat(f32::from_bits(i as u32 + 1))]);
                        }
                        // relu is one more that may win; NaN wins over it
                        let best = L::greater([L::splat(0.0), L::splat(f32::from_bits(STOPPED))], best);
                        let to = (group * g.places() + row * g.columns + column) * L::COUNT;
                        L::store(self.values.as_mut_ptr().add(to), best[0]);
                        L::store(winners.add(to), best[1]);
                    }
                }
            }
        }
    }
}
