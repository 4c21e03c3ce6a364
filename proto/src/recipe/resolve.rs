//! Flag over `--set` over recipe over what that extends over default, into one typed recipe.

use super::layers::Layers;
use super::{Origin, Recipe, RecipeError, Setting, catalogue, extends, rules};

/// Reads the file at a path. This crate touches no file itself; the error says why it could not be read.
pub type Load<'a> = &'a dyn Fn(&str) -> Result<String, String>;

impl Recipe {
    /// The recipe called `recipe` (a built-in name, or a path: it has a `/` or ends in `.toml`; none: the default one) with
    /// `settings` laid over it.
    ///
    /// # Errors
    /// Everything in [`RecipeError`]: what cannot be read, is not known, has the wrong type, or breaks a rule.
    pub fn resolve(recipe: Option<&str>, settings: &[Setting], load: Load<'_>) -> Result<Self, RecipeError> {
        let recipe = recipe.unwrap_or(catalogue::DEFAULT_RECIPE);
        if is_path(recipe) {
            let text = load(recipe).map_err(|message| RecipeError::Unreadable { path: recipe.to_owned(), message })?;
            Self::layer(recipe, &text, settings, load)
        } else {
            Self::layer(&catalogue::origin(recipe), catalogue::recipe(recipe)?.text, settings, load)
        }
    }

    /// A recipe from its text alone, for instance one that came over the network; `origin` is named in errors.
    ///
    /// # Errors
    /// As [`Recipe::resolve`]; a model or a base that is a path is refused, since there is no folder to look in.
    pub fn parse(text: &str, origin: &str) -> Result<Self, RecipeError> {
        Self::layer(origin, text, &[], &|_| Err("a recipe sent as text is whole: it names no other file".to_owned()))
    }

    fn layer(origin: &str, text: &str, settings: &[Setting], load: Load<'_>) -> Result<Self, RecipeError> {
        let mut layers = Layers::new();
        for file in extends::family(origin, text, load)? {
            layers.add_file(&file)?;
        }
        let chosen = layers.choices();
        for setting in settings.iter().filter(|setting| setting.origin == Origin::Set) {
            layers.add_setting(setting)?;
        }
        for setting in settings.iter().filter(|setting| setting.origin != Origin::Set) {
            layers.add_setting(setting)?;
        }
        layers.settle(&chosen)?;
        layers.name_it(origin);
        layers.load_model(load)?;
        let Layers { values, places, .. } = layers;
        let recipe: Self = values.try_into().map_err(|error: toml::de::Error| RecipeError::Syntax {
            origin: origin.to_owned(),
            message: error.to_string(),
        })?;
        match rules::broken(&recipe) {
            None => Ok(recipe),
            Some(broken) => {
                let place = places.get(broken.key).cloned().unwrap_or_else(|| "default".to_owned());
                Err(broken.into_error(place))
            }
        }
    }
}

/// A path, and not the name of something built in.
pub(super) fn is_path(name: &str) -> bool {
    name.contains(['/', '\\']) || name.ends_with(".toml")
}

#[cfg(test)]
mod tests {
    use super::super::{OptimizerName, ScheduleName, ScheduleUnit};
    use super::*;

    fn no_files(path: &str) -> Result<String, String> {
        Err(format!("no file {path}"))
    }

    fn set(arguments: &[&str]) -> Vec<Setting> {
        arguments.iter().map(|argument| Setting::parse(argument).expect("key=value")).collect()
    }

    fn of(text: &str, settings: &[Setting]) -> Result<Recipe, RecipeError> {
        Recipe::resolve(Some("dir/mine.toml"), settings, &|path| match path {
            "dir/mine.toml" => Ok(text.to_owned()),
            "dir/nets/tiny.toml" | "here/tiny.toml" => {
                Ok("name = \"tiny\"\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out_features = 10 }]"
                    .to_owned())
            }
            other => Err(format!("no such file: {other}")),
        })
    }

    fn refused(text: &str, settings: &[&str]) -> String {
        of(text, &set(settings)).expect_err("it should be refused").to_string()
    }

    #[test]
    fn an_empty_recipe_is_the_defaults_called_as_its_file() {
        let recipe = of("", &[]).expect("nothing is wrong");
        assert_eq!(recipe, Recipe { name: "mine".to_owned(), ..Recipe::default() });
    }

