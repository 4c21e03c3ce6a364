//! A picture: SVG within the page, or a file of its own.
//!
//! SVG of our own: a chart library writes colours into its elements, where a style sheet's dark mode can't reach them, and
//! neither titles nor descriptions for those who can't see.

use super::markup::Markup;

/// Width of every picture in its own units. As wide as a telephone, so that text keeps its size there.
pub const WIDTH: f64 = 440.0;

/// Colours that the style sheet has; runs beyond share them, and are told by the shape of their dots.
const COLOURS: usize = 8;

/// Room for the title of a picture that is a file of its own.
const TITLE: f64 = 30.0;

/// Letters of it that fit.
const LETTERS: usize = 46;

/// Colours of lines, cells and text, in the page and in a file.
pub const STYLE: &str = include_str!("picture.css");

/// A drawn picture.
#[derive(Clone, Debug)]
pub struct Picture {
    pub title: String,
    /// What it shows, in words.
    pub description: String,
    pub height: f64,
    pub body: Markup,
}

impl Picture {
    /// Adds it to a page that has [`STYLE`].
    pub fn show(&self, page: &mut Markup) {
        self.write(page, 0.0, |_| {});
    }

    /// The file, with its title above: no caption of a page says it.
    pub fn into_file(self) -> String {
        let mut file = Markup::default();
        self.write(&mut file, TITLE, |svg| {
            svg.words("title", &[], &self.title);
            svg.element("style", &[], |style| style.own(STYLE));
            svg.words("text", &[("class", &"title"), ("x", &8), ("y", &-10)], cut(&self.title, LETTERS));
        });
        file.into_text()
    }

    /// Adds the picture, with so much room `above` it.
    fn write(&self, into: &mut Markup, above: f64, before: impl FnOnce(&mut Markup)) {
        let Self { title, description, height, body } = self;
        let view = format!("0 {} {WIDTH} {:.0}", 0.0 - above, height + above);
        let label = format!("{title}: {description}");
        let space = "http://www.w3.org/2000/svg";
        let attributes: super::markup::Attributes = &[
            ("xmlns", &space),
            ("class", &"picture"),
            // to know one of ours by
            ("data-by", &super::BY),
            ("viewBox", &view),
            ("role", &"img"),
            ("aria-label", &label),
        ];
        into.element("svg", attributes, |svg| {
            before(svg);
            svg.append(body);
        });
    }
}

/// The class of a run's colour.
pub fn colour(number: usize) -> String {
    format!("c{}", number % COLOURS)
}

/// The outline of a run's dot, so far from its middle to each side: a circle, and other shapes where the colours begin again.
pub fn dot(number: usize, x: f64, y: f64, r: f64) -> String {
    match number / COLOURS % 3 {
        0 => format!("M{:.1} {y:.1}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z", x - r, d = 2.0 * r),
        1 => format!("M{:.1} {:.1}h{d}v{d}h-{d}z", x - r, y - r, d = 2.0 * r),
        _ => format!("M{x:.1} {:.1}l{w} {h}h-{d}z", y - 1.4 * r, w = 1.4 * r, h = 2.4 * r, d = 2.8 * r),
    }
}

/// `text`, cut to `letters`.
pub fn cut(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        None => text.to_owned(),
        Some(_) => text.chars().take(letters.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut() {
        assert_eq!((cut("abcd", 4), cut("abcde", 4), cut("äöüß€", 3)), ("abcd".into(), "abc…".into(), "äö…".into()));
    }

    #[test]
    fn runs_of_one_colour_have_dots_of_other_shapes() {
        let dots = [0, 8, 16].map(|number| dot(number, 10.0, 20.0, 2.5));
        assert_eq!(dots[1], "M7.5 17.5h5v5h-5z");
        assert!(dots[0] != dots[1] && dots[1] != dots[2] && dots[0] == dot(7, 10.0, 20.0, 2.5), "{dots:?}");
        assert_eq!((colour(0), colour(8)), (colour(16), colour(0)));
    }

    #[test]
    fn a_file_brings_its_style_and_the_page_has_it() {
        let picture = Picture { title: "Loss".into(), description: "<i>".into(), height: 9.6, body: Markup::default() };
        let mut page = Markup::default();
        picture.show(&mut page);
        let (page, file) = (page.into_text(), picture.into_file());
        assert!(!page.contains("<style>") && file.contains("<style>"), "{file}");
        assert!(file.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\"") && file.ends_with("</svg>"), "{file}");
        assert!(file.contains("viewBox=\"0 -30 440 40\"") && file.contains(">Loss</text>"), "{file}");
        assert!(file.contains("<title>Loss</title>") && !page.contains("<title>"), "{file}");
        assert!(page.contains("viewBox=\"0 0 440 10\"") && page.contains("aria-label=\"Loss: &lt;i&gt;\""), "{page}");
    }
}
