//! The settings in which runs differ: a line a setting, a column a run.

use std::collections::BTreeMap;

use lockstep_proto::recipe::{Difference, Recipe};

/// More lines than anybody reads: two networks differ in every layer.
const MOST: usize = 60;

/// Settings that say what a run is called and not what it does.
const WORDS: [&str; 4] = ["name", "source", "reported", "model.source"];

/// A setting, and its value in each run; none where the run's recipe can't be read.
pub type Line = (String, Vec<Option<String>>);

/// What differs between `recipes`, and how many lines were left out.
pub fn between(recipes: &[Option<&Recipe>]) -> (Vec<Line>, usize) {
    let Some((at, first)) = recipes.iter().enumerate().find_map(|(at, recipe)| Some((at, (*recipe)?))) else {
        return (Vec::new(), 0);
    };
    let others: Vec<Option<Vec<Difference>>> =
        recipes.iter().map(|recipe| recipe.map(|recipe| first.differences(recipe))).collect();
    let keys: BTreeMap<&str, &str> =
        others.iter().flatten().flatten().map(|one| (one.key.as_str(), one.ours.as_str())).collect();
    let models_differ = keys.contains_key("model.name");
    let mut lines: Vec<Line> = Vec::new();
    for (key, ours) in keys {
        let top = key.split(['.', '[']).next().unwrap_or(key);
        // of other networks the names say it
        if WORDS.contains(&key) || WORDS.contains(&top) || (models_differ && key.starts_with("model.layers")) {
            continue;
        }
        let value = |(run, differences): (usize, &Option<Vec<Difference>>)| {
            let differences = differences.as_ref()?;
            let other = differences.iter().find(|one| one.key == key && run != at);
            Some(other.map_or(ours, |one| one.theirs.as_str()).to_owned())
        };
        lines.push((key.to_owned(), others.iter().enumerate().map(value).collect()));
    }
    let left_out = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    (lines, left_out)
}

#[cfg(test)]
mod tests {
    use lockstep_proto::recipe::Setting;

    use super::*;

    fn recipe(settings: &[&str]) -> Recipe {
        let settings: Vec<_> = settings.iter().map(|text| Setting::parse(text).expect("key=value")).collect();
        Recipe::resolve(None, &settings, &|path| Err(format!("no file {path}"))).expect("valid")
    }

    #[test]
    fn only_what_differs_has_a_line() {
        let (a, b, c) = (recipe(&["name=a"]), recipe(&["name=b", "optimizer.lr=0.5"]), recipe(&["seed=7"]));
        let (lines, left_out) = between(&[None, Some(&a), Some(&b), Some(&c)]);
        let some = |text: &str| Some(text.to_owned());
        let expected = [
            ("optimizer.lr".to_owned(), vec![None, some("0.01"), some("0.5"), some("0.01")]),
            ("seed".to_owned(), vec![None, some("0"), some("0"), some("7")]),
        ];
        assert_eq!((lines.as_slice(), left_out), (&expected[..], 0));
        assert_eq!(between(&[Some(&a)]), (Vec::new(), 0));
        assert_eq!(between(&[None, None]), (Vec::new(), 0));
    }

    #[test]
    fn of_two_networks_the_names_say_it() {
        let (a, b) = (recipe(&[]), recipe(&["model=net6"]));
        let (lines, _) = between(&[Some(&a), Some(&b)]);
        assert!(lines.iter().any(|(key, _)| key == "model.name"));
        assert!(lines.iter().all(|(key, _)| !key.starts_with("model.layers")), "{lines:?}");
    }
}
