//! What the fuzz tests of all crates share: bytes that nobody would write, and a bound on the memory that reading them takes.
//!
//! `cargo test --release fuzz` runs a few thousand inputs a decoder; `PROPTEST_CASES=1000000 cargo test --release fuzz` a
//! million. docs/faults.md says what was run and what it found.

mod damage;
mod memory;

pub use damage::{damaged, numbers};
pub use memory::{Bound, peak};

use proptest::test_runner::Config;

/// `quick` inputs a test, or as many as `PROPTEST_CASES` says.
#[must_use]
pub fn cases(quick: u32) -> Config {
    let config = Config::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => Config { cases: quick, ..config },
    }
}
