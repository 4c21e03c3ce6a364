//! `lockstep status` and `lockstep stop`: a word with a running coordinator.

use std::time::Duration;

use lockstep_coordinator::telemetry::format::{count, rate, thousands};
use lockstep_proto::wire::coordinator_client::CoordinatorClient;
use lockstep_proto::wire::{StatusRequest, StopRequest};
use serde_json::json;
use tonic::transport::{Channel, Endpoint};

use crate::cli::RemoteArgs;
use crate::cluster;
use crate::exit::{Failure, Result};

/// A coordinator answers at once; one that is stuck must not hang the one who asks.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A checkpoint is written before the answer to `stop` comes.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

async fn connect(address: &str, timeout: Duration) -> Result<CoordinatorClient<Channel>> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Failure::mistake(format!("{address:?} is no address: {error}; give HOST:PORT")))?;
    let channel = endpoint.connect_timeout(TIMEOUT).timeout(timeout).connect().await.map_err(|error| {
        use std::error::Error as _;
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        Failure::Lost(format!("no coordinator at {address}: {cause}; its line \"join with\" names its address"))
    })?;
    Ok(CoordinatorClient::new(channel))
}

fn no_answer(address: &str, status: &tonic::Status) -> Failure {
    let problem = match status.code() {
        tonic::Code::Cancelled | tonic::Code::DeadlineExceeded => "no answer in time",
        _ => status.message(),
    };
    Failure::Lost(format!("{address}: {problem}; is it a coordinator? Its line \"join with\" names its address"))
}

pub fn status(args: &RemoteArgs) -> Result {
    let reply = cluster::runtime()?.block_on(async {
        let mut client = connect(&args.address, TIMEOUT).await?;
        let reply = client.status(StatusRequest {}).await;
        reply.map_err(|status| no_answer(&args.address, &status))
    })?;
    let status = reply.into_inner();
    let test_accuracy = (status.test_accuracy >= 0.0).then_some(status.test_accuracy);
    if args.json {
        let workers: Vec<_> = status
            .workers
            .iter()
            .map(|w| json!({"name": w.name, "device_class": w.device_class, "shards": w.shards, "leases": w.leases}))
            .collect();
        let line = json!({
            "run": status.run, "phase": status.phase, "step": status.step, "steps": status.steps,
            "epoch": status.epoch, "epochs": status.epochs, "images_per_s": status.images_per_s,
            "train_loss": status.train_loss, "train_accuracy": status.train_accuracy, "test_accuracy": test_accuracy,
            "workers": workers, "folder": status.folder,
        });
        say!("{line}");
        return Ok(());
    }
    say!("{}: {}", status.run, status.phase);
    let (step, steps) = (thousands(status.step), thousands(status.steps));
    say!("step      {step} of {steps}, epoch {} of {}", status.epoch + 1, status.epochs);
    if status.train_loss.is_finite() {
        let (loss, accuracy) = (status.train_loss, status.train_accuracy * 100.0);
        say!("train     loss {loss:.4}  accuracy {accuracy:.2}%  {} images/s", rate(status.images_per_s));
    }
    if let Some(accuracy) = test_accuracy {
        say!("test      accuracy {:.2}%", accuracy * 100.0);
    }
    for worker in &status.workers {
        say!("  {:<20} {}  {}", worker.name, worker.device_class, count(worker.shards, "shard"));
    }
    if !status.folder.is_empty() {
        say!("folder    {}", status.folder);
    }
    Ok(())
}

pub fn stop(args: &RemoteArgs) -> Result {
    let reply = cluster::runtime()?.block_on(async {
        // whoever answers nothing at all is no coordinator, and not worth the wait for a checkpoint
        let status = connect(&args.address, TIMEOUT).await?.status(StatusRequest {}).await;
        status.map_err(|status| no_answer(&args.address, &status))?;
        let mut client = connect(&args.address, STOP_TIMEOUT).await?;
        let reply = client.stop(StopRequest { reason: "lockstep stop".to_owned() }).await;
        reply.map_err(|status| no_answer(&args.address, &status))
    })?;
    let reply = reply.into_inner();
    if args.json {
        say!("{}", json!({"step": reply.step, "checkpoint": reply.checkpoint}));
    } else if reply.checkpoint.is_empty() || reply.step == 0 {
        say!("stopped at step {}", thousands(reply.step));
    } else {
        say!("stopped at step {}; checkpoint in {}", thousands(reply.step), reply.checkpoint);
    }
    Ok(())
}
