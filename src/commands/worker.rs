//! `lockstep worker`: computes for a coordinator.

use std::path::Path;
use std::sync::Arc;

use lockstep_coordinator::dataset::{self, DataRequest, Silent, Source};
use lockstep_coordinator::telemetry::format::{count, thousands};
use lockstep_proto::records::Records;
use lockstep_worker::device::Processor;
use lockstep_worker::{Joined, News, Settings, layers};

use crate::cli::WorkerArgs;
use crate::exit::{Failure, Result};
use crate::{commands, logging, processor, signals};

pub fn run(args: WorkerArgs) -> Result {
    logging::start_worker();
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    begin_again_tuned(threads)?;
    let processor = processor::open(args.compute)?;
    // a GPU is one thread's: several would only take turns
    let threads = if matches!(processor, Processor::Cpu) { threads } else { 1 };
    layers::set_threads(threads).map_err(Failure::ours)?;
    if args.end_with_stdin {
        end_with_stdin()?;
    }
    let settings = Settings {
        address: args.join,
        build: commands::BUILD.to_owned(),
        name: args.name.unwrap_or_else(default_name),
        processor,
        threads,
        local_data: args.data.map(|path| Arc::new(move || local(&path)) as _),
        cache: !args.no_cache,
        reconnect: args.reconnect,
        wire_values: args.wire_values,
        // `train` shows its own workers itself
        news: if args.end_with_stdin { None } else { Some(Box::new(say)) },
        die_at_step: args.die_at_step,
        lie_at_step: args.lie_at_step,
    };
    // one thread for the network: the cores are for the products
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let farewell = runtime.block_on(async {
        let stop = signals::stop()?;
        let stop = async move { drop(stop.await) };
        Ok::<_, Failure>(lockstep_worker::work(settings, stop).await?)
    })?;
    if !args.end_with_stdin {
        warn!("done: {}", farewell.reason);
    }
    // a run that ended early is no fault of this worker
    Ok(())
}

fn say(news: &News) {
    match news {
        News::Joined { joined: Joined { run, .. }, again: true } => warn!("back in {run}"),
        News::Joined { joined: Joined { run, model, images: (train, test), data_hash }, again: false } => {
            let (train, test) = (thousands(*train as u64), count(*test as u64, "test image"));
            warn!("joined {run}: {model} on {train} training and {test} ({data_hash:.12})");
        }
        News::Looking { address, lost, reason, deadline } => {
            let what = if *lost { "lost the coordinator at" } else { "no coordinator yet at" };
            let deadline = deadline.as_secs_f64();
            warn!("{what} {address} ({reason}); trying again, for {deadline} s at most (--reconnect)");
        }
    }
}

/// What must be in a worker's environment before its first thread starts, unless somebody set it.
///
/// candle has a pool of its own, as wide as the machine, whose threads spin while they wait: several workers would fight for
/// the cores, and our kernels have their own threads. rayon's global pool sums and checks large vectors: as many threads as
/// the worker computes with. mimalloc would give memory back to the system between two steps and fetch it again: page
/// faults were a quarter of net6's time. NCCL would connect ranks for a collective when it is asked for the first one: some versions do so
/// within that call, where a worker could not be told that its ring is over.
pub fn tuning(threads: usize) -> [(&'static str, String); 4] {
    [
        ("NCCL_RUNTIME_CONNECT", "0".to_owned()),
        ("CANDLE_NUM_THREADS", "1".to_owned()),
        ("RAYON_NUM_THREADS", threads.to_string()),
        ("MIMALLOC_PURGE_DELAY", "-1".to_owned()),
    ]
}

/// Starts this program again in its own place with [`tuning`], where something of it is missing.
#[cfg(unix)]
fn begin_again_tuned(threads: usize) -> Result {
    use std::os::unix::process::CommandExt as _;
    let missing: Vec<_> = tuning(threads).into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let mut again = std::process::Command::new(std::env::current_exe()?);
    // returns only if it failed
    Err(again.args(std::env::args_os().skip(1)).envs(missing).exec().into())
}

/// The loader that the coordinator uses, handed to a worker that has the images at hand.
fn local(path: &Path) -> std::result::Result<Records, String> {
    let request = DataRequest { source: Source::Path(path.to_owned()), offline: true, ..DataRequest::default() };
    let set = dataset::load(&request, &Silent).map_err(|error| error.to_string())?;
    Ok(Records { classes: set.classes, train: set.train, test: set.test })
}

fn default_name() -> String {
    format!("{}-{}", commands::host_name(), std::process::id())
}

/// Ends the process when the pipe from the parent closes: the parent is gone, even if it was killed.
fn end_with_stdin() -> Result {
    // A process that is stopped sees no pipe close. `train --chaos` stops its workers, and may be killed then: the kernel lets
    // them go on when it dies. (Elsewhere than on Linux POSIX does: a stopped process group that loses its parent gets SIGHUP
    // and SIGCONT.)
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::CONT))
        .map_err(std::io::Error::from)?;
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        std::process::exit(2);
    });
    Ok(())
}
