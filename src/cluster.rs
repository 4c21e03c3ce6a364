//! A coordinator in this process, with or without worker processes of its own: what `train`, `verify` and `bench` share.

use std::future::Future;
use std::time::Duration;

use lockstep_coordinator::engine::Outcome;
use lockstep_coordinator::telemetry::format::count;
use lockstep_coordinator::telemetry::{self, Telemetry};
use lockstep_coordinator::{Report, Run};
use tokio::net::TcpListener;

use crate::exit::{Failure, Result};
use crate::local_workers::{Fleet, GivenUp, LocalWorkers, Toll};

/// Async work of this process: sockets and timers. Products are computed in the workers.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// What a run came to, and what its workers were put through.
pub struct Trained {
    pub report: Report,
    pub toll: Option<Toll>,
}

/// Trains `run` with `fleet` on this machine.
pub async fn train(
    run: Run,
    fleet: &Fleet,
    telemetry: Telemetry,
    stop: impl Future<Output = String> + Send + 'static,
) -> Result<Trained> {
    fleet.check()?;
    let leases_before = run.resume.as_ref().map_or(0, |snapshot| snapshot.state.ledger.reissued);
    // any free port: several runs may share the machine
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let mut workers = LocalWorkers::start(fleet, &address, &telemetry.emitter())?;
    let (stop, stopped_by_workers) = or_no_workers(stop, workers.take_given_up(), fleet.workers);
    let report = lockstep_coordinator::serve(run, listener, telemetry, stop).await;
    // blocking waits for the processes belong on a blocking thread
    let toll = tokio::task::spawn_blocking(move || workers.finish()).await.unwrap_or_default();
    let report = report?;
    let leases = report.summary.ledger.reissued.saturating_sub(leases_before);
    let toll = toll.map(|toll| Toll { leases, ..toll });
    match stopped_by_workers.try_recv() {
        Ok(gone) if report.outcome != Outcome::Complete => {
            let text = format!("no worker is left: {}{}", gone.reason, how_to_resume(&report));
            Err(if gone.mistake { Failure::Mistake(text) } else { Failure::Lost(text) })
        }
        _ => Ok(Trained { report, toll }),
    }
}

/// `stop`, or the end of the last local worker: then nobody will come any more, and waiting would be a hang.
fn or_no_workers(
    stop: impl Future<Output = String> + Send + 'static,
    given_up: Option<std::sync::mpsc::Receiver<GivenUp>>,
    count: usize,
) -> (impl Future<Output = String> + Send + 'static, std::sync::mpsc::Receiver<GivenUp>) {
    let (tell, told) = std::sync::mpsc::channel();
    let (all_gone, gone) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let Some(given_up) = given_up else { return };
        let last: Vec<GivenUp> = given_up.iter().take(count).collect();
        if last.len() == count
            && let Some(last) = last.into_iter().last()
        {
            // told first: it is read as soon as the stop that follows has ended the run
            let reason = last.reason.clone();
            let _ = tell.send(last);
            let _ = all_gone.send(reason);
        }
    });
    let either = async move {
        tokio::select! {
            reason = stop => reason,
            Ok(reason) = gone => reason,
        }
    };
    (either, told)
}

/// Serves `run` on `listener` to workers that come by themselves.
pub async fn serve(
    run: Run,
    listener: TcpListener,
    telemetry: Telemetry,
    stop: impl Future<Output = String> + Send + 'static,
) -> Result<Report> {
    Ok(lockstep_coordinator::serve(run, listener, telemetry, stop).await?)
}

/// A stop that never comes.
pub fn never() -> impl Future<Output = String> + Send + 'static {
    std::future::pending()
}

/// Opens the run's telemetry, cut back to the checkpoint where it goes on from one.
pub fn telemetry(run: &Run, display: telemetry::Display) -> Result<Telemetry> {
    let resume = run
        .resume
        .as_ref()
        .map(|snapshot| telemetry::Resume { step: snapshot.state.version, seconds: snapshot.state.seconds });
    let settings = telemetry::Settings { folder: run.folder.clone(), display, resume, sinks: Vec::new() };
    Ok(Telemetry::start(settings)?)
}

/// The end of a run as the end of a command.
pub fn conclude(report: &Report) -> Result {
    for warning in &report.warnings {
        warn!("warning: {warning}");
    }
    if let Some(problem) = &report.lost {
        return Err(Failure::ours(format!("{}, but not all of it is on the disk: {problem}", report.outcome)));
    }
    if let (Outcome::Complete, Some(problem)) =
        (&report.outcome, report.warnings.iter().find(|text| text.contains(telemetry::STANDARD_OUTPUT)))
    {
        return Err(Failure::ours(format!("the run is complete, but not all of it was shown: {problem}")));
    }
    match &report.outcome {
        Outcome::Complete => Ok(()),
        Outcome::Stopped { reason } => {
            warn!("stopped by {reason}{}", how_to_resume(report));
            Ok(())
        }
        Outcome::NoWorkers { reason } => Err(Failure::Lost(format!("{reason}{}", how_to_resume(report)))),
        Outcome::Failed { reason } => {
            let kept = report.kept.filter(|_| !report.summary.folder.is_empty());
            let kept = kept.map_or_else(String::new, |steps| {
                format!("; the checkpoint of step {steps} stands in {}/checkpoints", report.summary.folder)
            });
            Err(Failure::ours(format!("{reason}{kept}")))
        }
    }
}

fn how_to_resume(report: &Report) -> String {
    match (report.summary.folder.as_str(), report.kept) {
        ("", _) | (_, None) => String::new(),
        (folder, Some(0)) => format!(" before the first step; begin again with --resume --out {folder}"),
        (folder, Some(steps)) => format!("; {} kept: go on with --resume --out {folder}", kept(steps)),
    }
}

fn kept(steps: u64) -> String {
    format!("{} {}", count(steps, "step"), if steps == 1 { "is" } else { "are" })
}

/// How long `verify` and `bench` wait for their own workers: longer means that something is wrong with them.
pub const OWN_WORKERS: Duration = Duration::from_secs(120);
