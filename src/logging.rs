//! tracing to standard error, above the progress bars where there are any. `RUST_LOG` chooses what is said.

use lockstep_coordinator::telemetry;
use tracing_subscriber::EnvFilter;

/// For commands that people watch: warnings, unless `RUST_LOG` says otherwise.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    // a second call in one process (tests) changes nothing
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(telemetry::writer).try_init();
}

/// For workers: one plain line an event; `train` puts the worker's name before it.
pub fn start_worker() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .try_init();
}
