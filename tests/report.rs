//! `lockstep report`: what it draws of runs that are whole, running, damaged or named by an enemy.

use std::fs;

use crate::support::Desk;

const SHORT: &[&str] = &["--epochs", "2", "--batch-size", "48", "--lr", "0.05"];

/// A name that would be markup if nobody escaped it.
const EVIL: &str = "<script>alert('&')";

/// Checks that every element that is opened is closed in its order: what an injection or a slip would break.
fn check_nesting(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>").unwrap_or(page);
    let mut open = Vec::new();
    for part in body.split('<').skip(1) {
        let (tag, _) = part.split_once('>').expect("a tag ends");
        assert!(!tag.contains(" on"), "something that happens on a click: {tag}");
        let name = |text: &str| text.split([' ', '/']).next().unwrap_or_default().to_owned();
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed.to_owned()), "at {:.80}", part),
            None if tag.ends_with('/') => {}
            None => open.push(name(tag)),
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

/// The page of `runs`, checked for what every page must be.
fn page(desk: &Desk, runs: &[&str]) -> String {
    desk.run(&[&["report"], runs].concat()).ok();
    let page = fs::read_to_string(desk.path("report.html")).expect("the page");
    check_nesting(&page);
    let own = page.replace("http://www.w3.org/2000/svg", "");
    for word in ["<script", "http:", "https:", "url(", "@import"] {
        assert!(!own.contains(word), "{word}");
    }
    page
}

#[test]
fn a_page_shows_what_the_run_came_to() {
    let desk = Desk::new();
    desk.train(EVIL, SHORT).ok();
    let recipe = desk.path(EVIL).join("recipe.toml");
    let text = fs::read_to_string(&recipe).expect("recipe");
    let said = "\n[[reported]]\nepoch = 2\ntest_accuracy = 0.125\nnote = \"<b>theirs</b>\"\n";
    fs::write(&recipe, text + said).expect("written");
    let page = page(&desk, &[EVIL]);
    let summary = desk.summary(EVIL);
    let accuracy = summary["test_accuracy"].as_f64().expect("accuracy");
    let percent = format!("{:.2}%", accuracy * 100.0);
    assert!(page.contains(&percent) && page.contains(summary["weights_hash"].as_str().expect("hash")), "{percent}");
    assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&#39;)"));
    assert!(page.contains("&lt;b&gt;theirs&lt;/b&gt;") && page.contains("12.50%"));
    assert!(page.contains(&format!("{:+.2} points", accuracy * 100.0 - 12.5)));
    // ten classes, 100 cells, and pictures of both kinds unless the network is always right or always wrong
    assert_eq!(page.matches("class=\"cell ").count(), 100);
    assert!(page.contains("src=\"data:image/png;base64,iVBOR"), "no samples");
    for words in ["curves", "Loss", "Accuracy of each class", "Confusion matrix", "Most frequent mistakes"] {
        assert!(page.to_lowercase().contains(&words.to_lowercase()), "{words}");
    }
    let traffic = &summary["traffic"];
    // the images alone are 740 × 3072 bytes for each of two workers
    assert!(traffic["sent"].as_u64().expect("bytes") > 2 * 740 * 3072, "{traffic}");
    assert!(traffic["received"].as_u64().expect("bytes") > 1000, "{traffic}");
}

