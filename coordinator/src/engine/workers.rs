//! Who is there, when each was last heard of, and what each holds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::command::{LeaseId, WorkerId};
use super::pace::OwnPace;

/// One live worker.
#[derive(Debug)]
pub(super) struct WorkerState {
    last_heard: Duration,
    /// It gets nothing more.
    leaving: bool,
    /// It can make the optimizer step itself.
    makes_steps: bool,
    pub(super) leases: BTreeSet<LeaseId>,
    pace: OwnPace,
    /// Refused answers since the last one that was used.
    strikes: u32,
}

/// The live workers by number: order of joining.
#[derive(Debug, Default)]
pub(super) struct Workers(BTreeMap<WorkerId, WorkerState>);

impl Workers {
    pub(super) fn join(&mut self, worker: WorkerId, makes_steps: bool, now: Duration) {
        self.0.entry(worker).or_insert(WorkerState {
            last_heard: now,
            leaving: false,
            makes_steps,
            leases: BTreeSet::new(),
            pace: OwnPace::default(),
            strikes: 0,
        });
    }

    pub(super) fn leaving(&mut self, worker: WorkerId) {
        if let Some(state) = self.0.get_mut(&worker) {
            state.leaving = true;
        }
    }

    /// Workers that want to go and have nothing in hand.
    pub(super) fn gone(&self) -> Vec<WorkerId> {
        let done = |state: &WorkerState| state.leaving && state.leases.is_empty();
        self.0.iter().filter(|(_, state)| done(state)).map(|(worker, _)| *worker).collect()
    }

    pub(super) fn leave(&mut self, worker: WorkerId) -> Option<WorkerState> {
        self.0.remove(&worker)
    }

    pub(super) fn beat(&mut self, worker: WorkerId, now: Duration) {
        if let Some(state) = self.0.get_mut(&worker) {
            state.last_heard = now;
        }
    }

    /// Counts everybody as heard of `gap` later than they were.
    pub(super) fn forgive(&mut self, gap: Duration) {
        self.0.values_mut().for_each(|state| state.last_heard += gap);
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&WorkerState> {
        self.0.get(&worker)
    }

    /// Whether this worker can make the optimizer step itself.
    pub(super) fn makes_steps(&self, worker: WorkerId) -> bool {
        self.0.get(&worker).is_some_and(|state| state.makes_steps)
    }

    /// It can't, as it turned out.
    pub(super) fn makes_no_steps(&mut self, worker: WorkerId) {
        if let Some(state) = self.0.get_mut(&worker) {
            state.makes_steps = false;
        }
    }

    pub(super) fn hold(&mut self, worker: WorkerId, lease: LeaseId) {
        if let Some(state) = self.0.get_mut(&worker) {
            state.leases.insert(lease);
        }
    }

    pub(super) fn release(&mut self, worker: WorkerId, lease: LeaseId) {
        if let Some(state) = self.0.get_mut(&worker) {
            state.leases.remove(&lease);
        }
    }

    /// Workers with fewer than `most` leases.
    pub(super) fn idle(&self, most: usize) -> Vec<WorkerId> {
        let idle = |state: &WorkerState| !state.leaving && state.leases.len() < most;
        self.0.iter().filter(|(_, state)| idle(state)).map(|(worker, _)| *worker).collect()
    }

    pub(super) fn anybody_idle(&self) -> bool {
        self.0.values().any(|state| !state.leaving && state.leases.is_empty())
    }

    /// Workers that may be given work, now or later.
    pub(super) fn staying(&self) -> Vec<WorkerId> {
        self.0.iter().filter(|(_, state)| !state.leaving).map(|(worker, _)| *worker).collect()
    }

    /// A worker took so long for so many shards.
    pub(super) fn took(&mut self, worker: WorkerId, took: Duration, shards: u32) {
        if let Some(state) = self.0.get_mut(&worker) {
            state.pace.took(took, shards);
        }
    }

    /// A worker was too slow to be given anything.
    pub(super) fn fade(&mut self, worker: WorkerId) {
        if let Some(state) = self.0.get_mut(&worker) {
            state.pace.fade();
        }
    }

    /// Seconds a shard.
    pub(super) fn pace(&self, worker: WorkerId) -> Option<f64> {
        self.0.get(&worker)?.pace.seconds()
    }

    /// A worker's answer was good.
    pub(super) fn clear(&mut self, worker: WorkerId) {
        if let Some(state) = self.0.get_mut(&worker) {
            state.strikes = 0;
        }
    }

    /// A worker's answer was refused; returns how many were in a row.
    pub(super) fn strike(&mut self, worker: WorkerId) -> u32 {
        self.0.get_mut(&worker).map_or(0, |state| {
            state.strikes += 1;
            state.strikes
        })
    }

    /// Workers that were not heard of for `timeout`.
    pub(super) fn silent(&self, now: Duration, timeout: Duration) -> Vec<WorkerId> {
        let late = |state: &WorkerState| now.saturating_sub(state.last_heard) > timeout;
        self.0.iter().filter(|(_, state)| late(state)).map(|(worker, _)| *worker).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
