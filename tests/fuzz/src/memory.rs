//! How much memory a decoder takes, counted at the allocator: on this thread alone, so that tests may run side by side.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// The most that a decoder may hold at once: `each` bytes for each byte that it is given, and `constant`.
///
/// A vector that grows holds its old and its new half for a moment, so that even a plain copy of unknown length has an `each`
/// of 3.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    pub each: u64,
    pub constant: u64,
}

impl Bound {
    /// Runs `decode` on an input of `length` bytes.
    ///
    /// # Panics
    /// If `decode` does, or holds more than the bound at any moment.
    #[track_caller]
    pub fn hold<T>(self, length: usize, decode: impl FnOnce() -> T) -> T {
        let (result, peak) = peak(decode);
        self.check(length, peak);
        result
    }

    /// # Panics
    /// If `peak` is beyond the bound for an input of `length` bytes.
    #[track_caller]
    pub fn check(self, length: usize, peak: u64) {
        let most = self.each * length as u64 + self.constant;
        assert!(peak <= most, "{peak} bytes were held for an input of {length} bytes; {self:?} allows {most}");
    }
}

/// Runs `decode`: its result, and the most bytes that this thread held at once for it.
///
/// # Panics
/// If `decode` does.
pub fn peak<T>(decode: impl FnOnce() -> T) -> (T, u64) {
    let mut result = None;
    // a panic that went through the counter would leave it counting
    let counted = allocation_counter::measure(|| result = Some(catch_unwind(AssertUnwindSafe(decode))));
    match result.expect("measure() calls it") {
        Ok(value) => (value, counted.bytes_max),
        Err(panic) => resume_unwind(panic),
    }
}

#[cfg(test)]
mod tests {
    // a vector that nobody looks at is never made
    use std::hint::black_box;

    use super::*;

    const BOUND: Bound = Bound { each: 2, constant: 1000 };

    #[test]
    fn what_is_freed_counts_and_what_stays_within_passes() {
        let ((), peak) = peak(|| drop(black_box(vec![1_u8; 5000])));
        // by hand: one vector, no growth
        assert_eq!(peak, 5000);
        assert_eq!(BOUND.hold(2000, || black_box(vec![1_u8; 5000]).len()), 5000);
    }

    #[test]
    #[should_panic(expected = "5001 bytes were held for an input of 2000 bytes")]
    fn a_byte_too_many_is_noticed() {
        BOUND.hold(2000, || drop(black_box(vec![1_u8; 5001])));
    }

    #[test]
    #[should_panic(expected = "its own words")]
    fn a_panic_of_the_decoder_comes_through() {
        for _ in 0..100 {
            // more often than the counter has levels
            assert!(catch_unwind(|| peak(|| panic!("inner"))).is_err());
        }
        BOUND.hold(0, || panic!("its own words"));
    }
}
