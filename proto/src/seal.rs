//! A checksum of every message: HTTP/2 has none, and TCP's 16 bits let one damaged segment in 65,536 through.
//!
//! A message's last field is number 15, a `fixed64`: XXH3-64 of all bytes before it. Readers that do not know it pass it over
//! as protobuf has them do, so that any gRPC client can call; a stream that was sealed once must stay so.

use std::marker::PhantomData;

use bytes::{Buf as _, BufMut as _};
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use xxhash_rust::xxh3::xxh3_64;

/// Field 15 with wire type 1 (eight bytes): the largest field number whose key is a single byte.
const KEY: u8 = (15 << 3) | 1;

/// The key and the checksum.
pub(crate) const SEAL_BYTES: usize = 1 + 8;

/// The last field of a message whose bytes before it have this XXH3-64.
pub(crate) fn field(checksum: u64) -> [u8; SEAL_BYTES] {
    let mut field = [KEY; SEAL_BYTES];
    field[1..].copy_from_slice(&checksum.to_le_bytes());
    field
}

/// Protobuf with a seal at the end, for the generated client and server.
#[derive(Debug)]
pub struct SealedCodec<T, U>(PhantomData<(T, U)>);

/// Writes messages and their seals.
#[derive(Debug)]
pub struct Sealer<T> {
    /// Kept from message to message: a fresh vector for each part of a tensor costs page faults.
    bytes: Vec<u8>,
    message: PhantomData<T>,
}

/// Checks seals and reads messages.
#[derive(Debug)]
pub struct Opener<U> {
    /// A sealed message came on this stream: one without a seal is a damaged one, not a simple client's.
    sealed: bool,
    message: PhantomData<U>,
}

impl<T, U> Default for SealedCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Send + 'static, U: Message + Default + Send + 'static> Codec for SealedCodec<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Sealer<T>;
    type Decoder = Opener<U>;

    fn encoder(&mut self) -> Sealer<T> {
        Sealer { bytes: Vec::new(), message: PhantomData }
    }

    fn decoder(&mut self) -> Opener<U> {
        Opener { sealed: false, message: PhantomData }
    }
}

impl<T: Message> Encoder for Sealer<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // tonic's buffer can be written and not read, so the bytes are made beside it
        self.bytes.clear();
        message
            .encode(&mut self.bytes)
            .map_err(|error| Status::internal(format!("a message can't be written: {error}")))?;
        out.reserve(self.bytes.len() + SEAL_BYTES);
        out.put_slice(&self.bytes);
        out.put_slice(&field(xxh3_64(&self.bytes)));
        Ok(())
    }
}

impl<U: Message + Default> Decoder for Opener<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let mut bytes = source.copy_to_bytes(source.remaining());
        match check(&bytes).map_err(Status::data_loss)? {
            Some(length) => {
                bytes.truncate(length);
                self.sealed = true;
            }
            None if self.sealed => return Err(Status::data_loss("a message lost its checksum on the way")),
            None => {}
        }
        let message = U::decode(bytes);
        message.map(Some).map_err(|error| Status::data_loss(format!("a message can't be read: {error}")))
    }
}

/// The length of the message before its seal; none if it has no seal.
pub(crate) fn check(bytes: &[u8]) -> Result<Option<usize>, String> {
    if !is_sealed(bytes) {
        return Ok(None);
    }
    let (message, mut seal) = bytes.split_at(bytes.len() - SEAL_BYTES);
    seal.advance(1);
    let (found, expected) = (xxh3_64(message), seal.get_u64_le());
    if found != expected {
        return Err(format!(
            "a message changed on the way: its checksum is {found:016x}, but the sender's is {expected:016x}"
        ));
    }
    Ok(Some(message.len()))
}

/// Whether the last field is a seal. The fields are walked, because data may look like one.
fn is_sealed(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while rest.len() > SEAL_BYTES {
        let skipped = decode_key(&mut rest)
            .and_then(|(number, kind)| skip_field(kind, number, &mut rest, DecodeContext::default()));
        if skipped.is_err() {
            return false;
        }
    }
    rest.len() == SEAL_BYTES && rest[0] == KEY
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{FromWorker, Gradient, from_worker};

    /// What [`Sealer`] puts on the wire.
    fn sealed(message: &FromWorker) -> Vec<u8> {
        let mut bytes = message.encode_to_vec();
        bytes.extend(field(xxh3_64(&bytes)));
        bytes
    }

    fn message() -> FromWorker {
        // the data end as a seal begins
        let mut data = vec![7; 40];
        data.extend([KEY, 1, 2, 3, 4, 5, 6, 7, 8]);
        let gradient = Gradient { lease: 3, data: data.into(), ..Gradient::default() };
        FromWorker { message: Some(from_worker::Message::Gradient(gradient)) }
    }

    #[test]
    fn a_reader_that_knows_no_seals_reads_the_same_message() {
        assert_eq!(FromWorker::decode(&sealed(&message())[..]).expect("protobuf"), message());
    }

    #[test]
    fn data_that_look_like_a_seal_are_none() {
        assert_eq!(check(&message().encode_to_vec()), Ok(None));
        let whole = sealed(&message());
        assert_eq!(check(&whole), Ok(Some(whole.len() - SEAL_BYTES)));
    }

    #[test]
    fn no_flipped_bit_is_taken_for_a_whole_message() {
        let whole = sealed(&message());
        for bit in 0..whole.len() * 8 {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            // without a seal it is refused on a stream that had one before
            assert!(!matches!(check(&broken), Ok(Some(_))), "bit {bit}");
        }
    }
}
