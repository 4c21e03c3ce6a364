//! Standard output and error that may close: `lockstep recipes | head` is no reason to panic.

/// As `println!`, but a reader that went away is no error, and a disk that is full ends the process with 1.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        if let Err(error) = writeln!(std::io::stdout(), $($text)*) {
            $crate::exit::unheard(&error);
        }
    }};
}

/// As `eprintln!`, but when nobody can be told (a terminal that was closed) the work goes on.
macro_rules! warn {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(lockstep_coordinator::telemetry::writer(), $($text)*);
    }};
}
