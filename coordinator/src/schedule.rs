//! The learning rate of each step: a pure function of the step, so that a resumed run needs no scheduler state.
//!
//! PyTorch's closed forms:
//! [`StepLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html),
//! [`MultiStepLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.MultiStepLR.html),
//! [`CosineAnnealingLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.CosineAnnealingLR.html), each
//! behind a [`LinearLR`](https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LinearLR.html) warm-up.
//!
//! `step_size` and `milestones` count from the start of the run, warm-up or not: "drop at epoch 100" means that epoch. The
//! cosine starts where the warm-up ends (`SequentialLR`), in whole epochs where it counts epochs.

use std::f64::consts::PI;

use lockstep_proto::recipe::{ScheduleName, ScheduleSettings, ScheduleUnit};

/// A recipe's learning rate over time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Schedule {
    settings: ScheduleSettings,
    base: f64,
    /// The unit at which the cosine begins to fall.
    start: u64,
    /// Units over which it falls; at least 1.
    span: u64,
}

impl Schedule {
    /// The schedule of a run of `total_steps`, which rises to `base_lr`. A cosine without `t_max` falls until the run's end.
    #[must_use]
    pub(crate) fn new(settings: &ScheduleSettings, base_lr: f64, steps_per_epoch: u64, total_steps: u64) -> Self {
        // an empty data set is refused elsewhere; here it must not divide by zero
        let per_epoch = steps_per_epoch.max(1);
        let (start, end) = match settings.unit {
            ScheduleUnit::Step => (settings.warmup_steps, total_steps),
            ScheduleUnit::Epoch => (settings.warmup_steps.div_ceil(per_epoch), total_steps.div_ceil(per_epoch)),
        };
        let span = if settings.t_max == 0 { end.saturating_sub(start) } else { settings.t_max };
        Self { base: base_lr, settings: settings.clone(), start, span: span.max(1) }
    }

    /// The rate of the optimizer step number `step` of the run, which lies in `epoch`; both count from 0.
    #[must_use]
    pub(crate) fn lr(&self, step: u64, epoch: u64) -> f64 {
        let at = match self.settings.unit {
            ScheduleUnit::Step => step,
            ScheduleUnit::Epoch => epoch,
        };
        self.warm_up(step) * self.after_warm_up(at)
    }

    fn warm_up(&self, step: u64) -> f64 {
        let ScheduleSettings { warmup_steps, warmup_start_factor, .. } = self.settings;
        if step >= warmup_steps {
            return 1.0;
        }
        warmup_start_factor + (1.0 - warmup_start_factor) * (step as f64 / warmup_steps as f64)
    }

    fn after_warm_up(&self, at: u64) -> f64 {
        let settings = &self.settings;
        // the host's pow and cos differ between C libraries: libm's do not
        match settings.name {
            ScheduleName::Constant => self.base,
            ScheduleName::Step => self.base * libm::pow(settings.gamma, (at / settings.step_size.max(1)) as f64),
            ScheduleName::MultiStep => {
                let passed = settings.milestones.iter().filter(|milestone| **milestone <= at).count();
                self.base * libm::pow(settings.gamma, passed as f64)
            }
            ScheduleName::Cosine => {
                let turn = at.saturating_sub(self.start) as f64 / self.span as f64;
                settings.eta_min + (self.base - settings.eta_min) * (1.0 + libm::cos(PI * turn)) / 2.0
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::recipe::{Recipe, Setting};
    use serde_json::Value;

    use super::*;

    fn settings(settings: &[(&str, String)]) -> ScheduleSettings {
        let settings: Vec<_> = settings.iter().map(|(key, value)| Setting::flag("test", key, value)).collect();
        Recipe::resolve(None, &settings, &|path| Err(format!("no file {path}"))).expect("valid settings").schedule
    }

    /// Oracle: PyTorch's scheduler objects, run by `tests/oracle/optimizer.py`.
    #[test]
    fn rates_are_pytorchs() {
        let text = include_str!("../../tests/oracle/optimizer.json");
        let oracle: Value = serde_json::from_str(text).expect("the script writes JSON");
        let number = |key: &str| oracle[key].as_u64().expect("a number");
        let variants = oracle["schedules"].as_object().expect("a table");
        assert_eq!(variants.len(), 12);
        for (name, variant) in variants {
            let given = variant["settings"].as_object().expect("a table");
            let keys: Vec<_> = given.iter().map(|(key, value)| (format!("schedule.{key}"), value)).collect();
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let mut settings: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), text(value))).collect();
            settings.push(("optimizer.lr", oracle["base"].to_string())); // a bound of eta_min
            let per_epoch = number("per_epoch");
            let (base, steps) = (oracle["base"].as_f64().expect("a number"), number("epochs") * per_epoch);
            let schedule = Schedule::new(&self::settings(&settings), base, per_epoch, steps);
            let rates = variant["lr"].as_array().expect("a list");
            assert_eq!(rates.len() as u64, steps);
            for (step, rate) in (0..).zip(rates) {
                let (ours, theirs) = (schedule.lr(step, step / per_epoch), rate.as_f64().expect("a number"));
                // PyTorch multiplies its way from step to step; 30 roundings of 0.3 are below 1e-14
                assert!((ours - theirs).abs() < 1e-14, "{name}, step {step}: {ours} and PyTorch {theirs}");
            }
        }
    }

    #[test]
    fn a_cosine_ends_with_the_run_wherever_that_is() {
        let cosine = settings(&[("schedule.name", "cosine".to_owned()), ("schedule.unit", "step".to_owned())]);
        let short = Schedule::new(&cosine, 0.01, 100, 10);
        assert!(short.lr(9, 0) < 0.01 * 0.03 && short.lr(10, 0) < 1e-18, "{}", short.lr(9, 0));
        assert!((Schedule::new(&cosine, 0.01, 100, 400).lr(200, 2) - 0.005).abs() < 1e-15);
    }

    #[test]
    fn a_warm_up_longer_than_the_run_and_an_empty_epoch_give_finite_rates() {
        let long = settings(&[("schedule.name", "cosine".to_owned()), ("schedule.warmup_steps", "1000".to_owned())]);
        for per_epoch in [0, 1, 7] {
            let schedule = Schedule::new(&long, 0.01, per_epoch, per_epoch);
            assert!((0..2000).all(|step| (0.0..=0.01).contains(&schedule.lr(step, step / 7))));
        }
    }
}
