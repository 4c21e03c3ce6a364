//! What can be typed. Words are PyTorch's and torchrun's where those have one.

use clap::{Parser, Subcommand};

mod bench;
mod chaos;
mod compute;
mod pictures;
mod recipe;
mod reproduce;
mod roles;
mod shared;
mod tools;
mod values;

pub use bench::BenchArgs;
pub use chaos::{Chaos, Fault, Rule};
pub use compute::{ComputeArgs, DeviceChoice};
pub use pictures::{PredictArgs, ReportArgs};
pub use recipe::RecipeArgs;
pub use reproduce::ReproduceArgs;
pub use roles::{CoordinatorArgs, TrainArgs, WorkerArgs};
pub use shared::{DataSource, DisplayArgs, LimitArgs, LocalArgs, PlaneArgs, RunArgs};
pub use tools::{
    DataArgs, EvalArgs, ModelArgs, ModelCommand, RecipesArgs, RecipesCommand, RemoteArgs, ShownArgs, VerifyArgs,
};
pub use values::{Kill, reducer};

/// Data-parallel training of CIFAR-10 networks: one run, one result.
///
/// The same recipe, data and seed give the same weights, bit for bit, however many workers compute them and whatever
/// happens to those.
#[derive(Debug, Parser)]
#[command(name = "lockstep", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train on this machine: a coordinator and worker processes
    Train(TrainArgs),
    /// Serve a training to workers that join by hand
    Coordinator(CoordinatorArgs),
    /// Join a coordinator and compute for it
    Worker(WorkerArgs),
    /// Evaluate a checkpoint or a model.safetensors
    Eval(EvalArgs),
    /// Say what a network takes pictures for
    Predict(PredictArgs),
    /// Draw runs: one HTML page with curves, classes and samples
    Report(ReportArgs),
    /// Prove that worker counts and lost workers do not change the result
    Verify(VerifyArgs),
    /// Measure training speed
    Bench(BenchArgs),
    /// List the built-in recipes, or show one resolved
    Recipes(RecipesArgs),
    /// Train recipes of reports, and put their numbers beside ours
    Reproduce(ReproduceArgs),
    /// List the built-in models, or show one's layers and shapes
    Model(ModelArgs),
    /// Load a data set and describe it
    Data(DataArgs),
    /// Ask a coordinator where its run is
    Status(RemoteArgs),
    /// Have a coordinator write a checkpoint and end its run
    Stop(RemoteArgs),
}
