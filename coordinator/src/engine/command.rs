//! What goes into the engine and what comes out.

use std::borrow::Cow;
use std::fmt;

use lockstep_proto::tree::Node;

/// One session of one worker: a worker that comes back gets a new number.
pub type WorkerId = u64;

/// One right to compute something.
pub type LeaseId = u64;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker has the data and the model, and may be given work.
    Joined { worker: WorkerId },
    /// A worker wants to go: it finishes what it has in hand and takes nothing more.
    Leaving { worker: WorkerId },
    /// A worker's stream ended.
    Left { worker: WorkerId, reason: String },
    /// A worker was heard of.
    Beat { worker: WorkerId },
    /// A worker sent a whole answer whose shape, checksum and finiteness are checked.
    Answered { worker: WorkerId, lease: LeaseId },
    /// A worker could not compute, or its answer was refused.
    Failed { worker: WorkerId, lease: LeaseId, reason: String },
    /// Time went by.
    Tick,
    /// Somebody wants the run to end now.
    Stop { reason: String },
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// All shards below a node of a step's tree.
    Shards { step: u64, node: Node },
    /// A slice of the evaluation of a version.
    Slice { version: u64, slice: u32 },
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // people count steps from 1, as bars and metrics do
            Self::Shards { step, node } if node.level == 0 => write!(f, "shard {} of step {}", node.index, step + 1),
            Self::Shards { step, node } => {
                let (first, end) = (u64::from(node.index) << node.level, (u64::from(node.index) + 1) << node.level);
                write!(f, "shards {first} to {} of step {}", end - 1, step + 1)
            }
            Self::Slice { version, slice } => write!(f, "slice {slice} of the evaluation after step {version}"),
        }
    }
}

/// Something to do. The actor does commands in order, each before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send work to a worker.
    Lease { worker: WorkerId, lease: LeaseId, work: Work, reason: Cow<'static, str> },
    /// Add the answer to the step's tree.
    Sum { worker: WorkerId, lease: LeaseId, node: Node },
    /// Add the answer to the evaluation's counts.
    Count { worker: WorkerId, lease: LeaseId, slice: u32 },
    /// Forget the answer.
    Drop { worker: WorkerId, lease: LeaseId, reason: String },
    /// The tree is complete: make the optimizer step.
    Step { step: u64 },
    /// All of an epoch's steps are made.
    EndEpoch { epoch: u32 },
    /// An evaluation of this version begins.
    Evaluate { version: u64 },
    /// Every slice is counted.
    Evaluated { version: u64 },
    /// Keep a snapshot of what there is now, at this position.
    Checkpoint { position: super::Position, reason: String },
    /// A worker is no longer part of the run; so many shards that it held are free again.
    Lost { worker: WorkerId, reissued: u32, reason: String },
    /// An answer was refused and nobody else is there to be asked: so many shards are free again for the same worker.
    Reissue { shards: u32, reason: String },
    /// End a worker's session. One that may not return computed something wrong.
    Dismiss { worker: WorkerId, reason: String, may_return: bool },
    /// The run is over, at this position.
    Finish { position: super::Position, outcome: Outcome },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every step was made.
    Complete,
    /// Somebody stopped it; it can be resumed.
    Stopped { reason: String },
    /// Nobody was there to compute; it can be resumed.
    NoWorkers { reason: String },
    /// It can't go on.
    Failed { reason: String },
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete => f.write_str("every step is made"),
            Self::Stopped { reason } => write!(f, "stopped: {reason}"),
            Self::NoWorkers { reason } => write!(f, "no workers: {reason}"),
            Self::Failed { reason } => write!(f, "failed: {reason}"),
        }
    }
}
