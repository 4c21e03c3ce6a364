//! What to train and how, as typed.

use clap::Args;
use lockstep_proto::recipe::Setting;

use crate::exit::Result;

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
    /// Give up the promise of one result: fastest GPU algorithms by trial, workers of any device class (deterministic=false)
    #[arg(long)]
    pub fast: bool,
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
        settings.extend(self.fast.then(|| Setting::flag("--fast", "deterministic", false)));
        Ok(settings)
    }
}