    #[test]
    fn no_recipe_is_the_default_one() {
        let recipe = Recipe::resolve(None, &[], &no_files).expect("built in");
        assert_eq!((recipe.name.as_str(), recipe.model.name.as_str()), ("lenet", "lenet"));
        assert_eq!((recipe.epochs, recipe.batch_size, recipe.shards), (20, 64, 4));
        assert_eq!((recipe.optimizer.lr, recipe.optimizer.momentum), (0.01, 0.9));
    }

    #[test]
    fn a_flag_wins_over_set_over_recipe_over_default_in_whatever_order_they_are_given() {
        let text = "batch_size = 8\nepochs = 3\nseed = 5\n[optimizer]\nlr = 0.5";
        let settings = [
            Setting::flag("--epochs", "epochs", 9),
            Setting::parse("epochs=7").expect("key=value"),
            Setting::parse("optimizer.lr=1").expect("key=value"),
        ];
        let recipe = of(text, &settings).expect("nothing is wrong");
        assert_eq!((recipe.epochs, recipe.seed, recipe.batch_size, recipe.shards), (9, 5, 8, 4));
        assert_eq!(recipe.optimizer.lr, 1.0);
    }

    #[test]
    fn settings_need_no_quotes_and_no_brackets() {
        let recipe = of(
            "",
            &set(&[
                "name=7",
                "source=after Smith, 2020",
                "schedule.name=multi-step",
                "schedule.milestones=3,5",
                "schedule.unit=\"step\"",
                "optimizer.name=adam",
                "optimizer.betas=[0.5, 0.75]",
                "data.std=1,2,0.5",
            ]),
        )
        .expect("nothing is wrong");
        assert_eq!((recipe.name.as_str(), recipe.source.as_str()), ("7", "after Smith, 2020"));
        assert_eq!((recipe.schedule.name, recipe.schedule.unit), (ScheduleName::MultiStep, ScheduleUnit::Step));
        assert_eq!((recipe.schedule.milestones, recipe.optimizer.betas), (vec![3, 5], [0.5, 0.75]));
        assert_eq!(recipe.data.std, [1.0, 2.0, 0.5]);
    }

    #[test]
    fn a_model_is_a_name_a_path_beside_the_recipe_or_a_table() {
        assert_eq!(of("model = \"lenet-dropout\"", &[]).expect("built in").model.name, "lenet-dropout");
        assert_eq!(of("model = \"nets/tiny.toml\"", &[]).expect("a file").model.name, "tiny");
        let table =
            "[model]\nname = \"t\"\nlayers = [{ type = \"flatten\" }, { type = \"linear\", out_features = 10 }]";
        assert_eq!(of(table, &[]).expect("a table").model.layers.len(), 2);
        assert_eq!(
            refused("model = \"lenett\"", &[]),
            "dir/mine.toml:1: no built-in model is called \"lenett\"; the nearest is \"lenet\" (`lockstep \
             model` lists all). To use a file, give its path with a `/` or its `.toml`"
        );
        assert!(refused("model = \"zzzzzzzz\"", &[]).contains("\"zzzzzzzz\" (there are lenet, lenet-dropout,"));
        assert_eq!(
            refused("\nmodel = \"gone.toml\"", &[]),
            "dir/mine.toml:2: dir/gone.toml: no such file: dir/gone.toml"
        );
    }

    #[test]
    fn a_model_swapped_on_the_command_line_takes_the_recipes_name_and_source_away() {
        let text = "name = \"paper\"\nsource = \"99% in the paper\"";
        let recipe = of(text, &set(&["model=here/tiny.toml"])).expect("relative to where it was typed");
        assert_eq!((recipe.name.as_str(), recipe.source.as_str(), recipe.model.name.as_str()), ("tiny", "", "tiny"));
        let recipe = of(text, &set(&["model=lenet-dropout", "name=mine"])).expect("built in");
        assert_eq!(recipe.name, "mine");
    }

    #[test]
    fn changing_the_optimizer_on_the_command_line_drops_what_only_the_old_one_reads() {
        let text = "[optimizer]\nmomentum = 0.5\nnesterov = true\nweight_decay = 0.1\n[schedule]\nname = \"step\"\nstep_size = 2";
        let recipe = of(text, &set(&["optimizer.name=adam", "schedule.name=constant"])).expect("dropped");
        assert_eq!((recipe.optimizer.name, recipe.optimizer.nesterov), (OptimizerName::Adam, false));
        assert_eq!((recipe.optimizer.momentum, recipe.optimizer.weight_decay), (0.9, 0.1));
        assert_eq!(recipe.schedule.step_size, 0);
        assert_eq!(
            refused(text, &["optimizer.name=adam", "optimizer.momentum=0.9"]),
            "--set optimizer.momentum: optimizer.momentum = 0.9: optimizer.name is \"adam\", which has no such setting; \
             leave it out, or choose optimizer.name = sgd"
        );
        assert_eq!(
            refused("[optimizer]\nname = \"adam\"\nnesterov = true", &[]),
            "dir/mine.toml:3: optimizer.nesterov = true: optimizer.name is \"adam\", which has no such setting; leave it \
             out, or choose optimizer.name = sgd"
        );
    }

