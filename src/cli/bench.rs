//! The arguments of `lockstep bench`.

use clap::Args;

use super::values::{floats, processes, threads, timed_steps};
use super::{ComputeArgs, PlaneArgs, RecipeArgs};

#[derive(Args, Debug)]
pub struct BenchArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub data: BenchData,
    /// Worker processes [default: one a GPU, else 2]
    #[arg(long, short = 'n', value_parser = processes)]
    pub workers: Option<usize>,
    /// Optimizer steps, at least 20; the first tenth, at least 10, are not timed
    #[arg(long, default_value = "200", value_parser = timed_steps)]
    pub steps: usize,
    /// Compute threads of each worker [default: cores / workers, at least 1]
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub plane: PlaneArgs,
    /// Measure the wire alone: push, average, step and pull of --floats values, without computing
    #[arg(long, conflicts_with = "scale")]
    pub wire: bool,
    /// Values that --wire sends each way
    #[arg(long, default_value = "1000000", value_parser = floats, requires = "wire")]
    pub floats: usize,
    /// Measure several numbers of workers, and where a step's time goes: for instance 1,2,4,8
    #[arg(long, value_delimiter = ',', value_parser = processes, value_name = "N,N,…")]
    pub scale: Vec<usize>,
    /// One line of JSON with the keys of the PyTorch script that it is compared with
    #[arg(long)]
    pub json: bool,
}

/// The images of a benchmark: made here unless told otherwise, for their content does not change the speed.
#[derive(Args, Clone, Debug)]
pub struct BenchData {
    /// As in `lockstep train`
    #[arg(long, default_value = "builtin", value_name = "auto|builtin|PATH")]
    pub data: String,
}
