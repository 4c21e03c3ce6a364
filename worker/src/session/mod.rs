//! A worker's life: join, take work, do it, send the outcome, repeat; join again when the coordinator is lost.

mod ahead;
mod compute;
#[cfg(test)]
mod fuzz;
mod heartbeat;
mod join;
mod plane;
mod stream;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lockstep_proto::records::Records;
use lockstep_proto::wire::Welcome;
use lockstep_proto::wire::coordinator_client::CoordinatorClient;
use tonic::transport::Channel;

use crate::error::WorkerError;
use heartbeat::Heart;
use join::Prepared;
use stream::Stream;

/// The first pause before trying again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Loads the run's images from where the user said they are.
pub type LocalData = Arc<dyn Fn() -> Result<Records, String> + Send + Sync>;

/// Told of the run that a worker has joined.
pub type OnJoined = Box<dyn Fn(&Joined) + Send + Sync>;

/// How to work, and for whom.
pub struct Settings {
    /// `host:port` of the coordinator.
    pub address: String,
    /// The program's build, which must be the coordinator's.
    pub build: String,
    /// What logs and bars call this worker.
    pub name: String,
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
    /// Hears when this worker has joined a run and has all that it needs.
    pub joined: Option<OnJoined>,
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

/// The run that a worker has joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    pub run: String,
    pub model: String,
    /// Training and test images.
    pub images: (usize, usize),
    pub data_hash: String,
}

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

/// Works until the run is over or `stop` resolves; then what is in hand is finished first.
pub async fn work(settings: Settings, stop: impl Future<Output = ()>) -> Result<Farewell, WorkerError> {
    tokio::pin!(stop);
    let mut stop: Stop<'_> = stop;
    // model and images of the run that was served last: a worker that comes back has them already
    let mut prepared: Option<Prepared> = None;
    let mut lost_since = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let error = match serve(&settings, &mut prepared, &mut lost_since, &mut stop).await {
            Err(error) if error.is_passing() => error,
            other => return other,
        };
        if lost_since.elapsed() >= settings.reconnect {
            let (address, waited) = (settings.address.clone(), settings.reconnect);
            return Err(WorkerError::Unreachable { address, waited, problem: error.to_string() });
        }
        tracing::debug!("{error}; trying again in {} ms", pause.as_millis());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut stop => return Ok(Farewell::asked_to_stop()),
        }
        pause = if lost_since.elapsed() < FIRST_PAUSE { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
    }
}

/// One session. Sets `lost_since` to its end, if it got as far as taking work: a coordinator that welcomes and then fails
/// every time is not there.
async fn serve(
    settings: &Settings,
    prepared: &mut Option<Prepared>,
    lost_since: &mut Instant,
    stop: &mut Stop<'_>,
) -> Result<Farewell, WorkerError> {
    let (stream, parts, welcome, heart) = tokio::select! {
        joined = join(settings, prepared) => joined?,
        () = &mut *stop => return Ok(Farewell::asked_to_stop()),
    };
    let result = stream.serve(parts, &welcome, settings, stop).await;
    drop(heart);
    *lost_since = Instant::now();
    result
}

/// From an address to a session that may be given work.
async fn join(
    settings: &Settings,
    prepared: &mut Option<Prepared>,
) -> Result<(Stream, Prepared, Welcome, Heart), WorkerError> {
    let channel = join::connect(&settings.address).await?;
    let client: CoordinatorClient<Channel> = join::client(channel);
    let mut stream = stream::open(client.clone(), settings).await?;
    let welcome = stream.welcome().await?;
    tracing::info!(run = %welcome.run, "joined {}", settings.address);
    // from here on the coordinator counts on us: keep calling while the images travel
    let heart = heartbeat::start(settings.address.clone(), welcome.worker, welcome.heartbeat_ms)?;
    let parts = join::prepare(client, settings, &welcome, prepared).await?;
    if let Some(joined) = &settings.joined {
        joined(&parts.joined(&welcome.run));
    }
    Ok((stream, parts, welcome, heart))
}
