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
    /// A worker has the data and the model, and may be given work. `makes_steps`: also the optimizer step, with the coordinator's bits.
    Joined { worker: WorkerId, makes_steps: bool },
    /// A worker wants to go: it finishes what it has in hand and takes nothing more.
    Leaving { worker: WorkerId },
    /// A worker's stream ended.
    Left { worker: WorkerId, reason: String },
    /// A worker was heard of.
    Beat { worker: WorkerId },
    /// A worker sent a whole answer to what it was asked; its shape and checksum are checked.
    Answered { worker: WorkerId, lease: LeaseId, finding: Finding },
    /// A worker's answer can't be used: damaged on its way, or no answer to what was asked.
    Refused { worker: WorkerId, lease: LeaseId, reason: String },
    /// A worker says that it could not compute.
    Failed { worker: WorkerId, lease: LeaseId, reason: String },
    /// Rank 0 of a ring made the name by which the others find it.
    Named { worker: WorkerId, generation: u64, id: Vec<u8> },
    /// A member has found all others.
    Formed { worker: WorkerId, generation: u64 },
    /// A member has done its own part of what the ring is at, and waits for the others.
    Waits { worker: WorkerId, generation: u64 },
    /// A member's ring can't be formed, or failed in the middle of a sum: maybe somebody is gone.
    Broken { worker: WorkerId, generation: u64, reason: String },
    /// Time went by.
    Tick,
    /// Somebody wants the run to end as soon as all of it is here; said twice, now.
    Stop { reason: String },
}

/// What an answer shows. Two right answers to one piece of work show the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A fingerprint of all its bits.
    Bits(u64),
    /// Something in it is not finite, and what; all of these are alike.
    NotFinite(String),
}

impl Finding {
    /// Whether both say the same. Not-finite values are one class: NaN has many bit patterns, and they differ by kernel.
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bits(a), Self::Bits(b)) => a == b,
            (Self::NotFinite(_), Self::NotFinite(_)) => true,
            _ => false,
        }
    }
}

/// A piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// All shards below a node of a step's tree.
    Shards { step: u64, node: Node },
    /// Shards `first` to before `end` of a step, summed with those of all other ranks of a ring: rank 0 answers with the whole sum.
    /// None at all where a step has fewer shards than the ring has ranks.
    Part { step: u64, generation: u64, rank: u32, first: u32, end: u32 },
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
            Self::Part { step, rank, first, end, .. } => {
                write!(f, "shards {first} to before {end} of step {}, as rank {rank}", step + 1)
            }
            Self::Slice { version, slice } => write!(f, "slice {slice} of the evaluation after step {version}"),
        }
    }
}

/// What is sent by a worker that has all of a step and makes it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The gradient, of which the coordinator makes the same step.
    Gradient,
    /// What the shards counted: the coordinator is behind then.
    Counts,
    /// The same, and the parameters and the optimizer's state after the step: it has caught up.
    State,
}

/// Why somebody gets a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nobody has it yet.
    First,
    /// Whoever had it is gone, or gave an answer that can't be used.
    Again,
    /// Whoever has it is late.
    Copy,
    /// Another worker's answer is checked.
    Audit,
    /// Two answers differ, or one is not finite: one more decides.
    Decide,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "it is open",
            Self::Again => "its holder is gone or failed",
            Self::Copy => "its holder is late",
            Self::Audit => "it is audited",
            Self::Decide => "answers to it differ",
        })
    }
}

/// Something to do. The actor does commands in order, each before the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send work to a worker. `own`: it makes the step that follows from it, too, for itself, and sends this (of a ring, rank 0 does).
    Lease { worker: WorkerId, lease: LeaseId, work: Work, purpose: Purpose, own: Option<Report> },
    /// A lease of a step in advance is over: its answer will be dropped, and what its holder comes to by itself is not to be built on.
    CallBack { worker: WorkerId, lease: LeaseId },
    /// What a worker comes to by itself, from an answer that is not used, is not to be built on: it is sent parameters anew.
    Doubt { worker: WorkerId },
    /// Forget the steps after this version, of so many shards: only a worker has what they came to. What is in hand of them is called back.
    RollBack { version: u64, shards: u32, reason: String },
    /// Put the answer aside: another one must agree with it first.
    Hold { worker: WorkerId, lease: LeaseId, reason: String },
    /// Add the answer, maybe one that was put aside, to the step's tree.
    Sum { worker: WorkerId, lease: LeaseId, node: Node },
    /// Add the answer, maybe one that was put aside, to the evaluation's counts.
    Count { worker: WorkerId, lease: LeaseId, slice: u32 },
    /// Add a part of the open step, maybe one that was put aside. All parts of the step come one after the other. `made`: its ring made the
    /// step, and the coordinator does not.
    Part { worker: WorkerId, lease: LeaseId, made: bool },
    /// Have a worker take its place in a new ring. Rank 0 gets no name: it makes one.
    Form { worker: WorkerId, generation: u64, rank: u32, size: u32, id: Option<Vec<u8>> },
    /// Have these workers leave a ring, whatever they wait for in it; so many shards that it had in hand are given out again.
    Dissolve { generation: u64, members: Vec<WorkerId>, reissued: u32, reason: String },
    /// Forget the answer.
    Drop { worker: WorkerId, lease: LeaseId, reason: Cow<'static, str> },
    /// Two answers to one piece of work differ; a third computation decides.
    Dispute { work: Work, first: WorkerId, second: WorkerId },
    /// Throw the open step's sums away: one of its answers can't be trusted.
    Reopen { step: u64 },
    /// Keep the parameters that are current now: answers that were computed with them are still to be compared.
    Keep { version: u64 },
    /// Nobody needs these old parameters any more.
    Forget { version: u64 },
    /// Checkpoints after this version hold a step that these workers computed wrong.
    Taint { version: u64, workers: Vec<WorkerId> },
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
    /// A worker's answer was refused: so many shards are given out again.
    Reissue { worker: WorkerId, shards: u32, reason: String },
    /// End a worker's session. One that may not return computed something wrong, or sent nothing but what was refused.
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
