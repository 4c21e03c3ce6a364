//! The gRPC server: decodes, asks the actor, encodes. No decisions.

mod answer;
#[cfg(test)]
mod fuzz;
mod limits;
mod listener;
mod lobby;
mod made;
mod outgoing;
mod records;
mod session;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lockstep_proto::frames::{self, Direct, Frames};
use lockstep_proto::wire::coordinator_server::{Coordinator, CoordinatorServer};
use lockstep_proto::wire::{
    DESCRIPTORS, FRAME_BYTES, FetchRecordsRequest, FromWorker, HeartbeatReply, HeartbeatRequest, StatusReply,
    StatusRequest, StopReply, StopRequest, ToWorker, WINDOW_BYTES,
};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::actor::Message;
use limits::{CALLS, CONNECTIONS, FETCHES, MESSAGE_BYTES, QUIET, REASON_CHARS, SMALL_MESSAGE_BYTES, STREAMS};
use listener::Incoming;
use lobby::{Lobby, Place};
pub(crate) use session::Facts;

/// A silent connection is asked (HTTP/2 ping) whether it lives. A dead worker is noticed by its heartbeats, long before: this
/// is for all other peers.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The service: what every request needs, cheap to share.
#[derive(Debug)]
struct Service {
    actor: mpsc::Sender<Message>,
    run: Facts,
    /// The records file that workers fetch.
    records: Bytes,
    fetches: Arc<Semaphore>,
    rooms: session::Rooms,
}

/// Serves on `listener` until `stop` resolves.
pub(crate) async fn serve(
    listener: TcpListener,
    actor: mpsc::Sender<Message>,
    run: Facts,
    records: Bytes,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let (fetches, patience) = (Arc::new(Semaphore::new(FETCHES)), run.patience);
    let traffic = Arc::clone(&run.traffic);
    let service = Service { actor, run, records, fetches, rooms: session::Rooms::default() };
    let service = CoordinatorServer::new(service).max_decoding_message_size(MESSAGE_BYTES);
    let gate = gate();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CoordinatorServer<Service>>().await;
    let health_service = health_service.max_decoding_message_size(SMALL_MESSAGE_BYTES);
    let mut server = Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_concurrent_streams(STREAMS)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        // on a slow link the answer waits behind what the kernel has taken of a tensor
        .http2_keepalive_timeout(Some(patience.max(KEEP_ALIVE * 2)))
        .add_service(InterceptedService::new(Direct(service), gate.clone()))
        .add_service(InterceptedService::new(health_service, gate.clone()));
    // a broken descriptor set only costs grpcurl its reflection
    if let Ok(reflection) =
        tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS).build_v1()
    {
        let reflection = reflection.max_decoding_message_size(SMALL_MESSAGE_BYTES);
        server = server.add_service(InterceptedService::new(reflection, gate));
    }
    let lobby = Lobby::new(CONNECTIONS);
    let incoming = Incoming::new(listener, Arc::clone(&lobby), traffic);
    let sweep = async {
        let mut ticks = tokio::time::interval(QUIET / 10);
        loop {
            ticks.tick().await;
            lobby.sweep(QUIET);
        }
    };
    tokio::select! {
        served = server.serve_with_incoming_shutdown(incoming, stop) => served,
        () = sweep => Ok(()),
    }
}

/// Lets so many calls in at once whose message is still on its way.
fn gate() -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    let calls = Arc::new(Semaphore::new(CALLS));
    move |mut request: Request<()>| {
        let permit = Arc::clone(&calls).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{CALLS} calls are on their way in, which is the limit; try again"))
        })?;
        // it goes with the request, when the call's own code has its message
        request.extensions_mut().insert(Arc::new(permit));
        Ok(request)
    }
}

/// The connection that a request came on. Its call is whole: it counts as somebody who does something.
fn caller<T>(request: &Request<T>) -> Option<Arc<Place>> {
    let place = request.extensions().get::<Arc<Place>>().cloned();
    place.iter().for_each(|place| place.called());
    place
}

/// The actor is gone: the run is over.
fn over<E>(_: E) -> Status {
    Status::unavailable("the run is over")
}

#[tonic::async_trait]
impl Coordinator for Service {
    /// Nothing: what goes out is attached.
    type WorkStream = tokio_stream::Empty<Result<ToWorker, Status>>;
    type FetchRecordsStream = records::Parts;

    async fn work(&self, request: Request<Streaming<FromWorker>>) -> Result<Response<Self::WorkStream>, Status> {
        // it has said nothing yet, so it does not count as a caller
        let connection = request.extensions().get::<Arc<Place>>().cloned();
        let (incoming, rooms) = (request.into_inner(), self.rooms.clone());
        let outgoing = session::open(incoming, connection, rooms, self.actor.clone(), self.run.clone());
        let mut response = Response::new(tokio_stream::empty());
        frames::attach(response.extensions_mut(), Frames::of_server(outgoing));
        Ok(response)
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatReply>, Status> {
        caller(&request);
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
        caller(&request);
        let asked = request.into_inner().data_hash;
        if asked != self.run.data_hash {
            let text = format!("this run's data are {}, not {asked:.64}; join anew", self.run.data_hash);
            return Err(Status::not_found(text));
        }
        let permit = Arc::clone(&self.fetches).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("{FETCHES} workers fetch the images, which is the limit; try again"))
        })?;
        Ok(Response::new(records::parts(self.records.clone(), permit)))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        caller(&request);
        let (reply, answer) = oneshot::channel();
        self.actor.send(Message::Status { reply }).await.map_err(over)?;
        Ok(Response::new(answer.await.map_err(over)?))
    }

    async fn stop(&self, request: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        let _pin = caller(&request).map(|place| place.pin());
        let (reply, answer) = oneshot::channel();
        let reason = request.into_inner().reason.chars().take(REASON_CHARS).collect();
        self.actor.send(Message::Stop { reason, reply: Some(reply) }).await.map_err(over)?;
        Ok(Response::new(answer.await.map_err(over)?))
    }
}
