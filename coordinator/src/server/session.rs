//! One worker's stream: its hello, then its answers, until it ends.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::buffers::Buffers;
use lockstep_proto::recipe::OptimizerSettings;
use lockstep_proto::schema::Schema;
use lockstep_proto::shared::Shared;
use lockstep_proto::wire::{FromWorker, Hello, Refused, ToWorker, from_worker, to_worker};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tonic::{Code, Streaming};

use super::answer::Inbox;
use super::limits::{FAREWELL, HELLO, KNOCKING, NAME_BYTES, READY, RING_WORDS, SESSIONS, UNASKED, UNREAD};
use super::lobby::{Lobby, Place};
use super::made::States;
use super::outgoing::{Gauge, Outgoing};
use crate::actor::{Admitted, Message};
use crate::engine::WorkerId;
use crate::traffic::TrafficMeter;

/// How often a session looks whether its worker takes what it is sent: a fraction of the shortest patience.
const WATCH: Duration = Duration::from_millis(250);

/// What a worker must have built and fetched before it gets work.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) schema: Schema,
    /// Whose state a worker may send that makes steps itself.
    pub(crate) optimizer: OptimizerSettings,
    pub(crate) data_hash: String,
    /// Where gradients are put together.
    pub(crate) buffers: Buffers,
    /// How long a worker may take nothing of what waits for it.
    pub(crate) patience: Duration,
    pub(crate) traffic: Arc<TrafficMeter>,
}

/// Room for sessions.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    knocking: Arc<Lobby>,
    sessions: Arc<Semaphore>,
}

impl Default for Rooms {
    fn default() -> Self {
        Self { knocking: Lobby::new(KNOCKING), sessions: Arc::new(Semaphore::new(SESSIONS)) }
    }
}

/// Starts the task that reads `incoming`; returns the stream that it answers on.
pub(super) fn open(
    incoming: Streaming<FromWorker>,
    connection: Option<Arc<Place>>,
    rooms: Rooms,
    actor: mpsc::Sender<Message>,
    run: Facts,
) -> Outgoing {
    let (outbound, outgoing) = mpsc::unbounded_channel();
    let (outgoing, gauge) = Outgoing::new(outgoing);
    let session = Attending { incoming, connection, gauge, actor };
    tokio::spawn(async move {
        if let Err(refused) = session.attend(rooms, run, outbound.clone()).await {
            // the worker may be gone already
            let _ = outbound.send(ToWorker { message: Some(to_worker::Message::Refused(refused)) });
        }
    });
    outgoing
}

fn refuse(reason: impl Into<String>) -> Refused {
    Refused { reason: reason.into(), mistake: true }
}

/// A refusal that waits for room: the worker is to try again.
fn full(reason: String) -> Refused {
    Refused { reason, mistake: false }
}

/// One worker's stream and what goes with it.
struct Attending {
    incoming: Streaming<FromWorker>,
    /// Where it came from; none in a server without connections.
    connection: Option<Arc<Place>>,
    gauge: Arc<Gauge>,
    actor: mpsc::Sender<Message>,
}

impl Attending {
    /// Attends to one worker from hello to farewell.
    async fn attend(
        mut self,
        rooms: Rooms,
        run: Facts,
        outbound: mpsc::UnboundedSender<ToWorker>,
    ) -> Result<(), Refused> {
        let over = || full("the run is over".to_owned());
        let hello = hello(&mut self.incoming, &rooms.knocking).await?;
        let _room = rooms
            .sessions
            .try_acquire_owned()
            .map_err(|_| full(format!("{SESSIONS} workers are here already, and one coordinator takes no more")))?;
        let _pin = self.connection.as_ref().map(Place::pin);
        let (reply, answer) = oneshot::channel();
        self.actor.send(Message::Knock { hello, outbound: outbound.clone(), reply }).await.map_err(|_| over())?;
        let Admitted { worker, welcome, gradients } = answer.await.map_err(|_| over())??;
        let _ = outbound.send(ToWorker { message: Some(to_worker::Message::Welcome(welcome)) });
        // The session's own sender goes now: once the actor drops the other one, the stream to the worker ends.
        drop(outbound);
        let reason = self.read(run, worker, gradients).await;
        let _ = self.actor.send(Message::Left { worker, reason }).await;
        Ok(())
    }

