//! "I am alive", from a thread and a connection of its own: gradients on their way would delay it.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;

use lockstep_proto::wire::HeartbeatRequest;
use tokio::sync::Notify;

use super::join;

/// Beats until dropped.
#[derive(Debug)]
pub(super) struct Heart {
    /// Dropping it is the signal to stop.
    _stop: SyncSender<()>,
    /// Rung when the coordinator answers that it does not know this worker's session.
    unknown: Arc<Notify>,
}

impl Heart {
    /// Resolves when the coordinator no longer knows the session, whatever its stream looks like from here.
    pub(super) async fn unknown(&self) {
        self.unknown.notified().await;
    }
}

pub(super) fn start(address: String, worker: u64, every_ms: u32) -> std::io::Result<Heart> {
    let (stop, stopped) = mpsc::sync_channel::<()>(0);
    let every = Duration::from_millis(u64::from(every_ms.max(10)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let unknown = Arc::new(Notify::new());
    let bell = Arc::clone(&unknown);
    std::thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
        let mut client = None;
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            runtime.block_on(async {
                if client.is_none() {
                    client = join::connect(&address).await.ok().map(join::client);
                }
                let Some(connected) = &mut client else { return };
                // The main stream hears that a session is over: a beat that fails only tries a new connection.
                let beat = connected.heartbeat(HeartbeatRequest { worker });
                match tokio::time::timeout(every * 2, beat).await {
                    Ok(Ok(reply)) if reply.get_ref().known => {}
                    // kept until somebody listens, so that one that comes early is not lost
                    Ok(Ok(_)) => bell.notify_one(),
                    Ok(Err(status)) => {
                        tracing::debug!("heartbeat: {}", status.message());
                        client = None;
                    }
                    Err(_) => client = None,
                }
            });
        }
    })?;
    Ok(Heart { _stop: stop, unknown })
}
