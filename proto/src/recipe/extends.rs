//! A recipe file and what it extends.

use std::path::{Component, Path, PathBuf};

use toml::Value;

use super::file::File;
use super::resolve::is_path;
use super::{Load, RecipeError, catalogue};

/// How often a file that is extended may extend another one. Two or three are a family of experiments; more can't be read.
const DEEPEST: usize = 8;

/// The recipe in `text` and all that it extends, the one that stands on no other first.
pub(super) fn family(origin: &str, text: &str, load: Load<'_>) -> Result<Vec<File>, RecipeError> {
    let mut files = vec![File::read(origin, text)?];
    while let Some(base) = base(&files, load)? {
        files.push(base);
    }
    files.reverse();
    Ok(files)
}

/// What the last of `files` extends.
fn base(files: &[File], load: Load<'_>) -> Result<Option<File>, RecipeError> {
    const KEY: &str = "extends";
    let Some((file, value)) = files.last().and_then(|file| Some((file, file.table.get(KEY)?))) else { return Ok(None) };
    let place = file.place(KEY);
    let Value::String(name) = value else {
        return Err(RecipeError::WrongType {
            place,
            key: KEY.to_owned(),
            found: value.to_string(),
            expected: "the name of a built-in recipe, or the path of a recipe file".to_owned(),
        });
    };
    let refused = |rule: String| {
        let (key, found) = (KEY.to_owned(), value.to_string());
        Err(RecipeError::Rule { place: place.clone(), key, found, rule })
    };
    let origin = if is_path(name) { beside(&file.origin, name) } else { catalogue::origin(name) };
    if files.iter().any(|file| file.origin == origin) {
        let way: Vec<&str> = files.iter().map(|file| file.origin.as_str()).collect();
        return refused(format!(
            "it leads back to where it came from ({} → {origin}); take one of these out",
            way.join(" → ")
        ));
    }
    if files.len() > DEEPEST {
        return refused(format!(
            "it is the {}th in a row, and there may be {DEEPEST}; write the settings out",
            files.len()
        ));
    }
    let base = if is_path(name) {
        let text =
            load(&origin).map_err(|message| RecipeError::Unreadable { path: format!("{place}: {origin}"), message })?;
        File::read(&origin, &text)?
    } else {
        File::read(&origin, catalogue::find("recipe", catalogue::RECIPES, name, &place)?.text)?
    };
    Ok(Some(base))
}

