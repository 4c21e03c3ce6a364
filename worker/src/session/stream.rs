//! The stream of work: messages in, to the computing thread; its answers out.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::buffers::Buffers;
use lockstep_proto::codec;
use lockstep_proto::frames::{self, Direct, Frames};
use lockstep_proto::schema::Schema;
use lockstep_proto::tensors::Assembly;
use lockstep_proto::wire::coordinator_client::CoordinatorClient;
use lockstep_proto::wire::{
    DissolveRing, FromWorker, Goodbye, Hello, PROTOCOL, Parameters, Ready, ToWorker, Welcome, from_worker, to_worker,
};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Streaming};

use super::compute::{self, Job, LAST_JOB};
use super::heartbeat::Heart;
use super::join::Prepared;
use super::plane::Plane;
use super::ring::{self, Dissolved, EndOfRings};
use super::thread::Thread;
use super::{Farewell, Settings, Stop};

use crate::error::WorkerError;

/// A peer that takes the connection and says nothing is no coordinator, or a stopped one.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);

/// A worker that was asked to go finishes what it has in hand, but does not let a lost coordinator keep it.
const FAREWELL: Duration = Duration::from_secs(30);

/// A coordinator that ended the session said why on the stream, where it may still be on its way: the reason decides whether
/// to come again.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Vectors that a session keeps for the next step: its gradient and the parameters.
const VECTORS: usize = 2;

/// Both directions of one session.
pub(super) struct Stream {
    /// Unbounded, because leases bound it: every answer was asked for. The only one that keeps the call open: it ends with the
    /// session, whatever the computing thread is still at.
    outbound: mpsc::UnboundedSender<FromWorker>,
    inbound: Streaming<ToWorker>,
}

/// Says Hello.
pub(super) async fn open(channel: Channel, settings: &Settings) -> Result<Stream, WorkerError> {
    let (outbound, messages) = mpsc::unbounded_channel();
    let (nccl, gpu) = crate::ring::identity(&settings.processor);
    let hello = Hello {
        protocol: PROTOCOL,
        build: settings.build.clone(),
        device_class: settings.processor.class().map_err(|error| WorkerError::Kernels(error.to_string()))?,
        name: settings.name.clone(),
        threads: settings.threads as u32,
        foreign: false,
        nccl,
        gpu,
    };
    send(&outbound, from_worker::Message::Hello(hello));
    let mut request = Request::new(tokio_stream::empty());
    let messages = UnboundedReceiverStream::new(messages).map(Ok);
    frames::attach(request.extensions_mut(), Frames::of_client(messages));
    let inbound = CoordinatorClient::new(Direct(channel)).work(request).await?.into_inner();
    Ok(Stream { outbound, inbound })
}

/// A send fails only when the stream is gone, which the reading side reports.
fn send(outbound: &mpsc::UnboundedSender<FromWorker>, message: from_worker::Message) {
    let _ = outbound.send(FromWorker { message: Some(message) });
}

impl Stream {
    async fn next(&mut self) -> Result<to_worker::Message, WorkerError> {
        let message = self.inbound.message().await?;
        let message = message.ok_or_else(|| WorkerError::Lost("it closed the stream".to_owned()))?;
        message
            .message
            .ok_or_else(|| WorkerError::Protocol("it sent a message that this build does not know".to_owned()))
    }

    pub(super) async fn welcome(&mut self) -> Result<Welcome, WorkerError> {
        let first = tokio::time::timeout(WELCOME_TIMEOUT, self.next()).await;
        let silent = |_| WorkerError::Lost(format!("no Welcome within {} s", WELCOME_TIMEOUT.as_secs()));
        match first.map_err(silent)?? {
            to_worker::Message::Welcome(welcome) => Ok(welcome),
            to_worker::Message::Refused(refused) => {
                Err(WorkerError::Refused { reason: refused.reason, mistake: refused.mistake })
            }
            _ => Err(WorkerError::Protocol("its first message is neither Welcome nor Refused".to_owned())),
        }
    }

    /// Works until the run is over, or until what was in hand when `stop` resolved is done. A GPU is let go of then.
    pub(super) async fn serve(
        self,
        prepared: Prepared,
        welcome: &Welcome,
        settings: &Settings,
        heart: &Heart,
        stop: &mut Stop<'_>,
    ) -> Result<Farewell, WorkerError> {
        let schema = Arc::clone(&prepared.schema);
        let plane = welcome.shared.as_ref().and_then(|offer| Plane::open(offer, schema.len()));
        let ready = Ready {
            schema_fingerprint: schema.fingerprint(),
            data_hash: welcome.data_hash.clone(),
            shared: plane.is_some(),
            makes_steps: settings.makes_steps(),
        };
        let buffers = Buffers::keeping(VECTORS);
        let dissolved = Dissolved::default();
        let end_of_rings = EndOfRings(dissolved.clone());
        let outbound = self.outbound.downgrade();
        let jobs = compute::start(prepared, plane, outbound, buffers.clone(), dissolved.clone(), settings)?;
        send(&self.outbound, from_worker::Message::Ready(ready));
        let result = self.exchange(&jobs, &schema, &buffers, &dissolved, heart, stop).await;
        drop(end_of_rings);
        // a CPU may be several threads': there the next session need not wait for what nobody asks for any more
        if settings.processor.is_one_threads() {
            jobs.end(LAST_JOB).await?;
        }
        result
    }

