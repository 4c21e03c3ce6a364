//! How many bytes pass between the coordinator and its workers.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::telemetry::Traffic;

/// Counts bytes where they pass: on the connections' tasks and in the actor. Atomics instead of messages, because a message for
/// each write would cost more than the write; nothing is decided by them, so no order between them matters.
#[derive(Debug, Default)]
pub(crate) struct TrafficMeter {
    received: AtomicU64,
    sent: AtomicU64,
    shared: AtomicU64,
}

impl TrafficMeter {
    /// Bytes came over TCP.
    pub(crate) fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes went out over TCP.
    pub(crate) fn send(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// `values` f32 values went through shared memory, one way or the other.
    pub(crate) fn share(&self, values: usize) {
        self.shared.fetch_add(values as u64 * 4, Ordering::Relaxed);
    }

    /// What was counted, on top of `before`.
    pub(crate) fn since(&self, before: Traffic) -> Traffic {
        // a checkpoint may say anything; a sum that wraps would be a panic in tests and nonsense elsewhere
        let sum = |before: u64, counter: &AtomicU64| before.saturating_add(counter.load(Ordering::Relaxed));
        Traffic {
            received: sum(before.received, &self.received),
            sent: sum(before.sent, &self.sent),
            shared: sum(before.shared, &self.shared),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_session_counted_is_kept() {
        let meter = TrafficMeter::default();
        meter.receive(3);
        meter.send(5);
        meter.share(7);
        meter.send(1);
        assert_eq!(meter.since(Traffic::default()), Traffic { received: 3, sent: 6, shared: 28 });
        let before = Traffic { received: 10, sent: u64::MAX, shared: 0 };
        assert_eq!(meter.since(before), Traffic { received: 13, sent: u64::MAX, shared: 28 });
    }
}
