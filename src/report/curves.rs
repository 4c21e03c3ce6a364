//! Curves over epochs: one colour a run, solid lines for test images, dashed ones for training images.

use super::axis::Axis;
use super::markup::Markup;
use super::picture::{Picture, WIDTH, colour, cut, dot};

/// The plot within the picture.
const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 252.0;

/// Height of a line of the legend, and letters that fit in one.
const ROW: f64 = 20.0;
const LETTERS: usize = 44;

/// One curve.
pub struct Curve {
    pub name: String,
    pub colour: usize,
    pub dashed: bool,
    /// Has a line in the legend; the others are told by their colour.
    pub listed: bool,
    /// Epoch and value, ascending. Values that are not finite leave a gap.
    pub points: Vec<(f64, f64)>,
}

/// Dots of a curve, at most: as many as can be told apart.
const DOTS: usize = 40;

/// A single point: what a report says.
pub struct Mark {
    pub name: String,
    /// None where several curves have it.
    pub colour: Option<usize>,
    pub epoch: f64,
    pub value: f64,
}

/// A picture with curves.
pub struct Curves {
    pub title: &'static str,
    /// What the values are: `%`, or nothing.
    pub unit: &'static str,
    pub curves: Vec<Curve>,
    pub marks: Vec<Mark>,
    /// The last lines of the legend, for what is not listed.
    pub notes: Vec<&'static str>,
}

impl Curves {
    /// The picture; none if there is not a single value to show.
    pub fn draw(&self) -> Option<Picture> {
        let points = || self.curves.iter().flat_map(|curve| curve.points.iter().copied());
        let all = || points().chain(self.marks.iter().map(|mark| (mark.epoch, mark.value)));
        if !points().any(|(_, value)| value.is_finite()) {
            return None;
        }
        let last = all().map(|(epoch, _)| epoch).fold(1.0, f64::max);
        // a first point that is alone stands in the middle
        let first = all().map(|(epoch, _)| epoch).fold(last, f64::min);
        let (first, last) = if first == last { (first - 1.0, last + 1.0) } else { (first, last) };
        let x = Axis::between(first, last, LEFT, RIGHT);
        let y = Axis::around(all().map(|(_, value)| value), BOTTOM, TOP);

        let listed = self.curves.iter().filter(|curve| curve.listed).count();
        let lines = listed + usize::from(!self.marks.is_empty()) + self.notes.len();
        let height = BOTTOM + 44.0 + ROW * lines as f64;
        let mut body = Markup::default();
        grid(&mut body, &x, &y, self.unit);
        for curve in &self.curves {
            line(&mut body, curve, &x, &y);
        }
        for mark in &self.marks {
            diamond(&mut body, mark, &x, &y);
        }
        self.legend(&mut body);
        Some(Picture { title: self.title.to_owned(), description: self.description(), height, body })
    }

    /// The curves' ends in words.
    fn description(&self) -> String {
        let ends = self.curves.iter().filter_map(|curve| {
            let (epoch, value) = curve.points.iter().rfind(|(_, value)| value.is_finite())?;
            Some(format!("{} {value:.4}{} at epoch {epoch}", curve.name, self.unit))
        });
        format!("over epochs: {}", ends.collect::<Vec<_>>().join("; "))
    }

    fn legend(&self, svg: &mut Markup) {
        let mut y = BOTTOM + 54.0;
        for curve in self.curves.iter().filter(|curve| curve.listed) {
            let class = format!("line {}{}", colour(curve.colour), if curve.dashed { " dashed" } else { "" });
            let path = format!("M{LEFT} {}h30", y - 4.0);
            svg.element("g", &[("class", &class)], |group| {
                group.empty("path", &[("d", &path)]);
                group.empty("path", &[("class", &"dot"), ("d", &dot(curve.colour, LEFT + 15.0, y - 4.0, 2.5))]);
            });
            svg.words("text", &[("x", &(LEFT + 38.0)), ("y", &y)], cut(&curve.name, LETTERS));
            y += ROW;
        }
        if !self.marks.is_empty() {
            svg.empty("path", &[("class", &"mark"), ("d", &rhombus(LEFT + 15.0, y - 4.0))]);
            svg.words("text", &[("x", &(LEFT + 38.0)), ("y", &y)], "reported");
            y += ROW;
        }
        for note in &self.notes {
            svg.words("text", &[("class", &"dim"), ("x", &LEFT), ("y", &y)], note);
            y += ROW;
        }
    }
}

