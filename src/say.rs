//! Standard output that may close: `lockstep recipes | head` is no reason to panic.

/// As `println!`, but a reader that went away is no error.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}
