//! Answers to steps that are made: they come too late to be used, and early enough to be compared.

use std::collections::{BTreeMap, BTreeSet};

use super::case::{Case, Verdict};
use super::command::{Finding, LeaseId, Purpose, Work, WorkerId};

/// Steps whose parameters are kept for it, besides the current ones: their memory is bounded. What is later is not compared.
const STEPS: usize = 2;

/// Cases of committed steps that somebody still has in hand, or that are in dispute.
#[derive(Debug, Default)]
pub(super) struct Late(BTreeMap<u64, BTreeMap<Work, Case>>);

impl Late {
    /// Takes over what is in hand of `step`. Returns the steps that are given up for it.
    pub(super) fn add(&mut self, step: u64, cases: BTreeMap<Work, Case>) -> Vec<u64> {
        self.0.insert(step, cases);
        let mut dropped = Vec::new();
        while self.0.len() > STEPS {
            dropped.extend(self.0.pop_first().map(|(step, _)| step));
        }
        dropped
    }

    fn case_mut(&mut self, work: Work) -> Option<&mut Case> {
        let Work::Shards { step, .. } = work else { return None };
        self.0.get_mut(&step)?.get_mut(&work)
    }

    pub(super) fn case(&self, work: Work) -> Option<&Case> {
        let Work::Shards { step, .. } = work else { return None };
        self.0.get(&step)?.get(&work)
    }

    pub(super) fn has(&self, work: Work, lease: LeaseId) -> bool {
        self.case(work).is_some_and(|case| case.is_held_by(lease))
    }

    pub(super) fn due(&self) -> Vec<(Work, Purpose)> {
        self.0.values().flatten().filter_map(|(work, case)| Some((*work, case.due()?))).collect()
    }

    pub(super) fn hold(&mut self, work: Work, lease: LeaseId, worker: WorkerId) {
        if let Some(case) = self.case_mut(work) {
            case.hold(lease, worker);
        }
    }

    pub(super) fn lost(&mut self, work: Work, lease: LeaseId) {
        if let Some(case) = self.case_mut(work) {
            case.lost(lease);
        }
    }

    pub(super) fn refuse(&mut self, work: Work, lease: LeaseId) {
        if let Some(case) = self.case_mut(work) {
            case.refuse(lease, false);
        }
    }

    pub(super) fn testify(&mut self, work: Work, worker: WorkerId, lease: LeaseId, finding: Finding) -> Verdict {
        self.case_mut(work).map_or(Verdict::Same, |case| case.testify(worker, lease, finding))
    }

    /// Forgets what is settled. Returns the steps of which nothing is left.
    pub(super) fn settle(&mut self) -> Vec<u64> {
        for cases in self.0.values_mut() {
            cases.retain(|_, case| !(case.is_free() && case.is_settled()));
        }
        let done: BTreeSet<u64> = self.0.iter().filter(|(_, cases)| cases.is_empty()).map(|(step, _)| *step).collect();
        self.0.retain(|step, _| !done.contains(step));
        done.into_iter().collect()
    }
}
