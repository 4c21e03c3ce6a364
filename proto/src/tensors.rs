//! `f32` values as little-endian bytes, whole and in parts.

use std::ops::Range;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::wire::CHUNK_BYTES;

/// The bytes of `values`, little-endian. One copy; share the result.
#[must_use]
pub fn to_bytes(values: &[f32]) -> Bytes {
    let mut bytes = Vec::with_capacity(values.len() * 4);
    for value in values {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    Bytes::from(bytes)
}

/// Writes the little-endian `bytes` over `values`. The caller has checked that lengths fit.
fn from_bytes(values: &mut [f32], bytes: &[u8]) {
    for (value, four) in values.iter_mut().zip(bytes.chunks_exact(4)) {
        *value = f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    }
}

/// XXH3-64 of the bytes: finds what the network or a bad memory changed. It is no defence against an attacker.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// [`digest`] of the values' little-endian bytes.
#[must_use]
pub fn digest_values(values: &[f32]) -> u64 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut block = [0_u8; 4096];
    for part in values.chunks(1024) {
        for (four, value) in block.chunks_exact_mut(4).zip(part) {
            four.copy_from_slice(&value.to_le_bytes());
        }
        hash.update(&block[..part.len() * 4]);
    }
    hash.digest()
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
}

/// A part that does not continue the vector.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PartError {
    #[error("a part starts at value {found}, but value {expected} is next; parts must come in order, each once")]
    Order { found: u64, expected: usize },
    #[error("a part has {0} bytes, which is no multiple of 4 (one f32)")]
    Ragged(usize),
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
        Self { values: vec![0.0; total], filled: 0 }
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
        from_bytes(&mut self.values[self.filled..end], data);
        self.filled = end;
        Ok(())
    }

    /// True once every value is there.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.filled == self.values.len()
    }

    /// The whole vector, if it is complete and its checksum is `digest`.
    pub fn finish(self, digest: u64) -> Result<Vec<f32>, PartError> {
        if !self.is_complete() {
            return Err(PartError::TooShort { found: self.filled, total: self.values.len() });
        }
        let found = digest_values(&self.values);
        if found != digest {
            return Err(PartError::Digest { found, expected: digest });
        }
        Ok(self.values)
    }
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
            let bytes = to_bytes(&sent);
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
        assembly.add(0, &[0; 4]).expect("fits");
        assert_eq!(assembly.finish(0).expect_err("short"), PartError::TooShort { found: 1, total: 2 });
    }

    #[test]
    fn one_flipped_bit_changes_the_digest() {
        let bytes = to_bytes(&values(3000));
        assert_eq!(digest(&bytes), digest_values(&values(3000)));
        let mut broken = bytes.to_vec();
        broken[5000] ^= 1;
        let mut assembly = Assembly::new(3000);
        assembly.add(0, &broken).expect("fits");
        assert!(matches!(assembly.finish(digest(&bytes)), Err(PartError::Digest { .. })));
    }
}
