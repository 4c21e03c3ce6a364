//! Rows of text with aligned columns.

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// The rows below each other, two spaces between columns, none at the end of a line. A row may have fewer cells.
pub fn aligned(columns: &[Align], rows: &[Vec<String>]) -> String {
    let mut widths = vec![0; columns.len()];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), align) in row.iter().zip(&widths).zip(columns) {
            let pad = " ".repeat(width - cell.chars().count());
            line += &match align {
                Align::Left => format!("{cell}{pad}  "),
                Align::Right => format!("{pad}{cell}  "),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// A space at which no line ends.
pub const TOGETHER: char = '\u{a0}';

/// `start` and `text` in lines of at most `width` letters; those after the first begin where the text does. Words
/// with [`TOGETHER`] between them stay on one line.
pub fn folded(start: &str, text: &str, width: usize) -> String {
    let indent = start.chars().count();
    let (mut lines, mut line, mut letters) = (String::new(), start.to_owned(), indent);
    for (n, word) in text.split_ascii_whitespace().enumerate() {
        let more = word.chars().count();
        if n > 0 && letters + 1 + more > width {
            lines += &line;
            lines.push('\n');
            (line, letters) = (" ".repeat(indent), indent);
        } else if n > 0 {
            line.push(' ');
            letters += 1;
        }
        line += word;
        letters += more;
    }
    (lines + line.trim_end()).replace(TOGETHER, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_where_their_text_does() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let rows = [row(&["a", "1.5"]), row(&["größer", "10.25", "x"]), row(&[]), row(&["b", "", "y"])];
        let text = aligned(&[Align::Left, Align::Right, Align::Left], &rows);
        assert_eq!(text, "a         1.5\ngrößer  10.25  x\n\nb              y\n");
    }

    #[test]
    fn a_long_text_goes_on_below_itself() {
        assert_eq!(folded("ä: ", "one two  three", 10), "ä: one two\n   three");
        assert_eq!(folded("a: ", "", 10), "a:");
        assert_eq!(folded("", &format!("one two{TOGETHER}3"), 8), "one\ntwo 3");
        // a word is never cut
        assert_eq!(folded("", "abcdef gh", 4), "abcdef\ngh");
    }
}
