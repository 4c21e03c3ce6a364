//! From an address to everything that leases need: a connection, the recipe, the model, the images.

use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::recipe::Recipe;
use lockstep_proto::records::Records;
use lockstep_proto::schema::Schema;
use lockstep_proto::wire::coordinator_client::CoordinatorClient;
use lockstep_proto::wire::{FRAME_BYTES, WINDOW_BYTES, Welcome};
use tonic::transport::{Channel, Endpoint};

use super::{Joined, Settings};
use crate::dataset::fetch;
use crate::error::WorkerError;
use crate::model::Model;

/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A silent connection is asked whether it lives …
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// … and given up after this long without an answer. On a slow link the question waits behind what the kernel has taken of a
/// gradient, so it is not short.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// What a run needs of a worker, kept from one session to the next.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) recipe: Arc<Recipe>,
    pub(super) model: Arc<Model>,
    /// The tensors that travel: the model's, but for a wire benchmark.
    pub(super) schema: Arc<Schema>,
    pub(super) records: Arc<Records>,
    data_hash: String,
    recipe_text: String,
}

impl Prepared {
    /// What there is to say of `run`.
    pub(super) fn joined(&self, run: &str) -> Joined {
        Joined {
            run: run.to_owned(),
            model: self.recipe.model.name.clone(),
            images: (self.records.train.len(), self.records.test.len()),
            data_hash: self.data_hash.clone(),
        }
    }
}

/// One connection. A refused one is worth another try; an address that can't be parsed is not.
pub(super) async fn connect(address: &str) -> Result<Channel, WorkerError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| WorkerError::Address { address: address.to_owned(), problem: error.to_string() })?;
    if address.rsplit_once(':').is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err()) {
        let problem = "it has no port".to_owned();
        return Err(WorkerError::Address { address: address.to_owned(), problem });
    }
    let endpoint = endpoint
        .tcp_nodelay(true)
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(ANSWER_TIMEOUT)
        .keep_alive_while_idle(true);
    endpoint.connect().await.map_err(|error| {
        use std::error::Error as _;
        // tonic says only "transport error"; the reason is below
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        WorkerError::Lost(format!("can't connect to {address}: {cause}"))
    })
}

pub(super) fn client(channel: Channel) -> CoordinatorClient<Channel> {
    // Parts are 256 KiB; a coordinator that sends more than tonic's default limit is broken.
    CoordinatorClient::new(channel)
}

/// Builds the model and gets the images, or finds that both are here already.
pub(super) async fn prepare(
    client: CoordinatorClient<Channel>,
    settings: &Settings,
    welcome: &Welcome,
    kept: &mut Option<Prepared>,
) -> Result<Prepared, WorkerError> {
    if let Some(kept) =
        kept.as_ref().filter(|kept| kept.data_hash == welcome.data_hash && kept.recipe_text == welcome.recipe)
    {
        return Ok(kept.clone());
    }
    let recipe = Recipe::parse(&welcome.recipe, "recipe")?;
    let records = match &settings.local_data {
        Some(load) => {
            // seconds of reading and decoding: the network's thread must go on answering pings meanwhile
            let load = Arc::clone(load);
            let loaded = tokio::task::spawn_blocking(move || load()).await.map_err(|_| WorkerError::Compute)?;
            let records = loaded.map_err(WorkerError::LocalData)?;
            let found = records.hash();
            if found != welcome.data_hash {
                return Err(WorkerError::OtherData { found, expected: welcome.data_hash.clone() });
            }
            records
        }
        None => fetch::records(client, &welcome.data_hash, welcome.data_bytes, settings.cache).await?,
    };
    let model = Model::new(&recipe.model, crate::dataset::IMAGE, records.classes.len())?;
    let schema = settings.wire_values.map_or_else(|| Ok(model.schema().clone()), Schema::wire);
    let schema = schema.map_err(|error| WorkerError::Protocol(error.to_string()))?;
    let fingerprint = schema.fingerprint();
    if fingerprint != welcome.schema_fingerprint {
        return Err(WorkerError::Protocol(format!(
            "its model has the schema {}, but the recipe gives {fingerprint}",
            welcome.schema_fingerprint
        )));
    }
    let prepared = Prepared {
        recipe: Arc::new(recipe),
        model: Arc::new(model),
        schema: Arc::new(schema),
        records: Arc::new(records),
        data_hash: welcome.data_hash.clone(),
        recipe_text: welcome.recipe.clone(),
    };
    *kept = Some(prepared.clone());
    Ok(prepared)
}