    /// Reads until the stream ends; says why it did.
    async fn read(&mut self, run: Facts, worker: WorkerId, gradients: Option<Arc<Shared>>) -> String {
        let Facts { schema, optimizer, data_hash, buffers, patience, traffic } = run;
        let over = || "the run is over".to_owned();
        let mut inbox = Inbox::new(schema.clone(), buffers, gradients.clone());
        let mut states = States::new(schema.clone(), optimizer, gradients);
        let mut watch = tokio::time::interval(WATCH);
        let welcomed = Instant::now();
        let (mut ready, mut leaving, mut unasked, mut said) = (false, false, 0, 0);
        loop {
            let message = tokio::select! {
                message = self.incoming.message() => message,
                () = self.gauge.over() => return self.let_go().await,
                _ = watch.tick() => {
                    if self.gauge.blocked() > patience {
                        // a stream that is blocked can't even be told that it ends
                        self.connection.iter().for_each(|connection| connection.evict());
                        return format!("it took nothing that it was sent for {:.1} s", patience.as_secs_f64());
                    }
                    if !ready && welcomed.elapsed() > READY {
                        return format!("it was not ready for work within {} minutes", READY.as_secs() / 60);
                    }
                    continue;
                }
            };
            let message = match message {
                Ok(Some(message)) => message.message,
                Ok(None) => return "its stream ended".to_owned(),
                Err(status) => {
                    tracing::debug!(worker, "stream: {}", status.message());
                    return match status.code() {
                        Code::DataLoss | Code::OutOfRange => status.message().to_owned(),
                        _ => "its connection broke".to_owned(),
                    };
                }
            };
            let answered = match message {
                Some(from_worker::Message::Ready(_)) if ready => return "it said Ready twice".to_owned(),
                Some(from_worker::Message::Ready(found)) => {
                    let ours = schema.fingerprint();
                    if found.schema_fingerprint != ours {
                        return format!("it built a model with schema {:.64}, not {ours}", found.schema_fingerprint);
                    }
                    if found.data_hash != data_hash {
                        return format!("it holds the images {:.16}, not {data_hash:.16}", found.data_hash);
                    }
                    ready = true;
                    let (shared, makes_steps) = (found.shared, found.makes_steps);
                    if self.actor.send(Message::Ready { worker, shared, makes_steps }).await.is_err() {
                        return over();
                    }
                    continue;
                }
                Some(from_worker::Message::Gradient(part)) => {
                    if part.slot.is_some() {
                        traffic.share(schema.len());
                    }
                    inbox.gradient(part)
                }
                Some(from_worker::Message::State(part)) => {
                    // it has memory of its own here
                    if !self.gauge.wants_state(part.lease) {
                        return "it sent what it came to, and nobody asked for that".to_owned();
                    }
                    if part.slot.is_some() {
                        traffic.share(schema.len());
                    }
                    inbox.abandoned += u32::from(states.add(&part));
                    None
                }
                Some(from_worker::Message::Made(made)) => Some(states.made(made)),
                Some(from_worker::Message::Part(part)) => {
                    states.forget(part.lease);
                    Some(super::answer::part(part))
                }
                Some(from_worker::Message::Ring(news)) => {
                    said += 1;
                    if said > RING_WORDS {
                        return format!(
                            "it spoke {said} times of rings without an answer, more than the {RING_WORDS} let pass"
                        );
                    }
                    let generation = news.generation;
                    let news = match super::answer::ring(news) {
                        Ok(news) => news,
                        Err(problem) => return problem,
                    };
                    if self.actor.send(Message::Ring { worker, generation, news }).await.is_err() {
                        return over();
                    }
                    continue;
                }
                Some(from_worker::Message::Evaluation(evaluation)) => Some(super::answer::evaluation(evaluation)),
                Some(from_worker::Message::Failed(failed)) => {
                    states.forget(failed.lease);
                    Some(super::answer::failed(failed))
                }
                Some(from_worker::Message::Goodbye(_)) if leaving => return "it said Goodbye twice".to_owned(),
                Some(from_worker::Message::Goodbye(_)) => {
                    leaving = true;
                    if self.actor.send(Message::Leaving { worker }).await.is_err() {
                        return over();
                    }
                    continue;
                }
                Some(from_worker::Message::Hello(_)) => return "it said Hello twice".to_owned(),
                None => return "it sent a message that this build does not know".to_owned(),
            };
            if inbox.abandoned > UNASKED {
                return format!(
                    "it began {} gradients and ended none, more than the {UNASKED} let pass",
                    inbox.abandoned
                );
            }
            let Some((lease, answer)) = answered else { continue };
            said = 0;
            let (asked, unread) = self.gauge.answered(lease);
            unasked += u32::from(!asked);
            if unasked > UNASKED {
                return format!("it sent {unasked} answers that nobody asked for, more than the {UNASKED} let pass");
            }
            if unread > UNREAD {
                self.connection.iter().for_each(|connection| connection.evict());
                return format!("it sent {unread} answers and took nothing from us, more than the {UNREAD} let pass");
            }
            if self.actor.send(Message::Answer { worker, lease, answer }).await.is_err() {
                return over();
            }
        }
    }

    /// Our side of the stream is at its end: the worker reads the last of it and ends its own.
    async fn let_go(&mut self) -> String {
        let end = async {
            loop {
                match self.incoming.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return "its stream ended",
                    Err(_) => return "its connection broke",
                }
            }
        };
        tokio::time::timeout(FAREWELL, end).await.unwrap_or("its stream ended").to_owned()
    }
}

/// The first message, while others need the place less.
async fn hello(incoming: &mut Streaming<FromWorker>, knocking: &Arc<Lobby>) -> Result<Hello, Refused> {
    let crowded = || full(format!("{KNOCKING} other streams wait to say Hello, which is the limit"));
    // nobody can hold a place here, so there always is one
    let (_place, eviction) = knocking.enter().ok_or_else(crowded)?;
    let first = tokio::select! {
        first = incoming.message() => first,
        _ = eviction => return Err(crowded()),
        () = tokio::time::sleep(HELLO) => return Err(refuse(format!("no Hello within {} s", HELLO.as_secs()))),
    };
    let first = first.map_err(|status| refuse(format!("the first message can't be read: {}", status.message())))?;
    let Some(from_worker::Message::Hello(hello)) = first.and_then(|message| message.message) else {
        return Err(refuse("the first message must be Hello"));
    };
    let texts =
        [("name", &hello.name), ("build", &hello.build), ("device class", &hello.device_class), ("gpu", &hello.gpu)];
    if let Some((what, text)) = texts.into_iter().find(|(_, text)| text.len() > NAME_BYTES) {
        return Err(refuse(format!(
            "its {what} has {} bytes, and may have {NAME_BYTES}; choose a shorter one",
            text.len()
        )));
    }
    Ok(hello)
}
