//! The work of one phase, a step's shards or an evaluation's slices: what is free, in hand, answered.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lockstep_proto::tree::{self, Node};

use super::case::{Case, Verdict};
use super::command::{Finding, LeaseId, Purpose, Work, WorkerId};

/// What a pool's units are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Shards of a step: neighbours are leased together, as nodes of the tree.
    Shards { step: u64 },
    /// Slices of the evaluation of a version, leased one by one.
    Slices { version: u64 },
}

/// Work that is not finished.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) kind: Kind,
    units: u32,
    free: BTreeSet<u32>,
    /// Units without an answer that stands.
    missing: u32,
    cases: BTreeMap<Work, Case>,
    /// Something that was in hand became free again.
    again: bool,
}

impl Pool {
    pub(super) fn new(kind: Kind, units: u32) -> Self {
        Self { kind, units, free: (0..units).collect(), missing: units, cases: BTreeMap::new(), again: false }
    }

    /// The same work from the beginning.
    pub(super) fn afresh(&self) -> Self {
        Self { again: true, ..Self::new(self.kind, self.units) }
    }

    /// The units of `work`.
    fn covers(&self, work: Work) -> Range<u32> {
        match work {
            Work::Shards { node, .. } => node.covers(self.units),
            Work::Part { first, end, .. } => first..end,
            Work::Slice { slice, .. } => slice..slice + 1,
        }
    }

    pub(super) fn len(&self, work: Work) -> u32 {
        self.covers(work).len() as u32
    }

    /// Whether no more than so many units are without an answer that stands.
    pub(super) fn lacks_at_most(&self, units: u32) -> bool {
        self.missing <= units
    }

    /// How many units are free.
    pub(super) fn free(&self) -> usize {
        self.free.len()
    }

    /// What was given out is free again.
    pub(super) fn begin_again(&mut self) {
        self.again = true;
    }

    /// Why the free units are given out.
    pub(super) fn purpose(&self) -> Purpose {
        if self.again { Purpose::Again } else { Purpose::First }
    }

    /// Takes free units: as many for each part as `shares` says, in blocks of neighbours.
    pub(super) fn take(&mut self, shares: &[usize]) -> Vec<Vec<Work>> {
        let free: Vec<u32> = self.free.iter().copied().take(shares.iter().sum()).collect();
        self.free.retain(|unit| !free.contains(unit));
        match self.kind {
            Kind::Shards { step } => {
                let work = |node: Node| Work::Shards { step, node };
                let blocks = tree::cut(&free, shares, self.units);
                blocks.into_iter().map(|nodes| nodes.into_iter().map(work).collect()).collect()
            }
            Kind::Slices { version } => {
                let mut slices = free.into_iter().map(|slice| Work::Slice { version, slice });
                shares.iter().map(|share| slices.by_ref().take(*share).collect()).collect()
            }
        }
    }

    /// Takes all units that are free.
    pub(super) fn take_all(&mut self) {
        self.free.clear();
    }

    /// Notes that `lease` of `work` is in a worker's hands.
    pub(super) fn hold(&mut self, work: Work, lease: LeaseId, worker: WorkerId, wanted: usize) {
        self.cases.entry(work).or_insert_with(|| Case::new(wanted)).hold(lease, worker);
    }

    pub(super) fn case(&self, work: Work) -> Option<&Case> {
        self.cases.get(&work)
    }

    pub(super) fn has(&self, work: Work, lease: LeaseId) -> bool {
        self.cases.get(&work).is_some_and(|case| case.is_held_by(lease))
    }

    /// Work for which one more should be asked, and why.
    pub(super) fn due(&self) -> Vec<(Work, Purpose)> {
        self.cases.iter().filter_map(|(work, case)| Some((*work, case.due()?))).collect()
    }

    /// Work on which those who are here can't be brought together.
    pub(super) fn needs_somebody_new(&self) -> Option<Work> {
        self.cases.iter().find(|(_, case)| case.needs_somebody_new()).map(|(work, _)| *work)
    }

    /// Work that one worker has in hand and that nobody answered.
    pub(super) fn held_once(&self, work: Work) -> bool {
        self.cases.get(&work).is_some_and(Case::is_held_once)
    }

    /// The holder of `lease` is gone. Returns how many units have to be computed by somebody else.
    pub(super) fn lost(&mut self, work: Work, lease: LeaseId) -> u32 {
        let cover = self.covers(work);
        let Some(case) = self.cases.get_mut(&work).filter(|case| case.is_held_by(lease)) else { return 0 };
        case.lost(lease);
        if case.is_settled() || !case.is_free() {
            return 0;
        }
        if case.is_blank() {
            self.cases.remove(&work);
            self.free.extend(cover.clone());
            self.again = true;
        }
        cover.len() as u32
    }

    /// The answer to `lease` can't be used. Returns how often somebody said that `work` can't be computed.
    pub(super) fn refuse(&mut self, work: Work, lease: LeaseId, failed: bool) -> u32 {
        self.cases.get_mut(&work).map_or(0, |case| case.refuse(lease, failed))
    }

    /// Takes in an answer to a lease that is here.
    pub(super) fn testify(&mut self, work: Work, worker: WorkerId, lease: LeaseId, finding: Finding) -> Verdict {
        let units = self.len(work);
        let Some(case) = self.cases.get_mut(&work) else { return Verdict::Same };
        let before = case.is_settled();
        let verdict = case.testify(worker, lease, finding);
        match (before, case.is_settled()) {
            (false, true) => self.missing -= units,
            (true, false) => self.missing += units,
            _ => {}
        }
        verdict
    }

    /// Whether an answer of `worker` was used.
    pub(super) fn used(&self, worker: WorkerId) -> bool {
        self.cases.values().any(|case| case.source() == Some(worker))
    }

    /// What is still in somebody's hands although it is settled.
    pub(super) fn into_late(self) -> BTreeMap<Work, Case> {
        self.cases.into_iter().filter(|(_, case)| !case.is_free()).collect()
    }
}
