//! Messages on their way to a worker, and whether it takes them.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use lockstep_proto::wire::{Report, ToWorker, to_worker};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_stream::Stream;
use tonic::Status;

/// The stream that the transport takes messages from.
#[derive(Debug)]
pub(super) struct Outgoing {
    messages: mpsc::UnboundedReceiver<ToWorker>,
    gauge: Arc<Gauge>,
}

/// What the session sees of its [`Outgoing`].
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Written by the transport's task, read by the session's. Held for a few look-ups.
    flow: Mutex<Flow>,
    /// Rung when the stream is at its end, or the connection.
    over: Notify,
}

#[derive(Debug, Default)]
struct Flow {
    /// Since when the transport was asked to come, and did not: what it took before has found no room on its way.
    asked_since: Option<Instant>,
    /// Fetches the transport.
    waker: Option<Waker>,
    /// Leases that the worker was given and has not answered.
    leases: BTreeSet<u64>,
    /// Those of them that are to bring what the worker came to.
    states: BTreeSet<u64>,
    /// Answers since the transport was asked to come.
    unread: u32,
}

impl Outgoing {
    pub(super) fn new(messages: mpsc::UnboundedReceiver<ToWorker>) -> (Self, Arc<Gauge>) {
        let gauge = Arc::new(Gauge::default());
        (Self { messages, gauge: Arc::clone(&gauge) }, gauge)
    }
}

impl Stream for Outgoing {
    type Item = Result<ToWorker, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.messages.poll_recv(cx);
        let mut flow = self.gauge.flow();
        (flow.asked_since, flow.unread) = (None, 0);
        flow.waker = Some(cx.waker().clone());
        if let Poll::Ready(Some(ToWorker { message: Some(to_worker::Message::Lease(lease)) })) = &next {
            flow.leases.insert(lease.lease);
            if lease.own.as_ref().is_some_and(|own| own.report() == Report::State) {
                flow.states.insert(lease.lease);
            }
        }
        next.map(|message| message.map(Ok))
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.gauge.over.notify_one();
    }
}

impl Flow {
    /// Asks the transport to come, if nobody does yet.
    fn ask(&mut self) -> Instant {
        self.waker.iter().for_each(Waker::wake_by_ref);
        *self.asked_since.get_or_insert_with(Instant::now)
    }
}

impl Gauge {
    /// Nobody panics while holding the lock.
    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the worker has taken nothing of what is on its way. The transport comes only when it has no message left
    /// over, so it is asked to come, and the time counts until it does.
    pub(super) fn blocked(&self) -> Duration {
        self.flow().ask().elapsed()
    }

    /// An answer to `lease` came: whether the worker had been asked, and how many came while it took nothing from us.
    pub(super) fn answered(&self, lease: u64) -> (bool, u32) {
        let mut flow = self.flow();
        flow.ask();
        flow.unread += 1;
        flow.states.remove(&lease);
        (flow.leases.remove(&lease), flow.unread)
    }

    /// Whether the worker was asked for what it came to with `lease`, and has not answered.
    pub(super) fn wants_state(&self, lease: u64) -> bool {
        self.flow().states.contains(&lease)
    }

    /// Resolves when nothing more will go out.
    pub(super) async fn over(&self) {
        self.over.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstep_proto::wire::{Lease, OwnStep};
    use tokio_stream::StreamExt as _;

    fn lease(lease: u64) -> ToWorker {
        ToWorker { message: Some(to_worker::Message::Lease(Lease { lease, ..Lease::default() })) }
    }

    #[tokio::test]
    async fn knows_who_was_asked_for_what_it_came_to() {
        let (sender, messages) = mpsc::unbounded_channel();
        let (mut outgoing, gauge) = Outgoing::new(messages);
        for (lease, report) in [(1, Report::Counts), (2, Report::State), (3, Report::Gradient)] {
            let own = Some(OwnStep { lr: 0.1, report: report.into() });
            let message = to_worker::Message::Lease(Lease { lease, own, ..Lease::default() });
            sender.send(ToWorker { message: Some(message) }).expect("open");
            assert!(outgoing.next().await.is_some());
        }
        assert_eq!([1, 2, 3].map(|lease| gauge.wants_state(lease)), [false, true, false]);
        assert_eq!(gauge.answered(2), (true, 1));
        assert!(!gauge.wants_state(2), "once");
    }

    #[tokio::test]
    async fn sees_what_was_asked_and_whether_it_goes() {
        let (sender, messages) = mpsc::unbounded_channel();
        let (mut outgoing, gauge) = Outgoing::new(messages);
        sender.send(lease(7)).expect("open");
        assert_eq!(gauge.answered(7), (false, 1), "it is still here");
        assert!(outgoing.next().await.is_some());
        gauge.blocked();
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert!(gauge.blocked() >= Duration::from_millis(2));
        assert_eq!(gauge.answered(7), (true, 1));
        assert_eq!(gauge.answered(7), (false, 2));
        // a transport that is not held up comes when it is asked
        let coming = tokio::spawn(async move {
            assert!(outgoing.next().await.is_none());
        });
        tokio::time::sleep(Duration::from_millis(2)).await;
        gauge.blocked();
        tokio::task::yield_now().await;
        assert!(gauge.flow().asked_since.is_none());
        assert_eq!(gauge.answered(8), (false, 1));
        drop(sender);
        coming.await.expect("no panic");
        gauge.over().await;
    }
}
