//! The faster way for tensors between this process and workers of the same host: memory that both map.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;

use lockstep_proto::recipe::Wire;
use lockstep_proto::shared::Shared;
use lockstep_proto::wire::{SharedMemory, SharedRegion};

/// Versions of the parameters that are readable at once: the one in use and the one being written. A worker that is two
/// steps late finds another checksum than it was told, and joins anew.
const VERSIONS: usize = 2;

/// Gradients that a worker may have under way, as many as steps in a lone worker's hands: with one more it falls back to gRPC.
const GRADIENTS: usize = 4;

/// Parameters of a version, as they are or rounded.
pub type Edition = (u64, Wire);

/// What is shared with everybody, and how to share more with each worker.
#[derive(Debug)]
pub struct Plane {
    values: usize,
    /// None: tensors travel over gRPC alone.
    parameters: Option<(Shared, SharedRegion)>,
    /// What lies in the slots, and its checksum.
    published: [Option<(Edition, u64)>; VERSIONS],
}

impl Plane {
    /// For vectors of `values`. Without memory to share there is none, and nothing is lost but time.
    #[must_use]
    pub fn new(values: usize, wanted: bool) -> Self {
        let create = || Shared::create(values, VERSIONS, nonce());
        let parameters = wanted.then(create).and_then(|created| {
            created.inspect_err(|error| tracing::warn!("no shared memory, tensors travel over gRPC: {error}")).ok()
        });
        Self { values, parameters, published: [None; VERSIONS] }
    }

    /// Memory for one more worker: our side of it, and what to tell the worker.
    #[must_use]
    pub fn offer(&self) -> Option<(Arc<Shared>, SharedMemory)> {
        let (_, parameters) = self.parameters.as_ref()?;
        let (ours, gradients) = Shared::create(self.values, GRADIENTS, nonce()).ok()?;
        Some((Arc::new(ours), SharedMemory { parameters: Some(parameters.clone()), gradients: Some(gradients) }))
    }

    /// Lays down an edition of the parameters, once; the slot and the checksum.
    pub fn publish(&mut self, edition: Edition, values: &[f32]) -> Option<(u32, u64)> {
        let (shared, _) = self.parameters.as_ref()?;
        let slot = (edition.0 % VERSIONS as u64) as usize;
        let digest = match self.published[slot] {
            Some((there, digest)) if there == edition => digest,
            _ => shared.write(slot, values),
        };
        self.published[slot] = Some((edition, digest));
        Some((slot as u32, digest))
    }
}

/// Tells one region from every other: the standard library's hash keys are random.
fn nonce() -> [u8; 16] {
    let half = || RandomState::new().build_hasher().finish().to_le_bytes();
    let mut nonce = [0; 16];
    nonce[..8].copy_from_slice(&half());
    nonce[8..].copy_from_slice(&half());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_versions_are_readable_at_once() {
        let mut plane = Plane::new(3, true);
        let (_, offer) = plane.offer().expect("memory");
        let theirs = Shared::open(&offer.parameters.expect("offered")).expect("opened");
        let (four, five) = ([4.0; 3], [5.0; 3]);
        let (slot4, digest4) = plane.publish((4, Wire::F32), &four).expect("published");
        let (slot5, digest5) = plane.publish((5, Wire::F32), &five).expect("published");
        assert_eq!(plane.publish((4, Wire::F32), &five), Some((slot4, digest4)), "once a version");
        let mut read = [0.0; 3];
        assert_eq!((theirs.read(slot4 as usize, &mut read).map(|found| found.digest), read), (Some(digest4), four));
        assert_eq!((theirs.read(slot5 as usize, &mut read).map(|found| found.digest), read), (Some(digest5), five));
    }

    #[test]
    fn nothing_is_offered_where_grpc_was_asked_for() {
        let mut plane = Plane::new(3, false);
        assert!(plane.offer().is_none() && plane.publish((0, Wire::F32), &[0.0; 3]).is_none());
    }
}
