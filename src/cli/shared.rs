//! Flags that several commands have: images, output, kernels, the run, its workers.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use lockstep_coordinator::{Limits, RingSum};

use super::chaos::chaos;
use super::values::{Kill, kill, processes, seconds, share, threads, timeout};
use super::{Chaos, ComputeArgs};

/// Where the images come from.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
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

/// How tensors travel between the processes of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plane {
    /// Shared memory where a worker can map it, gRPC elsewhere
    Auto,
    /// gRPC alone
    Grpc,
    /// Gradients are summed among GPUs by NCCL, one worker a GPU, in the reduction tree's order: one result, however many GPUs
    NcclOrdered,
    /// The same by NCCL's all-reduce, whose order depends on how many they are; needs --fast
    Nccl,
}

/// How tensors travel.
#[derive(Args, Clone, Copy, Debug)]
pub struct PlaneArgs {
    /// How tensors travel: through shared memory where a worker can map it; over gRPC alone; or gradients by NCCL, among GPUs
    #[arg(long, value_enum, default_value = "auto")]
    pub plane: Plane,
    /// A lone worker, or a ring of GPUs, makes the steps itself, and sends what it came to that often (0: every gradient): so much may be
    /// lost with it, and is computed again
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub catch_up: Duration,
}

impl PlaneArgs {
    pub fn shared_memory(self) -> bool {
        self.plane != Plane::Grpc
    }

    pub fn nccl(self) -> Option<RingSum> {
        match self.plane {
            Plane::Auto | Plane::Grpc => None,
            Plane::Nccl => Some(RingSum::AllReduce),
            Plane::NcclOrdered => Some(RingSum::Ordered),
        }
    }

    /// As it is given.
    pub fn name(self) -> &'static str {
        match self.plane {
            Plane::Auto => "auto",
            Plane::Grpc => "grpc",
            Plane::Nccl => "nccl",
            Plane::NcclOrdered => "nccl-ordered",
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
    /// Begin with the weights of this model.safetensors, checkpoint or run's folder
    #[arg(long, value_name = "PATH")]
    pub init_from: Option<PathBuf>,
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// How long a run waits, and what it does about its workers.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Run")]
pub struct LimitArgs {
    /// Go on without enough workers for so long, then checkpoint and exit with 2
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub wait_for_workers: Duration,
    /// A worker that was not heard of for so long loses its work to others
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS", default_value = "2", value_parser = timeout)]
    pub worker_timeout: Duration,
    /// A worker that holds a piece of work for so long without an answer loses it to others
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS", default_value = "300", value_parser = timeout)]
    pub lease_timeout: Duration,
    /// Let a second worker compute this share of the shards too, and compare: broken hardware shows, and nothing else changes
    #[arg(long, allow_negative_numbers = true, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub audit: f64,
    #[command(flatten)]
    pub plane: PlaneArgs,
    /// For tests: "arrival" sums in order of arrival, which breaks the promise
    #[arg(long, hide = true, env = "LOCKSTEP_TEST_REDUCER")]
    pub test_reducer: Option<String>,
}

impl LimitArgs {
    /// The limits of a run with so many workers at its start. `even`: each is given something.
    pub fn limits(&self, min_workers: usize, even: bool) -> Limits {
        Limits {
            min_workers,
            worker_timeout: self.worker_timeout,
            lease_timeout: self.lease_timeout,
            wait_for_workers: self.wait_for_workers,
            allow_foreign_workers: false,
            even,
            audit: self.audit,
            shared_memory: self.plane.shared_memory(),
            nccl: self.plane.nccl(),
            catch_up: self.plane.catch_up,
        }
    }
}

/// Worker processes on this machine.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Workers")]
pub struct LocalArgs {
    /// Worker processes (torchrun's --nproc-per-node) [default: one a GPU, else 2]
    #[arg(long, short = 'n', visible_alias = "nproc-per-node", value_parser = processes)]
    pub workers: Option<usize>,
    /// Compute threads of each worker [default: cores / workers, at least 1]
    #[arg(long, value_parser = threads)]
    pub threads: Option<usize>,
    /// Start a lost worker again at most so often
    #[arg(long, default_value_t = 3)]
    pub max_restarts: u32,
    /// Abort worker W when it is given step S, once (for tests and demonstrations)
    #[arg(long, value_name = "W@S", value_parser = kill)]
    pub kill: Vec<Kill>,
    /// Watch the run survive: kill (SIGKILL), freeze (SIGSTOP) or ask to leave (SIGTERM) a random worker every so long on
    /// average, for instance kill=30s,freeze=1m/5s,leave=2m. A freeze outlasts --worker-timeout unless it has a length;
    /// seed=N gives another schedule than the recipe's seed. Restarts that follow are not counted
    #[arg(long, value_name = "FAULT=TIME,…", value_parser = chaos)]
    pub chaos: Option<Chaos>,
    #[command(flatten)]
    pub compute: ComputeArgs,
}
