//! The rules between values of the right type, checked once, on the resolved recipe.

use super::conform;
use super::ownership::{OWNED, refusal};
use super::{OptimizerName, Recipe, RecipeError, ScheduleName};

/// Every step talks about every shard; beyond this many the talk costs more than the work.
pub(super) const MAX_SHARDS: usize = 4096;

/// Up to here an f32 counts exactly, and losses are divided by the batch size in f32.
const MAX_BATCH: usize = 1 << 24;

/// TOML's integers end here.
const MAX_INTEGER: u64 = i64::MAX as u64;

/// A name becomes part of a folder's name.
const MAX_NAME: usize = 100;

/// A rule that a recipe breaks.
pub(super) struct Broken {
    pub(super) key: &'static str,
    found: String,
    rule: String,
}

impl Broken {
    pub(super) fn into_error(self, place: String) -> RecipeError {
        RecipeError::Rule { place, key: self.key.to_owned(), found: self.found, rule: self.rule }
    }
}

impl Recipe {
    /// Checks a recipe that was changed in code; [`Recipe::resolve`] and [`Recipe::parse`] have checked theirs.
    pub fn validate(&self) -> Result<(), RecipeError> {
        broken(self).map_or(Ok(()), |broken| Err(broken.into_error("recipe".to_owned())))
    }
}

/// The first rule that `recipe` breaks.
pub(super) fn broken(recipe: &Recipe) -> Option<Broken> {
    // sizes first: turning a recipe into a table relies on them
    run(recipe)
        .or_else(|| data(recipe))
        .or_else(|| optimizer(recipe))
        .or_else(|| schedule(recipe))
        .or_else(|| owned(recipe))
}

fn unless(holds: bool, key: &'static str, found: impl std::fmt::Debug, rule: impl Into<String>) -> Option<Broken> {
    (!holds).then(|| Broken { key, found: format!("{found:?}"), rule: rule.into() })
}

fn first(rules: impl IntoIterator<Item = Option<Broken>>) -> Option<Broken> {
    rules.into_iter().flatten().next()
}

/// Finite and at least 0, in f64 and in the f32 that it is used as.
fn rate(value: f64) -> bool {
    value >= 0.0 && (value as f32).is_finite()
}

const RATE: &str = "must be a finite number that is not negative";

fn run(r: &Recipe) -> Option<Broken> {
    let name_fits = !r.name.is_empty()
        && r.name.len() <= MAX_NAME
        && !r.name.starts_with(['.', '-'])
        && r.name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c));
    let name_rule = format!(
        "must be 1 to {MAX_NAME} letters, digits or any of - _ . + (not first: - .), because the run's folder is named after it"
    );
    let integer = format!("must be at most {MAX_INTEGER}, where TOML's integers end");
    first([
        unless(name_fits, "name", &r.name, name_rule),
        unless(r.seed <= MAX_INTEGER, "seed", r.seed, &*integer),
        unless(r.epochs >= 1, "epochs", r.epochs, "must be at least 1; to stop earlier, set max_steps"),
        unless(r.max_steps <= MAX_INTEGER, "max_steps", r.max_steps, &*integer),
        unless(r.shards >= 1, "shards", r.shards, "must be at least 1; 1 is plain training without shards"),
        unless(
            r.shards <= MAX_SHARDS,
            "shards",
            r.shards,
            format!("must be at most {MAX_SHARDS}; a few for each worker that you expect are enough"),
        ),
        unless(
            r.batch_size >= r.shards,
            "batch_size",
            r.batch_size,
            format!("must be at least shards, which is {}; raise batch_size or lower shards", r.shards),
        ),
        unless(r.batch_size <= MAX_BATCH, "batch_size", r.batch_size, format!("must be at most {MAX_BATCH}")),
        unless(
            r.evaluation.slice >= 1,
            "evaluation.slice",
            r.evaluation.slice,
            "must be at least 1; 500 is the default",
        ),
        unless(
            r.evaluation.slice <= MAX_BATCH,
            "evaluation.slice",
            r.evaluation.slice,
            format!("must be at most {MAX_BATCH}"),
        ),
        unless(r.checkpoint.every_steps <= MAX_INTEGER, "checkpoint.every_steps", r.checkpoint.every_steps, &*integer),
        unless(
            r.checkpoint.keep >= 1,
            "checkpoint.keep",
            r.checkpoint.keep,
            "must be at least 1: a run resumes from its last one",
        ),
        unless(r.checkpoint.keep as u64 <= MAX_INTEGER, "checkpoint.keep", r.checkpoint.keep, &*integer),
    ])
}

fn data(r: &Recipe) -> Option<Broken> {
    let d = &r.data;
    first([
        unless(
            d.fraction > 0.0 && d.fraction <= 1.0,
            "data.fraction",
            d.fraction,
            "must be above 0 and at most 1; 1 uses all images",
        ),
        unless(
            (0.0..1.0).contains(&d.validation),
            "data.validation",
            d.validation,
            "must be at least 0 and below 1; 0 holds nothing out",
        ),
        unless(d.mean.iter().all(|m| (*m as f32).is_finite()), "data.mean", d.mean, "each must be finite"),
        unless(
            d.std.iter().all(|s| *s as f32 > 0.0 && (*s as f32).is_finite()),
            "data.std",
            d.std,
            "each must be finite and above 0, because pixels are divided by it; 1 changes nothing",
        ),
        unless(
            (0.0..=1.0).contains(&d.horizontal_flip),
            "data.horizontal_flip",
            d.horizontal_flip,
            "must be a probability from 0 to 1; 0.5 is usual, 0 is never",
        ),
        unless(
            d.crop_padding < 32,
            "data.crop_padding",
            d.crop_padding,
            "must be below 32, or a crop may hold no pixel of the image; 4 is usual, 0 is off",
        ),
    ])
}

