//! Steps that only their workers have made: what they counted is noted here as any other step's, and can be taken back.

use lockstep_proto::optimizer::whole::Made;
use lockstep_proto::wire::ShardOutcome;

use super::message::State;
use super::sessions::Credits;
use super::{Actor, Answer};
use crate::average::{Average, StepSum};
use crate::checkpoint::Epoch;
use crate::engine::WorkerId;
use crate::ledger::Ledger;
use crate::telemetry;
use crate::telemetry::format::count;

/// Everything that the steps since the parameters' version have changed, as it was then.
#[derive(Debug)]
pub(super) struct Mark {
    /// How far they came.
    reached: u64,
    images: u64,
    epoch: Epoch,
    ledger: Ledger,
    credits: Credits,
    rates: [u64; 3],
    told: Vec<Told>,
    means: Means,
}

/// Loss, accuracy and penalty of the training images as the summary has them: of the epoch that ended last, or at a checkpoint of the running one.
type Means = [Option<f64>; 3];

/// What was told of a step: its number, loss and accuracy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Told(u64, f64, f64);

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
        self.mark();
        self.credit(worker, &outcomes, compute_us, wait_us);
        self.meter.answered(worker, compute_us, encode_us);
        self.elsewhere = Some(Elsewhere { outcomes, made: Made { penalty, norm }, state });
    }

    /// The same of a rank's part of the step, which its ring made.
    pub(super) fn note_part_made(&mut self, worker: WorkerId, answer: Answer) {
        self.mark();
        let part = match answer {
            Answer::Made { version, outcomes, penalty, norm, state, compute_us, encode_us, wait_us, .. } => {
                self.elsewhere = Some(Elsewhere { outcomes: Vec::new(), made: Made { penalty, norm }, state });
                Answer::Part { version, values: None, digest: 0, outcomes, compute_us, encode_us, wait_us }
            }
            other => other,
        };
        self.add_part(worker, part);
    }

    /// Remembers how everything is before a step that is made elsewhere, if none is yet.
    fn mark(&mut self) {
        self.mark.get_or_insert_with(|| Mark {
            reached: self.parameters.version(),
            images: 0,
            epoch: self.epoch,
            ledger: self.ledger.clone(),
            credits: self.sessions.credits(),
            rates: self.meter.images(),
            told: Vec::new(),
            means: [self.summary.train_loss, self.summary.train_accuracy, self.summary.train_penalty],
        });
    }

    /// Closes a step that its worker made; with what it came to, if that is here.
    /// `parts`: what the parts of a ring counted.
    pub(super) fn close_elsewhere(&mut self, elsewhere: Elsewhere, parts: Average) -> (StepSum, Made) {
        let Elsewhere { mut outcomes, made, state } = elsewhere;
        outcomes.extend(parts.into_outcomes());
        let sum = StepSum::of(Vec::new(), outcomes);
        if let Some(mark) = &mut self.mark {
            (mark.reached, mark.images) = (mark.reached + 1, mark.images + u64::from(sum.count));
            if let Some(state) = state {
                let State { values, optimizer, .. } = *state;
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
        let Some(Mark { reached, images, epoch, ledger, credits, rates, told, means }) = self.mark.take() else {
            return;
        };
        let steps = count(reached - version, "step");
        let who = if self.plan.ring { "a ring" } else { "a worker" };
        let text = format!("back to step {version}: only {who} had the {steps} after it ({reason})");
        self.telemetry.emit(telemetry::Event::Notice { text });
        let counts = self.ledger.counts();
        self.epoch = epoch;
        [self.summary.train_loss, self.summary.train_accuracy, self.summary.train_penalty] = means;
        self.sessions.restore(credits);
        self.ledger = ledger.with_faults_of(counts);
        self.ledger.reissue(shards);
        self.ledger.recompute(images as u32);
        self.trace.truncate(version.saturating_sub(self.begun_at) as usize);
        self.meter.take_back(rates);
        // some of them may be there for the third time
        self.told = told.into_iter().chain(std::mem::take(&mut self.told)).collect();
    }

    /// Whether this was told of the step, which is made again then. Who computes alike comes to the same.
    pub(super) fn is_told(&mut self, step: u64, loss: f64, accuracy: f64) -> bool {
        let now = Told(step, loss, accuracy);
        if let Some(mark) = &mut self.mark {
            mark.told.push(now);
        }
        if self.told.front().is_none_or(|Told(told, ..)| *told != step) {
            return false;
        }
        let Some(before) = self.told.pop_front() else { return false };
        if before != now && self.run.recipe.deterministic {
            // nor were the means of its epoch what they are now
            self.epochs_told = self.epochs_told.min(self.plan.epoch(step - 1));
            let Told(_, was, _) = before;
            self.warn(format!(
                "step {step} has the loss {loss} now that it is made again, and had {was}: one of both was computed wrong"
            ));
        }
        // without the promise it comes out a little otherwise, and is not told twice either
        before == now || !self.run.recipe.deterministic
    }
}
