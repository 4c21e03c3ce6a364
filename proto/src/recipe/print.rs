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
        hash.update(self.body().as_bytes());
        hash.finalize().to_hex()[..32].to_owned()
    }

    /// Every setting that differs, in key order; empty exactly when the fingerprints are equal.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let (ours, theirs) = (self.leaves(), other.leaves());
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
