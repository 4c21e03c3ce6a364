//! What can be typed. Words are PyTorch's and torchrun's where those have one.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use lockstep_proto::recipe::Setting;
use lockstep_proto::wire::DEFAULT_ADDRESS;

use crate::exit::Result;

mod bench;
mod values;

pub use bench::BenchArgs;
pub use values::{Kill, reducer};
use values::{address, count, kill, processes, seconds, threads, timeout};

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
    /// Prove that worker counts and lost workers do not change the result
    Verify(VerifyArgs),
    /// Measure training speed
    Bench(BenchArgs),
    /// List the built-in recipes, or show one resolved
    Recipes(RecipesArgs),
    /// List the built-in models, or show one's layers and shapes
    Model(ModelArgs),
    /// Load a data set and describe it
    Data(DataArgs),
    /// Ask a coordinator where its run is
    Status(RemoteArgs),
    /// Have a coordinator write a checkpoint and end its run
    Stop(RemoteArgs),
}

/// What to train and how. Precedence: flag, then --set, then recipe, then default.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Recipe")]
pub struct RecipeArgs {
    /// A built-in recipe's name (see `lockstep recipes`) or a TOML file
    pub recipe: Option<String>,
    /// A built-in model's name (see `lockstep model`) or a TOML file
    #[arg(long)]
    pub model: Option<String>,
    /// Passes over the training images
    #[arg(long, allow_negative_numbers = true)]
    pub epochs: Option<String>,
    /// Stop after so many optimizer steps; 0: no limit
    #[arg(long, value_name = "STEPS", allow_negative_numbers = true)]
    pub max_steps: Option<String>,
    /// Images of one optimizer step, over all workers together
    #[arg(long, allow_negative_numbers = true)]
    pub batch_size: Option<String>,
    /// Parts that every batch is cut into, whatever the number of workers
    #[arg(long, allow_negative_numbers = true)]
    pub shards: Option<String>,
    /// Learning rate
    #[arg(long, allow_negative_numbers = true)]
    pub lr: Option<String>,
    /// Momentum of SGD
    #[arg(long, allow_negative_numbers = true)]
    pub momentum: Option<String>,
    /// sgd, adam or adamw
    #[arg(long)]
    pub optimizer: Option<String>,
    /// Weight decay
    #[arg(long, allow_negative_numbers = true)]
    pub weight_decay: Option<String>,
    /// Key of every random draw
    #[arg(long, allow_negative_numbers = true)]
    pub seed: Option<String>,
    /// Any setting of the recipe, for instance --set schedule.name=cosine; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl RecipeArgs {
    /// The settings that were typed, to be laid over the recipe.
    pub fn settings(&self) -> Result<Vec<Setting>> {
        let mut settings: Vec<_> =
            self.set.iter().map(|text| Setting::parse(text)).collect::<std::result::Result<_, _>>()?;
        let flags = [
            ("--model", "model", &self.model),
            ("--epochs", "epochs", &self.epochs),
            ("--max-steps", "max_steps", &self.max_steps),
            ("--batch-size", "batch_size", &self.batch_size),
            ("--shards", "shards", &self.shards),
            ("--lr", "optimizer.lr", &self.lr),
            ("--momentum", "optimizer.momentum", &self.momentum),
            ("--optimizer", "optimizer.name", &self.optimizer),
            ("--weight-decay", "optimizer.weight_decay", &self.weight_decay),
            ("--seed", "seed", &self.seed),
        ];
        for (flag, key, value) in flags {
            settings.extend(value.as_ref().map(|value| Setting::flag(flag, key, value)));
        }
        Ok(settings)
    }
}

/// Where the images come from.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Data")]
pub struct DataSource {
    /// auto (LOCKSTEP_DATA, ./data, the cache, then the official download), builtin (procedural), or a path: CIFAR-10
    /// binary or python batches (folder or .tar.gz), Hugging Face parquet, or an image folder [default: auto; with --resume
    /// the run's own]
    #[arg(long, value_name = "auto|builtin|PATH")]
    pub data: Option<String>,
    /// Download this archive instead of the official one; may end in #md5=<digest>
    #[arg(long, value_name = "URL")]
    pub data_url: Option<String>,
    /// Never touch the network for data
    #[arg(long)]
    pub offline: bool,
}

