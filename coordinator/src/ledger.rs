//! What became of the training examples, counted from what was summed, not from what was planned.

use serde::{Deserialize, Serialize};

use crate::engine::Purpose;
use crate::telemetry::Ledger as Counts;

/// Counts of the run, and which examples the running epoch has used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    counts: Counts,
    /// How often each example of the training set was used in the running epoch (255 means that or more).
    #[serde(skip)]
    epoch: Vec<u8>,
}

impl Ledger {
    /// An empty ledger for a training set of `examples`.
    #[must_use]
    pub fn new(examples: usize) -> Self {
        Self { counts: Counts::default(), epoch: vec![0; examples] }
    }

    /// The ledger that a checkpoint holds.
    #[must_use]
    pub fn restore(counts: Counts, epoch: Vec<u8>) -> Self {
        Self { counts, epoch }
    }

    /// Notes that these examples are in a committed step.
    pub fn commit(&mut self, examples: &[u32]) {
        for example in examples {
            let Some(times) = self.epoch.get_mut(*example as usize) else { continue };
            self.counts.used += 1;
            self.counts.repeated += u64::from(*times > 0);
            *times = times.saturating_add(1);
        }
    }

    /// This ledger, with what went wrong until `now`: uses can be taken back, faults can't.
    #[must_use]
    pub fn with_faults_of(self, now: Counts) -> Self {
        let Counts { used, repeated, lost, .. } = self.counts;
        Self { counts: Counts { used, repeated, lost, ..now }, ..self }
    }

    /// Ends the epoch: what it should have used and did not is lost.
    pub fn end_epoch(&mut self, due: &[u32]) {
        let unused = |example: &&u32| self.epoch.get(**example as usize).is_none_or(|times| *times == 0);
        self.counts.lost += due.iter().filter(unused).count() as u64;
        self.epoch.fill(0);
    }

    /// Notes shards that were taken from a lost worker.
    pub fn reissue(&mut self, shards: u32) {
        self.counts.reissued += u64::from(shards);
    }

    /// Notes examples whose gradient came a second time.
    pub fn recompute(&mut self, examples: u32) {
        self.counts.recomputed += u64::from(examples);
    }

    /// Notes shards that were given to a second worker, and why.
    pub fn second(&mut self, purpose: Purpose, shards: u32) {
        match purpose {
            Purpose::Copy => self.counts.copied += u64::from(shards),
            Purpose::Audit => self.counts.audited += u64::from(shards),
            Purpose::First | Purpose::Again | Purpose::Decide => {}
        }
    }

    /// Notes an answer that can't be used.
    pub fn refuse(&mut self) {
        self.counts.refused += 1;
    }

    /// Notes two answers that differ.
    pub fn dispute(&mut self) {
        self.counts.disputed += 1;
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Uses of each example in the running epoch, for a checkpoint.
    #[must_use]
    pub fn epoch(&self) -> &[u8] {
        &self.epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_used_twice_and_what_is_not_used() {
        let mut ledger = Ledger::new(5);
        ledger.commit(&[0, 1]);
        ledger.commit(&[1, 3]);
        ledger.end_epoch(&[0, 1, 2, 3]);
        ledger.commit(&[1]);
        let counts = ledger.counts();
        assert_eq!((counts.used, counts.repeated, counts.lost), (5, 1, 1));
    }
}