fn optimizer(r: &Recipe) -> Option<Broken> {
    let o = &r.optimizer;
    let share = "must be at least 0 and below 1";
    let sgd = o.name == OptimizerName::Sgd;
    first([
        unless(rate(o.lr), "optimizer.lr", o.lr, RATE),
        unless(rate(o.weight_decay), "optimizer.weight_decay", o.weight_decay, RATE),
        unless(rate(o.clip_grad_norm), "optimizer.clip_grad_norm", o.clip_grad_norm, format!("{RATE}; 0 is off")),
        unless((0.0..1.0).contains(&o.momentum), "optimizer.momentum", o.momentum, format!("{share}; 0 is off")),
        unless((0.0..1.0).contains(&o.dampening), "optimizer.dampening", o.dampening, share),
        unless(
            !sgd || o.dampening == 0.0 || o.momentum > 0.0,
            "optimizer.dampening",
            o.dampening,
            "needs a momentum above 0, which it dampens; set it to 0 or raise optimizer.momentum",
        ),
        unless(
            !sgd || !o.nesterov || (o.momentum > 0.0 && o.dampening == 0.0),
            "optimizer.nesterov",
            o.nesterov,
            format!(
                "needs optimizer.momentum above 0 (it is {}) and optimizer.dampening 0 (it is {})",
                o.momentum, o.dampening
            ),
        ),
        unless(o.betas.iter().all(|b| (0.0..1.0).contains(b)), "optimizer.betas", o.betas, format!("each {share}")),
        unless(
            o.eps as f32 > 0.0 && (o.eps as f32).is_finite(),
            "optimizer.eps",
            o.eps,
            "must be finite and, as a 32-bit float, above 0, or 0/0 appears where a gradient is 0; 1e-8 is the default",
        ),
    ])
}

fn schedule(r: &Recipe) -> Option<Broken> {
    let s = &r.schedule;
    let integer = format!("must be at most {MAX_INTEGER}, where TOML's integers end");
    let increasing =
        s.milestones.windows(2).all(|pair| pair[0] < pair[1]) && s.milestones.first().is_none_or(|m| *m > 0);
    first([
        unless(
            s.name != ScheduleName::Step || s.step_size >= 1,
            "schedule.step_size",
            s.step_size,
            format!("must be at least 1 for the schedule \"step\": set how many {}s lie between two drops", s.unit),
        ),
        unless(s.step_size <= MAX_INTEGER, "schedule.step_size", s.step_size, &*integer),
        unless(
            s.name != ScheduleName::MultiStep || !s.milestones.is_empty(),
            "schedule.milestones",
            &s.milestones,
            format!("the schedule \"multi-step\" needs at least one: set the {}s at which the rate drops", s.unit),
        ),
        unless(increasing, "schedule.milestones", &s.milestones, "must be above 0 and each above the one before it"),
        unless(s.milestones.last().is_none_or(|m| *m <= MAX_INTEGER), "schedule.milestones", &s.milestones, &*integer),
        unless(
            s.gamma > 0.0 && (s.gamma as f32).is_finite(),
            "schedule.gamma",
            s.gamma,
            "must be finite and above 0; 0.1 is the default",
        ),
        unless(s.t_max <= MAX_INTEGER, "schedule.t_max", s.t_max, &*integer),
        unless(rate(s.eta_min), "schedule.eta_min", s.eta_min, RATE),
        unless(
            s.name != ScheduleName::Cosine || s.eta_min <= r.optimizer.lr,
            "schedule.eta_min",
            s.eta_min,
            format!("must not be above optimizer.lr, which is {}: the cosine falls from there to here", r.optimizer.lr),
        ),
        unless(s.warmup_steps <= MAX_INTEGER, "schedule.warmup_steps", s.warmup_steps, &*integer),
        unless(
            s.warmup_start_factor > 0.0 && s.warmup_start_factor <= 1.0,
            "schedule.warmup_start_factor",
            s.warmup_start_factor,
            "must be above 0 and at most 1, the share of the rate to start with",
        ),
    ])
}

/// A setting that the chosen optimizer or schedule would ignore holds its default.
fn owned(recipe: &Recipe) -> Option<Broken> {
    let (ours, defaults) = (recipe.table(), Recipe::default().table());
    OWNED.iter().find_map(|(key, chooser, owners)| {
        let chosen = conform::at(&ours, chooser)?.as_str()?;
        let (found, default) = (conform::at(&ours, key)?, conform::at(&defaults, key)?);
        (found != default && !owners.contains(&chosen)).then(|| Broken {
            key,
            found: found.to_string(),
            rule: refusal(chooser, chosen, owners),
        })
    })
}
