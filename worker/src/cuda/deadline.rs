//! A deadline for calls that may never return.

use std::sync::mpsc;
use std::time::Duration;

/// Has `call` called on a thread of its own; what it returned, if that was in time. If it was not it goes on, and so must all that it touches.
pub(super) fn returns_within<T: Send + 'static>(
    patience: Duration,
    call: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, done) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("deadline".to_owned()).spawn(move || {
        let _ = sender.send(call());
    });
    // where there is no thread to be had it was not called
    thread.ok().and_then(|_| done.recv_timeout(patience).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_returns_late_or_never_is_found_out() {
        let (go_on, wait) = mpsc::channel::<()>();
        assert_eq!(returns_within(Duration::from_secs(60), || 7), Some(7));
        let hangs = move || {
            let _ = wait.recv();
        };
        assert!(returns_within(Duration::from_millis(10), hangs).is_none());
        assert!(go_on.send(()).is_ok(), "it is still at it");
        assert!(returns_within(Duration::from_secs(60), || panic!("on purpose")).is_none());
    }
}
