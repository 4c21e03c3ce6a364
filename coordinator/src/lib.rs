//! Everything that touches the average. To the coordinator a model is a schema and one flat `f32` vector in schema order.
//!
//! [`serve`] is the way in; [`engine`] decides, the actor acts, the server only translates.

mod actor;
mod average;
pub mod checkpoint;
pub mod dataset;
pub mod engine;
mod evaluation;
mod ledger;
mod parameters;
mod partition;
mod plan;
mod plane;
pub mod regular;
mod replica;
mod run;
mod schedule;
mod server;
pub mod telemetry;
mod traffic;

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_proto::buffers::Buffers;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

pub use average::Reducer;
pub use evaluation::dead_outputs;
pub use plan::Plan;
pub use run::{Limits, Report, RingSum, Run, RunError, Timing};

use actor::{Actor, Message};
use telemetry::Telemetry;
use traffic::TrafficMeter;

/// Messages that may wait for the actor. More would only hide that it is the bottleneck; full, senders wait.
const INBOX: usize = 256;

/// Gradients whose memory is kept: those of a step's two halves and of its sum, for a few workers at once.
const GRADIENTS: usize = 8;

/// Serves `run` to workers on `listener` until it is over; `stop` (with its reason) ends it early, with a checkpoint.
pub async fn serve(
    run: Run,
    listener: TcpListener,
    telemetry: Telemetry,
    stop: impl Future<Output = String> + Send + 'static,
) -> Result<Report, RunError> {
    let records = Bytes::from(run.dataset.to_bytes()?);
    let (schema, optimizer, data_hash) = (run.schema.clone(), run.recipe.optimizer.clone(), run.dataset.hash());
    // long enough for a part of a tensor on a slow link, which keeps its heartbeats waiting too
    let patience = run.limits.worker_timeout * 5;
    let buffers = Buffers::keeping(GRADIENTS);
    let traffic = Arc::<TrafficMeter>::default();
    let actor = Actor::new(run, records.len() as u64, telemetry, buffers.clone(), Arc::clone(&traffic))?;
    let (sender, inbox) = mpsc::channel(INBOX);
    let (close, closed) = oneshot::channel::<()>();

    let stopper = sender.clone();
    let watch = tokio::spawn(async move {
        let reason = stop.await;
        let _ = stopper.send(Message::Stop { reason, reply: None }).await;
    });
    let mut server = tokio::spawn(server::serve(
        listener,
        sender.clone(),
        server::Facts { schema, optimizer, data_hash, buffers, patience, traffic },
        records,
        async {
            let _ = closed.await;
        },
    ));
    let mut actor = tokio::spawn(actor.serve(inbox));
    let report = tokio::select! {
        report = &mut actor => report,
        ended = &mut server => {
            // nobody can reach the run any more: it keeps what it has and ends
            let reason = match ended {
                Ok(Err(error)) => format!("the server stopped: {error}"),
                _ => "the server stopped".to_owned(),
            };
            let _ = sender.send(Message::Stop { reason, reply: None }).await;
            actor.await
        }
    };
    watch.abort();
    let _ = close.send(());
    if !server.is_finished() {
        // Sessions end when their senders are gone; one that does not read must not hold up the end of a run.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(2), server).await;
    }
    report.map_err(|_| RunError::Actor)
}
