//! `train`, and its two roles apart.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lockstep_proto::wire::DEFAULT_ADDRESS;

use super::values::{address, count, seconds, threads};
use super::{ComputeArgs, DataSource, DisplayArgs, LocalArgs, RecipeArgs, RunArgs};

#[derive(Args, Debug)]
pub struct TrainArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub data: DataSource,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub local: LocalArgs,
    #[command(flatten)]
    pub display: DisplayArgs,
}

#[derive(Args, Debug)]
pub struct CoordinatorArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub data: DataSource,
    #[command(flatten)]
    pub run: RunArgs,
    /// Where to listen. Peers are not authenticated: anyone who reaches this address can read the data and take part
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS, value_parser = address)]
    pub listen: String,
    /// Start with the first step once so many workers are there
    #[arg(long, default_value = "1", value_parser = count)]
    pub min_workers: usize,
    /// Let in workers that are another program; the promise of one result is then off
    #[arg(long)]
    pub allow_foreign_workers: bool,
    #[command(flatten)]
    pub display: DisplayArgs,
}

#[derive(Args, Debug)]
pub struct WorkerArgs {
    /// The coordinator's address
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_ADDRESS, value_parser = address)]
    pub join: String,
    /// What logs call this worker [default: host name and process number]
    #[arg(long)]
    pub name: Option<String>,
    /// Compute threads [default: all cores]
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    /// Take the images from here instead of from the coordinator; they must be the same
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Do not keep the coordinator's images on this machine's disk
    #[arg(long)]
    pub no_cache: bool,
    /// Look for a coordinator that can't be reached for so long
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    pub reconnect: Duration,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// For `bench --wire`: answer with so many values, without computing
    #[arg(long, hide = true)]
    pub wire_values: Option<usize>,
    /// End when standard input does: how a worker knows that `train` is gone, however it ended
    #[arg(long, hide = true)]
    pub end_with_stdin: bool,
    /// Abort on the first work of this step or a later one
    #[arg(long, hide = true)]
    pub die_at_step: Option<u64>,
    /// Flip a bit of every gradient of this step or a later one, as broken memory would
    #[arg(long, hide = true)]
    pub lie_at_step: Option<u64>,
}
