//! A worker's life: join, take work, do it, send the outcome, repeat; join again when the coordinator is lost.

mod ahead;
mod backoff;
mod compute;
#[cfg(test)]
mod fuzz;
mod heartbeat;
mod join;
mod news;
mod node;
mod plane;
#[cfg(feature = "nccl")]
mod rank;
mod ring;
mod steps;
mod stream;
#[cfg(test)]
mod tests;
mod thread;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_proto::records::Records;
use lockstep_proto::wire::Welcome;
use lockstep_proto::wire::coordinator_client::CoordinatorClient;
use tonic::transport::Channel;

use crate::device::Processor;
use crate::error::WorkerError;
use backoff::Backoff;
use heartbeat::Heart;
use join::Prepared;
pub use news::{Joined, News, OnNews};
use stream::Stream;

/// Loads the run's images from where the user said they are.
pub type LocalData = Arc<dyn Fn() -> Result<Records, String> + Send + Sync>;

/// How to work, and for whom.
pub struct Settings {
    /// `host:port` of the coordinator.
    pub address: String,
    /// The program's build, which must be the coordinator's.
    pub build: String,
    /// What logs and bars call this worker.
    pub name: String,
    /// What computes.
    pub processor: Processor,
    /// Compute threads.
    pub threads: usize,
    /// Take the images from here rather than from the coordinator; their hash must be the run's.
    pub local_data: Option<LocalData>,
    /// Keep fetched images on disk for the next run.
    pub cache: bool,
    /// How long to look for a coordinator that can't be reached, or is lost.
    pub reconnect: Duration,
    /// For measuring the wire: answer every lease with so many values, without computing anything.
    pub wire_values: Option<usize>,
    /// Hears when this worker has joined a run, has lost its coordinator, is back.
    pub news: Option<OnNews>,
    /// For tests: abort the process on the first lease of this step or a later one.
    pub die_at_step: Option<u64>,
    /// For tests: flip one bit of each gradient of this step and of later ones, as broken memory would.
    pub lie_at_step: Option<u64>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings").field("address", &self.address).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Resolves when somebody asks the worker to go.
pub(crate) type Stop<'a> = Pin<&'a mut dyn Future<Output = ()>>;

/// How a worker's service ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// In the coordinator's words.
    pub reason: String,
    /// Every step of the run was made.
    pub complete: bool,
}

impl Farewell {
    fn asked_to_stop() -> Self {
        Self { reason: "asked to stop".to_owned(), complete: false }
    }
}

/// `off`: the coordinator makes all steps, and every worker waits for it. For comparing.
const OWN_STEPS: &str = "LOCKSTEP_OWN_STEPS";

impl Settings {
    /// Whether the worker can make the optimizer step itself.
    fn makes_steps(&self) -> bool {
        std::env::var_os(OWN_STEPS).is_none_or(|word| word != "off") && self.wire_values.is_none()
    }

    fn tell(&self, news: &News) {
        if let Some(hears) = &self.news {
            hears(news);
        }
    }
}

/// What a worker keeps from one session to the next.
struct Past {
    /// Model and images of the run that was served last: a worker that comes back has them already.
    prepared: Option<Prepared>,
    joined: Option<Joined>,
    /// When it was last in a session that got as far as taking work: a coordinator that welcomes and then fails every time is
    /// not there.
    lost_since: Instant,
}

/// Works until the run is over or `stop` resolves; then what is in hand is finished first.
pub async fn work(settings: Settings, stop: impl Future<Output = ()>) -> Result<Farewell, WorkerError> {
    tokio::pin!(stop);
    let mut stop: Stop<'_> = stop;
    let mut past = Past { prepared: None, joined: None, lost_since: Instant::now() };
    let mut backoff = Backoff::new(&settings.name, std::process::id());
    // one word a loss, however often it tries
    let mut told = false;
    loop {
        let before = past.lost_since;
        let error = match serve(&settings, &mut past, &mut stop).await {
            Err(error) if error.is_passing() => error,
            other => return other,
        };
        if past.lost_since != before {
            backoff.reset();
            told = false;
        }
        let (address, deadline) = (settings.address.clone(), settings.reconnect);
        if past.lost_since.elapsed() >= deadline {
            return Err(WorkerError::Unreachable { address, waited: deadline, problem: error.to_string() });
        }
        if !std::mem::replace(&mut told, true) {
            settings.tell(&News::Looking { address, lost: past.joined.is_some(), reason: error.reason(), deadline });
        }
        let pause = backoff.pause();
        tracing::debug!("{error}; trying again in {} ms", pause.as_millis());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut stop => return Ok(Farewell::asked_to_stop()),
        }
    }
}

/// One session.
async fn serve(settings: &Settings, past: &mut Past, stop: &mut Stop<'_>) -> Result<Farewell, WorkerError> {
    let (stream, parts, welcome, heart) = tokio::select! {
        joined = join(settings, past) => joined?,
        () = &mut *stop => return Ok(Farewell::asked_to_stop()),
    };
    let result = stream.serve(parts, &welcome, settings, &heart, stop).await;
    drop(heart);
    past.lost_since = Instant::now();
    result
}

/// From an address to a session that may be given work.
async fn join(settings: &Settings, past: &mut Past) -> Result<(Stream, Prepared, Welcome, Heart), WorkerError> {
    let channel = join::connect(&settings.address).await?;
    let mut stream = stream::open(channel.clone(), settings).await?;
    let client: CoordinatorClient<Channel> = join::client(channel);
    let welcome = stream.welcome().await?;
    tracing::info!(run = %welcome.run, "joined {}", settings.address);
    // from here on the coordinator counts on us: keep calling while the images travel
    let heart = heartbeat::start(settings.address.clone(), welcome.worker, welcome.heartbeat_ms)?;
    let parts = join::prepare(client, settings, &welcome, &mut past.prepared).await?;
    let joined = parts.joined(&welcome.run);
    let again = past.joined.replace(joined.clone()).is_some_and(|before| before == joined);
    settings.tell(&News::Joined { joined, again });
    Ok((stream, parts, welcome, heart))
}
