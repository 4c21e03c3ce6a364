//! What a worker needs to make optimizer steps itself: the optimizer's state, as it travels.

use lockstep_proto::optimizer::Optimizer;
use lockstep_proto::tensors;
use lockstep_proto::wire::{OptimizerState, ToWorker, to_worker};

/// The messages that bring a worker that has the parameters of `version` the state that goes with them.
pub fn messages(optimizer: &Optimizer, version: u64) -> Vec<ToWorker> {
    let steps = optimizer.steps();
    let of = |part: OptimizerState| {
        let part = OptimizerState { version, steps, ..part };
        ToWorker { message: Some(to_worker::Message::OptimizerState(part)) }
    };
    let vectors = optimizer.state();
    // before the first step there is nothing that a worker does not have
    if steps == 0 || vectors.is_empty() {
        return vec![of(OptimizerState::default())];
    }
    let mut messages = Vec::new();
    for (name, values) in vectors {
        let bytes = tensors::into_bytes(values.to_vec());
        let digest = tensors::digest(&bytes);
        messages.extend(tensors::parts(bytes.len()).map(|part| {
            let (name, offset) = (name.to_owned(), (part.start / 4) as u64);
            of(OptimizerState { name, offset, data: bytes.slice(part), digest, ..OptimizerState::default() })
        }));
    }
    messages
}
