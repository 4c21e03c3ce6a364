//! One worker's stream: its hello, then its answers, until it ends.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::schema::Schema;
use lockstep_proto::shared::Shared;
use lockstep_proto::wire::{FromWorker, Hello, Refused, ToWorker, from_worker, to_worker};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use super::answer::Inbox;
use crate::actor::{Admitted, Message, Outbound};
use crate::buffers::Buffers;
use crate::engine::WorkerId;

/// A peer that opens a stream and says nothing holds a socket: not for long.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of each text in a Hello. They are kept and shown as long as the run goes on.
const LONGEST_TEXT: usize = 256;

/// What a worker must have built and fetched before it gets work.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) schema: Schema,
    pub(crate) data_hash: String,
    /// Where gradients are put together.
    pub(crate) buffers: Buffers,
}

/// Messages to the worker.
pub(super) type Outgoing = std::pin::Pin<Box<dyn Stream<Item = Result<ToWorker, Status>> + Send>>;

/// Starts the task that reads `incoming`; returns the stream that it answers on.
pub(super) fn open(incoming: Streaming<FromWorker>, actor: mpsc::Sender<Message>, run: Facts) -> Outgoing {
    let (outbound, outgoing) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        if let Err(refused) = attend(incoming, actor, run, outbound.clone()).await {
            // the worker may be gone already
            let _ = outbound.send(ToWorker { message: Some(to_worker::Message::Refused(refused)) });
        }
    });
    Box::pin(UnboundedReceiverStream::new(outgoing).map(Ok))
}

fn refuse(reason: impl Into<String>) -> Refused {
    Refused { reason: reason.into(), mistake: true }
}

/// Attends to one worker from hello to farewell.
async fn attend(
    mut incoming: Streaming<FromWorker>,
    actor: mpsc::Sender<Message>,
    run: Facts,
    outbound: Outbound,
) -> Result<(), Refused> {
    let over = || Refused { reason: "the run is over".to_owned(), mistake: false };
    let hello = hello(&mut incoming).await?;
    let (reply, answer) = oneshot::channel();
    actor.send(Message::Knock { hello, outbound: outbound.clone(), reply }).await.map_err(|_| over())?;
    let Admitted { worker, welcome, gradients } = answer.await.map_err(|_| over())??;
    let _ = outbound.send(ToWorker { message: Some(to_worker::Message::Welcome(welcome)) });
    // The session's own sender goes now: once the actor drops the other one, the stream to the worker ends.
    drop(outbound);
    let reason = read(&mut incoming, &actor, run, worker, gradients).await;
    let _ = actor.send(Message::Left { worker, reason }).await;
    Ok(())
}

async fn hello(incoming: &mut Streaming<FromWorker>) -> Result<Hello, Refused> {
    let first = tokio::time::timeout(HELLO_TIMEOUT, incoming.message()).await;
    let first = first.map_err(|_| refuse(format!("no Hello within {} s", HELLO_TIMEOUT.as_secs())))?;
    let first = first.map_err(|status| refuse(format!("the first message can't be read: {}", status.message())))?;
    match first.and_then(|message| message.message) {
        Some(from_worker::Message::Hello(hello)) => check_texts(hello),
        _ => Err(refuse("the first message must be Hello")),
    }
}

pub(super) fn check_texts(hello: Hello) -> Result<Hello, Refused> {
    for (what, text) in [("name", &hello.name), ("build", &hello.build), ("device class", &hello.device_class)] {
        if text.len() > LONGEST_TEXT {
            let length = text.len();
            return Err(refuse(format!("the worker's {what} has {length} bytes; at most {LONGEST_TEXT}: shorten it")));
        }
    }
    Ok(hello)
}

/// Reads until the stream ends; says why it did.
async fn read(
    incoming: &mut Streaming<FromWorker>,
    actor: &mpsc::Sender<Message>,
    Facts { schema, data_hash, buffers }: Facts,
    worker: WorkerId,
    gradients: Option<Arc<Shared>>,
) -> String {
    let mut inbox = Inbox::new(schema.clone(), buffers, gradients);
    loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message.message,
            Ok(None) => return "its stream ended".to_owned(),
            Err(status) => {
                tracing::debug!(worker, "stream: {}", status.message());
                return "its connection broke".to_owned();
            }
        };
        let answered = match message {
            Some(from_worker::Message::Ready(ready)) => {
                let ours = schema.fingerprint();
                if ready.schema_fingerprint != ours {
                    return format!("it built a model with schema {:.64}, not {ours}", ready.schema_fingerprint);
                }
                if ready.data_hash != data_hash {
                    return format!("it holds the images {:.16}, not {data_hash:.16}", ready.data_hash);
                }
                if actor.send(Message::Ready { worker, shared: ready.shared }).await.is_err() {
                    return "the run is over".to_owned();
                }
                continue;
            }
            Some(from_worker::Message::Gradient(part)) => inbox.gradient(part),
            Some(from_worker::Message::Evaluation(evaluation)) => Some(super::answer::evaluation(evaluation)),
            Some(from_worker::Message::Failed(failed)) => Some(super::answer::failed(failed)),
            Some(from_worker::Message::Goodbye(_)) => {
                if actor.send(Message::Leaving { worker }).await.is_err() {
                    return "the run is over".to_owned();
                }
                continue;
            }
            Some(from_worker::Message::Hello(_)) => return "it said Hello twice".to_owned(),
            None => return "it sent a message that this build does not know".to_owned(),
        };
        let Some((lease, answer)) = answered else { continue };
        if actor.send(Message::Answer { worker, lease, answer }).await.is_err() {
            return "the run is over".to_owned();
        }
    }
}
