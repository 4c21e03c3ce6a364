//! The records file on its way to a worker: slices of one shared buffer.

use bytes::Bytes;
use lockstep_proto::tensors;
use lockstep_proto::wire::RecordsChunk;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Iter;
use tonic::Status;

type Items = Box<dyn Iterator<Item = Result<RecordsChunk, Status>> + Send>;

/// The parts in order. Flow control is HTTP/2's: a slow reader costs nothing but its window.
pub(super) type Parts = Iter<Items>;

/// The parts of `records`; `permit` is given back with the last of them.
pub(super) fn parts(records: Bytes, permit: OwnedSemaphorePermit) -> Parts {
    let items = tensors::parts(records.len()).map(move |part| {
        let _held = &permit;
        Ok(RecordsChunk { offset: part.start as u64, data: records.slice(part) })
    });
    tokio_stream::iter(Box::new(items) as Items)
}
