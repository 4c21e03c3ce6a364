//! TFRecord framing: length (u64), masked CRC of the length, payload, masked CRC of the payload; all little-endian.
//!
//! Source: <https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details>.

use std::io::{self, Read};

use crc::{CRC_32_ISCSI, Crc, Table};

/// CRC-32C, the checksum of the format.
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// More than any record of ours by far. A length is believed up to here, so that a damaged file can't ask for much memory.
const PAYLOAD_MAX: u64 = 64 << 20;

/// The format rotates the checksum and adds a constant, since a CRC over data that holds its own CRC is weak.
fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    CRC.checksum(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// A payload as it stands in a file.
pub(super) fn frame(payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length), payload, &masked_crc(payload)].concat()
}

/// The next payload.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Payload(Vec<u8>),
    End,
    /// The file ends within a record, or a checksum is wrong: nothing behind it can be found.
    Broken(&'static str),
}

/// Reads one record.
///
/// # Errors
/// Those of the reader; a damaged record is [`Next::Broken`].
pub(super) fn read(file: &mut impl Read) -> io::Result<Next> {
    let mut head = Vec::new();
    file.take(12).read_to_end(&mut head)?;
    let Some((length, checksum)) = head.split_first_chunk::<8>().filter(|(_, checksum)| checksum.len() == 4) else {
        return Ok(if head.is_empty() { Next::End } else { Next::Broken("torn") });
    };
    if masked_crc(length) != checksum {
        return Ok(Next::Broken("wrong checksum of the length"));
    }
    let length = u64::from_le_bytes(*length);
    if length > PAYLOAD_MAX {
        return Ok(Next::Broken("longer than 64 MiB"));
    }
    let mut payload = Vec::new();
    file.take(length + 4).read_to_end(&mut payload)?;
    let Some(at) = payload.len().checked_sub(4).filter(|&at| at as u64 == length) else {
        return Ok(Next::Broken("torn"));
    };
    let checksum = payload.split_off(at);
    if masked_crc(&payload) != checksum[..] {
        return Ok(Next::Broken("wrong checksum"));
    }
    Ok(Next::Payload(payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRC-32C a bit at a time, from its reflected polynomial: independent of the tables.
    fn plain_crc(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
        })
    }

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(CRC.checksum(b"123456789"), 0xe306_9283, "check value of the CRC catalogue");
        let bytes: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        assert_eq!(CRC.checksum(&bytes), plain_crc(&bytes));
    }

    #[test]
    fn reads_what_it_frames() {
        let file = [frame(b"one"), frame(b""), frame(&[7; 5000])].concat();
        let mut file = &file[..];
        assert_eq!(read(&mut file).expect("read"), Next::Payload(b"one".to_vec()));
        assert_eq!(read(&mut file).expect("read"), Next::Payload(Vec::new()));
        assert_eq!(read(&mut file).expect("read"), Next::Payload(vec![7; 5000]));
        assert_eq!(read(&mut file).expect("read"), Next::End);
    }

    #[test]
    fn every_torn_length_and_every_flipped_bit_is_seen() {
        let whole = frame(b"payload");
        for length in 1..whole.len() {
            assert_eq!(read(&mut &whole[..length]).expect("read"), Next::Broken("torn"), "{length} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(read(&mut &flipped[..]).expect("read"), Next::Broken(_)), "bit {bit}");
        }
    }

    #[test]
    fn a_huge_length_takes_no_memory() {
        let length = u64::MAX.to_le_bytes();
        let file = [&length[..], &masked_crc(&length), &[0; 64]].concat();
        assert_eq!(read(&mut &file[..]).expect("read"), Next::Broken("longer than 64 MiB"));
    }
}
