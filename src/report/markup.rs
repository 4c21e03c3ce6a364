//! HTML and SVG as text. Tags and names of attributes are the program's own words; everything else goes through [`Markup`]'s
//! one place that escapes, so that no name of a run, a class or a file can become markup.

use std::fmt::{Display, Write as _};

/// Name and value of each attribute.
pub type Attributes<'a> = &'a [(&'static str, &'a dyn Display)];

/// Markup that grows.
#[derive(Clone, Debug, Default)]
pub struct Markup {
    text: String,
}

impl Markup {
    /// An element with what `inside` adds.
    pub fn element(&mut self, tag: &'static str, attributes: Attributes, inside: impl FnOnce(&mut Self)) {
        self.open(tag, attributes);
        self.text.push('>');
        inside(self);
        let _ = write!(self.text, "</{tag}>");
    }

    /// An element that holds text alone.
    pub fn words(&mut self, tag: &'static str, attributes: Attributes, text: impl Display) {
        self.element(tag, attributes, |inside| inside.text(text));
    }

    /// An element that holds nothing.
    pub fn empty(&mut self, tag: &'static str, attributes: Attributes) {
        self.open(tag, attributes);
        self.text.push_str("/>");
    }

    pub fn text(&mut self, text: impl Display) {
        // writing into a string can't fail
        let _ = write!(Escape(&mut self.text), "{text}");
    }

    /// Text of the program's own that is markup already: a style sheet, a doctype.
    pub fn own(&mut self, text: &'static str) {
        self.text.push_str(text);
    }

    /// Other markup, as it is.
    pub fn append(&mut self, other: &Self) {
        self.text.push_str(&other.text);
    }

    pub fn into_text(self) -> String {
        self.text
    }

    fn open(&mut self, tag: &'static str, attributes: Attributes) {
        self.text.push('<');
        self.text.push_str(tag);
        for (name, value) in attributes {
            let _ = write!(self.text, " {name}=\"");
            let _ = write!(Escape(&mut self.text), "{value}");
            self.text.push('"');
        }
    }
}

/// Writes text so that it stays text, in an element and in an attribute, in HTML and in XML.
struct Escape<'a>(&'a mut String);

impl std::fmt::Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(' '),
                // XML has no control characters and no noncharacters, and those that turn the direction of writing could make
                // one text look like another
                c if c.is_control() || is_misleading(c) => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

fn is_misleading(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_comes_from_elsewhere_stays_text() {
        let mut page = Markup::default();
        let name = "\"><script>alert('1')</script>&amp;\u{1b}[2J\u{202e}";
        page.element("p", &[("title", &name)], |p| p.text(name));
        page.empty("img", &[("alt", &1.5)]);
        let safe = "&quot;&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;amp;\u{fffd}[2J\u{fffd}";
        assert_eq!(page.into_text(), format!("<p title=\"{safe}\">{safe}</p><img alt=\"1.5\"/>"));
    }

    proptest! {
        #[test]
        fn fuzz_no_text_opens_or_ends_anything(text in any::<String>()) {
            let mut page = Markup::default();
            page.words("b", &[("id", &text)], &text);
            let made = page.into_text();
            prop_assert_eq!(made.matches(['<', '>']).count(), 4, "{}", made);
            prop_assert_eq!(made.matches('"').count(), 2, "{}", made);
            prop_assert!(!made.chars().any(char::is_control));
        }
    }
}
