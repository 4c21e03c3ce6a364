//! Against a coordinator that the test plays.

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use lockstep_proto::recipe::Recipe;
use lockstep_proto::records::{PIXELS, Split};
use lockstep_proto::schema::Schema;
use lockstep_proto::wire::coordinator_server::{Coordinator, CoordinatorServer};
use lockstep_proto::wire::{
    FetchRecordsRequest, Finished, FromWorker, HeartbeatReply, HeartbeatRequest, RecordsChunk, StatusReply,
    StatusRequest, StopReply, StopRequest, ToWorker, to_worker,
};
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt as _};
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::*;

/// Only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(60);

const VALUES: usize = 4;

/// Welcomes a worker and forgets it, without a word on the stream: as one does that was started again behind the same
/// address. It knows the second session and ends the run.
struct Forgetful {
    welcome: Welcome,
    sessions: Arc<AtomicUsize>,
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Coordinator for Forgetful {
    type WorkStream = Outgoing<ToWorker>;
    type FetchRecordsStream = Outgoing<RecordsChunk>;

    async fn work(&self, _: Request<Streaming<FromWorker>>) -> Result<Response<Self::WorkStream>, Status> {
        let say = |message| Ok(ToWorker { message: Some(message) });
        let welcome = say(to_worker::Message::Welcome(self.welcome.clone()));
        let mut messages = vec![welcome];
        if self.sessions.fetch_add(1, Ordering::SeqCst) > 0 {
            let finished = Finished { reason: "every step is made".to_owned(), complete: true, run_over: true };
            messages.push(say(to_worker::Message::Finished(finished)));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(messages).chain(tokio_stream::pending()))))
    }

    async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Result<Response<HeartbeatReply>, Status> {
        Ok(Response::new(HeartbeatReply { known: self.sessions.load(Ordering::SeqCst) > 1 }))
    }

    async fn fetch_records(
        &self,
        _: Request<FetchRecordsRequest>,
    ) -> Result<Response<Self::FetchRecordsStream>, Status> {
        Err(Status::unimplemented("the worker has the images"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }

    async fn stop(&self, _: Request<StopRequest>) -> Result<Response<StopReply>, Status> {
        Err(Status::unimplemented("nobody asks"))
    }
}

fn records() -> Records {
    let split = Split { pixels: vec![7; PIXELS], labels: vec![1] };
    Records { classes: (0..10).map(|class| class.to_string()).collect(), train: split.clone(), test: split }
}

#[tokio::test]
async fn a_worker_that_is_not_known_any_more_joins_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("address").to_string();
    let sessions = Arc::new(AtomicUsize::new(0));
    let welcome = Welcome {
        worker: 1,
        run: "played".to_owned(),
        recipe: Recipe::default().to_toml(),
        schema_fingerprint: Schema::wire(VALUES).expect("one tensor").fingerprint(),
        data_hash: records().hash(),
        heartbeat_ms: 10,
        ..Welcome::default()
    };
    let service = CoordinatorServer::new(Forgetful { welcome, sessions: Arc::clone(&sessions) });
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)),
    );

    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    let settings = Settings {
        address: address.clone(),
        build: String::new(),
        name: "anna".to_owned(),
        threads: 1,
        local_data: Some(Arc::new(|| Ok(records()))),
        cache: false,
        reconnect: PATIENCE,
        wire_values: Some(VALUES),
        news: Some(Box::new(move |news| hears.lock().expect("no panic").push(news.clone()))),
        processor: crate::device::Processor::Cpu,
        die_at_step: None,
        lie_at_step: None,
    };
    let farewell = tokio::time::timeout(PATIENCE, work(settings, std::future::pending())).await;
    assert!(farewell.expect("no hang").expect("the run is over").complete);
    assert_eq!(sessions.load(Ordering::SeqCst), 2);
    let heard = heard.lock().expect("no panic");
    let [News::Joined { joined, again: false }, lost, News::Joined { joined: back, again: true }] = &heard[..] else {
        panic!("{heard:?}")
    };
    assert_eq!((joined, &*joined.run), (back, "played"));
    let reason = "it does not know this worker any more".to_owned();
    assert_eq!(*lost, News::Looking { address, lost: true, reason, deadline: PATIENCE });
}