    #[test]
    fn an_unknown_key_names_its_line_and_the_nearest_one() {
        assert_eq!(
            refused("epochs = 1\n[optimizer]\n\nmomentun = 1", &[]),
            "dir/mine.toml:4: unknown key `optimizer.momentun`; the nearest known one is `optimizer.momentum`"
        );
        assert_eq!(
            refused("lr = 1", &[]),
            "dir/mine.toml:1: unknown key `lr`; the nearest known one is `optimizer.lr`"
        );
        assert_eq!(
            refused("[optimiser]\nlr = 1", &[]),
            "dir/mine.toml:1: unknown key `optimiser`; the nearest known one is `optimizer`"
        );
        assert_eq!(
            refused("", &["batchsize=8"]),
            "--set batchsize: unknown key `batchsize`; the nearest known one is `batch_size`"
        );
        assert_eq!(
            refused("", &["epochs.x=8"]),
            "--set epochs.x: unknown key `epochs.x`; the nearest known one is `epochs`"
        );
    }

    #[test]
    fn a_wrong_type_names_key_value_and_what_is_expected() {
        for (text, message) in [
            ("epochs = 1.5", "dir/mine.toml:1: `epochs` is 1.5; expected a whole number"),
            ("epochs = -1", "dir/mine.toml:1: `epochs` is -1; expected a whole number that is not negative"),
            ("name = 3", "dir/mine.toml:1: `name` is 3; expected text"),
            (
                "model = 3",
                "dir/mine.toml:1: `model` is 3; expected the name of a built-in model, the path of a model file, or a table",
            ),
            ("[optimizer]\nlr = \"fast\"", "dir/mine.toml:2: `optimizer.lr` is the text \"fast\"; expected a number"),
            ("[optimizer]\nnesterov = 1", "dir/mine.toml:2: `optimizer.nesterov` is 1; expected true or false"),
            ("data.mean = [1, 2]", "dir/mine.toml:1: `data.mean` is a list of 2: [1, 2]; expected a list of 3 numbers"),
            (
                "optimizer = \"adam\"",
                "dir/mine.toml:1: `optimizer` is the text \"adam\"; expected a section; its keys are \
              optimizer.betas, optimizer.clip_grad_norm, optimizer.dampening, optimizer.eps, optimizer.lr, \
              optimizer.momentum, optimizer.name, optimizer.nesterov, optimizer.weight_decay",
            ),
            (
                "[optimizer]\nname = \"adamax\"",
                "dir/mine.toml:2: optimizer.name = \"adamax\" is not one of sgd, adam, adamw; \
              the nearest is \"adam\"",
            ),
        ] {
            assert_eq!(refused(text, &[]), message);
        }
        assert_eq!(
            refused("", &["optimizer.lr="]),
            "--set optimizer.lr: `optimizer.lr` is the text \"\"; expected a number"
        );
        assert_eq!(
            refused("", &["epochs=1\nseed=2"]),
            "--set epochs: `epochs` is the text \"1\\nseed=2\"; expected a whole number"
        );
        assert_eq!(
            refused("epochs = 5000000000", &[]),
            "dir/mine.toml:1: `epochs` is 5000000000; expected a whole number of at most 4294967295"
        );
    }

    #[test]
    fn what_is_not_toml_names_file_and_line() {
        let message = refused("epochs = 1\nseed =", &[]);
        assert!(message.starts_with("dir/mine.toml: not TOML: ") && message.contains("line 2"), "{message}");
    }

    #[test]
    fn unknown_recipes_and_malformed_settings_are_refused() {
        let message = Recipe::resolve(Some("lenet-drop"), &[], &no_files).expect_err("unknown").to_string();
        assert!(message.contains("\"lenet-drop\"; the nearest is \"lenet-dropout\""), "{message}");
        let message = Recipe::resolve(Some("a/b"), &[], &no_files).expect_err("unreadable").to_string();
        assert_eq!(message, "a/b: no file a/b");
        assert!(Setting::parse("epochs").is_err() && Setting::parse("=3").is_err());
    }
}
