//! How a command ends: 0 done, 64 your mistake, 2 lost coordinator or workers, 1 ours.

use std::fmt;
use std::process::ExitCode;

use lockstep_coordinator::RunError;
use lockstep_coordinator::checkpoint::CheckpointError;
use lockstep_coordinator::dataset::DataError;
use lockstep_coordinator::telemetry::TelemetryError;
use lockstep_proto::recipe::RecipeError;
use lockstep_worker::WorkerError;
use lockstep_worker::model::{ComputeError, ModelError};

/// Why a command failed, by whose doing.
#[derive(Debug)]
pub enum Failure {
    /// The user can put it right; the text says how.
    Mistake(String),
    /// The other side is gone.
    Lost(String),
    /// A fault of the program or of the machine.
    Ours(String),
}

pub type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    pub fn mistake(text: impl fmt::Display) -> Self {
        Self::Mistake(text.to_string())
    }

    pub fn ours(text: impl fmt::Display) -> Self {
        Self::Ours(text.to_string())
    }

    /// What went wrong, where that is something to show and no end.
    pub fn into_text(self) -> String {
        let (Self::Mistake(text) | Self::Lost(text) | Self::Ours(text)) = self;
        text
    }
}

impl From<RecipeError> for Failure {
    fn from(error: RecipeError) -> Self {
        Self::mistake(error)
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::mistake(error)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        if error.is_users_mistake() { Self::mistake(error) } else { Self::ours(error) }
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Write { .. } => Self::ours(error),
            CheckpointError::Read { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
                Self::mistake(format!(
                    "{}: there is no such file; give a checkpoint of a run's checkpoints/ folder or a model.safetensors",
                    path.display()
                ))
            }
            _ => Self::mistake(error),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Checkpoint(error) => error.into(),
            RunError::NoExamples(_)
            | RunError::Audit(_)
            | RunError::AuditRing(_)
            | RunError::Plane
            | RunError::Resume(_) => Self::mistake(error),
            _ => Self::ours(error),
        }
    }
}

impl From<WorkerError> for Failure {
    fn from(error: WorkerError) -> Self {
        match error {
            WorkerError::Address { .. }
            | WorkerError::Refused { mistake: true, .. }
            | WorkerError::LocalData(_)
            | WorkerError::OtherData { .. }
            | WorkerError::Kernels(_) => Self::mistake(error),
            WorkerError::Unreachable { .. } | WorkerError::Lost(_) | WorkerError::Refused { .. } => {
                Self::Lost(error.to_string())
            }
            _ => Self::ours(error),
        }
    }
}

impl From<TelemetryError> for Failure {
    fn from(error: TelemetryError) -> Self {
        Self::ours(error)
    }
}

impl From<ComputeError> for Failure {
    fn from(error: ComputeError) -> Self {
        Self::ours(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::ours(error)
    }
}

/// Prints what went wrong, once, and turns it into the process's exit code.
pub fn code(result: Result) -> ExitCode {
    let (text, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Mistake(text)) => (text, 64),
        Err(Failure::Lost(text)) => (text, 2),
        Err(Failure::Ours(text)) => (text, 1),
    };
    warn!("error: {text}");
    ExitCode::from(code)
}

/// Standard output took no more. A reader that went away has read enough; anything else is lost output.
pub fn unheard(error: &std::io::Error) {
    if error.kind() != std::io::ErrorKind::BrokenPipe {
        warn!("error: can't write to standard output: {error}");
        std::process::exit(1);
    }
}

/// clap's own errors: help and version are no errors, everything else is the user's mistake.
pub fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    if error.use_stderr() {
        // if standard error is closed there is nobody to tell
        return ExitCode::from(64);
    }
    if let Err(error) = printed {
        unheard(&error);
    }
    ExitCode::SUCCESS
}
