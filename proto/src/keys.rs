//! Keyed randomness: every draw is a pure function of the seed and of what the draw is *for*.
//!
//! A [`Key`] names the purpose (`("dropout", layer)`), a [`Stream`] is one sequence under it (`(epoch, example)`). No
//! state is carried from step to step, so who computes a shard, and how often, changes nothing.
//!
//! The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): 64-bit key,
//! 128-bit counter. Word 0 of the counter runs, words 1 to 3 are the stream's coordinates.

/// What a family of draws is for. Make one with [`Key::new`] and keep it: deriving costs a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u32; 2]);

impl Key {
    /// The key of `purpose` (`"init"`, `"order"`, `"augment"`, `"dropout"`, …) and `name` (a tensor, a layer; or `""`).
    #[must_use]
    pub fn new(seed: u64, purpose: &str, name: &str) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("lockstep v1 randomness");
        hash.update(&seed.to_le_bytes());
        for part in [purpose, name] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        let b = digest.as_bytes();
        Self([u32::from_le_bytes([b[0], b[1], b[2], b[3]]), u32::from_le_bytes([b[4], b[5], b[6], b[7]])])
    }

    /// The generator's key, for whoever draws elsewhere than on the processor.
    #[must_use]
    pub fn words(self) -> [u32; 2] {
        self.0
    }

    /// The sequence at coordinates `(a, b, c)`, for instance (epoch, example, 0).
    #[must_use]
    pub fn stream(self, a: u32, b: u32, c: u32) -> Stream {
        Stream { key: self, counter: [0, a, b, c], block: [0; 4], used: 4 }
    }
}

/// One sequence of 32-bit draws, at most 2^34 long.
#[derive(Clone, Debug)]
pub struct Stream {
    key: Key,
    counter: [u32; 4],
    block: [u32; 4],
    used: usize,
}

impl Stream {
    /// The next 32 uniform bits.
    #[inline]
    pub fn bits(&mut self) -> u32 {
        if self.used == 4 {
            self.block = philox(self.counter, self.key.0);
            self.counter[0] = self.counter[0].wrapping_add(1);
            self.used = 0;
        }
        self.used += 1;
        self.block[self.used - 1]
    }

    /// Uniform in [0, 1), a multiple of 2^-24.
    #[inline]
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 8) as f32 * (1.0 / 16_777_216.0)
    }

    /// Uniform in [low, high).
    #[inline]
    pub fn range(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..n without bias (Lemire's method). `n` must not be 0.
    pub fn below(&mut self, n: u32) -> u32 {
        let threshold = n.wrapping_neg() % n;
        loop {
            let wide = u64::from(self.bits()) * u64::from(n);
            if wide as u32 >= threshold {
                return (wide >> 32) as u32;
            }
        }
    }

    /// Shuffles in place (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

/// One block of Philox4x32-10.
#[inline]
fn philox(mut c: [u32; 4], mut k: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        let p0 = u64::from(c[0]) * 0xD251_1F53;
        let p1 = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(p1 >> 32) as u32 ^ c[1] ^ k[0], p1 as u32, (p0 >> 32) as u32 ^ c[3] ^ k[1], p0 as u32];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: the known-answer vectors that the authors publish with Random123 (kat_vectors, philox4x32 10).
    #[test]
    fn philox_matches_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = ([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]);
        assert_eq!(philox(pi.0, pi.1), [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn purposes_names_seeds_and_coordinates_all_matter() {
        let first = |key: Key, a, b, c| key.stream(a, b, c).bits();
        let base = first(Key::new(1, "dropout", "net.3"), 1, 2, 3);
        assert_eq!(base, first(Key::new(1, "dropout", "net.3"), 1, 2, 3));
        for other in [
            first(Key::new(2, "dropout", "net.3"), 1, 2, 3),
            first(Key::new(1, "augment", "net.3"), 1, 2, 3),
            first(Key::new(1, "dropoutn", "et.3"), 1, 2, 3),
            first(Key::new(1, "dropout", "net.3"), 2, 2, 3),
            first(Key::new(1, "dropout", "net.3"), 1, 3, 3),
            first(Key::new(1, "dropout", "net.3"), 1, 2, 4),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn below_is_fair_and_shuffle_is_a_permutation() {
        let mut stream = Key::new(3, "test", "").stream(0, 0, 0);
        let mut counts = [0_u32; 6];
        for _ in 0..60_000 {
            counts[stream.below(6) as usize] += 1;
        }
        // five standard deviations of a binomial(60,000, 1/6) are 456
        assert!(counts.iter().all(|&n| n.abs_diff(10_000) < 456), "{counts:?}");
        let mut items: Vec<u32> = (0..1000).collect();
        stream.shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
