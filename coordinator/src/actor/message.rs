//! What the server's sessions tell the actor.

use std::sync::Arc;

use lockstep_proto::optimizer::Optimizer;
use lockstep_proto::shared::Shared;
use lockstep_proto::tree::Node;
use lockstep_proto::wire::{Hello, Refused, ShardOutcome, StatusReply, StopReply, ToWorker, Welcome};
use tokio::sync::{mpsc, oneshot};

use crate::engine::{LeaseId, WorkerId};
use crate::evaluation::SliceCounts;

/// The way to one worker. Unbounded, because the protocol bounds it: a worker is owed one version of the parameters (a
/// buffer that all share) and its few leases, and gets nothing more before it has answered.
pub(crate) type Outbound = mpsc::UnboundedSender<ToWorker>;

/// A worker that may take part.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) worker: WorkerId,
    pub(crate) welcome: Welcome,
    /// Our side of the memory that the worker may pass gradients through.
    pub(crate) gradients: Option<Arc<Shared>>,
}

/// Something that reached the server.
#[derive(Debug)]
pub(crate) enum Message {
    /// A worker is at the door.
    Knock { hello: Hello, outbound: Outbound, reply: oneshot::Sender<Result<Admitted, Refused>> },
    /// It has model and data, and the shared memory or not, and can make optimizer steps or not.
    Ready { worker: WorkerId, shared: bool, makes_steps: bool },
    /// It is alive; the reply says whether it is still one of us.
    Beat { worker: WorkerId, reply: oneshot::Sender<bool> },
    /// It computed something, or could not.
    Answer { worker: WorkerId, lease: LeaseId, answer: Answer },
    /// How far it is with its ring.
    Ring { worker: WorkerId, generation: u64, news: RingNews },
    /// It wants to go, once it has answered.
    Leaving { worker: WorkerId },
    /// Its stream ended.
    Left { worker: WorkerId, reason: String },
    /// Somebody asks where the run is.
    Status { reply: oneshot::Sender<StatusReply> },
    /// Somebody wants it to end; the reply comes when the checkpoint is written.
    Stop { reason: String, reply: Option<oneshot::Sender<StopReply>> },
}

/// What a worker came to: all values finite, the optimizer's what they can be.
#[derive(Debug)]
pub(crate) struct State {
    /// Parameters and buffers.
    pub(crate) values: Vec<f32>,
    pub(crate) optimizer: Optimizer,
    /// Checksum of all of it.
    pub(crate) digest: u64,
}

/// What a worker says of its ring.
#[derive(Debug)]
pub(crate) enum RingNews {
    /// The ring's name; as long as NCCL's are.
    Named {
        id: Vec<u8>,
    },
    Formed,
    Waits,
    Broken {
        reason: String,
    },
}

/// An answer to a lease. Lengths, checksum and finiteness of gradients are looked at before they get here.
#[derive(Debug)]
pub(crate) enum Answer {
    Gradient {
        version: u64,
        node: Node,
        values: Vec<f32>,
        /// Checksum of `values`.
        digest: u64,
        outcomes: Vec<ShardOutcome>,
        compute_us: u64,
        encode_us: u64,
        wait_us: u64,
    },
    /// A part of a step, from a ring: rank 0 has the whole sum, which is whole and finite.
    Part {
        version: u64,
        values: Option<Vec<f32>>,
        /// Checksum of the state that it came to, if that was asked for.
        digest: u64,
        outcomes: Vec<ShardOutcome>,
        compute_us: u64,
        encode_us: u64,
        wait_us: u64,
    },
    /// A step that its worker made, or a ring, whose rank 0 says this of its part; what it came to, if that was asked for.
    Made {
        version: u64,
        /// None in a ring.
        node: Option<Node>,
        outcomes: Vec<ShardOutcome>,
        penalty: f64,
        norm: f64,
        state: Option<Box<State>>,
        compute_us: u64,
        encode_us: u64,
        wait_us: u64,
    },
    Slice {
        version: u64,
        counts: SliceCounts,
    },
    /// A gradient or a loss that is whole, and not finite.
    NotFinite {
        what: String,
    },
    /// What came can't be used.
    Refused {
        reason: String,
    },
    /// The worker says that it could not compute.
    Failed {
        reason: String,
    },
}
