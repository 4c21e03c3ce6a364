//! The generated messages and services, and the numbers that both sides of the wire share.

#[allow(
    clippy::all,
    clippy::unwrap_used,
    missing_docs,
    reason = "generated from lockstep/v1/lockstep.proto, where every field is commented"
)]
mod generated {
    tonic::include_proto!("lockstep.v1");
}

pub use generated::*;

/// The encoded .proto, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/lockstep.descriptors"));

/// Changes with every message that an older program would misread.
pub const PROTOCOL: u32 = 7;

/// Bytes in one part of a tensor: large enough that framing costs nothing, well below tonic's limit of 4 MiB a message,
/// and small enough that a sum can begin while the rest is under way.
pub const CHUNK_BYTES: usize = 1 << 18;

/// Bytes of a ring's name: as many as NCCL's ncclUniqueId has.
pub const RING_ID_BYTES: usize = 128;

/// HTTP/2 windows in bytes, both ways: the default of 64 KiB makes a bulk stream wait for an answer every 16 frames. Enough for a
/// gigabit over 16 ms; no more, because each worker may fill one.
pub const WINDOW_BYTES: u32 = 2 << 20;

/// Bytes in one HTTP/2 frame at most, both ways: a part of a tensor is one frame, not 17 of the default 16 KiB, each with its own
/// system call. No more, because a peer's word that a frame will have so many is enough to make room for them.
pub const FRAME_BYTES: u32 = 512 << 10;

/// Where a coordinator listens unless told otherwise: loopback, because peers are not authenticated.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7077";
