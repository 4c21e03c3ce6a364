//! The rules between values of the right type, checked once, on the resolved recipe.

mod data;

use super::conform;
use super::ownership::{OWNED, refusal};
use super::{OptimizerName, Recipe, RecipeError, ScheduleName};

/// Every step talks about every shard; beyond this many the talk costs more than the work.
pub(super) const MAX_SHARDS: usize = 4096;

/// Up to here an f32 counts exactly, and losses are divided by the batch size in f32.
const MAX_BATCH: usize = 1 << 24;

/// TOML's integers end here.
const MAX_INTEGER: u64 = i64::MAX as u64;

/// A deadline is a point in time, and there is no clock for one that far away.
const MAX_SECONDS: u64 = 1_000_000_000;

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
        .or_else(|| data::data(recipe))
        .or_else(|| loss(recipe))
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
        unless(
            r.init_hash.is_empty() || (r.init_hash.len() == 64 && r.init_hash.chars().all(|c| c.is_ascii_hexdigit())),
            "init_hash",
            &r.init_hash,
            "must be a weights hash, 64 hexadecimal digits, or empty",
        ),
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
            r.checkpoint.every_seconds <= MAX_SECONDS,
            "checkpoint.every_seconds",
            r.checkpoint.every_seconds,
            format!("must be at most {MAX_SECONDS}, which is 31 years; 0 is off"),
        ),
        unless(
            r.checkpoint.keep >= 1,
            "checkpoint.keep",
            r.checkpoint.keep,
            "must be at least 1: a run resumes from its last one",
        ),
        unless(r.checkpoint.keep as u64 <= MAX_INTEGER, "checkpoint.keep", r.checkpoint.keep, &*integer),
    ])
}

