//! What a coordinator is given, and what it gives back.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::optimizer::Optimizer;
use lockstep_proto::recipe::{EvaluationMode, Recipe, Wire};
use lockstep_proto::schema::Schema;

use crate::average::Reducer;
use crate::checkpoint::{CheckpointError, Snapshot};
use crate::dataset::{Dataset, Selection};
use crate::engine::{Outcome, Position};
use crate::evaluation::{Slices, Tally};
use crate::plan::Plan;
use crate::telemetry::{Split, Summary};

/// Steps in a lone worker's hands, or a ring's, beside the open one: the next, while the last one's answer travels; one that a GPU is asked for before that
/// answer is sent; and one more, so that a pause of the coordinator's holds nothing up. Each may have a gradient under way.
const IN_ADVANCE: u32 = 3;

/// One training, ready to be served to workers.
#[derive(Debug)]
pub struct Run {
    /// The run's name: its folder's, or what it is for.
    pub name: String,
    /// The program's build: version and digest of what decides bits. Workers of another one are refused.
    pub build: String,
    /// Where results go; none for `bench` and `verify`.
    pub folder: Option<PathBuf>,
    pub recipe: Recipe,
    pub schema: Schema,
    /// Parameters and buffers to begin with, schema order.
    pub initial: Vec<f32>,
    pub dataset: Arc<Dataset>,
    /// Which examples are trained on and which are held out.
    pub selection: Selection,
    /// Where to go on from.
    pub resume: Option<Snapshot>,
    pub limits: Limits,
    pub reducer: Reducer,
    /// Keep each step's tensor digests in memory, for `verify`.
    pub trace: bool,
}

/// How long to wait and whom to let in.
#[derive(Clone, Debug)]
pub struct Limits {
    pub min_workers: usize,
    pub worker_timeout: Duration,
    pub lease_timeout: Duration,
    pub wait_for_workers: Duration,
    pub allow_foreign_workers: bool,
    /// How much of a lone worker's time may be lost with it, which sends what it came to that often; 0: it sends every gradient. For a model of
    /// 6 million parameters the one is some 15 ms of copying (50 over gRPC), and the other as much for each step.
    pub catch_up: Duration,
    /// Cut steps evenly, however fast each worker is: where a test counts on who gets what.
    pub even: bool,
    /// Share of the leases of shards that two workers compute on purpose, in [0, 1].
    pub audit: f64,
    /// Pass tensors to workers on this host through shared memory.
    pub shared_memory: bool,
    /// Workers, each with a GPU of its own, sum their gradients by NCCL; only the sum travels.
    pub nccl: Option<RingSum>,
}

/// In which order GPUs add their gradients up among themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingSum {
    /// NCCL's all-reduce: it depends on how many they are.
    AllReduce,
    /// The reduction tree's: one result, whoever takes part.
    Ordered,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            min_workers: 1,
            worker_timeout: Duration::from_secs(2),
            lease_timeout: Duration::from_secs(300),
            wait_for_workers: Duration::from_secs(300),
            catch_up: Duration::from_secs(2),
            allow_foreign_workers: false,
            even: false,
            audit: 0.0,
            shared_memory: true,
            nccl: None,
        }
    }
}

/// Where a step's time goes: mean seconds over the timed steps, but for the median.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// Steps that were timed.
    pub steps: usize,
    /// The median step.
    pub median: f64,
    pub step: f64,
    /// Forward, backward and node sums, mean of the workers.
    pub compute: f64,
    /// Checksum and copy of the gradient, mean of the workers.
    pub encode: f64,
    /// Messages on their way, and threads that wake up for them.
    pub wire: f64,
    /// Time for which the mean worker waited for the last one.
    pub straggle: f64,
    /// Sums on the coordinator after the last answer's arrival, or before it.
    pub sum: f64,
    pub optimizer: f64,
    /// Making the new parameters ready to travel.
    pub publish: f64,
}

