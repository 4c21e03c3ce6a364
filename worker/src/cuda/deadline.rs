//! A deadline for calls that may never return.

use std::sync::mpsc;
use std::time::Duration;

/// Has `call` called on a thread of its own; whether it returned in time. If it did not it goes on, and so must all that it touches.
pub(super) fn returns_within(patience: Duration, call: impl FnOnce() + Send + 'static) -> bool {
    let (sender, done) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("deadline".to_owned()).spawn(move || {
        call();
        let _ = sender.send(());
    });
    // where there is no thread to be had it was not called
    thread.is_ok() && done.recv_timeout(patience).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_returns_late_or_never_is_found_out() {
        let (go_on, wait) = mpsc::channel::<()>();
        assert!(returns_within(Duration::from_secs(60), || {}));
        let hangs = move || {
            let _ = wait.recv();
        };
        assert!(!returns_within(Duration::from_millis(10), hangs));
        assert!(go_on.send(()).is_ok(), "it is still at it");
        assert!(!returns_within(Duration::from_secs(60), || panic!("on purpose")));
    }
}
