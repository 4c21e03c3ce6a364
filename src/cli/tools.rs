//! The commands around a training: evaluate, verify, measure, list, ask.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lockstep_proto::recipe::EvaluationMode;
use lockstep_proto::wire::DEFAULT_ADDRESS;

use super::values::{Kill, address, count, kill, mode, threads};
use super::{ComputeArgs, DataSource, PlaneArgs, RecipeArgs};

#[derive(Args, Debug)]
pub struct EvalArgs {
    /// A checkpoint of a run, or a model.safetensors
    pub checkpoint: PathBuf,
    /// The model of a model.safetensors that lies in no run's folder
    #[arg(long)]
    pub model: Option<String>,
    /// How layers behave, whatever the run's recipe says: eval, or train as in training
    #[arg(long, value_name = "MODE", value_parser = mode)]
    pub mode: Option<EvaluationMode>,
    #[command(flatten)]
    pub data: DataSource,
    /// Compute threads [default: all cores]
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub data: DataSource,
    /// Worker counts to compare
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 4], value_parser = count)]
    pub workers: Vec<usize>,
    /// Optimizer steps of each run, if the recipe or --max-steps sets no limit
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Also run with worker W aborted at step S; may be repeated
    #[arg(long, value_name = "W@S", value_parser = kill)]
    pub kill: Vec<Kill>,
    #[command(flatten)]
    pub compute: ComputeArgs,
    #[command(flatten)]
    pub plane: PlaneArgs,
    #[arg(long, hide = true, env = "LOCKSTEP_TEST_REDUCER")]
    pub test_reducer: Option<String>,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RecipesArgs {
    #[command(subcommand)]
    pub command: Option<RecipesCommand>,
    /// Show this recipe, as `show` does
    pub recipe: Option<String>,
    #[command(flatten)]
    pub shown: ShownArgs,
}

#[derive(Debug, Subcommand)]
pub enum RecipesCommand {
    /// All built-in recipes, as without a command
    List {
        /// One line of JSON
        #[arg(long)]
        json: bool,
    },
    /// A built-in recipe or a TOML file with every default filled in
    Show {
        /// A built-in recipe's name, or the path of a TOML file
        recipe: String,
        #[command(flatten)]
        shown: ShownArgs,
    },
}

/// How a recipe is shown.
#[derive(Args, Clone, Debug)]
pub struct ShownArgs {
    /// A setting to lay over the recipe; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct ModelArgs {
    #[command(subcommand)]
    pub command: Option<ModelCommand>,
}

#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// Layers, shapes and parameters of a built-in model or a TOML file
    Show {
        model: String,
        /// Classes that the last layer must tell apart
        #[arg(long, default_value = "10", value_parser = count)]
        classes: usize,
    },
}

#[derive(Args, Debug)]
pub struct DataArgs {
    #[command(flatten)]
    pub source: DataSource,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct RemoteArgs {
    /// The coordinator's address
    #[arg(default_value = DEFAULT_ADDRESS, value_name = "HOST:PORT", value_parser = address)]
    pub address: String,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}
