//! The page: one HTML file that needs nothing else, neither scripts nor the network.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lockstep_coordinator::telemetry::format::{count, percent, thousands};

use super::confusion::{Confusion, MOST_CLASSES};
use super::differences;
use super::facts;
use super::gallery::Gallery;
use super::markup::Markup;
use super::picture::{self, Picture};
use super::run::Run;
use super::samples::{Sample, Samples};

/// Layout; colours are those of the pictures.
const STYLE: &str = include_str!("page.css");

/// No script, no network, whatever a mistake in the escaping might let in.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// Lines of problems that a run may have on the page.
const MOST_PROBLEMS: usize = 20;

/// The page of `runs`, each with its samples or the reason why there are none.
pub fn write(runs: &[Run], samples: &[Result<Samples, String>], gallery: &Gallery) -> String {
    let title = match runs {
        [run] => run.name.clone(),
        runs => count(runs.len() as u64, "run"),
    };
    let mut page = Markup::default();
    page.own("<!DOCTYPE html>\n");
    page.element("html", &[("lang", &"en")], |html| {
        html.element("head", &[], |head| {
            head.own("<meta charset=\"utf-8\"/>");
            head.empty("meta", &[("name", &"generator"), ("content", &super::BY)]);
            head.empty("meta", &[("http-equiv", &"Content-Security-Policy"), ("content", &POLICY)]);
            head.own("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>");
            head.own("<meta name=\"color-scheme\" content=\"light dark\"/>");
            head.words("title", &[], format!("{title} – Lockstep"));
            head.element("style", &[], |style| {
                style.own(picture::STYLE);
                style.own(STYLE);
            });
        });
        html.element("body", &[], |body| {
            body.element("header", &[], |header| {
                header.words("p", &[("class", &"dim")], "Lockstep report");
                header.words("h1", &[], &title);
            });
            body.element("main", &[], |main| {
                match runs {
                    [run] => alone(main, run),
                    runs => together(main, runs),
                }
                pictures(main, gallery);
                for (number, run) in runs.iter().enumerate() {
                    details(
                        main,
                        run,
                        samples.get(number),
                        gallery.confusion.get(number).and_then(Option::as_ref),
                        runs.len() > 1,
                    );
                }
            });
        });
    });
    page.own("\n");
    page.into_text()
}

/// One run: its facts at the top.
fn alone(main: &mut Markup, run: &Run) {
    section(main, "Result", |section| {
        problems(section, run);
        list(section, run);
    });
}

/// Several runs: a table, and in what they differ.
fn together(main: &mut Markup, runs: &[Run]) {
    let recipes: Vec<_> = runs.iter().map(|run| run.recipe.as_ref()).collect();
    let (lines, left_out) = differences::between(&recipes);
    section(main, "Runs", |section| {
        table(section, "The runs", &facts::HEADS, |body| {
            for (number, run) in runs.iter().enumerate() {
                body.element("tr", &[], |line| {
                    line.element("th", &[("scope", &"row")], |head| {
                        swatch(head, number);
                        head.text(&run.name);
                    });
                    for value in facts::line(run) {
                        line.words("td", &[], value);
                    }
                });
            }
        });
        // runs of one recipe under several seeds are repetitions, whose mean means something
        if lines.iter().all(|(key, _)| key == "seed")
            && let Some(spread) = facts::spread(runs)
        {
            section.words("p", &[], format!("{spread}."));
        }
    });
    section(main, "Settings that differ", |section| {
        if lines.is_empty() {
            section.words("p", &[], "The runs have the same settings, as far as their recipes can be read.");
            return;
        }
        let heads: Vec<&str> = ["Setting"].into_iter().chain(runs.iter().map(|run| run.name.as_str())).collect();
        table(section, "Settings in which the runs differ", &heads, |body| {
            for (key, values) in &lines {
                body.element("tr", &[], |line| {
                    line.element("th", &[("scope", &"row")], |head| head.words("code", &[], key));
                    for value in values {
                        line.words("td", &[], value.as_deref().unwrap_or(facts::UNKNOWN));
                    }
                });
            }
        });
        if left_out > 0 {
            let more = count(left_out as u64, "more setting");
            section.words("p", &[("class", &"dim")], format!("And {more}."));
        }
    });
}

