//! How much of this process a peer may have, before and after it has shown that it is a worker. docs/faults.md adds it up.

use std::time::Duration;

/// TCP connections at once: two for each of [`SESSIONS`] and 128 for guests. With the memory file of each session that is
/// below the 1,024 open files that a process may have on most systems, or checkpoints could not be written.
pub(super) const CONNECTIONS: usize = 640;

/// Workers at once. One coordinator's network link is full long before.
pub(super) const SESSIONS: usize = 256;

/// Streams that have not said Hello. A worker says it with its first packet, so this many at one instant are a flood.
pub(super) const KNOCKING: usize = 64;

/// Calls whose message is still on its way in. Their messages are small and come in one packet.
pub(super) const CALLS: usize = 256;

/// Workers that fetch the images at once: each has a part or two in our buffers.
pub(super) const FETCHES: usize = 256;

/// Calls at once on one connection: a worker has two, a tool that asks for reflection a few.
pub(super) const STREAMS: u32 = 16;

/// Bytes in a message to us: a part of a tensor is 256 KiB, and its summary has 40 bytes for each of the node's shards.
pub(super) const MESSAGE_BYTES: usize = 512 << 10;

/// Bytes in a message to the health and reflection services: the name of a service.
pub(super) const SMALL_MESSAGE_BYTES: usize = 4 << 10;

/// Bytes in what a worker calls itself and its build: both are kept, shown and logged.
pub(super) const NAME_BYTES: usize = 160;

/// Characters of a reason that a peer gives: it is shown and logged.
pub(super) const REASON_CHARS: usize = 1000;

/// A connection that does not belong to a worker and calls nothing for so long goes. A heartbeat comes every 500 ms.
pub(super) const QUIET: Duration = Duration::from_secs(10);

/// A peer that opens a stream and says nothing holds a place: not for long.
pub(super) const HELLO: Duration = Duration::from_secs(5);

/// Between Welcome and Ready a worker builds its model and fetches the images: 186 MB over 2 Mbit/s.
pub(super) const READY: Duration = Duration::from_secs(15 * 60);

/// How long a peer may take to end its stream after we have ended ours.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// Answers that a session may give to questions that nobody asked (or not any more): a worker whose lease ran out sends a
/// late one, one that goes on is broken.
pub(super) const UNASKED: u32 = 8;

/// Words about rings between two answers: three for each ring, and rings follow each other without a step only while others come and go.
pub(super) const RING_WORDS: u32 = 256;

/// Answers while nothing that we send is taken. A worker has fewer leases than that, so it can't know more of them; each
/// would bring another version of the parameters into its queue.
pub(super) const UNREAD: u32 = 8;
