//! Looks after one worker: starts it, shows what it says by name, starts it again when it died.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use lockstep_coordinator::telemetry::{self, Emitter, Event};

use super::place::{Ended, Place};
use super::{Fleet, GivenUp, LOOK, name};
use crate::exit::{Failure, Result};
use crate::processor;

/// How long a worker may take to end by itself once the run is over.
const PATIENCE: Duration = Duration::from_secs(5);

/// After this long its standard input is closed, which ends one that never got to hear of the end: it was still joining.
const HINT: Duration = Duration::from_millis(500);

pub(super) struct Keeper {
    pub(super) number: usize,
    pub(super) fleet: Fleet,
    pub(super) address: String,
    pub(super) emitter: Emitter,
    pub(super) over: Arc<AtomicBool>,
    pub(super) gone: mpsc::Sender<GivenUp>,
    pub(super) place: Arc<Place>,
}

impl Keeper {
    fn name(&self) -> String {
        name(self.number)
    }

    /// Starts the worker for the `start`-th time, with the fault that was asked for this time, if any.
    pub(super) fn spawn(&self, start: usize) -> Result {
        let die_at_step =
            self.fleet.kill.iter().filter(|kill| kill.worker == self.number).nth(start).map(|kill| kill.step);
        let program = std::env::current_exe()?;
        let mut command = Command::new(&program);
        command.args(["worker", "--end-with-stdin", "--join", &self.address, "--name", &self.name()]);
        command.args(["--threads", &self.fleet.threads.to_string()]);
        let device = processor::of_worker(self.fleet.compute.device, self.number)?;
        command.args(["--device", &device.to_string()]);
        if self.fleet.compute.no_tf32 {
            command.arg("--no-tf32");
        }
        if let Some(kernels) = self.fleet.compute.kernels {
            command.args(["--kernels", kernels.word()]);
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
        self.show(&mut child);
        self.place.fill(child);
        Ok(())
    }

    /// Shows what the worker says, by name.
    fn show(&self, child: &mut Child) {
        let Some(stderr) = child.stderr.take() else { return };
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

    /// Looks after the worker until the run is over or it died too often.
    pub(super) fn keep(self) {
        let (mut starts, mut restarts) = (1, 0);
        while let Some(Ended { status, by_chaos }) = self.wait() {
            if self.is_over(status, by_chaos) {
                return;
            }
            let what = format!("{} ended: {}", self.name(), describe(status));
            let again = if by_chaos {
                // that is no sign of anything wrong with it
                "starting it again, not counted (--chaos)".to_owned()
            } else {
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
                format!("starting it again ({restarts} of {})", self.fleet.max_restarts)
            };
            self.emitter.emit(Event::Notice { text: format!("{what}; {again}") });
            if let Err(error) = self.spawn(starts) {
                let _ = self.gone.send(GivenUp { reason: format!("{what}; {error:?}"), mistake: false });
                return;
            }
            starts += 1;
        }
    }

    /// Whether a worker that ended did so because the run is over. One that ends well may be ahead of us: it hears of the end
    /// from the coordinator.
    fn is_over(&self, status: ExitStatus, by_chaos: bool) -> bool {
        let start = Instant::now();
        let ahead = status.success() && !by_chaos;
        while ahead && !self.over.load(Ordering::Acquire) && start.elapsed() < PATIENCE {
            std::thread::sleep(LOOK);
        }
        self.over.load(Ordering::Acquire)
    }

    /// Waits until the worker ends; none if it had to be ended.
    fn wait(&self) -> Option<Ended> {
        let mut over_since = None;
        loop {
            match self.place.reap() {
                Ok(Some(ended)) => return Some(ended),
                Ok(None) => {}
                Err(_) => return None,
            }
            if self.over.load(Ordering::Acquire) {
                let since = *over_since.get_or_insert_with(Instant::now);
                if since.elapsed() > HINT {
                    self.place.close_input();
                }
                if since.elapsed() > PATIENCE {
                    self.place.end();
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