fn loss(r: &Recipe) -> Option<Broken> {
    let penalty = format!("{RATE}; 0 is off");
    first([
        unless(rate(r.loss.l1), "loss.l1", r.loss.l1, &*penalty),
        unless(rate(r.loss.l2), "loss.l2", r.loss.l2, &*penalty),
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

#[cfg(test)]
mod tests {
    use super::super::{RecipeError, Setting};
    use super::*;

    fn refusal_of(arguments: &[&str]) -> String {
        let settings: Vec<_> = arguments.iter().map(|a| Setting::parse(a).expect("key=value")).collect();
        let load = |path: &str| Err(format!("no file {path}"));
        match Recipe::resolve(None, &settings, &load) {
            Err(error @ RecipeError::Rule { .. }) => error.to_string(),
            other => panic!("{arguments:?} should break a rule, not give {other:?}"),
        }
    }

    /// Each list of settings breaks one rule, and the message holds the key, the number found and the bound.
    #[test]
    fn every_rule_refuses_with_the_number_and_the_bound() {
        for (settings, parts) in [
            (vec!["name=a/b"], ["name = \"a/b\"", "letters"]),
            (vec!["name=\"\""], ["name = \"\"", "letters"]),
            (vec!["name=.."], ["name = \"..\"", "not first"]),
            (vec!["epochs=0"], ["epochs = 0", "at least 1"]),
            (vec!["shards=0"], ["shards = 0", "at least 1"]),
            (vec!["shards=5000", "batch_size=6000"], ["shards = 5000", "at most 4096"]),
            (vec!["batch_size=3"], ["batch_size = 3", "at least shards, which is 4"]),
            (vec!["batch_size=100000000"], ["batch_size = 100000000", "16777216"]),
            (vec!["evaluation.slice=0"], ["evaluation.slice = 0", "at least 1"]),
            (vec!["checkpoint.every_seconds=1000000001"], ["checkpoint.every_seconds = 1000000001", "31 years"]),
            (vec!["checkpoint.keep=0"], ["checkpoint.keep = 0", "at least 1"]),
            (vec!["data.fraction=0"], ["data.fraction = 0.0", "above 0"]),
            (vec!["data.fraction=nan"], ["data.fraction = NaN", "above 0"]),
            (vec!["data.fraction=1.01"], ["data.fraction = 1.01", "at most 1"]),
            (vec!["data.validation=1"], ["data.validation = 1.0", "below 1"]),
            (vec!["data.mean=0,nan,0"], ["data.mean = [0.0, NaN, 0.0]", "finite"]),
            (vec!["data.std=1,0,1"], ["data.std = [1.0, 0.0, 1.0]", "above 0"]),
            (vec!["data.std=1,1e-60,1"], ["data.std = [1.0, 1e-60, 1.0]", "above 0"]),
            (vec!["data.horizontal_flip=2"], ["data.horizontal_flip = 2.0", "0 to 1"]),
            (vec!["data.crop_padding=32"], ["data.crop_padding = 32", "below 32"]),
            (vec!["data.vertical_flip=-0.1"], ["data.vertical_flip = -0.1", "0 to 1"]),
            (vec!["data.rotation=180.5"], ["data.rotation = 180.5", "0 to 180"]),
            (vec!["data.rotation=nan"], ["data.rotation = NaN", "0 to 180"]),
            (vec!["data.translate=0.1,1.5"], ["data.translate = [0.1, 1.5]", "from 0 to 1"]),
            (vec!["data.scale=1.2,1.1"], ["data.scale = [1.2, 1.1]", "a least and a greatest"]),
            (vec!["data.scale=0,1"], ["data.scale = [0.0, 1.0]", "between 0.01 and 100"]),
            (vec!["data.scale=1,101"], ["data.scale = [1.0, 101.0]", "between 0.01 and 100"]),
            (vec!["data.scale=nan,1"], ["data.scale = [NaN, 1.0]", "between 0.01 and 100"]),
            (vec!["data.brightness=-1"], ["data.brightness = -1.0", "0 to 255"]),
            (vec!["data.contrast=256"], ["data.contrast = 256.0", "0 to 255"]),
            (vec!["data.saturation=inf"], ["data.saturation = inf", "0 to 255"]),
            (vec!["data.hue=0.6"], ["data.hue = 0.6", "0 to 0.5"]),
            (vec!["loss.l1=-1e-4"], ["loss.l1 = -0.0001", "not negative"]),
            (vec!["loss.l2=1e39"], ["loss.l2 = 1e39", "0 is off"]),
            (vec!["optimizer.lr=NaN"], ["optimizer.lr = NaN", "finite"]),
            (vec!["optimizer.lr=inf"], ["optimizer.lr = inf", "finite"]),
            (vec!["optimizer.lr=1e39"], ["optimizer.lr = 1e39", "finite"]),
            (vec!["optimizer.lr=-0.1"], ["optimizer.lr = -0.1", "not negative"]),
            (vec!["optimizer.weight_decay=-1"], ["optimizer.weight_decay = -1.0", "not negative"]),
            (vec!["optimizer.clip_grad_norm=nan"], ["optimizer.clip_grad_norm = NaN", "0 is off"]),
            (vec!["optimizer.momentum=1"], ["optimizer.momentum = 1.0", "below 1"]),
            (vec!["optimizer.momentum=nan"], ["optimizer.momentum = NaN", "below 1"]),
            (vec!["optimizer.dampening=1"], ["optimizer.dampening = 1.0", "below 1"]),
            (vec!["optimizer.dampening=0.5", "optimizer.momentum=0"], ["optimizer.dampening = 0.5", "momentum"]),
            (vec!["optimizer.nesterov=true", "optimizer.momentum=0"], ["optimizer.nesterov = true", "(it is 0)"]),
            (vec!["optimizer.nesterov=true", "optimizer.dampening=0.5"], ["optimizer.nesterov = true", "(it is 0.5)"]),
            (vec!["optimizer.name=adam", "optimizer.betas=0.9,1"], ["optimizer.betas = [0.9, 1.0]", "below 1"]),
            (vec!["optimizer.name=adam", "optimizer.eps=0"], ["optimizer.eps = 0.0", "above 0"]),
            (vec!["optimizer.name=adam", "optimizer.eps=1e-60"], ["optimizer.eps = 1e-60", "32-bit"]),
            (vec!["schedule.name=step"], ["schedule.step_size = 0", "how many epochs"]),
            (vec!["schedule.name=multi-step", "schedule.unit=step"], ["schedule.milestones = []", "the steps at"]),
            (vec!["schedule.name=multi-step", "schedule.milestones=4,4"], ["schedule.milestones = [4, 4]", "above"]),
            (vec!["schedule.name=multi-step", "schedule.milestones=0,4"], ["schedule.milestones = [0, 4]", "above"]),
            (
                vec!["schedule.name=step", "schedule.step_size=1", "schedule.gamma=0"],
                ["schedule.gamma = 0.0", "above 0"],
            ),
            (vec!["schedule.name=cosine", "schedule.eta_min=0.02"], ["schedule.eta_min = 0.02", "which is 0.01"]),
            (vec!["schedule.warmup_start_factor=0"], ["schedule.warmup_start_factor = 0.0", "above 0"]),
            (vec!["schedule.warmup_start_factor=1.5"], ["schedule.warmup_start_factor = 1.5", "at most 1"]),
            (vec!["schedule.step_size=3"], ["schedule.step_size = 3", "schedule.name = step"]),
            (vec!["optimizer.eps=0.1"], ["optimizer.eps = 0.1", "adam or adamw"]),
        ] {
            let message = refusal_of(&settings);
            for part in parts {
                assert!(message.contains(part), "{settings:?}: {message:?} should hold {part:?}");
            }
        }
    }

    #[test]
    fn the_bounds_themselves_are_fine() {
        let mut recipe = Recipe { batch_size: MAX_SHARDS, shards: MAX_SHARDS, seed: MAX_INTEGER, ..Recipe::default() };
        recipe.optimizer.lr = 0.0;
        recipe.optimizer.momentum = 0.0;
        recipe.data.horizontal_flip = 1.0;
        recipe.data.fraction = 1e-9;
        (recipe.data.vertical_flip, recipe.data.rotation, recipe.data.hue) = (1.0, 180.0, 0.5);
        (recipe.data.translate, recipe.data.scale) = ([1.0; 2], [0.01, 100.0]);
        (recipe.data.brightness, recipe.data.contrast, recipe.data.saturation) = (255.0, 255.0, 255.0);
        assert_eq!(recipe.validate(), Ok(()));
        recipe.seed += 1;
        assert!(
            recipe
                .validate()
                .expect_err("TOML cannot hold it")
                .to_string()
                .contains("recipe: seed = 9223372036854775808")
        );
    }

    #[test]
    fn the_place_is_where_the_value_was_written() {
        assert!(refusal_of(&["optimizer.lr=nan"]).starts_with("--set optimizer.lr: optimizer.lr = NaN: "));
        // here the shards were typed and the batch size was not: the built-in recipe's line is named
        assert!(
            refusal_of(&["shards=65"]).starts_with("built-in recipe lenet:6: batch_size = 64: "),
            "{}",
            refusal_of(&["shards=65"])
        );
    }
}
