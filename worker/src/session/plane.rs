//! Memory shared with a coordinator on this host, if it offers any and we can map it.

use lockstep_proto::shared::Shared;
use lockstep_proto::wire::SharedMemory;

/// Both regions of one session.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) parameters: Shared,
    pub(super) gradients: Shared,
}

impl Plane {
    /// Maps what was offered. None: another host, user or container, or another length; tensors travel over gRPC then.
    pub(super) fn open(offer: &SharedMemory, values: usize) -> Option<Self> {
        let (parameters, gradients) = (offer.parameters.as_ref()?, offer.gradients.as_ref()?);
        if [parameters, gradients].iter().any(|region| region.values != values as u64) {
            return None;
        }
        let opened = Shared::open(parameters)
            .and_then(|parameters| Shared::open(gradients).map(|gradients| Self { parameters, gradients }));
        opened.inspect_err(|error| tracing::debug!("no shared memory with the coordinator: {error}")).ok()
    }
}
