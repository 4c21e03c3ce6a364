//! Worker processes on this machine: started, shown by name, started again when they die, and never left behind.

mod chaos;
mod keeper;
mod place;
mod schedule;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use lockstep_coordinator::telemetry::Emitter;

use crate::cli::{ComputeArgs, Kill};
use crate::exit::{Failure, Result};
pub use chaos::Toll;
use keeper::Keeper;
pub use schedule::Schedule;

/// How often a worker is looked after.
const LOOK: Duration = Duration::from_millis(20);

/// What worker `number` is called.
fn name(number: usize) -> String {
    format!("worker-{number}")
}

/// Why a worker is not started again.
#[derive(Clone, Debug)]
pub struct GivenUp {
    pub reason: String,
    /// It was refused or misconfigured: the user has to change something.
    pub mistake: bool,
}

/// What the processes are to be.
#[derive(Clone, Debug)]
pub struct Fleet {
    pub workers: usize,
    pub threads: usize,
    pub max_restarts: u32,
    pub compute: ComputeArgs,
    pub kill: Vec<Kill>,
    /// The faults that they are to survive.
    pub chaos: Option<Schedule>,
    /// Do not compute: answer with so many values.
    pub wire_values: Option<usize>,
}

impl Fleet {
    /// Threads for each of `workers` workers: the cores shared out. More threads than cores is slower, never faster.
    pub fn threads(workers: usize, asked: Option<usize>) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        asked.unwrap_or_else(|| (cores / workers).max(1))
    }

    /// Checks that each `--kill` names a worker that there is.
    pub fn check(&self) -> Result {
        match self.kill.iter().find(|kill| kill.worker >= self.workers) {
            None => Ok(()),
            Some(kill) => Err(Failure::mistake(format!(
                "--kill {}@{}: there is no worker {}, they are 0 to {}",
                kill.worker,
                kill.step,
                kill.worker,
                self.workers - 1
            ))),
        }
    }
}

/// The running processes, each under a thread that looks after it.
pub struct LocalWorkers {
    over: Arc<AtomicBool>,
    keepers: Vec<JoinHandle<()>>,
    chaos: Option<JoinHandle<Toll>>,
    given_up: Option<mpsc::Receiver<GivenUp>>,
}

impl LocalWorkers {
    /// Starts the fleet for the coordinator at `address`.
    pub fn start(fleet: &Fleet, address: &str, emitter: &Emitter) -> Result<Self> {
        // read by the keepers without a lock: the only thing that they must learn is that the run is over
        let over = Arc::new(AtomicBool::new(false));
        let (gone, given_up) = mpsc::channel();
        let mut keepers = Vec::with_capacity(fleet.workers);
        let mut places = Vec::with_capacity(fleet.workers);
        for number in 0..fleet.workers {
            let place = Arc::default();
            places.push(Arc::clone(&place));
            let keeper = Keeper {
                number,
                fleet: fleet.clone(),
                address: address.to_owned(),
                emitter: emitter.clone(),
                over: Arc::clone(&over),
                gone: gone.clone(),
                place,
            };
            // the first start happens here, so that a missing executable is an error and not a run that waits
            keeper.spawn(0)?;
            let thread = std::thread::Builder::new().name(format!("keeper-{number}"));
            keepers.push(thread.spawn(move || keeper.keep())?);
        }
        let chaos = fleet.chaos.clone().map(|schedule| {
            let chaos = chaos::Chaos { schedule, places, emitter: emitter.clone(), over: Arc::clone(&over) };
            std::thread::Builder::new().name("chaos".to_owned()).spawn(move || chaos.rage())
        });
        Ok(Self { over, keepers, chaos: chaos.transpose()?, given_up: Some(given_up) })
    }

    /// Why workers are not started again, one message each; for one listener.
    pub fn take_given_up(&mut self) -> Option<mpsc::Receiver<GivenUp>> {
        self.given_up.take()
    }

    /// The run is over: waits for the workers to end, and ends those that do not. Returns what chaos did.
    pub fn finish(self) -> Option<Toll> {
        self.over.store(true, Ordering::Release);
        // first: a frozen worker can't end by itself
        let toll = self.chaos.map(|chaos| chaos.join().unwrap_or_default());
        for keeper in self.keepers {
            let _ = keeper.join();
        }
        toll
    }
}