fn pictures(main: &mut Markup, gallery: &Gallery) {
    let all = [&gallery.loss, &gallery.accuracy, &gallery.classes];
    section(main, "Curves and classes", |section| {
        if all.iter().all(|picture| picture.is_none()) {
            section.words("p", &[], "No epoch has ended and nothing was evaluated yet: there is nothing to draw.");
        }
        section.element("div", &[("class", &"grid")], |grid| {
            for picture in all.into_iter().flatten() {
                figure(grid, picture, &[]);
            }
        });
    });
}

/// What one run alone has: its facts unless they were there already, figures, matrix, samples.
fn details(
    main: &mut Markup,
    run: &Run,
    samples: Option<&Result<Samples, String>>,
    matrix: Option<&Picture>,
    named: bool,
) {
    let title = if named { run.name.as_str() } else { "In detail" };
    section(main, title, |section| {
        if named {
            problems(section, run);
            list(section, run);
        }
        reported(section, run);
        confusion(section, run, matrix);
        match samples {
            Some(Ok(samples)) => show_samples(section, samples),
            Some(Err(why)) => section.words("p", &[("class", &"note")], format!("No sample images: {why}.")),
            None => {}
        }
    });
}

fn problems(section: &mut Markup, run: &Run) {
    if run.problems.is_empty() {
        return;
    }
    section.element("ul", &[("class", &"note")], |list| {
        for problem in run.problems.iter().take(MOST_PROBLEMS) {
            list.words("li", &[], problem);
        }
    });
}

fn list(section: &mut Markup, run: &Run) {
    section.element("dl", &[], |list| {
        for (what, value) in facts::of(run) {
            list.element("div", &[], |pair| {
                pair.words("dt", &[], what);
                pair.words("dd", &[], value);
            });
        }
    });
}

fn reported(section: &mut Markup, run: &Run) {
    let figures = facts::reported(run);
    if figures.is_empty() {
        return;
    }
    section.words("h3", &[], "Reported, and ours");
    let heads = ["Epoch", "Figure", "Reported", "Ours", "Difference"];
    table(section, "Reported figures beside ours", &heads, |body| {
        for facts::Figures { note, lines } in &figures {
            // above what it is about: in a column of its own it would push the numbers out of a telephone's sight
            if !note.is_empty() {
                body.element("tr", &[], |row| {
                    row.words("th", &[("class", &"said"), ("scope", &"colgroup"), ("colspan", &heads.len())], note);
                });
            }
            for [epoch, figure, values @ ..] in lines {
                body.element("tr", &[], |row| {
                    row.words("td", &[], epoch);
                    row.words("td", &[("class", &"figure")], figure);
                    values.iter().for_each(|value| row.words("td", &[], value));
                });
            }
        }
    });
}

fn confusion(section: &mut Markup, run: &Run, picture: Option<&Picture>) {
    let names = run.classes();
    let Some(matrix) = Confusion::new(run.confusion(), &names) else {
        let why = if run.confusion().is_empty() { "nothing was evaluated yet" } else { "its counts are damaged" };
        section.words("p", &[("class", &"note")], format!("No confusion matrix: {why}."));
        return;
    };
    section.words("h3", &[], "Confusion");
    let (right, all) = matrix.right();
    let share = if all > 0 { percent(right as f64 / all as f64) } else { facts::UNKNOWN.to_owned() };
    section.words("p", &[], format!("{} of {} test images are recognised, {share}.", thousands(right), thousands(all)));
    section.element("div", &[("class", &"grid")], |grid| {
        match picture {
            Some(picture) => figure(grid, picture, &[("class", &"matrix")]),
            None => grid.words("p", &[("class", &"note")], format!("More than {MOST_CLASSES} classes: no picture.")),
        }
        grid.element("div", &[], |side| {
            side.words("h4", &[], "Most frequent mistakes");
            side.element("ol", &[], |list| {
                for (actual, answer, images) in matrix.mistakes(10) {
                    let times = count(u64::from(images), "image");
                    list.words("li", &[], format!("{actual}, taken for {answer}: {times}"));
                }
            });
        });
    });
}

