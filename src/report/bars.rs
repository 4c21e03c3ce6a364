//! How often the images of each class are recognised, as bars: one a run and class.

use super::markup::{Attributes, Markup};
use super::picture::{Picture, colour, cut};

/// Where bars begin and how long one of 100% is.
const LEFT: f64 = 108.0;
const LENGTH: f64 = 270.0;

/// Height of a bar, and of the gap between two classes.
const BAR: f64 = 14.0;
const GAP: f64 = 8.0;

/// Letters of a class's name that fit before the bars.
const LETTERS: usize = 13;

/// A run's classes: name, and the recognised fraction, if the class has images.
pub struct Row {
    pub name: String,
    pub colour: usize,
    pub classes: Vec<(String, Option<f64>)>,
    /// What a report says of each class, as fractions; empty where it says nothing.
    pub reported: Vec<f64>,
}

/// The picture; none if no run has classes. Classes are those of the first run that has any; a run with other ones is of other
/// images, and left out.
pub fn draw(rows: &[Row]) -> Option<Picture> {
    let classes = |row: &Row| row.classes.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let names = rows.iter().map(classes).find(|classes| !classes.is_empty())?;
    let rows: Vec<&Row> = rows.iter().filter(|row| classes(row) == names).collect();
    let group = BAR * rows.len() as f64 + GAP;
    let said = rows.iter().any(|row| !row.reported.is_empty());
    let end = group * names.len() as f64 + 4.0;
    let height = if said { end + 20.0 } else { end };
    let mut body = Markup::default();
    for (class, name) in names.iter().enumerate() {
        let top = class as f64 * group + GAP / 2.0;
        let middle = top + BAR * rows.len() as f64 / 2.0 + 4.0;
        body.words("text", &[("class", &"end"), ("x", &(LEFT - 8.0)), ("y", &middle)], cut(name, LETTERS));
        for (at, row) in rows.iter().enumerate() {
            bar(&mut body, row, class, top + BAR * at as f64);
        }
    }
    if said {
        body.words("text", &[("class", &"dim"), ("x", &LEFT), ("y", &(end + 12.0))], "upright lines: reported");
    }
    Some(Picture { title: "Accuracy of each class".to_owned(), description: description(&rows), height, body })
}

fn bar(svg: &mut Markup, row: &Row, class: usize, top: f64) {
    let (name, accuracy) = &row.classes[class];
    let reported = row.reported.get(class).copied();
    let shown = accuracy.filter(|accuracy| accuracy.is_finite()).map(|accuracy| accuracy.clamp(0.0, 1.0));
    let words = shown.map_or_else(|| "no images".to_owned(), |accuracy| format!("{:.1}%", accuracy * 100.0));
    let length = format!("{:.1}", shown.unwrap_or(0.0) * LENGTH);
    let (y, height) = (top + 1.0, BAR - 2.0);
    svg.empty("rect", &[("class", &"track"), ("x", &LEFT), ("y", &y), ("width", &LENGTH), ("height", &height)]);
    let class = format!("bar {}", colour(row.colour));
    let attributes: Attributes = &[("class", &class), ("x", &LEFT), ("y", &y), ("width", &length), ("height", &height)];
    svg.element("rect", attributes, |rect| {
        rect.words("title", &[], format!("{}: {name} {words}", row.name));
    });
    if let Some(reported) = reported.filter(|share| (0.0..=1.0).contains(share)) {
        let path = format!("M{:.1} {y}v{height}", LEFT + reported * LENGTH);
        svg.element("path", &[("class", &"said"), ("d", &path)], |path| {
            path.words("title", &[], format!("{}: {name}, reported {:.1}%", row.name, reported * 100.0));
        });
    }
    svg.words("text", &[("class", &"small"), ("x", &(LEFT + LENGTH + 6.0)), ("y", &(top + BAR - 3.0))], words);
}

fn description(rows: &[&Row]) -> String {
    let words = |(name, accuracy): &(String, Option<f64>)| match accuracy {
        Some(accuracy) => format!("{name} {:.1}%", accuracy * 100.0),
        None => format!("{name} no images"),
    };
    let run = |row: &&Row| format!("{}: {}", row.name, row.classes.iter().map(words).collect::<Vec<_>>().join(", "));
    rows.iter().map(run).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, classes: &[(&str, Option<f64>)]) -> Row {
        let classes = classes.iter().map(|(name, accuracy)| ((*name).to_owned(), *accuracy)).collect();
        Row { name: name.to_owned(), colour: 0, classes, reported: Vec::new() }
    }

    #[test]
    fn a_bar_is_as_long_as_the_share() {
        let rows = [row("r", &[("cat", Some(0.5)), ("dog", None), ("eel", Some(f64::NAN))])];
        let picture = draw(&rows).expect("classes").into_file();
        assert!(picture.contains("width=\"135.0\"") && picture.contains("50.0%"), "{picture}");
        assert_eq!(picture.matches("width=\"0.0\"").count(), 2);
    }

    #[test]
    fn what_was_reported_is_a_mark_on_the_bar() {
        let rows = [Row { reported: vec![0.25], ..row("r", &[("cat", Some(0.5))]) }];
        let picture = draw(&rows).expect("classes").into_file();
        // 108 + 270 / 4
        assert!(picture.contains("M175.5 ") && picture.contains("cat, reported 25.0%"), "{picture}");
    }

    #[test]
    fn runs_with_other_classes_are_left_out() {
        assert!(draw(&[row("r", &[])]).is_none());
        let rows = [row("none", &[]), row("a", &[("cat", Some(1.0))]), row("b", &[("dog", Some(0.25))])];
        let picture = draw(&rows).expect("classes").into_file();
        assert!(picture.contains("a: cat") && !picture.contains("dog"), "{picture}");
    }
}
