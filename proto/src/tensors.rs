//! `f32` values as little-endian bytes, whole and in parts, and the checksum that goes with them.

use std::ops::Range;

use bytes::Bytes;
use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::wire::CHUNK_BYTES;

#[cfg(target_endian = "big")]
compile_error!(
    "tensors travel as the bytes that they are in memory, little-endian: another machine needs code for that"
);

/// Bytes that are copied and checked in one go: small enough that the second finds what the first left in the cache.
pub(crate) const BLOCK_BYTES: usize = 1 << 16;

/// Values from which several threads are worth their waking.
pub(crate) const PARALLEL: usize = 2 * CHUNK_BYTES / 4;

/// Whether to share so many values out over the pool's threads. A pool of one would only cost the way there.
pub(crate) fn parallel(values: usize) -> bool {
    values >= PARALLEL && rayon::current_num_threads() > 1
}

/// The values as bytes, little-endian.
#[must_use]
pub fn as_bytes(values: &[f32]) -> &[u8] {
    bytemuck::cast_slice(values)
}

/// The bytes of `values`, little-endian. No copy; share the result.
#[must_use]
pub fn into_bytes(values: Vec<f32>) -> Bytes {
    struct Owner(Vec<f32>);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            as_bytes(&self.0)
        }
    }
    Bytes::from_owner(Owner(values))
}

/// Checksum of the bytes: finds what the network or a bad memory changed. It is no defence against an attacker.
///
/// XXH3-64 of the XXH3-64 sums (little-endian) of its parts of [`CHUNK_BYTES`], so that each part can be summed where and
/// when it is at hand.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    let mut sums = Sums::new(bytes.len());
    let parts = sums.0.par_iter_mut().zip(bytes.par_chunks(CHUNK_BYTES));
    if parallel(bytes.len() / 4) {
        parts.for_each(|(sum, part)| *sum = xxh3_64(part));
    } else {
        sums.0.iter_mut().zip(bytes.chunks(CHUNK_BYTES)).for_each(|(sum, part)| *sum = xxh3_64(part));
    }
    sums.digest()
}

/// [`digest`] of the values' little-endian bytes.
#[must_use]
pub fn digest_values(values: &[f32]) -> u64 {
    digest(as_bytes(values))
}

/// The checksum of several tensors, from each one's.
#[must_use]
pub fn digest_of(digests: &[u64]) -> u64 {
    digest(&digests.iter().flat_map(|digest| digest.to_le_bytes()).collect::<Vec<_>>())
}

/// The checksums of parts, on their way to one.
#[derive(Debug)]
pub(crate) struct Sums(pub(crate) Vec<u64>);

impl Sums {
    /// For a vector of `bytes`.
    pub(crate) fn new(bytes: usize) -> Self {
        Self(vec![xxh3_64(&[]); bytes.div_ceil(CHUNK_BYTES).max(1)])
    }

    pub(crate) fn digest(&self) -> u64 {
        let mut hash = Xxh3::new();
        self.0.iter().for_each(|sum| hash.update(&sum.to_le_bytes()));
        hash.digest()
    }
}

/// `left[i] += right[i]`, on all of the pool's threads where that is worth it: no order matters, so no bit depends on it.
pub fn add_assign(left: &mut [f32], right: &[f32]) {
    let add = |left: &mut [f32], right: &[f32]| left.iter_mut().zip(right).for_each(|(l, r)| *l += r);
    if !parallel(left.len()) {
        return add(left, right);
    }
    let block = 1 << 16;
    left.par_chunks_mut(block).zip(right.par_chunks(block)).for_each(|(left, right)| add(left, right));
}

/// The first value that is NaN or infinite.
#[must_use]
pub fn first_not_finite(values: &[f32]) -> Option<usize> {
    const BLOCK: usize = 1024;
    let start = values.chunks(BLOCK).position(|block| !is_finite(block))? * BLOCK;
    values[start..].iter().position(|value| !value.is_finite()).map(|at| start + at)
}

/// Whether all values are neither NaN nor infinite.
pub(crate) fn is_finite(values: &[f32]) -> bool {
    // without a way out in the middle the compiler uses vectors
    !values.iter().fold(false, |bad, value| bad | (value.to_bits() & 0x7f80_0000 == 0x7f80_0000))
}

/// The parts in which `bytes` travel: byte ranges of at most [`CHUNK_BYTES`], whole values each; one, maybe empty, at least.
pub fn parts(bytes: usize) -> impl Iterator<Item = Range<usize>> {
    (0..bytes.div_ceil(CHUNK_BYTES).max(1)).map(move |i| i * CHUNK_BYTES..((i + 1) * CHUNK_BYTES).min(bytes))
}

/// Puts a flat vector together from parts that arrive in order. The length is ours, never the sender's.
#[derive(Debug)]
pub struct Assembly {
    values: Vec<f32>,
    filled: usize,
    sums: Sums,
    finite: bool,
}

/// A part that does not continue the vector.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PartError {
    #[error("a part starts at value {found}, but value {expected} is next; parts must come in order, each once")]
    Order { found: u64, expected: usize },
    #[error("a part has {0} bytes, which is no multiple of 4 (one f32)")]
    Ragged(usize),
    #[error("a part ends at value {end}, in the middle of a checksum's block; parts are 256 KiB each but the last")]
    Uneven { end: usize },
    #[error("a part ends at value {end}, but the vector has {total}")]
    TooLong { end: usize, total: usize },
    #[error("the last part ends at value {found}, but the vector has {total}")]
    TooShort { found: usize, total: usize },
    #[error("the checksum is {found:016x}, but the sender's is {expected:016x}: the data changed on the way")]
    Digest { found: u64, expected: u64 },
}

