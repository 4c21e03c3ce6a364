//! Every setting of a recipe, with its type, default and unit. The rules between them are in `rules.rs`.

use serde::{Deserialize, Serialize};

use super::choice::{
    BatchNormStatistics, EvaluationMode, LossName, OptimizerName, PartitionName, ScheduleName, ScheduleUnit, Subset,
    Wire,
};
use super::model::ModelSpec;
use super::{Reported, catalogue, layers};

/// A whole training, in data. Every key has a default; `0` means "off" where a key says so, so that a printed recipe
/// hides nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What results call it. Left out: the file's name without `.toml`.
    pub name: String,
    /// Where the recipe comes from.
    pub source: String,
    /// The recipe whose last weights it begins with, where it does: they are given with `--init-from`.
    pub init_from: String,
    /// The hash of the weights that a run began with, where they were given: the run's own recipe has it.
    pub init_hash: String,
    /// Every random draw is keyed by it.
    pub seed: u64,
    /// Passes over the training images, at least 1.
    pub epochs: u32,
    /// Stop after so many optimizer steps; 0: no limit.
    pub max_steps: u64,
    /// Images of one optimizer step, over all workers together.
    pub batch_size: usize,
    /// Parts that every batch is cut into, whatever the number of workers.
    pub shards: usize,
    pub batch_norm: BatchNormStatistics,
    pub wire: Wire,
    /// One result, to the bit, whatever the cluster is. `false` gives that up: a GPU's algorithms are those that a trial finds
    /// fastest, and workers of several device classes may take part.
    pub deterministic: bool,
    /// The numbers that it should reach. They decide no weight.
    pub reported: Vec<Reported>,
    pub data: DataSettings,
    pub loss: LossSettings,
    pub optimizer: OptimizerSettings,
    pub schedule: ScheduleSettings,
    pub evaluation: EvaluationSettings,
    pub checkpoint: CheckpointSettings,
    /// The network. In a recipe file: the name of a built-in model, the path of a model file (relative to the recipe's
    /// folder; it has a `/` or ends in `.toml`), or the model itself as a table.
    pub model: ModelSpec,
}

/// Which training images, and what happens to their pixels. Where the images come from is no part of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSettings {
    pub subset: Subset,
    /// Share of the subset that is used, in (0, 1].
    pub fraction: f64,
    /// Share of those images that is held out for validation, in [0, 1).
    pub validation: f64,
    /// Which shards an image may be in.
    pub partition: PartitionName,
    /// Taken from each channel (red, green, blue) of pixels in [0, 1].
    pub mean: [f64; 3],
    /// Each channel is then divided by it.
    pub std: [f64; 3],
    /// Probability of a mirror image, as `RandomHorizontalFlip(p)`; 0: never.
    pub horizontal_flip: f64,
    /// Black pixels added on every side before a random 32×32 crop, as `RandomCrop(32, padding)`; 0: no crop.
    pub crop_padding: usize,
    /// Probability that top and bottom change places, as `RandomVerticalFlip(p)`; 0: never.
    pub vertical_flip: f64,
    /// Degrees, 0 to 180: the angle is uniform in ± this. Rotation, translation and scale are one `RandomAffine`: about the
    /// centre, nearest, fill 0.
    pub rotation: f64,
    /// Shares of width and height: a shift is uniform in ± this, rounded to whole pixels.
    pub translate: [f64; 2],
    /// The factor is uniform between the two; above 1 enlarges.
    pub scale: [f64; 2],
    /// `ColorJitter`'s: the factor is uniform in \[max(0, 1 − this), 1 + this\]; 0: off, as in the next three.
    pub brightness: f64,
    pub contrast: f64,
    pub saturation: f64,
    /// The hue turns by a share of the colour circle that is uniform in ± this, at most 0.5.
    pub hue: f64,
}

/// What is made smaller: the mean loss of a batch, plus penalties on the parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossSettings {
    pub name: LossName,
    /// Times Σ|p| over all parameters, biases and BatchNorm's weights too; 0: off.
    pub l1: f64,
    /// Times Σp² over all parameters; 0: off. Its gradient is 2·l2·p, where `optimizer.weight_decay` would add w·p.
    pub l2: f64,
}

