//! A recipe as text, as a fingerprint, and beside another recipe.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::Recipe;

const HEADER: &str = "\
# A resolved recipe: every setting, defaults included. It resolves to itself: `lockstep train THIS-FILE` runs it again.
";

/// One setting that two recipes do not share. An entry that only one has (a layer of a longer model) is `absent` in the
/// other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub key: String,
    pub ours: String,
    pub theirs: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {} here and {} there", self.key, self.ours, self.theirs)
    }
}

impl Recipe {
    /// The whole recipe as TOML; [`Recipe::parse`] gives it back, equal to the bit.
    #[must_use]
    pub fn to_toml(&self) -> String {
        format!("{HEADER}{}", self.body())
    }

    /// 32 hexadecimal digits that change with every setting.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new_derive_key("lockstep v1 recipe");
        hash.update(self.settings().body().as_bytes());
        hash.finalize().to_hex()[..32].to_owned()
    }

    /// Every setting that differs, in key order; empty exactly when the fingerprints are equal.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let (ours, theirs) = (self.settings().leaves(), other.settings().leaves());
        let absent = || "absent".to_owned();
        let keys: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
        keys.into_iter()
            .filter(|key| ours.get(*key) != theirs.get(*key))
            .map(|key| Difference {
                key: key.clone(),
                ours: ours.get(key).cloned().unwrap_or_else(absent),
                theirs: theirs.get(key).cloned().unwrap_or_else(absent),
            })
            .collect()
    }

    /// The recipe without what is only said about it: a source that was put right is no other training. Nor is what it began
    /// with: whoever goes on with a run has its weights.
    fn settings(&self) -> Self {
        let mut settings = Self { reported: Vec::new(), ..self.clone() };
        for said in [&mut settings.source, &mut settings.init_from, &mut settings.init_hash, &mut settings.model.source]
        {
            said.clear();
        }
        settings
    }

    fn body(&self) -> String {
        toml::to_string(self)
            .expect("the only numbers that TOML cannot hold are above i64::MAX, and rules.rs bounds all")
    }

    /// The recipe as a TOML table.
    pub(super) fn table(&self) -> Table {
        Table::try_from(self).expect("as in body()")
    }

    fn leaves(&self) -> BTreeMap<String, String> {
        let mut leaves = BTreeMap::new();
        collect(String::new(), &Value::Table(self.table()), &mut leaves);
        leaves
    }
}

