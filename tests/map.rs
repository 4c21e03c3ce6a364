//! The documents name only what is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Desk, root};

const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "deploy/README.md",
    "docs/recipes.md",
    "docs/faults.md",
    "docs/gpu.md",
    "docs/reproduction.md",
];

/// The pieces of text between backticks, code blocks left out.
fn quoted(text: &str) -> Vec<&str> {
    let outside = text.split("```").step_by(2);
    outside.flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_path_in_the_documents_exists() {
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
        for word in quoted(&text) {
            let is_path = !word.contains([' ', '<', '*', '=', ':', '$', '{', '(', '~'])
                && ["proto/", "coordinator/", "worker/", "src/", "tests/", "recipes/", "deploy/", "docs/", ".ci/"]
                    .iter()
                    .any(|top| word.starts_with(top));
            if is_path && !root().join(word).exists() {
                missing.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Names without a folder: the map may name any file of the project, or one that a run writes.
#[test]
fn every_file_name_in_the_map_exists() {
    let mut known = BTreeSet::from(["recipe.toml", "summary.json", "metrics.jsonl"].map(str::to_owned));
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("listed").map(|entry| entry.expect("entry")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() && name != "target" && name != ".git" {
                folders.push(entry.path());
            }
            known.insert(name);
        }
    }
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the map");
    let names = quoted(&text).into_iter().filter(|word| {
        let file = [".rs", ".toml", ".md", ".proto", ".json", ".yaml"].iter().any(|end| word.ends_with(end));
        file && !word.contains(['/', ' ', '*'])
    });
    let missing: Vec<&str> = names.filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_command_in_the_documents_exists() {
    let help = Desk::new().run(&["--help"]).ok().stdout;
    let known: BTreeSet<&str> = help.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(known.contains("train"), "{help}");
    let mut unknown = Vec::new();
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap_or_else(|error| panic!("{document}: {error}"));
        let code = text.split("```").skip(1).step_by(2).flat_map(str::lines).chain(quoted(&text));
        for line in code {
            let mut words = line.split_whitespace().skip_while(|word| *word == "$");
            if words.next() != Some("lockstep") {
                continue;
            }
            if let Some(command) =
                words.next().filter(|word| word.chars().all(char::is_lowercase) && !known.contains(word))
            {
                unknown.push(format!("{document}: lockstep {command}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn the_house_keeps_its_rules() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    let coordinator = read("coordinator/Cargo.toml");
    assert!(!coordinator.contains("candle") && !coordinator.contains("lockstep-worker"), "{coordinator}");
    assert!(!read("worker/Cargo.toml").contains("lockstep-coordinator"));
    for path in sources(&root().join("coordinator/src/engine")) {
        let text = fs::read_to_string(&path).expect("source");
        for word in ["async ", "Instant", "tokio", "tonic", "SystemTime"] {
            assert!(
                !text.contains(&format!("use {word}")) && !text.contains(&format!("{word}::")),
                "{word} in {path:?}"
            );
        }
        assert!(!text.contains("async fn"), "{path:?}");
    }
    let lines = |document: &str| read(document).lines().count();
    assert!(lines("ARCHITECTURE.md") <= 150 && lines("CONTRIBUTING.md") <= 60);
}

/// All files below `folder`.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("entry").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
