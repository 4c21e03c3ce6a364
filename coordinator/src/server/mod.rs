//! The gRPC server: decodes, asks the actor, encodes. No decisions.

mod answer;
#[cfg(test)]
mod fuzz;
mod records;
mod session;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::wire::coordinator_server::{Coordinator, CoordinatorServer};
use lockstep_proto::wire::{
    DESCRIPTORS, FRAME_BYTES, FetchRecordsRequest, FromWorker, HeartbeatReply, HeartbeatRequest, StatusReply,
    StatusRequest, StopReply, StopRequest, WINDOW_BYTES,
};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::actor::Message;
pub(crate) use session::Facts;

/// A silent connection is asked (HTTP/2 ping) whether it lives: a worker whose machine lost power is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The service: what every request needs, cheap to share.
#[derive(Debug)]
struct Service {
    actor: mpsc::Sender<Message>,
    run: Facts,
    /// The records file that workers fetch.
    records: Bytes,
}

/// Serves on `listener` until `stop` resolves.
pub(crate) async fn serve(
    listener: TcpListener,
    actor: mpsc::Sender<Message>,
    run: Facts,
    records: Bytes,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let service = CoordinatorServer::new(Service { actor, run, records });
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CoordinatorServer<Service>>().await;
    let mut server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE * 2))
        .add_service(service)
        .add_service(health_service);
    // a broken descriptor set only costs grpcurl its reflection
    if let Ok(reflection) =
        tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS).build_v1()
    {
        server = server.add_service(reflection);
    }
    // A step is a few small messages each way: with Nagle's algorithm each would wait 40 ms for an acknowledgement. (The
    // server builder's own setting does not reach a listener that is handed in.)
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server.serve_with_incoming_shutdown(incoming, stop).await
}

/// The actor is gone: the run is over.
fn over<E>(_: E) -> Status {
    Status::unavailable("the run is over")
}

#[tonic::async_trait]
impl Coordinator for Service {
    type WorkStream = session::Outgoing;
    type FetchRecordsStream = records::Parts;

    async fn work(&self, request: Request<Streaming<FromWorker>>) -> Result<Response<Self::WorkStream>, Status> {
        let outgoing = session::open(request.into_inner(), self.actor.clone(), self.run.clone());
        Ok(Response::new(outgoing))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatReply>, Status> {
        let (reply, answer) = oneshot::channel();
        let beat = Message::Beat { worker: request.into_inner().worker, reply };
        self.actor.send(beat).await.map_err(over)?;
        let known = answer.await.map_err(over)?;
        Ok(Response::new(HeartbeatReply { known }))
    }

    async fn fetch_records(
        &self,
        request: Request<FetchRecordsRequest>,
    ) -> Result<Response<Self::FetchRecordsStream>, Status> {
        let asked = request.into_inner().data_hash;
        if asked != self.run.data_hash {
            let text = format!("this run's data are {}, not {asked:.64}; join anew", self.run.data_hash);
            return Err(Status::not_found(text));
        }
        Ok(Response::new(records::parts(self.records.clone())))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let (reply, answer) = oneshot::channel();
        self.actor.send(Message::Status { reply }).await.map_err(over)?;
        Ok(Response::new(answer.await.map_err(over)?))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        let (reply, answer) = oneshot::channel();
        let reason = request.into_inner().reason.chars().take(answer::LONGEST_REASON).collect();
        self.actor.send(Message::Stop { reason, reply: Some(reply) }).await.map_err(over)?;
        Ok(Response::new(answer.await.map_err(over)?))
    }
}
