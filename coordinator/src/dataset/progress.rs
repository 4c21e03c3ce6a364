//! Who hears how far loading is. Loading never prints: it does not know what else is on the screen.

/// Where progress and warnings go. One task at a time: `start`, any number of `advance`, `finish`.
pub trait Progress {
    /// A task begins; `total` is in the unit of `advance` (bytes or images) where it is known.
    fn start(&self, what: &str, total: Option<u64>);
    /// `n` more bytes or images.
    fn advance(&self, n: u64);
    /// The task is over, well or not.
    fn finish(&self);
    /// Something that the user must see.
    fn warn(&self, text: &str);
}

/// Nobody listens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _n: u64) {}
    fn finish(&self) {}
    fn warn(&self, _text: &str) {}
}