/// How a run ended and what it came to.
#[derive(Debug)]
pub struct Report {
    pub outcome: Outcome,
    pub summary: Summary,
    /// Shards accepted from each worker, by name.
    pub shards: BTreeMap<String, u64>,
    /// Each step's tensor digests, if they were asked for; none of a step that only its worker saw.
    pub trace: Vec<Vec<u64>>,
    /// Training images a second over the steps after the first tenth (at least ten steps), without evaluations.
    pub steady_images_per_s: f64,
    /// Workers that mapped our memory.
    pub shared_memory: usize,
    /// Where the time of those steps went.
    pub timing: Timing,
    /// What telemetry complained about.
    pub warnings: Vec<String>,
    /// The step of the newest checkpoint that stands.
    pub kept: Option<u64>,
    /// Why something that the run should leave behind is not on the disk.
    pub lost: Option<String>,
}

/// Why a run can't begin.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the model has {expected} values, but {found} initial ones were given")]
    Initial { found: usize, expected: usize },
    #[error("the recipe trains on {0} examples; choose a larger fraction or another subset")]
    NoExamples(usize),
    #[error(
        "--audit {0} compares the bits of two workers, and deterministic = false (--fast) promises none; leave one of the two out"
    )]
    Audit(f64),
    #[error(
        "--plane nccl adds gradients up in an order that depends on how many GPUs there are, and this run promises one result, to the \
         bit; --plane nccl-ordered adds them up in an order that does not; or give the promise up with --fast (deterministic = false), or leave \
         --plane nccl out"
    )]
    Plane,
    #[error(
        "--audit {0} has two workers compute the same, and with --plane nccl-ordered all are at one sum; leave one of the two out"
    )]
    AuditRing(f64),
    #[error("the checkpoint is of another run: {0}")]
    Resume(String),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("the data can't be sent to workers: {0}")]
    Records(#[from] lockstep_proto::records::RecordsError),
    #[error("can't start a thread or the server: {0}")]
    Io(#[from] std::io::Error),
    #[error("the run's own task ended early; this is a fault of the program, not yours")]
    Actor,
}

impl Run {
    /// The evaluation's slices.
    #[must_use]
    pub fn slices(&self) -> Slices {
        let size = self.recipe.evaluation.slice as u32;
        let slices = Slices::new(self.selection.validation.clone(), self.dataset.test.len(), size);
        match self.recipe.evaluation.train_images {
            true => slices.with_train(self.selection.train.clone()),
            false => slices,
        }
    }

    /// An evaluation that begins.
    #[must_use]
    pub fn tally(&self) -> Tally {
        Tally::new(self.dataset.classes.len(), self.recipe.model.ends_in_relu(), self.slices())
    }

    /// Whether layers behave as in training when `split` is evaluated.
    #[must_use]
    pub fn evaluates_as_trained(&self, split: Split) -> bool {
        self.recipe.evaluation.mode == EvaluationMode::Train && split != Split::TrainEval
    }

    /// The run in numbers.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let recipe = &self.recipe;
        Plan {
            examples: self.selection.train.len() as u32,
            batch_size: recipe.batch_size as u32,
            shards: recipe.shards as u32,
            partition: recipe.data.partition,
            epochs: recipe.epochs,
            max_steps: recipe.max_steps,
            evaluate_every_epochs: recipe.evaluation.every_epochs,
            slices: self.slices().len(),
            checkpoint_every_epochs: recipe.checkpoint.every_epochs,
            checkpoint_every_steps: recipe.checkpoint.every_steps,
            checkpoint_every: Some(recipe.checkpoint.every_seconds).filter(|s| *s > 0).map(Duration::from_secs),
            even: self.limits.even,
            ring: self.limits.nccl.is_some(),
            in_advance: if self.steps_can_be_the_workers() { IN_ADVANCE } else { 0 },
            catch_up: Some(self.limits.catch_up).filter(|every| !every.is_zero() && self.steps_can_be_the_workers()),
            audit: self.limits.audit,
            seed: recipe.seed,
            min_workers: self.limits.min_workers,
            worker_timeout: self.limits.worker_timeout,
            lease_timeout: self.limits.lease_timeout,
            wait_for_workers: self.limits.wait_for_workers,
        }
    }

    /// Whether a worker that has a whole step comes to the parameters that the coordinator comes to: not where they travel rounded, or where a
    /// test has the coordinator add in another order.
    fn steps_can_be_the_workers(&self) -> bool {
        self.recipe.wire == Wire::F32 && self.reducer == Reducer::Tree
    }

    /// How gradients come together, as summaries name it.
    pub(crate) fn plane(&self) -> &'static str {
        match self.limits.nccl {
            None => "grpc",
            Some(RingSum::AllReduce) => "nccl",
            Some(RingSum::Ordered) => "nccl-ordered",
        }
    }

    /// Whether the ranks of a ring, which make the same steps, promise to come to the same bits.
    pub(crate) fn compares_ranks(&self) -> bool {
        self.recipe.deterministic && self.limits.nccl == Some(RingSum::Ordered)
    }

    /// Checks that everything fits together, before anybody is let in.
    pub fn check(&self) -> Result<(), RunError> {
        if self.initial.len() != self.schema.len() {
            return Err(RunError::Initial { found: self.initial.len(), expected: self.schema.len() });
        }
        if self.limits.nccl == Some(RingSum::AllReduce) && self.recipe.deterministic {
            return Err(RunError::Plane);
        }
        if self.limits.audit > 0.0 && !self.recipe.deterministic {
            return Err(RunError::Audit(self.limits.audit));
        }
        if self.limits.audit > 0.0 && self.limits.nccl.is_some() {
            return Err(RunError::AuditRing(self.limits.audit));
        }
        if self.selection.train.is_empty() {
            return Err(RunError::NoExamples(0));
        }
        let Some(Snapshot { state, schema, optimizer, used, .. }) = &self.resume else { return Ok(()) };
        let mismatch = |problem: String| Err(RunError::Resume(problem));
        if *schema != self.schema {
            return mismatch("its tensors are not those of this model".to_owned());
        }
        let data_hash = self.dataset.hash();
        if state.data_hash != data_hash {
            let (had, has) = (&state.data, &self.dataset.name);
            return mismatch(format!(
                "it was trained on {had} ({:.12}), and this is {has} ({data_hash:.12}); give the same --data",
                state.data_hash
            ));
        }
        if state.build != self.build {
            return mismatch(format!(
                "build {} wrote it, this is {}; resume with that build, or begin a new run from its weights with --init-from",
                state.build, self.build
            ));
        }
        if used.len() != self.dataset.train.len() {
            return mismatch(format!("its ledger is for {} examples", used.len()));
        }
        if let Some((name, values)) = optimizer.iter().find(|(_, values)| values.len() != self.schema.parameters()) {
            return mismatch(format!("its optimizer state {name} has {} values", values.len()));
        }
        Ok(())
    }

    /// Where to begin.
    #[must_use]
    pub fn position(&self) -> Position {
        self.resume.as_ref().map_or(Position { version: 0, evaluation_owed: false }, |snapshot| Position {
            version: snapshot.state.version,
            evaluation_owed: snapshot.state.evaluation_owed,
        })
    }

    /// The optimizer, with the state that a checkpoint holds.
    pub fn optimizer(&self) -> Result<Optimizer, RunError> {
        let mut optimizer = Optimizer::new(&self.recipe.optimizer, self.schema.parameters());
        if let Some(snapshot) = &self.resume {
            optimizer
                .restore(snapshot.state.optimizer_steps, &snapshot.optimizer)
                .map_err(|error| RunError::Resume(error.to_string()))?;
        }
        Ok(optimizer)
    }
}
