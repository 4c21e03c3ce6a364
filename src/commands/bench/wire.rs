//! `lockstep bench --wire`: push, average, step and pull of so many values, without computing anything.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use lockstep_coordinator::dataset::{Dataset, Selection};
use lockstep_coordinator::{Reducer, Run};
use lockstep_proto::recipe::Recipe;
use lockstep_proto::records::{PIXELS, Split};
use lockstep_proto::schema::Schema;
use serde_json::json;

use super::{fleet, limits, serve};
use crate::cli::BenchArgs;
use crate::commands::BUILD;
use crate::exit::{Failure, Result};

/// Processes where nobody says how many: nothing is computed, so GPUs do not matter.
const OWN_WORKERS: usize = 2;

pub(super) fn run(args: &BenchArgs) -> Result {
    if args.plane.nccl().is_some() {
        let text = "bench --wire computes nothing, so it has no GPUs for NCCL; leave one of the two out";
        return Err(Failure::mistake(text));
    }
    let (workers, floats) = (args.workers.unwrap_or(OWN_WORKERS), args.floats);
    let fleet = crate::local_workers::Fleet { wire_values: Some(floats), ..fleet(args, workers) };
    let report = serve(wire_run(args, workers)?, &fleet)?;
    let t = report.timing;
    // what a star moves in a step: each worker's gradient in, the parameters out to each
    let bytes = 2.0 * workers as f64 * 4.0 * floats as f64;
    let raw = raw_tcp(workers, floats * 4)?;
    let (rate, raw_rate) = (bytes / t.median / 1e9, bytes / raw / 1e9);
    let plane = if report.shared_memory == workers { "shared memory" } else { "grpc" };
    if args.json {
        let line = json!({
            "peer": "lockstep", "workers": workers, "floats": floats, "plane": plane, "rounds": t.steps,
            "seconds": t.median, "gb_per_s": 4.0 * floats as f64 / t.median / 1e9, "star_gb_per_s": rate,
            "raw_tcp_seconds": raw, "raw_tcp_gb_per_s": raw_rate, "of_raw_tcp": rate / raw_rate,
            "encode_s": t.encode, "wire_s": t.wire, "wait_s": t.straggle, "sum_s": t.sum, "optimizer_s": t.optimizer,
            "publish_s": t.publish,
        });
        say!("{line}");
    } else {
        say!("{floats} values, {workers} workers, {plane}: push, average, step and pull");
        say!("{:.3} ms, median of {} rounds; {rate:.2} GB/s in and out of the coordinator", t.median * 1e3, t.steps);
        say!(
            "raw TCP moves those bytes in {:.3} ms, {raw_rate:.2} GB/s: {:.0}% of it",
            raw * 1e3,
            rate / raw_rate * 100.0
        );
        let ms = [t.encode, t.wire, t.straggle, t.sum, t.optimizer, t.publish].map(|s| s * 1e3);
        let [encode, wire, wait, sum, optimizer, publish] = ms;
        say!(
            "encode {encode:.3}, wire {wire:.3}, wait {wait:.3}, sum {sum:.3}, optimizer {optimizer:.3}, publish {publish:.3} ms"
        );
    }
    Ok(())
}

/// A run whose only tensor has the asked length, with one image a worker and step.
fn wire_run(args: &BenchArgs, workers: usize) -> Result<Run> {
    let examples = workers * args.steps;
    let images = |n: usize| Split { pixels: vec![1; n * PIXELS], labels: vec![0; n] };
    let (shards, batch_size, max_steps) = (workers, workers, args.steps as u64);
    let mut recipe = Recipe { name: "wire".to_owned(), shards, batch_size, epochs: 1, max_steps, ..Recipe::default() };
    recipe.wire = crate::prepare::recipe(&args.recipe)?.wire;
    // plain SGD, the least work that is a step; small, so that the values stay ordinary numbers
    (recipe.optimizer.lr, recipe.optimizer.momentum) = (1e-6, 0.0);
    let dataset = Dataset {
        name: "wire".to_owned(),
        source: "ones".to_owned(),
        // as many as the default recipe's model has logits: workers check it, though they do not compute it
        classes: (0..10).map(|class| class.to_string()).collect(),
        train: images(examples),
        test: images(0),
    };
    Ok(Run {
        name: "wire".to_owned(),
        build: BUILD.to_owned(),
        folder: None,
        schema: Schema::wire(args.floats).map_err(Failure::ours)?,
        initial: vec![1.0; args.floats],
        selection: Selection { train: (0..examples as u32).collect(), validation: Vec::new() },
        resume: None,
        limits: limits(args, workers),
        reducer: Reducer::Tree,
        trace: false,
        recipe,
        dataset: Arc::new(dataset),
    })
}

/// Seconds in which plain TCP over loopback moves `bytes` from each of `workers` connections here, then back: the median of
/// a few rounds, with all connections at once.
fn raw_tcp(workers: usize, bytes: usize) -> Result<f64> {
    const ROUNDS: usize = 9;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let clients: Vec<_> = (0..workers)
        .map(|_| {
            std::thread::spawn(move || -> std::io::Result<()> {
                let mut stream = TcpStream::connect(address)?;
                let mut buffer = vec![1; bytes];
                for _ in 0..ROUNDS {
                    stream.write_all(&buffer)?;
                    stream.read_exact(&mut buffer)?;
                }
                Ok(())
            })
        })
        .collect();
    let streams = (0..workers).map(|_| Ok(listener.accept()?.0)).collect::<std::io::Result<Vec<_>>>()?;
    let mut links: Vec<_> = streams.into_iter().map(|stream| (stream, vec![0; bytes])).collect();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (stream, buffer) in &mut links {
                scope.spawn(|| stream.read_exact(buffer));
            }
        });
        std::thread::scope(|scope| {
            for (stream, buffer) in &mut links {
                scope.spawn(|| stream.write_all(buffer));
            }
        });
        times.push(start.elapsed().as_secs_f64());
    }
    for client in clients {
        client.join().map_err(|_| Failure::ours("the raw TCP client panicked"))??;
    }
    times.sort_by(f64::total_cmp);
    Ok(times[ROUNDS / 2])
}
