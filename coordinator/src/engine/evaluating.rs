//! One evaluation: which slices are free, held, done.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::command::Work;
use super::training::Grant;
use super::workers::Workers;

/// Slices in one worker's hands at once: the second hides the way there and back.
const DEPTH: usize = 2;

/// The slices of one evaluation.
#[derive(Debug)]
pub(super) struct Evaluating {
    version: u64,
    free: BTreeSet<u32>,
    missing: BTreeSet<u32>,
    failures: BTreeMap<u32, u32>,
}

impl Evaluating {
    pub(super) fn new(version: u64, slices: u32) -> Self {
        Self { version, free: (0..slices).collect(), missing: (0..slices).collect(), failures: BTreeMap::new() }
    }

    pub(super) fn free(&mut self, slice: u32) {
        self.free.insert(slice);
    }

    /// Counts `slice`. True if it was the last.
    pub(super) fn done(&mut self, slice: u32) -> bool {
        self.missing.remove(&slice);
        self.missing.is_empty()
    }

    /// Notes that `slice` could not be computed. True if it failed before.
    pub(super) fn failed(&mut self, slice: u32) -> bool {
        let count = self.failures.entry(slice).or_insert(0);
        *count += 1;
        *count > 1
    }

    /// Deals free slices round by round: everybody has one before anybody has two.
    pub(super) fn assign(&mut self, workers: &Workers) -> Vec<Grant> {
        let mut grants = Vec::new();
        for depth in 1..=DEPTH {
            for worker in workers.idle(depth) {
                let Some(slice) = self.free.pop_first() else { return grants };
                let work = Work::Slice { version: self.version, slice };
                grants.push((worker, work, Cow::Borrowed("the evaluation needs it")));
            }
        }
        grants
    }
}
