//! The spectra of a group of examples, in memory that several threads write.
#![expect(unsafe_code, reason = "threads write parts that lie between each other's")]

use super::planes::Spectrum;

/// Frequency by frequency, then example by example: real parts of all channels, then imaginary parts.
#[derive(Clone, Copy)]
pub(super) struct Spectra {
    at: *mut f32,
    pub(super) examples: usize,
    pub(super) channels: usize,
    /// Channels rounded up to whole registers.
    pub(super) lanes: usize,
    frequencies: usize,
}

// SAFETY: only an address: who writes through it says why nobody else reads or writes there
unsafe impl Send for Spectra {}
// SAFETY: as above
unsafe impl Sync for Spectra {}

/// Elements between frequencies beyond what they hold: a cache line, lest all frequencies fall into the same cache sets.
const APART: usize = 16;

impl Spectra {
    /// Elements that they take.
    pub(super) fn len(frequencies: usize, examples: usize, lanes: usize) -> usize {
        frequencies * (examples * 2 * lanes + APART)
    }

    /// In `memory`, which must hold [`Self::len`] elements and outlive the value.
    pub(super) fn new(memory: &mut [f32], frequencies: usize, examples: usize, channels: usize, lanes: usize) -> Self {
        assert!(memory.len() >= Self::len(frequencies, examples, lanes));
        Self { at: memory.as_mut_ptr(), examples, channels, lanes, frequencies }
    }

    /// Elements between examples.
    pub(super) fn example(&self) -> usize {
        2 * self.lanes
    }

    /// Elements between frequencies.
    fn step(&self) -> usize {
        self.examples * self.example() + APART
    }

    /// The first channel of the first example at a frequency.
    pub(super) fn frequency(&self, frequency: usize) -> *mut f32 {
        assert!(frequency < self.frequencies);
        self.at.wrapping_add(frequency * self.step())
    }

    /// One example's channels from `first` on.
    pub(super) fn spectrum(&self, example: usize, first: usize) -> Spectrum {
        assert!(example < self.examples && first < self.lanes);
        let at = self.at.wrapping_add(example * self.example() + first);
        Spectrum { at, step: self.step(), imaginary: self.lanes }
    }
}
