//! Why a worker gives up.

use std::time::Duration;

use lockstep_proto::recipe::RecipeError;
use lockstep_proto::records::RecordsError;
use lockstep_proto::tensors::PartError;
use tonic::Status;

use crate::model::ModelError;

/// Each says what happened and, where somebody can do something about it, what.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("{address:?} is no address of a coordinator: {problem}; give host:port, for instance 127.0.0.1:7077")]
    Address { address: String, problem: String },
    #[error(
        "no coordinator at {address} for {} s: {problem}; start `lockstep coordinator` there, or check the address",
        waited.as_secs()
    )]
    Unreachable { address: String, waited: Duration, problem: String },
    #[error("the coordinator refused this worker: {reason}")]
    Refused { reason: String, mistake: bool },
    #[error("lost the coordinator: {0}")]
    Lost(String),
    #[error("the coordinator broke the protocol: {0}; start both from the same build of lockstep")]
    Protocol(String),
    #[error("the coordinator's recipe: {0}")]
    Recipe(#[from] RecipeError),
    #[error("the coordinator's model: {0}")]
    Model(#[from] ModelError),
    #[error("the run's data: {0}")]
    Records(#[from] RecordsError),
    #[error("the local data: {0}")]
    LocalData(String),
    #[error(
        "the local data have the hash {found:.16}…, but the run's are {expected:.16}…; give the same images, or leave --data out"
    )]
    OtherData { found: String, expected: String },
    #[error("parameters from the coordinator: {0}")]
    Parameters(#[from] PartError),
    #[error("the computing thread is gone; its message stands above")]
    Compute,
    #[error(
        "the computing thread is still at its last job {} s after its session ended: the GPU does not answer; see what `nvidia-smi` and \
         `dmesg` say of it, then start this worker again",
        waited.as_secs()
    )]
    Hangs { waited: Duration },
    #[error("{0}")]
    Kernels(String),
    #[error("can't start: {0}")]
    Io(#[from] std::io::Error),
}

impl WorkerError {
    /// True if joining again may help.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Refused { mistake: false, .. })
    }
}

impl WorkerError {
    /// What happened, for a sentence that says itself that the coordinator is lost.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Lost(reason) | Self::Refused { reason, mistake: false } => reason.clone(),
            other => other.to_string(),
        }
    }
}

impl From<Status> for WorkerError {
    fn from(status: Status) -> Self {
        Self::Lost(status.message().to_owned())
    }
}
