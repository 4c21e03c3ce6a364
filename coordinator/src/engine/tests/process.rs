//! The worker processes of a schedule, and what happens to them later.

use std::collections::VecDeque;

use super::super::{Event, WorkerId};
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
    /// A process takes its place in a ring.
    Seat(usize, WorkerId, u64),
    /// What a process says of a ring arrives.
    Word(usize, WorkerId, u64, Word),
    /// A process has the sum of a ring.
    Summed(usize, WorkerId, u64),
}

/// What is said of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Word {
    Named,
    Formed,
    Waits,
    Broken,
}

/// One worker process.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// The coordinator's number for it, while it has a session.
    pub(super) session: Option<WorkerId>,
    pub(super) jobs: VecDeque<Job>,
    /// It can make the optimizer step itself.
    pub(super) makes_steps: bool,
    /// The version that it was sent or came to by itself, and its value.
    pub(super) held: Option<(u64, u64)>,
    /// Milliseconds a shard.
    pub(super) slow: u64,
    pub(super) frozen: bool,
    /// It was asked to stop.
    pub(super) leaving: bool,
    /// Its place in a ring: the ring and the rank.
    pub(super) seat: Option<(u64, u32)>,
    /// Rings up to this one are over for it.
    pub(super) dissolved: u64,
    /// It has found the other ranks of this ring.
    pub(super) formed: u64,
    /// When its last word of a ring arrives.
    pub(super) said: u64,
    /// The ring that holds it up: it looks for the others, or for their sum.
    pub(super) stuck_in: Option<u64>,
}

impl Process {
    /// The value that `job` is computed with: what was sent with it, or what this process came to by itself, if it did.
    pub(super) fn input(&mut self, job: &Job) -> Option<u64> {
        if !job.own {
            self.held = Some((job.input.version, job.input.value));
        }
        self.held.filter(|(version, _)| *version == job.input.version).map(|(_, value)| value)
    }

    /// Goes on from the step that it made, which was answered so.
    pub(super) fn go_on(&mut self, job: &Job, answer: &Event) {
        let (version, value) = (job.input.version + 1, job.input.state);
        self.held = match answer {
            Event::Answered { .. } => Some((version, value)),
            // what damaged the answer was in the worker's memory: so is what it goes on from
            Event::Refused { .. } => Some((version, value ^ 1)),
            _ => None,
        };
    }
}
