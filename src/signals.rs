//! Ctrl-C and SIGTERM.

use std::future::Future;

/// Resolves with the signal's name once one came. A second one ends the process at once, for those who can't wait.
pub fn stop() -> std::io::Result<impl Future<Output = String> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        let name = tokio::select! {
            _ = interrupt.recv() => "Ctrl-C",
            _ = terminate.recv() => "SIGTERM",
        };
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            std::process::exit(2);
        });
        name.to_owned()
    })
}
