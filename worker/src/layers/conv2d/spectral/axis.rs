//! The Fourier transform along one axis: its length, its frequencies and its tables.
//!
//! An axis of N = q × m places, m odd and q 1 or 2, is transformed as the group Z_q × Z_m: place i is (i mod q, i mod m), so
//! that q = 2 costs a sum and a difference and no factors. A frequency is (b, g), b < q and g < m; (b, m − g) is the
//! conjugate of (b, g). Which number of N a frequency has in other orders does not matter to a convolution.

use std::f64::consts::TAU;

pub(super) struct Axis {
    pub(super) size: usize,
    /// q.
    pub(super) twos: usize,
    /// m.
    pub(super) odd: usize,
    /// (m − 1) / 2: pairs of a frequency and its conjugate, for each b.
    pub(super) half: usize,
}

/// A place that has no source: the image does not reach it.
pub(super) const NONE: usize = usize::MAX;

/// Where a line of an image lies on an axis.
pub(super) struct Places {
    /// For each residue of m, the pixel at the even place (any place if q is 1) and at the odd one.
    pub(super) sources: Vec<[usize; 2]>,
    /// For each pixel its residue of m, and whether its place is the odd one.
    pub(super) targets: Vec<(usize, bool)>,
}

impl Axis {
    /// An axis of at least `least` places, no multiple of four. Of the shortest odd and the shortest even one it is that
    /// with the fewest multiplications, if a place costs `mixing` for each frequency and `transforms` for each term of a
    /// transform's sum: an even axis has shorter sums.
    pub(super) fn new(least: usize, mixing: usize, transforms: usize) -> Self {
        let odd = Self::of(1, least | 1);
        let even = Self::of(2, least.div_ceil(2) | 1);
        let cost = |axis: &Self| axis.size * (axis.real_frequencies() * mixing + axis.size * axis.odd * transforms);
        if cost(&even) < cost(&odd) { even } else { odd }
    }

    fn of(twos: usize, odd: usize) -> Self {
        Self { size: twos * odd, twos, odd, half: odd / 2 }
    }

    /// Whether row `row` (b × m + g) of a spectrum is needed where the frequency along the other axis is `column`: where
    /// that one is its own conjugate, half of the rows are conjugates of the others.
    pub(super) fn needs(&self, row: usize, column: (usize, usize)) -> bool {
        column.1 > 0 || row % self.odd <= self.half
    }

    /// Frequencies of a real line, without conjugates.
    pub(super) fn real_frequencies(&self) -> usize {
        self.twos * (self.half + 1)
    }

    /// (b, g) of each of [`Self::real_frequencies`].
    pub(super) fn frequency(&self, at: usize) -> (usize, usize) {
        (at / (self.half + 1), at % (self.half + 1))
    }

    /// Each [`Self::frequency`] in order, without divisions.
    #[inline(always)]
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (twos, half) = (self.twos, self.half);
        (0..twos).flat_map(move |b| (0..=half).map(move |g| (b, g)))
    }

    /// `len` pixels from place `offset` on, around the end.
    pub(super) fn places(&self, len: usize, offset: isize) -> Places {
        let place = |i: usize| (offset + i as isize).rem_euclid(self.size as isize) as usize;
        let targets: Vec<_> =
            (0..len).map(|i| (place(i) % self.odd, self.twos == 2 && !place(i).is_multiple_of(2))).collect();
        let mut sources = vec![[NONE; 2]; self.odd];
        for (i, &(residue, odd)) in targets.iter().enumerate() {
            sources[residue][usize::from(odd)] = i;
        }
        Places { sources, targets }
    }

    /// The real and imaginary part of frequency (b, g) at place `place` (≥ 0).
    pub(super) fn character(&self, (b, g): (usize, usize), place: usize) -> (f64, f64) {
        let sign = if b * place % 2 == 1 { -1.0 } else { 1.0 };
        let angle = TAU * (g * place % self.odd) as f64 / self.odd as f64;
        // not the system's: its last bit is its own
        (sign * libm::cos(angle), sign * libm::sin(angle))
    }

    /// `factor` × cos and sin of 2π × j × t / m for j in 1..=half, then t in 0..=half.
    pub(super) fn table(&self, factor: f64) -> Vec<f32> {
        let pair = |j, t| {
            let (cosine, sine) = self.character((0, t), j);
            [(factor * cosine) as f32, (factor * sine) as f32]
        };
        (1..=self.half).flat_map(|j| (0..=self.half).flat_map(move |t| pair(j, t))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frequency_is_one_of_the_axis() {
        for least in 1..40 {
            let axis = Axis::new(least, least % 3, 1);
            assert!(axis.size >= least && axis.size <= least + 3 && axis.size == axis.twos * axis.odd);
            // the characters of all frequencies at place 1 are the N roots of unity, each once
            let mut turns: Vec<_> = (0..axis.twos)
                .flat_map(|b| (0..axis.odd).map(move |g| (b, g)))
                .map(|frequency| {
                    let (re, im) = axis.character(frequency, 1);
                    (im.atan2(re) / TAU * axis.size as f64).round().rem_euclid(axis.size as f64) as usize
                })
                .collect();
            turns.sort_unstable();
            assert_eq!(turns, (0..axis.size).collect::<Vec<_>>());
        }
    }

    #[test]
    fn few_channels_take_an_even_axis() {
        assert_eq!((Axis::new(33, 1, 0).size, Axis::new(33, 1, 1).size), (33, 34));
        assert_eq!((Axis::new(30, 1, 0).size, Axis::new(16, 1, 0).size), (30, 17));
    }

    #[test]
    fn places_go_around_the_end() {
        let axis = Axis::of(2, 3);
        let places = axis.places(4, -2);
        // places 4, 5, 0, 1
        assert_eq!(places.targets, [(1, false), (2, true), (0, false), (1, true)]);
        assert_eq!(places.sources, [[2, NONE], [0, 3], [NONE, 1]]);
    }
}
