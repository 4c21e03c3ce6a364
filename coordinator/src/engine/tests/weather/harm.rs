//! What goes wrong in a storm.

use std::collections::VecDeque;

use super::super::super::{Event, Finding, Outcome, WorkerId};
use super::super::process::What;
use super::super::world::{Broken, Payload};
use super::Weather;

impl Weather {
    /// Harms somebody, or nobody.
    pub(super) fn fault(&mut self) -> Result<(), Broken> {
        let process = self.dice.below(self.processes.len() as u32) as usize;
        let session = self.processes[process].session;
        match (self.dice.below(12), session) {
            // killed: its connection breaks, and it is started again
            (0 | 1, Some(worker)) => {
                self.end(process, worker);
                self.tell(Event::Left { worker, reason: "killed".to_owned() }, None)
            }
            // its machine is gone: nobody says so
            (2, Some(worker)) => {
                self.end(process, worker);
                self.owner.insert(worker, process);
                self.silent.insert(worker);
                Ok(())
            }
            (3 | 4, _) if !self.processes[process].frozen => {
                self.silent.extend(session);
                self.processes[process].frozen = true;
                let long = 100 + u64::from(self.dice.below(4_000));
                self.later(long, What::Thaw(process));
                Ok(())
            }
            (5, Some(worker)) => {
                self.processes[process].leaving = true;
                self.tell(Event::Leaving { worker }, None)
            }
            (6, _) if !self.sent.is_empty() => {
                let (worker, lease) = self.sent[self.dice.below(self.sent.len() as u32) as usize];
                let nonsense = Payload { version: u64::MAX, ..Payload::default() };
                self.tell(Event::Answered { worker, lease, finding: Finding::Bits(0) }, Some((lease, nonsense)))
            }
            // the coordinator is killed
            (7, _) if self.restarts < 3 => {
                self.restarts += 1;
                self.world.restart();
                self.begin();
                Ok(())
            }
            // it is stopped for a while
            (8, _) => {
                self.gaps += 1;
                self.now += 500 + u64::from(self.dice.below(20_000));
                Ok(())
            }
            // Ctrl-C, and --resume
            (9, _) if self.dice.below(4) == 0 && self.restarts < 3 => {
                self.stopping = true;
                // now, or when the coordinator has caught up
                self.tell(Event::Stop { reason: "Ctrl-C".to_owned() }, None)?;
                match &self.world.outcome {
                    None if self.engine.stopping.is_some() => Ok(()),
                    Some(Outcome::Stopped { .. }) => Ok(()),
                    other => Err(format!("stopped, and it ended with {other:?}")),
                }
            }
            _ => Ok(()),
        }
    }

    /// The process is gone, and comes back later.
    fn end(&mut self, process: usize, worker: WorkerId) {
        self.owner.remove(&worker);
        let gone = &mut self.processes[process];
        (gone.session, gone.jobs, gone.leaving) = (None, VecDeque::new(), false);
        gone.unseat();
        self.mourn(process);
        let soon = 100 + u64::from(self.dice.below(1_000));
        self.later(soon, What::Join(process));
    }
}