fn grid(svg: &mut Markup, x: &Axis, y: &Axis, unit: &str) {
    for value in y.ticks(false) {
        let Some(at) = y.place(value) else { continue };
        svg.empty("path", &[("class", &"grid"), ("d", &format!("M{LEFT} {at:.1}H{RIGHT}"))]);
        let (end, base) = (LEFT - 6.0, format!("{:.1}", at + 4.0));
        svg.words("text", &[("class", &"end"), ("x", &end), ("y", &base)], format!("{}{unit}", y.label(value)));
    }
    for epoch in x.ticks(true) {
        let Some(at) = x.place(epoch) else { continue };
        svg.empty("path", &[("class", &"grid"), ("d", &format!("M{at:.1} {BOTTOM}v4"))]);
        let at = format!("{at:.1}");
        svg.words("text", &[("class", &"middle"), ("x", &at), ("y", &(BOTTOM + 18.0))], format!("{epoch}"));
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let words = if y.is_logarithmic() { "epoch; the scale is logarithmic" } else { "epoch" };
    svg.words("text", &[("class", &"middle dim"), ("x", &middle), ("y", &(BOTTOM + 34.0))], words);
}

fn line(svg: &mut Markup, curve: &Curve, x: &Axis, y: &Axis) {
    let mut path = String::new();
    let mut pen_down = false;
    let mut places = Vec::new();
    for &(epoch, value) in &curve.points {
        let Some((at, height)) = x.place(epoch).zip(y.place(value)) else {
            pen_down = false;
            continue;
        };
        path += &format!("{}{at:.1} {height:.1}", if pen_down { "L" } else { "M" });
        pen_down = true;
        places.push((epoch, value, at, height));
    }
    let class = format!("line {}{}", colour(curve.colour), if curve.dashed { " dashed" } else { "" });
    svg.element("g", &[("class", &class)], |group| {
        group.words("title", &[], &curve.name);
        group.empty("path", &[("d", &path)]);
        for (epoch, value, at, height) in places.iter().step_by(places.len().div_ceil(DOTS).max(1)) {
            let outline = dot(curve.colour, *at, *height, 2.5);
            group.element("path", &[("class", &"dot"), ("d", &outline)], |dot| {
                dot.words("title", &[], format!("{}, epoch {epoch}: {value:.4}", curve.name));
            });
        }
    });
}

fn diamond(svg: &mut Markup, mark: &Mark, x: &Axis, y: &Axis) {
    let Some((at, height)) = x.place(mark.epoch).zip(y.place(mark.value)) else { return };
    let class = mark.colour.map_or_else(|| "mark".to_owned(), |number| format!("mark {}", colour(number)));
    svg.element("path", &[("class", &class), ("d", &rhombus(at, height))], |path| {
        path.words("title", &[], format!("{}, reported at epoch {}: {:.4}", mark.name, mark.epoch, mark.value));
    });
}

fn rhombus(x: f64, y: f64) -> String {
    format!("M{:.1} {y:.1}l6 -6l6 6l-6 6z", x - 6.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curves(points: Vec<(f64, f64)>) -> Curves {
        let curve = Curve { name: "a <b>".to_owned(), colour: 9, dashed: true, listed: true, points };
        Curves { title: "Loss", unit: "", curves: vec![curve], marks: Vec::new(), notes: Vec::new() }
    }

    #[test]
    fn a_gap_is_left_where_a_value_is_not_finite() {
        let points = vec![(1.0, 1.0), (2.0, f64::NAN), (3.0, 2.0), (4.0, 2.0)];
        let picture = curves(points).draw().expect("values").into_file();
        // x from 52 to 428 over epochs 1 to 4, y from 252 to 12 over 1 to 2
        assert!(picture.contains("d=\"M52.0 252.0M302.7 12.0L428.0 12.0\""), "{picture}");
        assert!(picture.contains("a &lt;b&gt;") && picture.contains("line c1 dashed"), "{picture}");
        assert!(picture.contains("2.0000 at epoch 4"), "{picture}");
    }

    #[test]
    fn nothing_to_draw_is_no_picture_and_one_point_is_one() {
        assert!(curves(vec![(1.0, f64::NAN)]).draw().is_none());
        let picture = curves(vec![(1.0, 2.0)]).draw().expect("one").into_file();
        // the middle of 52 to 428, less the radius; the ninth colour's dot is a square
        assert!(picture.contains("d=\"M237.5 "), "{picture}");
    }

    #[test]
    fn what_was_reported_is_a_mark_that_fits_on_the_picture() {
        let mark = Mark { name: "a".to_owned(), colour: Some(0), epoch: 20.0, value: 9.0 };
        let picture = Curves { marks: vec![mark], ..curves(vec![(1.0, 1.0), (2.0, 2.0)]) }.draw().expect("values");
        let picture = picture.into_file();
        assert!(picture.contains("reported at epoch 20: 9.0000"), "{picture}");
        // epoch 20 is the right end: 428
        assert!(picture.contains("d=\"M422.0"), "{picture}");
    }
}
