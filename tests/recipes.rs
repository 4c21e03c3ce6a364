//! `lockstep recipes`: the list, and one recipe resolved.

use std::fs;

use crate::support::{Desk, root};

#[test]
fn the_list_has_every_recipe_once_under_its_report_with_its_figures() {
    let desk = Desk::new();
    let text = desk.run(&["recipes"]).ok().stdout;
    let found = desk.run(&["recipes", "--json"]).ok().json();
    let recipes = found.as_array().expect("a list");
    assert!(recipes.len() >= 30, "{found}");
    for recipe in recipes {
        let name = recipe["name"].as_str().expect("a name");
        let lines = text.lines().filter(|line| line.split_whitespace().next() == Some(name));
        assert_eq!(lines.count(), 1, "{name} in {text}");
        assert!(text.contains(recipe["source"].as_str().expect("a source")), "{name}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    // the report's numbers, as it prints them, between a recipe's name and the next one
    let names: Vec<&str> = recipes.iter().map(|recipe| recipe["name"].as_str().expect("a name")).collect();
    let block = |name: &str| {
        let is = |line: &&str, name| line.split_whitespace().next() == Some(name);
        let lines = text.lines().skip_while(|line| !is(line, name)).enumerate();
        let own =
            lines.take_while(|(n, line)| *n == 0 || !(line.is_empty() || names.iter().any(|name| is(line, name))));
        own.map(|(_, line)| line.to_owned()).collect::<Vec<_>>()
    };
    for (name, words) in [
        ("lenet", ["20", "57.36%"]),
        ("convnet-bn4", ["74.08%", "0.7344"]),
        ("lenet5", ["48.49%", "1.4097"]),
        ("base-normalised", ["65.48%", "0.081"]),
        ("net6", ["14", "78.54%"]),
        ("net6-lenet-4x4", ["58.74%", "63.64%"]),
        ("net6-lenet-diverges", ["2e5", "10.00%"]),
    ] {
        let cells: Vec<String> =
            block(name).iter().flat_map(|line| line.split_whitespace()).map(str::to_owned).collect();
        assert!(words.iter().all(|word| cells.iter().any(|cell| cell == word)), "{words:?} in {cells:?}");
    }
    // no figure and no note of any recipe is left out
    for recipe in recipes {
        let own = block(recipe["name"].as_str().expect("a name")).join(" ");
        let own = own.split_whitespace().collect::<Vec<_>>().join(" ");
        for row in recipe["reported"].as_array().expect("a list") {
            for key in ["test_accuracy", "validation_accuracy", "train_accuracy"] {
                let figure = row[key].as_f64().map(|fraction| format!("{:.2}%", fraction * 100.0));
                assert!(figure.as_ref().is_none_or(|figure| own.contains(figure)), "{key} {figure:?} in {own}");
            }
            for class in row["per_class"].as_array().into_iter().flatten() {
                let figure = format!("{:.2}%", class.as_f64().expect("a fraction") * 100.0);
                assert!(own.contains(&figure), "{figure} in {own}");
            }
            let note = row["note"].as_str().unwrap_or_default();
            assert!(own.contains(note), "{note:?} in {own}");
        }
    }
    // aligned: the figures of all reports end in one column
    let ends = |name: &str, word: &str| block(name).iter().find_map(|line| line.find(word)).expect("a figure");
    assert_eq!(ends("lenet", "57.36%"), ends("net6", "78.54%"));
}

#[test]
fn a_recipe_is_shown_resolved_by_name_and_by_path_with_and_without_the_word() {
    let desk = Desk::new();
    fs::create_dir(desk.path("mine")).expect("folder");
    fs::write(desk.path("mine/a.toml"), "extends = \"b.toml\"\nepochs = 2\n\n[[reported]]\nepoch = 1\ntest_loss = 2\n")
        .expect("recipe");
    fs::write(desk.path("mine/b.toml"), "extends = \"lenet-dropout\"\nepochs = 5\nbatch_size = 48\n").expect("recipe");
    let shown = desk.run(&["recipes", "show", "mine/a.toml"]).ok().stdout;
    assert_eq!(shown, desk.run(&["recipes", "mine/a.toml"]).ok().stdout);
    for line in ["name = \"a\"", "epochs = 2", "batch_size = 48", "[[reported]]", "test_loss = 2.0", "p = 0.5"] {
        assert!(shown.lines().any(|found| found == line), "no {line:?} in {shown}");
    }
    assert!(!shown.contains("extends"), "{shown}");
    let json = desk.run(&["recipes", "show", "mine/a.toml", "--set", "seed=4", "--json"]).ok().json();
    assert_eq!((json["seed"].as_u64(), json["batch_size"].as_u64()), (Some(4), Some(48)));
    fs::write(desk.path("shown.toml"), &shown).expect("recipe");
    assert_eq!(desk.run(&["recipes", "show", "shown.toml"]).ok().stdout, shown, "it resolves to itself");

    // why a built-in one is as it is stands at its head
    let shown = desk.run(&["recipes", "show", "net6"]).ok().stdout;
    let (comments, settings) = shown.split_once("# A resolved recipe").expect("the head");
    assert!(comments.contains("# Not given: batch size, split, augmentations. Chosen: 64"), "{shown}");
    assert!(comments.lines().all(|line| line.starts_with('#')), "{shown}");
    fs::write(desk.path("net6.toml"), &shown).expect("recipe");
    let again = desk.run(&["recipes", "show", "net6.toml"]).ok().stdout;
    assert_eq!(again, format!("# A resolved recipe{settings}"), "it is a recipe that says the same");

    desk.run(&["recipes", "show", "lenett"]).refused(&["lenett", "nearest is \"lenet\""]);
    desk.run(&["recipes", "--set", "seed=3"]).refused(&["--set", "name one"]);
    fs::write(desk.path("mine/b.toml"), "extends = \"a.toml\"\n").expect("recipe");
    desk.run(&["recipes", "show", "mine/a.toml"])
        .refused(&["mine/b.toml:1", "mine/a.toml → mine/b.toml → mine/a.toml"]);
}

/// The page is written by hand and by `lockstep reproduce`, the recipes by hand: neither may know an experiment that the other
/// does not.
#[test]
fn every_recipe_and_its_figures_stand_on_the_page_of_reproductions() {
    let page = fs::read_to_string(root().join("docs/reproduction.md")).expect("the page");
    let found = Desk::new().run(&["recipes", "--json"]).ok().json();
    let recipes = found.as_array().expect("a list");
    let mut rows = page.lines().filter(|line| line.starts_with("| ") && !line.contains("---")).peekable();
    let mut there = Vec::new();
    while let Some(row) = rows.next() {
        let Some(recipe) = recipes
            .iter()
            .find(|recipe| row.split(" | ").next() == Some(&format!("| {}", recipe["name"].as_str().expect("name"))))
        else {
            continue;
        };
        let mut text = row.to_owned();
        while let Some(more) = rows.next_if(|row| row.starts_with("|  |")) {
            text += more;
        }
        for figures in recipe["reported"].as_array().expect("a list") {
            let accuracy = figures["test_accuracy"].as_f64().map(|fraction| format!("| {:.2}% |", fraction * 100.0));
            let loss = figures["test_loss"].as_f64().map(|loss| format!("| {loss:.4} |"));
            for figure in [accuracy, loss].into_iter().flatten() {
                assert!(text.contains(&figure), "{}: no {figure} in {text}", recipe["name"]);
            }
        }
        there.push(recipe["name"].clone());
    }
    let all: Vec<_> = recipes.iter().map(|recipe| recipe["name"].clone()).collect();
    assert_eq!(there, all);
}

/// What a report says is no part of a training: it may be put right while a run is under way.
#[test]
fn a_run_goes_on_when_only_its_reported_figures_changed() {
    let desk = Desk::new();
    let write =
        |text: &str| fs::write(desk.path("a.toml"), format!("epochs = 2\nmax_steps = 9\n{text}")).expect("recipe");
    write("source = \"a\"\n[[reported]]\nepoch = 1\ntest_loss = 2\n");
    desk.train("run", &["a.toml"]).ok();
    write("source = \"b\"\n");
    let done = desk.train("run", &["a.toml", "--resume"]).ok();
    assert!(done.stderr.contains("is finished"), "{}", done.stderr);
    write("seed = 3\n");
    desk.train("run", &["a.toml", "--resume"]).refused(&["seed was 0", "is 3 now"]);
}
