//! `lockstep coordinator`: serves a run to workers that join by hand.

use std::net::IpAddr;

use lockstep_coordinator::Limits;
use tokio::net::TcpListener;

use crate::cli::CoordinatorArgs;
use crate::exit::{Failure, Result};
use crate::{cluster, commands, logging, prepare, signals};

pub fn run(args: CoordinatorArgs) -> Result {
    logging::start();
    let runtime = cluster::runtime()?;
    // first of all: a port in use should not cost the loading of the images
    let listener = runtime.block_on(TcpListener::bind(&args.listen)).map_err(|error| {
        Failure::mistake(format!("can't listen on {}: {error}; choose another with --listen HOST:PORT", args.listen))
    })?;
    let limits =
        Limits { allow_foreign_workers: args.allow_foreign_workers, ..args.run.limits.limits(args.min_workers, false) };
    let kept = prepare::kept_run(&args.recipe, &args.data, &args.run, limits)?;
    let Some((run, _lock)) = kept else { return Ok(()) };
    let address = listener.local_addr()?;
    if !address.ip().is_loopback() {
        warn!("warning: peers are not authenticated: whoever reaches {address} can read the data and take part");
    }
    // 0.0.0.0 is every address of this machine, and none that another one could use
    let host = match address.ip() {
        ip if ip.is_unspecified() => commands::host_name(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    warn!("join with: lockstep worker --join {host}:{}", address.port());
    let telemetry = cluster::telemetry(&run, args.display.choose())?;
    let report = runtime.block_on(async {
        let stop = signals::stop()?;
        cluster::serve(run, listener, telemetry, stop).await
    })?;
    cluster::conclude(&report)
}
