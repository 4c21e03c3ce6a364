//! The worker processes of a schedule, and what happens to them later.

use std::collections::VecDeque;

use super::super::WorkerId;
use super::world::Job;

/// Something that happens later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Tick,
    Beat(usize, WorkerId),
    /// A process is done with the first of its jobs.
    Done(usize, WorkerId),
    Thaw(usize),
    Join(usize),
    Fault,
}

/// One worker process.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// The coordinator's number for it, while it has a session.
    pub(super) session: Option<WorkerId>,
    pub(super) jobs: VecDeque<Job>,
    /// Milliseconds a shard.
    pub(super) slow: u64,
    pub(super) frozen: bool,
    /// It was asked to stop.
    pub(super) leaving: bool,
}
