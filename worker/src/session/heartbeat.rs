//! "I am alive", from a thread and a connection of its own: gradients on their way would delay it.

use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::time::Duration;

use lockstep_proto::wire::HeartbeatRequest;

use super::join;

/// Beats until dropped.
#[derive(Debug)]
pub(super) struct Heart {
    /// Dropping it is the signal to stop.
    _stop: SyncSender<()>,
}

pub(super) fn start(address: String, worker: u64, every_ms: u32) -> std::io::Result<Heart> {
    let (stop, stopped) = mpsc::sync_channel::<()>(0);
    let every = Duration::from_millis(u64::from(every_ms.max(10)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
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
                    Ok(Ok(_)) => {}
                    Ok(Err(status)) => {
                        tracing::debug!("heartbeat: {}", status.message());
                        client = None;
                    }
                    Err(_) => client = None,
                }
            });
        }
    })?;
    Ok(Heart { _stop: stop })
}
