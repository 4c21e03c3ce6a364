//! A worker of another make: speaks the protocol through the generated client, and says whatever a test wants.

use std::time::Duration;

use lockstep_proto::tensors;
use lockstep_proto::wire::coordinator_client::CoordinatorClient;
use lockstep_proto::wire::{
    Evaluation, Finished, FromWorker, Gradient, GradientSummary, HeartbeatRequest, Hello, Lease, PROTOCOL, Ready,
    ShardOutcome, ShardsWork, ToWorker, Welcome, from_worker, lease, to_worker,
};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// CIFAR-10's.
const CLASSES: usize = 10;

/// One session.
pub struct Peer {
    pub welcome: Welcome,
    /// Values in a gradient, once parameters came.
    pub values: usize,
    /// The parameters that came last.
    pub flat: Vec<f32>,
    /// It says that it can make the optimizer step.
    pub makes_steps: bool,
    outbound: mpsc::UnboundedSender<FromWorker>,
    pub inbound: Streaming<ToWorker>,
    heart: tokio::task::JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

pub async fn connect(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).expect("address").connect().await.expect("connected")
}

pub fn hello(name: &str) -> FromWorker {
    let hello = Hello { protocol: PROTOCOL, name: name.to_owned(), foreign: true, ..Hello::default() };
    FromWorker { message: Some(from_worker::Message::Hello(hello)) }
}

impl Peer {
    /// Joins and beats; says why not, if the coordinator refuses.
    pub async fn join(channel: Channel, name: &str) -> Result<Self, String> {
        let (outbound, messages) = mpsc::unbounded_channel();
        outbound.send(hello(name)).expect("open");
        let mut client = CoordinatorClient::new(channel.clone());
        let work = client.work(UnboundedReceiverStream::new(messages)).await;
        let mut inbound = work.map_err(|status| status.to_string())?.into_inner();
        let first = inbound.message().await.map_err(|status| status.to_string())?;
        let welcome = match first.and_then(|message| message.message) {
            Some(to_worker::Message::Welcome(welcome)) => welcome,
            Some(to_worker::Message::Refused(refused)) => return Err(refused.reason),
            other => return Err(format!("{other:?}")),
        };
        let worker = welcome.worker;
        let heart = tokio::spawn(async move {
            let mut client = CoordinatorClient::new(channel);
            while client.heartbeat(HeartbeatRequest { worker }).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        Ok(Self { welcome, values: 0, flat: Vec::new(), makes_steps: false, outbound, inbound, heart })
    }

    pub fn send(&self, message: from_worker::Message) {
        // whether it is still heard is what tests are about
        let _ = self.outbound.send(FromWorker { message: Some(message) });
    }

    pub fn ready(&self) {
        self.send(from_worker::Message::Ready(Ready {
            schema_fingerprint: self.welcome.schema_fingerprint.clone(),
            data_hash: self.welcome.data_hash.clone(),
            shared: false,
            makes_steps: self.makes_steps,
        }));
    }

    /// The next lease of shards; or how the session ended. Slices on the way are answered.
    pub async fn lease(&mut self) -> Result<(Lease, ShardsWork), String> {
        loop {
            let message: Result<Option<ToWorker>, Status> = self.inbound.message().await;
            let message = message.map_err(|status| status.to_string())?.ok_or("the stream ended")?;
            match message.message {
                Some(to_worker::Message::Parameters(part)) => {
                    self.values = part.total as usize;
                    self.flat.truncate(part.offset as usize);
                    let numbers =
                        part.data.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four")));
                    self.flat.extend(numbers);
                }
                // what SGD without momentum has none of
                Some(to_worker::Message::OptimizerState(_)) => {}
                Some(to_worker::Message::Lease(mut lease)) => match lease.work.take() {
                    Some(lease::Work::Shards(work)) => return Ok((lease, work)),
                    Some(lease::Work::Slice(work)) => self.call_all_right(&lease, work.examples.len() as u32),
                    None => panic!("a lease without work"),
                },
                Some(to_worker::Message::Finished(Finished { reason, .. })) => return Err(reason),
                Some(to_worker::Message::Refused(refused)) => return Err(refused.reason),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Answers a slice of an evaluation: every example is of the first class, and found to be.
    fn call_all_right(&self, lease: &Lease, count: u32) {
        let mut confusion = vec![0; CLASSES * CLASSES];
        confusion[0] = count;
        let (lease, version) = (lease.lease, lease.version);
        let counts = Evaluation { lease, version, correct: count, count, confusion, ..Evaluation::default() };
        self.send(from_worker::Message::Evaluation(counts));
    }

    /// The parts of an answer to a lease: the node's sum of gradients that are `value` everywhere.
    pub fn answer(&self, lease: &Lease, work: &ShardsWork, value: f32) -> Vec<Gradient> {
        // along a whole tree all sums are of equals, and a power of two times the value is exact
        assert!(work.shards.len().is_power_of_two());
        self.parts(lease, work, &vec![value * work.shards.len() as f32; self.values])
    }

    /// The parts of an answer with these values.
    pub fn parts(&self, lease: &Lease, work: &ShardsWork, values: &[f32]) -> Vec<Gradient> {
        let outcome = |shard: &lockstep_proto::wire::Shard| ShardOutcome {
            shard: shard.shard,
            count: shard.examples.len() as u32,
            ..ShardOutcome::default()
        };
        let outcomes = work.shards.iter().map(outcome).collect();
        let digest = tensors::digest_values(values);
        let bytes = tensors::into_bytes(values.to_vec());
        let mut parts: Vec<Gradient> = tensors::parts(bytes.len())
            .map(|part| Gradient {
                lease: lease.lease,
                version: lease.version,
                node: work.node,
                offset: (part.start / 4) as u64,
                data: bytes.slice(part),
                ..Gradient::default()
            })
            .collect();
        let last = parts.last_mut().expect("one part at least");
        last.summary = Some(GradientSummary { digest, outcomes, ..GradientSummary::default() });
        parts
    }

    pub fn send_parts(&self, parts: Vec<Gradient>) {
        parts.into_iter().for_each(|part| self.send(from_worker::Message::Gradient(part)));
    }

    /// Answers every lease, each gradient `value` everywhere, until the session ends; says why it did.
    pub async fn echo(mut self, value: f32) -> String {
        self.ready();
        loop {
            match self.lease().await {
                Ok((lease, work)) => self.send_parts(self.answer(&lease, &work, value)),
                Err(reason) => return reason,
            }
        }
    }
}
