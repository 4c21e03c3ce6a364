//! Steps that only their worker has made: what they counted is noted here as any other step's, and can be taken back.

use std::collections::BTreeMap;

use lockstep_proto::optimizer::whole::Made;
use lockstep_proto::wire::ShardOutcome;

use super::message::State;
use super::{Actor, Answer};
use crate::average::{Average, StepSum};
use crate::checkpoint::Epoch;
use crate::engine::WorkerId;
use crate::ledger::Ledger;

/// Everything that the steps since the parameters' version have changed, as it was then.
#[derive(Debug)]
pub(super) struct Mark {
    /// How far they came.
    reached: u64,
    images: u64,
    epoch: Epoch,
    ledger: Ledger,
    shards: BTreeMap<String, u64>,
}

/// The open step, made by its worker.
#[derive(Debug)]
pub(super) struct Elsewhere {
    outcomes: Vec<ShardOutcome>,
    made: Made,
    state: Option<Box<State>>,
}

impl Actor {
    /// Steps made, here or by a worker alone.
    pub(super) fn version(&self) -> u64 {
        self.mark.as_ref().map_or(self.parameters.version(), |mark| mark.reached)
    }

    /// Notes that the open step is made.
    pub(super) fn note_made(&mut self, worker: WorkerId, answer: Answer) {
        let Answer::Made { outcomes, penalty, norm, state, compute_us, encode_us, wait_us, .. } = answer else {
            return;
        };
        self.mark.get_or_insert_with(|| Mark {
            reached: self.parameters.version(),
            images: 0,
            epoch: self.epoch,
            ledger: self.ledger.clone(),
            shards: self.sessions.accepted.clone(),
        });
        self.credit(worker, &outcomes, compute_us, wait_us);
        self.meter.answered(worker, compute_us, encode_us);
        self.elsewhere = Some(Elsewhere { outcomes, made: Made { penalty, norm }, state });
    }

    /// Closes a step that its worker made; with what it came to, if that is here.
    pub(super) fn close_elsewhere(&mut self, Elsewhere { outcomes, made, state }: Elsewhere) -> (StepSum, Made) {
        let sum = StepSum::of(Vec::new(), outcomes);
        if let Some(mark) = &mut self.mark {
            (mark.reached, mark.images) = (mark.reached + 1, mark.images + u64::from(sum.count));
            if let Some(state) = state {
                let State { values, optimizer } = *state;
                self.parameters.replace(values, mark.reached);
                self.optimizer = optimizer;
                self.mark = None;
            }
        }
        (sum, made)
    }

    /// Forgets the steps since `version`, which the parameters have.
    pub(super) fn roll_back(&mut self, version: u64, shards: u32, reason: &str) {
        self.average = Average::new(self.run.reducer, self.plan.leaves(version), self.buffers.clone());
        self.accepted.clear();
        self.elsewhere = None;
        self.sessions.doubt_all();
        let Some(Mark { reached, images, epoch, ledger, shards: accepted }) = self.mark.take() else { return };
        tracing::info!(%reason, "back from step {reached} to {version}: only a worker had what came between");
        let counts = self.ledger.counts();
        (self.epoch, self.sessions.accepted) = (epoch, accepted);
        self.ledger = ledger.with_faults_of(counts);
        self.ledger.reissue(shards);
        self.ledger.recompute(images as u32);
        self.trace.truncate(version.saturating_sub(self.begun_at) as usize);
        self.meter.take_back(images);
    }
}
