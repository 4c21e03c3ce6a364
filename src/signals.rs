//! Ctrl-C, SIGTERM, and the SIGHUP of a terminal that is closed.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Resolves with the signal's name once one came. A second one ends the process at once, for those who can't wait.
pub fn stop() -> std::io::Result<impl Future<Output = String> + Send + 'static> {
    let mut signals = Signals {
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
        // started with nohup it is ignored, and stays so: a handler of ours would undo that
        hang_up: if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) },
    };
    Ok(async move {
        let name = signals.next().await;
        tokio::spawn(async move {
            let name = signals.next().await;
            warn!("{name} again: ended at once, without another checkpoint");
            std::process::exit(2);
        });
        name.to_owned()
    })
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
}

impl Signals {
    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
            _ = hang_up => "SIGHUP",
        }
    }
}

/// Whether this process was started with SIGHUP ignored. Only Linux says so without a call into C; elsewhere `nohup` does not help.
fn ignores_hang_up() -> bool {
    // bit n - 1 stands for signal n
    const HANG_UP: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & HANG_UP != 0)
}