/// The optimizer, with `torch.optim`'s names. Defaults do not depend on `name`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettings {
    pub name: OptimizerName,
    /// The learning rate that the schedule multiplies.
    pub lr: f64,
    pub weight_decay: f64,
    /// `clip_grad_norm_`'s `max_norm`, on the whole gradient; 0: no clipping.
    pub clip_grad_norm: f64,
    /// SGD only, as are the next two.
    pub momentum: f64,
    pub dampening: f64,
    pub nesterov: bool,
    /// Adam and AdamW only, as is `eps`.
    pub betas: [f64; 2],
    pub eps: f64,
}

/// The learning rate over time, with `torch.optim.lr_scheduler`'s names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    pub name: ScheduleName,
    /// What `step_size`, `milestones` and `t_max` count.
    pub unit: ScheduleUnit,
    /// `step`: the rate is multiplied by `gamma` every so many units of the run.
    pub step_size: u64,
    /// `multi-step`: … and here at each of these units of the run.
    pub milestones: Vec<u64>,
    /// `step` and `multi-step`.
    pub gamma: f64,
    /// `cosine`: units from the highest rate to the lowest; 0: from the end of the warm-up to the end of the run.
    pub t_max: u64,
    /// `cosine`: the lowest rate.
    pub eta_min: f64,
    /// Optimizer steps over which the rate first rises, linearly (`LinearLR`'s `total_iters`); 0: no warm-up.
    pub warmup_steps: u64,
    /// The share of the rate that the warm-up starts at (`LinearLR`'s `start_factor`).
    pub warmup_start_factor: f64,
}

/// When and how the test images are evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationSettings {
    /// 0: only at the end.
    pub every_epochs: u32,
    /// Images that one worker evaluates at a time; in the recipe because sums depend on it.
    pub slice: usize,
    pub mode: EvaluationMode,
    /// Also the training images, without augmentation and in evaluation mode, whatever `mode` is.
    pub train_images: bool,
}

/// When checkpoints are written and how many stay. The best one stays besides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSettings {
    /// 0: not by epochs (there is always one at the end).
    pub every_epochs: u32,
    /// 0: not by steps.
    pub every_steps: u64,
    /// After the first step that ends so many seconds after the last checkpoint; 0: not by time.
    pub every_seconds: u64,
    /// The last so many are kept.
    pub keep: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        let model = catalogue::DEFAULT_MODEL;
        Self {
            name: model.name.to_owned(),
            source: String::new(),
            init_from: String::new(),
            init_hash: String::new(),
            seed: 0,
            epochs: 20,
            max_steps: 0,
            batch_size: 64,
            shards: 4,
            batch_norm: BatchNormStatistics::Shard,
            wire: Wire::F32,
            deterministic: true,
            reported: Vec::new(),
            data: DataSettings::default(),
            loss: LossSettings::default(),
            optimizer: OptimizerSettings::default(),
            schedule: ScheduleSettings::default(),
            evaluation: EvaluationSettings::default(),
            checkpoint: CheckpointSettings::default(),
            model: layers::parse_model(model.text, model.name).expect("a test parses every built-in model"),
        }
    }
}

impl Default for DataSettings {
    fn default() -> Self {
        Self {
            subset: Subset::All,
            fraction: 1.0,
            validation: 0.0,
            partition: PartitionName::Shuffled,
            mean: [0.0; 3],
            std: [1.0; 3],
            horizontal_flip: 0.0,
            crop_padding: 0,
            vertical_flip: 0.0,
            rotation: 0.0,
            translate: [0.0; 2],
            scale: [1.0; 2],
            brightness: 0.0,
            contrast: 0.0,
            saturation: 0.0,
            hue: 0.0,
        }
    }
}

impl Default for LossSettings {
    fn default() -> Self {
        Self { name: LossName::CrossEntropy, l1: 0.0, l2: 0.0 }
    }
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            name: OptimizerName::Sgd,
            lr: 0.01,
            weight_decay: 0.0,
            clip_grad_norm: 0.0,
            momentum: 0.9,
            dampening: 0.0,
            nesterov: false,
            betas: [0.9, 0.999],
            eps: 1e-8,
        }
    }
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            name: ScheduleName::Constant,
            unit: ScheduleUnit::Epoch,
            step_size: 0,
            milestones: Vec::new(),
            gamma: 0.1,
            t_max: 0,
            eta_min: 0.0,
            warmup_steps: 0,
            warmup_start_factor: 1.0 / 3.0,
        }
    }
}

impl Default for EvaluationSettings {
    fn default() -> Self {
        Self { every_epochs: 1, slice: 500, mode: EvaluationMode::Eval, train_images: false }
    }
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self { every_epochs: 1, every_steps: 0, every_seconds: 0, keep: 3 }
    }
}