impl Assembly {
    /// Room for `total` values.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self::reuse(Vec::new(), total)
    }

    /// As [`Assembly::new`], in the memory of a vector that nobody needs any more: fresh pages cost more than the copy.
    #[must_use]
    pub fn reuse(mut values: Vec<f32>, total: usize) -> Self {
        values.resize(total, 0.0);
        Self { values, filled: 0, sums: Sums::new(total * 4), finite: true }
    }

    /// Adds the part that starts at value `offset`.
    pub fn add(&mut self, offset: u64, data: &[u8]) -> Result<(), PartError> {
        if offset != self.filled as u64 {
            return Err(PartError::Order { found: offset, expected: self.filled });
        }
        if !data.len().is_multiple_of(4) {
            return Err(PartError::Ragged(data.len()));
        }
        let end = self.filled + data.len() / 4;
        if end > self.values.len() {
            return Err(PartError::TooLong { end, total: self.values.len() });
        }
        if end < self.values.len() && !(end * 4).is_multiple_of(CHUNK_BYTES) {
            return Err(PartError::Uneven { end });
        }
        let room = &mut self.values[self.filled..end];
        for (at, (to, from)) in room.chunks_mut(CHUNK_BYTES / 4).zip(data.chunks(CHUNK_BYTES)).enumerate() {
            let (sum, finite) = copy_and_check(to, from);
            self.sums.0[self.filled * 4 / CHUNK_BYTES + at] = sum;
            self.finite &= finite;
        }
        self.filled = end;
        Ok(())
    }

    /// True once every value is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.filled == self.values.len()
    }

    /// Whether all values that came, taken as f32, are neither NaN nor infinite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.finite
    }

    /// The whole vector, if it is complete and its checksum is `digest`.
    pub fn finish(self, digest: u64) -> Result<Vec<f32>, PartError> {
        if !self.is_complete() {
            return Err(PartError::TooShort { found: self.filled, total: self.values.len() });
        }
        let found = self.sums.digest();
        if found != digest {
            return Err(PartError::Digest { found, expected: digest });
        }
        Ok(self.values)
    }
}

/// Copies; gives the checksum of the copy, and whether it is finite. All in one pass over memory.
fn copy_and_check(to: &mut [f32], from: &[u8]) -> (u64, bool) {
    let (mut hash, mut finite) = (Xxh3::new(), true);
    for (to, from) in to.chunks_mut(BLOCK_BYTES / 4).zip(from.chunks(BLOCK_BYTES)) {
        bytemuck::cast_slice_mut(to).copy_from_slice(from);
        hash.update(as_bytes(to));
        finite &= is_finite(to);
    }
    (hash.digest(), finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| i as f32 * 0.5 - 7.0).collect()
    }

    #[test]
    fn a_vector_survives_the_trip_in_parts() {
        for n in [0, 1, CHUNK_BYTES / 4 - 1, CHUNK_BYTES / 4, CHUNK_BYTES / 4 + 1, CHUNK_BYTES] {
            let sent = values(n);
            let bytes = into_bytes(sent.clone());
            let mut assembly = Assembly::new(n);
            for part in parts(bytes.len()) {
                assembly.add((part.start / 4) as u64, &bytes[part]).expect("in order");
            }
            assert_eq!(assembly.finish(digest(&bytes)).expect("whole"), sent);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        let mut assembly = Assembly::new(2);
        assert_eq!(assembly.add(1, &[0; 4]), Err(PartError::Order { found: 1, expected: 0 }));
        assert_eq!(assembly.add(0, &[0; 3]), Err(PartError::Ragged(3)));
        assert_eq!(assembly.add(0, &[0; 12]), Err(PartError::TooLong { end: 3, total: 2 }));
        assert_eq!(assembly.add(0, &[0; 4]), Err(PartError::Uneven { end: 1 }));
        assert_eq!(assembly.finish(0).expect_err("short"), PartError::TooShort { found: 0, total: 2 });
    }

    #[test]
    fn what_is_not_finite_is_found_wherever_it_is() {
        for at in [0, 1023, 1024, 2999] {
            for bad in [f32::NAN, f32::NEG_INFINITY] {
                let mut values = values(3000);
                values[at] = bad;
                assert_eq!(first_not_finite(&values), Some(at));
                let mut assembly = Assembly::new(3000);
                assembly.add(0, as_bytes(&values)).expect("fits");
                assert!(!assembly.is_finite());
            }
        }
        assert_eq!(first_not_finite(&[f32::MAX, -0.0, f32::MIN_POSITIVE / 2.0]), None);
    }

    #[test]
    fn a_sum_on_many_threads_has_the_bits_of_one() {
        let right = values(PARALLEL + 3);
        let mut left: Vec<f32> = right.iter().map(|value| value * 0.1).collect();
        let expected: Vec<f32> = left.iter().zip(&right).map(|(l, r)| l + r).collect();
        add_assign(&mut left, &right);
        assert_eq!(left, expected);
    }

    #[test]
    fn one_flipped_bit_changes_the_digest() {
        let bytes = into_bytes(values(3000));
        assert_eq!(digest(&bytes), digest_values(&values(3000)));
        let mut broken = bytes.to_vec();
        broken[5000] ^= 1;
        let mut assembly = Assembly::new(3000);
        assembly.add(0, &broken).expect("fits");
        assert!(matches!(assembly.finish(digest(&bytes)), Err(PartError::Digest { .. })));
    }
}