/// The path `name`, as a file called `origin` means it: relative to that file's folder.
pub(super) fn beside(origin: &str, name: &str) -> String {
    let path = Path::new(origin).parent().map_or_else(|| PathBuf::from(name), |folder| folder.join(name));
    // without its dots one file has one name, which is how a circle shows
    let named = path.components().filter(|part| *part != Component::CurDir);
    named.collect::<PathBuf>().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{OptimizerName, Recipe, Setting};

    /// Files by name; the first one is resolved.
    fn resolve(files: &[(&str, &str)], settings: &[&str]) -> Result<Recipe, String> {
        let settings: Vec<_> = settings.iter().map(|text| Setting::parse(text).expect("key=value")).collect();
        let load = |path: &str| {
            let found = files.iter().find(|(name, _)| *name == path);
            found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| "there is no such file".to_owned())
        };
        Recipe::resolve(Some(files[0].0), &settings, &load).map_err(|error| error.to_string())
    }

    const NET: &str = "name = \"tiny\"\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out_features = 10 }]";

    #[test]
    fn the_other_recipes_settings_are_the_defaults() {
        let files = [
            ("dir/a.toml", "extends = \"../base/b.toml\"\nepochs = 7\n[optimizer]\nlr = 0.5"),
            ("dir/../base/b.toml", "extends = \"c.toml\"\nepochs = 3\nseed = 9\nmodel = \"net.toml\""),
            ("dir/../base/c.toml", "extends = \"lenet-dropout\"\nseed = 8\nbatch_size = 128"),
            ("dir/../base/net.toml", NET),
        ];
        let recipe = resolve(&files, &["optimizer.momentum=0.25"]).expect("a family");
        assert_eq!((recipe.epochs, recipe.seed, recipe.batch_size), (7, 9, 128));
        assert_eq!((recipe.optimizer.lr, recipe.optimizer.momentum), (0.5, 0.25));
        // relative to the file that names it
        assert_eq!(recipe.model.name, "tiny");
        assert!(!recipe.to_toml().contains("extends"), "{}", recipe.to_toml());
    }

    #[test]
    fn name_and_reported_numbers_are_a_recipes_own() {
        let base = "name = \"b\"\nsource = \"a paper\"\nseed = 3\n[[reported]]\nepoch = 1\ntest_loss = 2";
        let recipe = resolve(&[("a.toml", "extends = \"./b.toml\""), ("b.toml", base)], &[]).expect("a family");
        assert_eq!((recipe.name.as_str(), recipe.source.as_str(), recipe.seed), ("a", "a paper", 3));
        assert_eq!(recipe.reported, []);
    }

    #[test]
    fn another_choice_drops_what_only_the_old_one_reads() {
        let base =
            "[optimizer]\nname = \"adam\"\nbetas = [0.5, 0.75]\nlr = 0.5\n[schedule]\nname = \"step\"\nstep_size = 2";
        let files = |text| [("a.toml", text), ("b.toml", base)];
        let text = "extends = \"b.toml\"\n[optimizer]\nname = \"sgd\"\nmomentum = 0.5\n[schedule]\nname = \"constant\"";
        let recipe = resolve(&files(text), &[]).expect("a family");
        assert_eq!((recipe.optimizer.name, recipe.optimizer.betas), (OptimizerName::Sgd, [0.9, 0.999]));
        assert_eq!((recipe.optimizer.lr, recipe.optimizer.momentum, recipe.schedule.step_size), (0.5, 0.5, 0));
        let kept = resolve(&files("extends = \"b.toml\"\nseed = 1"), &[]).expect("a family");
        assert_eq!((kept.optimizer.betas, kept.schedule.step_size), ([0.5, 0.75], 2));
        let both = "extends = \"b.toml\"\n[optimizer]\nname = \"sgd\"\n\neps = 0.1";
        let refused = resolve(&files(both), &[]).expect_err("sgd has no eps");
        assert!(refused.starts_with("a.toml:5: optimizer.eps = 0.1: optimizer.name is \"sgd\""), "{refused}");
    }

    #[test]
    fn a_broken_rule_names_the_file_and_line_of_the_value() {
        let base = "seed = 1\n\n[optimizer]\nlr = nan";
        let refused = resolve(&[("d/a.toml", "extends = \"b.toml\""), ("d/b.toml", base)], &[]).expect_err("no rate");
        assert!(refused.starts_with("d/b.toml:4: optimizer.lr = NaN: "), "{refused}");
        let refused = resolve(&[("d/a.toml", "extends = \"b.toml\""), ("d/b.toml", "\nepocs = 1")], &[]);
        assert!(refused.expect_err("no key").starts_with("d/b.toml:2: unknown key `epocs`"));
    }

    #[test]
    fn what_can_not_be_extended_is_refused_with_its_line() {
        for (files, start, words) in [
            (
                vec![("a.toml", "\nextends = \"lenett\"")],
                "a.toml:2: no built-in recipe is called \"lenett\"",
                "nearest is \"lenet\"",
            ),
            (vec![("a.toml", "extends = \"gone.toml\"")], "a.toml:1: gone.toml: ", "no such file"),
            (vec![("a.toml", "extends = 3")], "a.toml:1: `extends` is 3", "the name of a built-in recipe"),
            (vec![("a.toml", "extends = \"a.toml\"")], "a.toml:1: extends = \"a.toml\"", "(a.toml → a.toml); take one"),
            (
                vec![("d/a.toml", "extends = \"./b.toml\""), ("d/b.toml", "seed = 1\nextends = \"././a.toml\"")],
                "d/b.toml:2: extends = \"././a.toml\"",
                "(d/a.toml → d/b.toml → d/a.toml)",
            ),
        ] {
            let refused = resolve(&files, &[]).expect_err("it can't be extended");
            assert!(refused.starts_with(start) && refused.contains(words), "{files:?}: {refused}");
        }
    }

    #[test]
    fn eight_in_a_row_are_fine_and_nine_are_refused() {
        let chain = |length: usize| {
            let load = move |path: &str| {
                let n: usize = path.trim_end_matches(".toml").parse().map_err(|_| path.to_owned())?;
                Ok(if n == length { "seed = 5".to_owned() } else { format!("extends = \"{}.toml\"", n + 1) })
            };
            Recipe::resolve(Some("0.toml"), &[], &load)
        };
        assert_eq!(chain(8).expect("deep enough").seed, 5);
        let refused = chain(9).expect_err("too deep").to_string();
        assert!(refused.starts_with("8.toml:1: extends = \"9.toml\"") && refused.contains("may be 8"), "{refused}");
    }

    #[test]
    fn it_stands_in_a_file_only() {
        let refused = resolve(&[("a.toml", "")], &["extends=lenet"]).expect_err("typed");
        assert!(
            refused.starts_with("--set extends: extends = lenet: ") && refused.contains("a recipe file"),
            "{refused}"
        );
    }
}
