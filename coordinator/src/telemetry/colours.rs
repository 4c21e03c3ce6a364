//! Colour, where there is someone to see it. Few: a colour is a hint, never the only carrier of a fact.

use console::Style;

/// How text is marked; the plain one leaves it alone.
#[derive(Clone, Debug)]
pub(super) struct Colours {
    pub dim: Style,
    pub strong: Style,
    pub good: Style,
    pub warn: Style,
    pub bad: Style,
}

impl Colours {
    pub(super) fn new(on: bool) -> Colours {
        // Forced both ways: whether colours are wanted is decided once, in `display`, for the stream that is meant.
        let style = || Style::new().force_styling(on);
        Colours {
            dim: style().dim(),
            strong: style().bold(),
            good: style().green(),
            warn: style().yellow(),
            bad: style().red(),
        }
    }
}
