//! One worker's place, and the process that fills it now.

use std::io;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};

/// A process that its keeper looks after and that chaos may harm.
///
/// The lock is there because who reaps a process and who sends it a signal must take turns: once reaped, its number may be
/// somebody else's. Nobody holds it for longer than a system call.
#[derive(Debug, Default)]
pub(super) struct Place(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// None once it was reaped.
    child: Option<Child>,
    /// How many processes were here before this one.
    generation: u64,
    /// Chaos has ended it, so that its restart is free.
    ended: bool,
    frozen: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) by_chaos: bool,
}

impl Place {
    fn state(&self) -> MutexGuard<'_, State> {
        // every state is whole between two statements
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new process takes the place.
    pub(super) fn fill(&self, child: Child) {
        let mut state = self.state();
        *state = State { child: Some(child), generation: state.generation + 1, ended: false, frozen: false };
    }

    /// Reaps the process if it has ended; none while it runs.
    pub(super) fn reap(&self) -> io::Result<Option<Ended>> {
        let mut state = self.state();
        let Some(child) = &mut state.child else {
            return Err(io::Error::other("it was reaped before"));
        };
        let Some(status) = child.try_wait()? else { return Ok(None) };
        state.child = None;
        Ok(Some(Ended { status, by_chaos: state.ended }))
    }

    /// Closes its standard input, which ends a worker.
    pub(super) fn close_input(&self) {
        if let Some(child) = &mut self.state().child {
            child.stdin = None;
        }
    }

    /// Ends it at once, whatever it does.
    pub(super) fn end(&self) {
        let child = self.state().child.take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The process, if it runs and nothing has been done to it yet.
    pub(super) fn unharmed(&self) -> Option<Victim<'_>> {
        let state = self.state();
        (state.child.is_some() && !state.ended && !state.frozen).then_some(Victim(state))
    }

    /// Lets a frozen process go on, if it is still that of `generation`.
    pub(super) fn thaw(&self, generation: u64) {
        let mut state = self.state();
        if state.generation == generation && state.frozen {
            state.frozen = false;
            let _ = signal(&state, Signal::CONT);
        }
    }
}

/// A process that can't be reaped by anybody else while this is held.
pub(super) struct Victim<'a>(MutexGuard<'a, State>);

impl Victim<'_> {
    /// SIGKILL.
    pub(super) fn kill(mut self) {
        self.0.ended = signal(&self.0, Signal::KILL).is_ok();
    }

    /// SIGTERM.
    pub(super) fn ask_to_leave(mut self) {
        self.0.ended = signal(&self.0, Signal::TERM).is_ok();
    }

    /// SIGSTOP. Returns what [`Place::thaw`] needs.
    pub(super) fn freeze(mut self) -> u64 {
        self.0.frozen = signal(&self.0, Signal::STOP).is_ok();
        self.0.generation
    }
}

fn signal(state: &State, signal: Signal) -> rustix::io::Result<()> {
    match &state.child {
        Some(child) => kill_process(Pid::from_child(child), signal),
        None => Ok(()),
    }
}
