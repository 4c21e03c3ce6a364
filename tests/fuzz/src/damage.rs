//! Valid bytes, broken in the ways in which lengths, offsets and checksums are got wrong; and bytes that never were valid.

use proptest::prelude::*;
use proptest::sample::Index;

/// Numbers that lengths and counts are checked badly for.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    1 << 20,
    1 << 28,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];

/// One change.
#[derive(Clone, Debug)]
enum Change {
    Flip {
        at: Index,
        bit: u8,
    },
    Set {
        at: Index,
        byte: u8,
    },
    /// Overwrites 1, 2, 4 or 8 bytes.
    Number {
        at: Index,
        number: u64,
        width: usize,
        big_endian: bool,
    },
    /// A base-128 number (protobuf, Thrift) in the place of a byte.
    Varint {
        at: Index,
        number: u64,
    },
    Cut {
        at: Index,
    },
    Remove {
        at: Index,
        length: usize,
    },
    /// What stands at `from` again at `at`.
    Repeat {
        from: Index,
        at: Index,
        length: usize,
    },
    /// The end of another sample behind the beginning of this one.
    Splice {
        sample: Index,
        from: Index,
        at: Index,
    },
    Insert {
        at: Index,
        bytes: Vec<u8>,
    },
}

/// Any number, those at the edges often.
pub fn numbers() -> impl Strategy<Value = u64> {
    prop_oneof![3 => prop::sample::select(&NUMBERS[..]), 1 => any::<u64>(), 1 => 0..300_u64]
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip { at, bit }),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set { at, byte }),
        4 => (at(), numbers(), 0..4_u32, any::<bool>())
            .prop_map(|(at, number, log, big_endian)| Change::Number { at, number, width: 1 << log, big_endian }),
        4 => (at(), numbers()).prop_map(|(at, number)| Change::Varint { at, number }),
        1 => at().prop_map(|at| Change::Cut { at }),
        1 => (at(), 1..64_usize).prop_map(|(at, length)| Change::Remove { at, length }),
        1 => (at(), at(), 1..64_usize).prop_map(|(from, at, length)| Change::Repeat { from, at, length }),
        1 => (at(), at(), at()).prop_map(|(sample, from, at)| Change::Splice { sample, from, at }),
        1 => (at(), prop::collection::vec(any::<u8>(), 1..16)).prop_map(|(at, bytes)| Change::Insert { at, bytes }),
    ]
}

/// Bytes that a decoder of `samples` should refuse or survive: nine in ten are a sample with one to five changes, the rest
/// are random. A damaged sample is at most 2 KiB longer than the longest sample and the tail of another one.
///
/// # Panics
/// Without a sample.
pub fn damaged(samples: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    assert!(!samples.is_empty(), "there is nothing to damage");
    let changed = (any::<Index>(), prop::collection::vec(change(), 1..6)).prop_map(move |(which, changes)| {
        let mut bytes = which.get(&samples).clone();
        changes.iter().for_each(|change| change.apply(&mut bytes, &samples));
        bytes
    });
    prop_oneof![9 => changed, 1 => prop::collection::vec(any::<u8>(), 0..256)]
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, samples: &[Vec<u8>]) {
        let len = bytes.len();
        if len == 0 {
            return;
        }
        match self {
            Self::Flip { at, bit } => bytes[at.index(len)] ^= 1 << bit,
            Self::Set { at, byte } => bytes[at.index(len)] = *byte,
            Self::Number { at, number, width, big_endian } => {
                let mut digits = number.to_le_bytes();
                let digits = &mut digits[..*width];
                if *big_endian {
                    digits.reverse();
                }
                for (to, from) in bytes[at.index(len)..].iter_mut().zip(digits) {
                    *to = *from;
                }
            }
            Self::Varint { at, number } => {
                let at = at.index(len);
                bytes.splice(at..=at, varint(*number));
            }
            Self::Cut { at } => bytes.truncate(at.index(len)),
            Self::Remove { at, length } => {
                let at = at.index(len);
                bytes.drain(at..(at + length).min(len));
            }
            Self::Repeat { from, at, length } => {
                let from = from.index(len);
                let piece = bytes[from..(from + length).min(len)].to_vec();
                let at = at.index(len);
                bytes.splice(at..at, piece);
            }
            Self::Splice { sample, from, at } => {
                let other = sample.get(samples);
                bytes.truncate(at.index(len));
                bytes.extend_from_slice(&other[from.index(other.len().max(1)).min(other.len())..]);
            }
            Self::Insert { at, bytes: more } => {
                let at = at.index(len);
                bytes.splice(at..at, more.iter().copied());
            }
        }
    }
}

/// Seven bits a byte, the lowest first.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Oracle: the Protocol Buffers documentation's 150, and the longest number by hand.
    #[test]
    fn varints_are_protobufs() {
        assert_eq!(varint(150), [0x96, 0x01]);
        assert_eq!(varint(u64::MAX), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    proptest! {
        #[test]
        fn most_of_what_comes_is_close_to_a_sample(bytes in damaged(vec![vec![7; 100], Vec::new()])) {
            prop_assert!(bytes.len() <= 100 + 100 + 2048, "{} bytes", bytes.len());
        }
    }
}