fn show_samples(section: &mut Markup, samples: &Samples) {
    section.words("h3", &[], "Samples");
    let looked = thousands(samples.looked_at as u64);
    section.words(
        "p",
        &[("class", &"dim")],
        format!(
            "The first right and the first wrong answer of each class among the first {looked} test images, by {}.",
            samples.weights
        ),
    );
    for (title, kind, kept) in [("Wrong", "wrong", &samples.wrong), ("Right", "right", &samples.right)] {
        section.words("h4", &[], title);
        if kept.is_empty() {
            section.words("p", &[], "None.");
        }
        section.element("ul", &[("class", &"samples")], |list| {
            for one in kept {
                list.element("li", &[("class", &kind)], |item| sample(item, one, samples));
            }
        });
    }
}

fn sample(item: &mut Markup, sample: &Sample, samples: &Samples) {
    let name = |class: usize| samples.classes.get(class).map_or("?", String::as_str);
    let (actual, answer) = (name(sample.actual), name(sample.answer));
    let share = format!("{:.0}%", sample.probability * 100.0);
    let (alt, words) = match sample.actual == sample.answer {
        true => (format!("test image {}: {actual}, recognised", sample.number), format!("{actual} {share}")),
        false => (format!("test image {}: {actual}, taken for {answer}", sample.number), format!("{answer} {share}")),
    };
    let source = format!("data:image/png;base64,{}", STANDARD.encode(&sample.png));
    item.empty("img", &[("src", &source), ("alt", &alt), ("title", &alt), ("width", &96), ("height", &96)]);
    item.words("span", &[], words);
    if sample.actual != sample.answer {
        item.words("span", &[("class", &"dim")], format!("is {actual}"));
    }
}

fn section(main: &mut Markup, title: &str, inside: impl FnOnce(&mut Markup)) {
    main.element("section", &[], |section| {
        section.words("h2", &[], title);
        inside(section);
    });
}

/// A table that scrolls by itself where it is wider than the window.
fn table(section: &mut Markup, caption: &str, heads: &[&str], body: impl FnOnce(&mut Markup)) {
    section.element(
        "div",
        &[("class", &"scroll"), ("role", &"region"), ("tabindex", &0), ("aria-label", &caption)],
        |scroll| {
            scroll.element("table", &[], |table| {
                table.words("caption", &[], caption);
                table.element("thead", &[], |head| {
                    head.element("tr", &[], |row| {
                        heads.iter().for_each(|cell| row.words("th", &[("scope", &"col")], cell))
                    });
                });
                table.element("tbody", &[], body);
            });
        },
    );
}

fn figure(grid: &mut Markup, picture: &Picture, attributes: super::markup::Attributes) {
    grid.element("figure", attributes, |figure| {
        figure.words("figcaption", &[], &picture.title);
        picture.show(figure);
    });
}

/// A run's colour beside its name.
fn swatch(head: &mut Markup, number: usize) {
    let class = format!("swatch {}", picture::colour(number));
    head.element("svg", &[("class", &class), ("viewBox", &"0 0 12 12"), ("aria-hidden", &"true")], |svg| {
        svg.empty("path", &[("d", &"M0 6h12"), ("stroke-width", &3)]);
        svg.empty("path", &[("class", &"dot"), ("d", &picture::dot(number, 6.0, 6.0, 4.0))]);
    });
}