fn collect(key: String, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                collect(key, value, into);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_table) => {
            for (i, item) in items.iter().enumerate() {
                collect(format!("{key}[{i}]"), item, into);
            }
        }
        leaf => {
            into.insert(key, leaf.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{
        EvaluationMode, LossName, OptimizerName, PartitionName, Reported, ScheduleName, ScheduleUnit, Setting, Subset,
        catalogue,
    };
    use super::*;

    fn resolved(arguments: &[&str]) -> Recipe {
        let settings: Vec<_> = arguments.iter().map(|a| Setting::parse(a).expect("key=value")).collect();
        Recipe::resolve(None, &settings, &|path| Err(format!("no file {path}"))).expect("nothing is wrong")
    }

    #[test]
    fn every_setting_is_printed() {
        let text = resolved(&[]).to_toml();
        let table: Table = toml::from_str(&text).expect("TOML");
        assert_eq!(table, resolved(&[]).table());
        for key in [
            "max_steps = 0",
            "batch_norm = \"shard\"",
            "wire = \"f32\"",
            "deterministic = true",
            "betas = [0.9, 0.999]",
            "milestones = []",
            "[model]",
            "every_seconds = 0",
            "translate = [0.0, 0.0]",
            "keep = 3",
        ] {
            assert!(text.contains(key), "{key} in\n{text}");
        }
    }

    #[test]
    fn differences_name_the_key_and_both_values() {
        let (a, b) = (resolved(&[]), resolved(&["optimizer.lr=0.02", "model=lenet-dropout", "name=lenet"]));
        let lines: Vec<String> = a.differences(&b).iter().map(ToString::to_string).collect();
        assert!(lines.contains(&"optimizer.lr is 0.01 here and 0.02 there".to_owned()), "{lines:#?}");
        assert!(
            lines.contains(&"model.layers[9].type is \"linear\" here and \"dropout\" there".to_owned()),
            "{lines:#?}"
        );
        assert!(lines.contains(&"model.layers[9].p is absent here and 0.5 there".to_owned()), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.starts_with("seed")), "{lines:#?}");
        assert_ne!(a.fingerprint(), b.fingerprint());
        assert_eq!(a.differences(&a), []);
    }

    prop_compose! {
        fn floats()(lr in 0.0..10.0_f64, decay in 0.0..1.0_f64, clip in 0.0..1e30_f64, share in 0.0..1.0_f64, beta in 0.0..1.0_f64,
                    mean in -3.0..3.0_f64, std in 1e-30..3.0_f64, eps in 1e-30..1.0_f64) -> [f64; 8] {
            [lr, decay, clip, share, beta, mean, std, eps]
        }
    }

    prop_compose! {
        fn recipes()(name in "[a-z0-9+_][a-z0-9.+_-]{0,20}", source in any::<String>(), seed in 0..=i64::MAX as u64, epochs in 1..=u32::MAX,
                     max_steps in 0..=i64::MAX as u64, shards in 1..=4096_usize, extra in 0..10_000_usize, f in floats(),
                     model in 0..catalogue::MODELS.len(), optimizer in 0..3_usize, schedule in 0..4_usize, subset in 0..5_usize,
                     milestones in prop::collection::btree_set(1..1_000_000_u64, 1..5), flags in any::<[bool; 3]>()) -> Recipe {
            let name_of_model = catalogue::MODELS[model].name;
            let mut r = Recipe { name, source, seed, epochs, max_steps, batch_size: shards + extra, shards,
                                 model: resolved(&[&format!("model={name_of_model}")]).model, ..Recipe::default() };
            r.data.subset = [Subset::All, Subset::FirstHalf, Subset::SecondHalf, Subset::Even, Subset::Odd][subset];
            (r.data.mean, r.data.std, r.data.fraction) = ([f[5]; 3], [f[6]; 3], 1.0 - f[3]);
            (r.data.validation, r.data.horizontal_flip, r.data.crop_padding) = (f[3], f[4], extra % 32);
            (r.data.vertical_flip, r.data.rotation, r.data.hue) = (f[3], 180.0 * f[4], f[3] / 2.0);
            (r.data.translate, r.data.scale) = ([f[3], f[4]], [1.0 - 0.99 * f[3], 1.0 + 99.0 * f[4]]);
            (r.data.brightness, r.data.contrast, r.data.saturation) = (f[3], f[4], 25.0 * f[0]);
            r.data.partition = [PartitionName::Shuffled, PartitionName::Interleaved, PartitionName::Contiguous][optimizer];
            r.loss.name = [LossName::L1Softmax, LossName::CrossEntropy, LossName::L1Logits][optimizer];
            (r.loss.l1, r.loss.l2) = (f[1], f[3]);
            r.evaluation.mode = if flags[2] { EvaluationMode::Train } else { EvaluationMode::Eval };
            r.evaluation.train_images = flags[1];
            (r.optimizer.lr, r.optimizer.weight_decay, r.optimizer.clip_grad_norm) = (f[0], f[1], f[2]);
            r.optimizer.name = [OptimizerName::Sgd, OptimizerName::Adam, OptimizerName::AdamW][optimizer];
            if r.optimizer.name == OptimizerName::Sgd {
                r.optimizer.momentum = f[4].max(0.1);
                r.optimizer.nesterov = flags[0];
                r.optimizer.dampening = if flags[0] { 0.0 } else { f[3] };
            } else {
                (r.optimizer.betas, r.optimizer.eps) = ([f[4], f[3]], f[7]);
            }
            r.schedule.name = [ScheduleName::Constant, ScheduleName::Step, ScheduleName::MultiStep, ScheduleName::Cosine][schedule];
            r.schedule.unit = if flags[1] { ScheduleUnit::Step } else { ScheduleUnit::Epoch };
            match r.schedule.name {
                ScheduleName::Constant => {}
                ScheduleName::Step => (r.schedule.step_size, r.schedule.gamma) = (max_steps.max(1), f[7]),
                ScheduleName::MultiStep => r.schedule.milestones = milestones.into_iter().collect(),
                ScheduleName::Cosine => (r.schedule.t_max, r.schedule.eta_min) = (max_steps, f[0] / 2.0),
            }
            (r.schedule.warmup_steps, r.schedule.warmup_start_factor) = (max_steps, 1.0 - f[3]);
            (r.evaluation.slice, r.checkpoint.keep, r.checkpoint.every_steps) = (1 + extra, 1 + extra, max_steps);
            r.checkpoint.every_seconds = extra as u64;
            if flags[2] {
                let (test_loss, per_class) = (Some(f[0]), vec![f[3], f[4]]);
                let row = Reported { epoch: epochs, test_loss, per_class, note: r.source.clone(), ..Reported::default() };
                r.reported = vec![row, Reported { epoch: 1, validation_accuracy: Some(f[4]), ..Reported::default() }];
            }
            r
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_resolves_to_itself(recipe in recipes()) {
            prop_assert_eq!(recipe.validate(), Ok(()));
            let again = Recipe::parse(&recipe.to_toml(), "printed").expect("it was printed by us");
            prop_assert_eq!(again.fingerprint(), recipe.fingerprint());
            prop_assert_eq!(again.differences(&recipe), vec![]);
            prop_assert_eq!(again, recipe);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(\\[(model|data|optimizer)\\]|[a-z_.]{1,12} = ([0-9.e-]{1,5}|\"[a-z]*\"|\\[[0-9,. ]*\\]|\\{\\}|nan)|\n){0,8}") {
            let _ = Recipe::parse(&text, "any");
        }
    }
}
