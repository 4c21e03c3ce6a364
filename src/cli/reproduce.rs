//! The arguments of `lockstep reproduce`.

use std::path::PathBuf;

use clap::Args;

use super::{DataSource, DisplayArgs, LimitArgs, LocalArgs};

/// Where reproductions go, beside the runs of `train`.
const OUT: &str = "runs/reproduction";

#[derive(Args, Debug)]
pub struct ReproduceArgs {
    /// Built-in recipes (see `lockstep recipes`) or TOML files, in the order given; or all, the quick ones first
    #[arg(required = true, value_name = "NAME|all")]
    pub recipes: Vec<String>,
    /// Train each with these seeds [default: the recipe's own]
    #[arg(long, value_delimiter = ',', value_name = "N,N,…")]
    pub seeds: Vec<u64>,
    #[command(flatten)]
    pub data: DataSource,
    /// The folder of all runs and of their results; must not exist unless resuming
    #[arg(long, value_name = "DIR", default_value = OUT)]
    pub out: PathBuf,
    /// Go on in --out: what is trained there is not trained again, and what was begun goes on
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub limits: LimitArgs,
    #[command(flatten)]
    pub local: LocalArgs,
    /// As in `lockstep train`; with --json the results are the last line
    #[command(flatten)]
    pub display: DisplayArgs,
}