#[test]
fn several_runs_stand_side_by_side_and_pictures_are_files() {
    let desk = Desk::new();
    desk.train("a", SHORT).ok();
    desk.train("b", &[SHORT, &["--seed", "7", "--plane", "grpc"]].concat()).ok();
    let done = desk.run(&["report", "a", "b", "--out", "both.html", "--pictures", "pictures"]).ok();
    assert_eq!(done.stderr, "");
    let both = fs::read_to_string(desk.path("both.html")).expect("the page");
    check_nesting(&both);
    assert!(both.contains("Settings that differ") && both.contains("<code>seed</code>"));
    assert!(!both.contains("<code>epochs</code>"), "they share it");
    assert!(both.contains("Test accuracy of 2 runs: mean "), "they differ in their seeds alone");
    for run in ["a", "b"] {
        assert!(both.contains(&desk.hash(run)), "{run}");
    }
    for name in ["loss", "accuracy", "classes", "confusion-1", "confusion-2"] {
        let picture = fs::read_to_string(desk.path("pictures").join(format!("{name}.svg"))).expect(name);
        check_nesting(&picture);
        assert!(picture.starts_with("<svg xmlns="), "{name}");
        assert!(done.stdout.contains(&format!("pictures/{name}.svg")), "{}", done.stdout);
    }
    // all tensors of b went over TCP, those of a through shared memory where it is to be had
    let (a, b) = (desk.summary("a")["traffic"].clone(), desk.summary("b")["traffic"].clone());
    assert_eq!(b["shared"], 0);
    assert!(b["received"].as_u64() > a["received"].as_u64() || a["shared"] == 0, "{a} {b}");
    // a report of ours is written anew, a file of somebody else's is not
    desk.run(&["report", "a", "--out", "both.html", "--pictures", "pictures"]).ok();
    fs::write(desk.path("pictures/loss.svg"), "mine").expect("written");
    desk.run(&["report", "a", "--out", "other.html", "--pictures", "pictures"])
        .refused(&["loss.svg", "no report of ours"]);
    desk.run(&["report", "a", "--out", "images/test_batch.bin"]).refused(&["test_batch.bin", "no report of ours"]);
}

#[test]
fn what_is_missing_or_damaged_is_said_and_the_rest_is_shown() {
    let desk = Desk::new();
    desk.train("run", SHORT).ok();
    let folder = desk.path("run");
    let says = |words: &[&str]| {
        let page = page(&desk, &["run"]);
        for word in words {
            assert!(page.contains(word), "no {word:?}");
        }
    };
    // the images have moved
    fs::rename(desk.path("images"), desk.path("moved")).expect("renamed");
    says(&["No sample images", "not there any more", "Confusion matrix"]);
    desk.run(&["report", "run", "--data", "moved"]).ok();
    assert!(fs::read_to_string(desk.path("report.html")).expect("page").contains("data:image/png"));
    desk.run(&["report", "run", "--data", "builtin"]).ok();
    assert!(fs::read_to_string(desk.path("report.html")).expect("page").contains("has other images"));
    // as if it had been killed: no summary, no weights, a torn last line
    fs::remove_file(folder.join("summary.json")).expect("removed");
    fs::remove_file(folder.join("model.safetensors")).expect("removed");
    let metrics = fs::read(folder.join("metrics.jsonl")).expect("metrics");
    fs::write(folder.join("metrics.jsonl"), &metrics[..metrics.len() - 9]).expect("torn");
    says(&["no summary.json", "goes up to step 28", "1 line", "Confusion matrix", "28 steps so far"]);
    fs::write(folder.join("metrics.jsonl"), [0xff; 4096]).expect("garbage");
    says(&["there is nothing to draw", "nothing was evaluated yet", "1 line"]);
    fs::write(folder.join("recipe.toml"), "[[[[").expect("garbage");
    says(&["recipe.toml can&#39;t be read"]);
    fs::remove_file(folder.join("metrics.jsonl")).expect("removed");
    desk.run(&["report", "run"]).refused(&["run", "no run's folder"]);
    desk.run(&["report", "gone"]).refused(&["gone is not there"]);
    desk.run(&["report", "report.html"]).refused(&["report.html is no folder"]);
    desk.run(&["report"]).refused(&["RUN"]);
}

/// Opening a named pipe that nobody writes into would wait for ever.
#[test]
fn what_is_no_regular_file_is_said_and_not_opened() {
    let desk = Desk::new();
    desk.train("run", SHORT).ok();
    desk.run(&["report", "run", "--out", "images"]).refused(&["images", "is a folder"]);
    desk.pipe("pipe");
    desk.run(&["report", "run", "--out", "pipe"]).refused(&["pipe", "no regular file"]);
    for name in ["metrics.jsonl", "recipe.toml", "summary.json", "data.toml"] {
        let path = desk.path("run").join(name);
        let text = fs::read(&path).expect("a file of the run");
        fs::remove_file(&path).expect("removed");
        desk.pipe(&format!("run/{name}"));
        let page = page(&desk, &["run"]);
        assert!(page.contains(name) && page.contains("no regular file"), "{name}");
        fs::remove_file(&path).expect("removed");
        fs::write(&path, text).expect("put back");
    }
}
