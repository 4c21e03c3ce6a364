//! Rings of GPUs that sum among themselves: formed, dissolved, and their parts of a step.

use lockstep_proto::wire::{DissolveRing, FormRing, to_worker};

use super::{Actor, Answer};
use crate::engine::WorkerId;
use crate::telemetry;
use crate::telemetry::format::count;

impl Actor {
    pub(super) fn form(&mut self, worker: WorkerId, form: FormRing) {
        if form.rank == 0 {
            let ranks = count(u64::from(form.size), "GPU");
            let text = format!("NCCL ring {} of {ranks} sums the gradients", form.generation);
            self.telemetry.emit(telemetry::Event::Notice { text });
        }
        if let Some(session) = self.sessions.get(worker) {
            session.send(to_worker::Message::FormRing(form));
        }
    }

    pub(super) fn dissolve(&mut self, generation: u64, members: &[WorkerId], reissued: u32, reason: &str) {
        self.ledger.reissue(reissued);
        tracing::debug!(generation, reissued, %reason, "ring dissolved");
        // they may have made a step that nobody knows of
        members.iter().for_each(|worker| self.sessions.doubt(*worker));
        for session in members.iter().filter_map(|worker| self.sessions.get(*worker)) {
            session.send(to_worker::Message::DissolveRing(DissolveRing { generation }));
        }
    }

    pub(super) fn add_part(&mut self, worker: WorkerId, answer: Answer) {
        let Answer::Part { values, outcomes, compute_us, encode_us, wait_us, .. } = answer else { return };
        self.credit(worker, &outcomes, compute_us, wait_us);
        self.meter.answered(worker, compute_us, encode_us);
        self.average.add_part(values, outcomes);
    }
}