impl DataSource {
    /// Whether the user said where to look.
    pub fn is_given(&self) -> bool {
        self.data.is_some() || self.data_url.is_some()
    }
}

/// How a run shows itself.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Output")]
pub struct DisplayArgs {
    /// Every event as a line of JSON on standard output
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Warnings and errors only
    #[arg(long, short)]
    pub quiet: bool,
    /// Plain lines, also on a terminal
    #[arg(long, conflicts_with_all = ["json", "quiet"])]
    pub plain: bool,
}

/// Which instructions compute.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct KernelArgs {
    /// Kernel set: v4 (AVX-512), v3 (AVX2 and FMA) or portable; default: the best of this processor
    #[arg(long, value_enum)]
    pub kernels: Option<KernelName>,
}

/// How tensors travel between the processes of one host.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plane {
    /// Shared memory where a worker can map it, gRPC elsewhere
    Auto,
    /// gRPC alone
    Grpc,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KernelName {
    V4,
    V3,
    Portable,
}

impl KernelName {
    pub fn word(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V3 => "v3",
            Self::Portable => "portable",
        }
    }
}

/// How a run is kept and continued.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub struct RunArgs {
    /// The run's folder; must not exist unless resuming [default: runs/<date>-<recipe>-<n>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Go on from the last checkpoint of --out, or of the newest run
    #[arg(long)]
    pub resume: bool,
    /// Begin with the weights of this model.safetensors or checkpoint
    #[arg(long, value_name = "FILE")]
    pub init_from: Option<PathBuf>,
    /// Go on without enough workers for so long, then checkpoint and exit with 2
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub wait_for_workers: Duration,
    /// A worker that was not heard of for so long loses its work to others
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS", default_value = "2", value_parser = timeout)]
    pub worker_timeout: Duration,
    /// A worker that holds a piece of work for so long without an answer loses it to others
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS", default_value = "300", value_parser = timeout)]
    pub lease_timeout: Duration,
    /// How tensors travel: through shared memory where a worker can map it, or over gRPC alone
    #[arg(long, value_enum, default_value = "auto")]
    pub plane: Plane,
    /// For tests: "arrival" sums in order of arrival, which breaks the promise
    #[arg(long, hide = true, env = "LOCKSTEP_TEST_REDUCER")]
    pub test_reducer: Option<String>,
}

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

/// Worker processes on this machine.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Workers")]
pub struct LocalArgs {
    /// Worker processes (torchrun's --nproc-per-node)
    #[arg(long, short = 'n', visible_alias = "nproc-per-node", default_value = "2", value_parser = processes)]
    pub workers: usize,
    /// Compute threads of each worker [default: cores / workers, at least 1]
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    /// Start a lost worker again at most so often
    #[arg(long, default_value_t = 3)]
    pub max_restarts: u32,
    /// Abort worker W when it is given step S, once (for tests and demonstrations)
    #[arg(long, value_name = "W@S", value_parser = kill)]
    pub kill: Vec<Kill>,
    #[command(flatten)]
    pub kernels: KernelArgs,
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
    /// auto or cpu
    #[arg(long, default_value = "auto")]
    pub device: String,
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
    pub kernels: KernelArgs,
    /// For `bench --wire`: answer with so many values, without computing
    #[arg(long, hide = true)]
    pub wire_values: Option<usize>,
    /// End when standard input does: how a worker knows that `train` is gone, however it ended
    #[arg(long, hide = true)]
    pub end_with_stdin: bool,
    /// Abort on the first work of this step or a later one
    #[arg(long, hide = true)]
    pub die_at_step: Option<u64>,
}

#[derive(Args, Debug)]
pub struct EvalArgs {
    /// A checkpoint of a run, or a model.safetensors
    pub checkpoint: PathBuf,
    /// The model of a model.safetensors that lies in no run's folder
    #[arg(long)]
    pub model: Option<String>,
    #[command(flatten)]
    pub data: DataSource,
    /// Compute threads [default: all cores]
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    #[command(flatten)]
    pub kernels: KernelArgs,
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
    pub kernels: KernelArgs,
    #[arg(long, hide = true, env = "LOCKSTEP_TEST_REDUCER")]
    pub test_reducer: Option<String>,
    /// One line of JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct RecipesArgs {
    /// Show this recipe with every default filled in
    pub show: Option<String>,
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
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