    /// Passes on what comes until the session is over, which the coordinator sees at once: our side of the stream goes with it.
    async fn exchange(
        mut self,
        jobs: &Thread<Job>,
        schema: &Schema,
        buffers: &Buffers,
        dissolved: &Dissolved,
        heart: &Heart,
        stop: &mut Stop<'_>,
    ) -> Result<Farewell, WorkerError> {
        let mut incoming: Option<Incoming> = None;
        let (mut leaving, mut unknown) = (None, None);
        loop {
            let message = tokio::select! {
                message = self.next() => message?,
                () = &mut *stop, if leaving.is_none() => {
                    let goodbye = Goodbye { reason: "it was asked to stop".to_owned() };
                    send(&self.outbound, from_worker::Message::Goodbye(goodbye));
                    leaving = Some(tokio::time::Instant::now() + FAREWELL);
                    continue;
                }
                () = deadline(leaving) => return Ok(Farewell::asked_to_stop()),
                () = heart.unknown(), if unknown.is_none() => {
                    unknown = Some(tokio::time::Instant::now() + LAST_WORD);
                    continue;
                }
                () = deadline(unknown) => {
                    return Err(WorkerError::Lost("it does not know this worker any more".to_owned()));
                }
            };
            let job = match message {
                to_worker::Message::Parameters(part) => match take_part(&mut incoming, part, schema, buffers)? {
                    Some(job) => job,
                    None => continue,
                },
                to_worker::Message::Lease(lease) => Job::Lease(Box::new(lease)),
                to_worker::Message::OptimizerState(part) => Job::State(part),
                to_worker::Message::FormRing(form) => {
                    ring::check(&form)?;
                    Job::Form(form)
                }
                to_worker::Message::DissolveRing(DissolveRing { generation }) => {
                    // the computing thread may be waiting in that ring
                    dissolved.up_to(generation);
                    Job::Dissolve { generation }
                }
                to_worker::Message::Finished(finished) => {
                    return match finished.run_over {
                        _ if leaving.is_some() => Ok(Farewell::asked_to_stop()),
                        true => Ok(Farewell { reason: finished.reason, complete: finished.complete }),
                        false => Err(WorkerError::Lost(finished.reason)),
                    };
                }
                to_worker::Message::Refused(refused) => {
                    return Err(WorkerError::Refused { reason: refused.reason, mistake: refused.mistake });
                }
                to_worker::Message::Welcome(_) => {
                    return Err(WorkerError::Protocol("it said Welcome twice".to_owned()));
                }
            };
            jobs.send(job)?;
        }
    }
}

/// Resolves at `at`; without one, never.
async fn deadline(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Parameters that are on their way.
#[derive(Debug)]
pub(super) struct Incoming {
    version: u64,
    /// How the first part said that all of them travel.
    bf16: bool,
    assembly: Assembly,
}

/// Adds a part of the parameters; a job once they are whole.
pub(super) fn take_part(
    incoming: &mut Option<Incoming>,
    part: Parameters,
    schema: &Schema,
    buffers: &Buffers,
) -> Result<Option<Job>, WorkerError> {
    let (parameters, values) = (schema.parameters(), schema.len());
    let total = if part.bf16 { codec::words(parameters, values) } else { values };
    if part.total != total as u64 {
        let text = format!("it sends {} values for a model of {total}", part.total);
        return Err(WorkerError::Protocol(text));
    }
    if let Some(slot) = part.slot {
        return Ok(Some(Job::Shared { version: part.version, slot: slot as usize, digest: part.digest }));
    }
    if part.offset == 0 {
        let assembly = Assembly::reuse(buffers.take(), total);
        *incoming = Some(Incoming { version: part.version, bf16: part.bf16, assembly });
    }
    let Some(mut open) = incoming.take().filter(|open| open.version == part.version) else {
        return Err(WorkerError::Protocol(format!("parameters of version {} begin in the middle", part.version)));
    };
    if open.bf16 != part.bf16 {
        let text = format!("bf16 is {} in a part of the parameters and {} in the first one", part.bf16, open.bf16);
        return Err(WorkerError::Protocol(text));
    }
    open.assembly.add(part.offset, &part.data)?;
    if !open.assembly.is_complete() {
        *incoming = Some(open);
        return Ok(None);
    }
    let Incoming { version, bf16, assembly } = open;
    let mut sent = assembly.finish(part.digest)?;
    if bf16 {
        sent = codec::unpack(&sent, parameters, values);
    }
    Ok(Some(Job::Parameters { version, values: sent }))
}
