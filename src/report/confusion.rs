//! A confusion matrix as a picture: a row for each true class, a column for each answer.

use lockstep_coordinator::telemetry::format::thousands;

use super::markup::{Attributes, Markup};
use super::picture::{Picture, WIDTH, cut};

/// Where the cells begin.
const LEFT: f64 = 88.0;
const TOP: f64 = 78.0;

/// Room on the right, for the last column's name leans over.
const RIGHT: f64 = 26.0;

/// More classes make cells that nobody can read.
pub const MOST_CLASSES: usize = 24;

/// The most cells that a run may have: 256 classes, as labels are bytes.
const LARGEST: usize = 256;

/// Letters of a class's name beside the cells.
const LETTERS: usize = 10;

/// Images by true class and answer, and the classes' names.
#[derive(Debug)]
pub struct Confusion<'a> {
    counts: &'a [Vec<u32>],
    classes: Vec<String>,
}

impl<'a> Confusion<'a> {
    /// `counts[actual][predicted]`, if it is square; classes without a name are called by their number.
    pub fn new(counts: &'a [Vec<u32>], names: &[String]) -> Option<Self> {
        let size = counts.len();
        let square = (1..=LARGEST).contains(&size) && counts.iter().all(|row| row.len() == size);
        let name = |class: usize| names.get(class).cloned().unwrap_or_else(|| class.to_string());
        square.then(|| Self { counts, classes: (0..size).map(name).collect() })
    }

    /// The picture of the run with this `name`; none if there are more than [`MOST_CLASSES`].
    pub fn draw(&self, name: &str) -> Option<Picture> {
        let size = self.classes.len();
        if size > MOST_CLASSES {
            return None;
        }
        let cell = (WIDTH - LEFT - RIGHT) / size as f64;
        let height = TOP + cell * size as f64 + 24.0;
        let mut body = Markup::default();
        for (class, name) in self.classes.iter().enumerate() {
            heads(&mut body, name, (class as f64 + 0.5) * cell);
        }
        for (actual, row) in self.counts.iter().enumerate() {
            self.row(&mut body, actual, row, cell);
        }
        let (x, y) = (LEFT + cell * size as f64 / 2.0, format!("{:.1}", height - 6.0));
        body.words("text", &[("class", &"middle dim"), ("x", &x), ("y", &y)], "rows: true class, columns: answer");
        let title = format!("Confusion matrix: {name}");
        Some(Picture { title, description: self.description(), height, body })
    }

    fn row(&self, svg: &mut Markup, actual: usize, row: &[u32], cell: f64) {
        let images: u64 = row.iter().map(|&n| u64::from(n)).sum();
        let y = TOP + actual as f64 * cell;
        for (answer, &count) in row.iter().enumerate() {
            let share = if images > 0 { f64::from(count) / images as f64 } else { 0.0 };
            let x = LEFT + answer as f64 * cell;
            let class = if actual == answer { "cell right" } else { "cell wrong" };
            let side = format!("{:.1}", cell - 1.0);
            // the square root keeps small shares apart; the darkest cell leaves its number readable
            let (left, top, shade) = (format!("{x:.1}"), format!("{y:.1}"), format!("{:.3}", share.sqrt() * 0.75));
            let words = format!(
                "{}, taken for {}: {} of {}",
                self.classes[actual],
                self.classes[answer],
                thousands(u64::from(count)),
                thousands(images)
            );
            let attributes: Attributes = &[
                ("class", &class),
                ("x", &left),
                ("y", &top),
                ("width", &side),
                ("height", &side),
                ("fill-opacity", &shade),
            ];
            svg.element("rect", attributes, |rect| rect.words("title", &[], words));
            if count > 0 && self.classes.len() <= 12 {
                let (x, y) = (format!("{:.1}", x + cell / 2.0), format!("{:.1}", y + cell / 2.0 + 4.0));
                svg.words("text", &[("class", &"middle count"), ("x", &x), ("y", &y)], count);
            }
        }
    }

    /// The most frequent mistakes: true class, answer, images.
    pub fn mistakes(&self, most: usize) -> Vec<(&str, &str, u32)> {
        let rows = self.counts.iter().enumerate();
        let cells = rows.flat_map(|(actual, row)| row.iter().enumerate().map(move |(answer, &n)| (actual, answer, n)));
        let mut wrong: Vec<_> = cells.filter(|(actual, answer, n)| actual != answer && *n > 0).collect();
        wrong.sort_by_key(|&(actual, answer, n)| (std::cmp::Reverse(n), actual, answer));
        wrong.truncate(most);
        wrong.into_iter().map(|(actual, answer, n)| (&*self.classes[actual], &*self.classes[answer], n)).collect()
    }

    /// Right answers, and all images.
    pub fn right(&self) -> (u64, u64) {
        let right = self.counts.iter().enumerate().map(|(class, row)| u64::from(row[class])).sum();
        (right, self.counts.iter().flatten().map(|&n| u64::from(n)).sum())
    }

    fn description(&self) -> String {
        let (right, all) = self.right();
        let mistakes =
            self.mistakes(3).into_iter().map(|(class, answer, n)| format!("{class} taken for {answer} {n} times"));
        let mistakes = mistakes.collect::<Vec<_>>().join(", ");
        format!("{} of {} images are recognised. Most frequent mistakes: {mistakes}.", thousands(right), thousands(all))
    }
}

/// A class's name before its row and above its column, whose middles are `middle` from the first cell's corner.
fn heads(svg: &mut Markup, name: &str, middle: f64) {
    let name = cut(name, LETTERS);
    let (x, y) = (format!("{:.1}", LEFT + middle + 4.0), format!("{:.1}", TOP + middle + 4.0));
    svg.words("text", &[("class", &"end small"), ("x", &(LEFT - 6.0)), ("y", &y)], &name);
    let (y, turn) = (TOP - 6.0, format!("rotate(-60 {x} {})", TOP - 6.0));
    svg.words("text", &[("class", &"small"), ("x", &x), ("y", &y), ("transform", &turn)], &name);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_counted_and_named() {
        let counts = vec![vec![3, 1, 0], vec![0, 0, 4], vec![1, 1, 2]];
        let names = ["cat", "dog<", "eel"].map(str::to_owned);
        let matrix = Confusion::new(&counts, &names).expect("square");
        assert_eq!(matrix.mistakes(2), [("dog<", "eel", 4), ("cat", "dog<", 1)]);
        assert_eq!(matrix.right(), (5, 12));
        let picture = matrix.draw("a run").expect("three classes").into_file();
        assert!(picture.contains("dog&lt;, taken for eel: 4 of 4"), "{picture}");
        // three quarters of a row: 0.75 · √0.75
        assert!(picture.contains("fill-opacity=\"0.650\""), "{picture}");
        assert_eq!(picture.matches("<rect").count(), 9);
        assert!(picture.contains("<title>Confusion matrix: a run</title>"), "{picture}");
    }

    #[test]
    fn what_is_not_square_is_no_matrix_and_a_large_one_no_picture() {
        assert!(Confusion::new(&[], &[]).is_none());
        assert!(Confusion::new(&[vec![1, 2], vec![3]], &[]).is_none());
        let large = vec![vec![1; 25]; 25];
        let matrix = Confusion::new(&large, &[]).expect("square");
        assert!(matrix.draw("").is_none());
        assert_eq!(matrix.mistakes(1), [("0", "1", 1)]);
        assert!(Confusion::new(&vec![vec![0; 257]; 257], &[]).is_none());
    }
}
