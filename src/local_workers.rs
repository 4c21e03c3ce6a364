//! Worker processes on this machine: started, shown by name, started again when they die, and never left behind.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lockstep_coordinator::telemetry::{self, Emitter, Event};

use crate::cli::Kill;
use crate::exit::{Failure, Result};

/// How long a worker may take to end by itself once the run is over.
const PATIENCE: Duration = Duration::from_secs(5);

/// After this long its standard input is closed, which ends one that never got to hear of the end: it was still joining.
const HINT: Duration = Duration::from_millis(500);

/// How often a worker is looked after.
const LOOK: Duration = Duration::from_millis(20);

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
    pub kernels: Option<&'static str>,
    pub kill: Vec<Kill>,
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
    given_up: Option<mpsc::Receiver<GivenUp>>,
}

impl LocalWorkers {
    /// Starts the fleet for the coordinator at `address`.
    pub fn start(fleet: &Fleet, address: &str, emitter: &Emitter) -> Result<Self> {
        // read by the keepers without a lock: the only thing that they must learn is that the run is over
        let over = Arc::new(AtomicBool::new(false));
        let (gone, given_up) = mpsc::channel();
        let mut keepers = Vec::with_capacity(fleet.workers);
        for number in 0..fleet.workers {
            let keeper = Keeper {
                number,
                fleet: fleet.clone(),
                address: address.to_owned(),
                emitter: emitter.clone(),
                over: Arc::clone(&over),
                gone: gone.clone(),
            };
            // the first start happens here, so that a missing executable is an error and not a run that waits
            let child = keeper.spawn(0)?;
            let thread = std::thread::Builder::new().name(format!("keeper-{number}"));
            keepers.push(thread.spawn(move || keeper.keep(child))?);
        }
        Ok(Self { over, keepers, given_up: Some(given_up) })
    }

    /// Why workers are not started again, one message each; for one listener.
    pub fn take_given_up(&mut self) -> Option<mpsc::Receiver<GivenUp>> {
        self.given_up.take()
    }

    /// The run is over: waits for the workers to end, and ends those that do not.
    pub fn finish(self) {
        self.over.store(true, Ordering::Release);
        for keeper in self.keepers {
            let _ = keeper.join();
        }
    }
}

struct Keeper {
    number: usize,
    fleet: Fleet,
    address: String,
    emitter: Emitter,
    over: Arc<AtomicBool>,
    gone: mpsc::Sender<GivenUp>,
}

impl Keeper {
    fn name(&self) -> String {
        format!("worker-{}", self.number)
    }

    /// Starts the worker for the `start`-th time, with the fault that was asked for this time, if any.
    fn spawn(&self, start: usize) -> Result<Child> {
        let die_at_step =
            self.fleet.kill.iter().filter(|kill| kill.worker == self.number).nth(start).map(|kill| kill.step);
        let program = std::env::current_exe()?;
        let mut command = Command::new(&program);
        command.args(["worker", "--end-with-stdin", "--join", &self.address, "--name", &self.name()]);
        command.args(["--threads", &self.fleet.threads.to_string()]);
        if let Some(kernels) = self.fleet.kernels {
            command.args(["--kernels", kernels]);
        }
        if let Some(values) = self.fleet.wire_values {
            command.args(["--wire-values", &values.to_string()]);
        }
        if let Some(step) = die_at_step {
            command.args(["--die-at-step", &step.to_string()]);
        }
        // The pipe's other end is ours: the kernel closes it however we end, and the worker ends with it.
        for (name, value) in crate::commands::worker::tuning(self.fleet.threads) {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        #[cfg(unix)]
        {
            // Ctrl-C on the terminal is for us: we write the checkpoint and let the workers go after that
            use std::os::unix::process::CommandExt as _;
            command.process_group(0);
        }
        let start = command.spawn();
        let mut child = start.map_err(|error| Failure::ours(format!("can't start {}: {error}", program.display())))?;
        if let Some(stderr) = child.stderr.take() {
            let name = self.name();
            // ends with the pipe, that is with the worker
            std::thread::spawn(move || {
                use std::io::Write as _;
                // split, not lines: what is no UTF-8 must not silence the rest
                for line in BufReader::new(stderr).split(b'\n').map_while(std::result::Result::ok) {
                    let _ = writeln!(telemetry::writer(), "[{name}] {}", String::from_utf8_lossy(&line));
                }
            });
        }
        Ok(child)
    }

    /// Looks after the worker until the run is over or it died too often.
    fn keep(self, mut child: Child) {
        let mut restarts = 0;
        while let Some(status) = self.wait(&mut child) {
            if self.is_over(status) {
                return;
            }
            let what = format!("{} ended: {}", self.name(), describe(status));
            if status.code() == Some(64) {
                // the next one would be refused, too
                let _ = self.gone.send(GivenUp { reason: what, mistake: true });
                return;
            }
            if restarts == self.fleet.max_restarts {
                let text = format!("{what}; it is not started again after {restarts} restarts (--max-restarts)");
                self.emitter.emit(Event::Warning { text: text.clone() });
                let _ = self.gone.send(GivenUp { reason: text, mistake: false });
                return;
            }
            restarts += 1;
            let most = self.fleet.max_restarts;
            self.emitter.emit(Event::Notice { text: format!("{what}; starting it again ({restarts} of {most})") });
            match self.spawn(restarts as usize) {
                Ok(again) => child = again,
                Err(error) => {
                    let _ = self.gone.send(GivenUp { reason: format!("{what}; {error:?}"), mistake: false });
                    return;
                }
            }
        }
    }

    /// Whether a worker that ended did so because the run is over. One that ends well may be ahead of us: it hears of the end
    /// from the coordinator.
    fn is_over(&self, status: ExitStatus) -> bool {
        let start = Instant::now();
        while status.success() && !self.over.load(Ordering::Acquire) && start.elapsed() < PATIENCE {
            std::thread::sleep(LOOK);
        }
        self.over.load(Ordering::Acquire)
    }

    /// Waits until the worker ends; none if it had to be ended.
    fn wait(&self, child: &mut Child) -> Option<ExitStatus> {
        let mut over_since = None;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => {}
                Err(_) => return None,
            }
            if self.over.load(Ordering::Acquire) {
                let since = *over_since.get_or_insert_with(Instant::now);
                if since.elapsed() > HINT {
                    child.stdin = None;
                }
                if since.elapsed() > PATIENCE {
                    let _ = child.kill();
                    let _ = child.wait();
                    return None;
                }
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn describe(status: ExitStatus) -> String {
    #[cfg(unix)]
    {
        use std::os::unix::process::ExitStatusExt as _;
        if let Some(signal) = status.signal() {
            return format!("killed by signal {signal}");
        }
    }
    status.code().map_or_else(|| "without a reason".to_owned(), |code| format!("exit code {code}"))
}
