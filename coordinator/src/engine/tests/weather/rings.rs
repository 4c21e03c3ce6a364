//! Rings of processes: as NCCL's ranks, they wait for each other until all are there, or until they are told to leave.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::{Event, Finding, Report, Work, WorkerId};
use super::super::process::{Process, What, Word};
use super::super::toy;
use super::super::world::{Broken, Job};
use super::Weather;

/// How long a process waits for others before it says so, in milliseconds.
const PATIENT: u64 = 100;

/// One ring, as its processes see it.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    size: u32,
    seated: BTreeSet<usize>,
    /// Who has computed its part of a step, and what.
    parts: BTreeMap<usize, (WorkerId, Job, u64)>,
    /// What they have in common.
    sums: BTreeMap<usize, (WorkerId, Job, u64)>,
}

impl Process {
    pub(in super::super) fn unseat(&mut self) {
        (self.seat, self.stuck_in, self.formed, self.dissolved) = (None, None, 0, 0);
    }
}

impl Weather {
    /// A worker is told to take its place.
    pub(super) fn form(&mut self, worker: WorkerId, generation: u64, rank: u32, size: u32) -> Result<(), Broken> {
        let Some(process) = self.owner.get(&worker).copied() else {
            return Err(format!("ring {generation} for {worker}, who is gone"));
        };
        for other in &self.processes {
            if let (Some(session), Some((before, _))) = (other.session, other.seat)
                && before < generation
                && other.dissolved < before
                && self.owner.contains_key(&session)
            {
                return Err(format!("ring {generation}, and {session} was not told to leave ring {before}"));
            }
        }
        if self.processes[process].session != Some(worker) {
            return Ok(());
        }
        self.rings.entry(generation).or_default().size = size;
        self.processes[process].seat = Some((generation, rank));
        let soon = 1 + u64::from(self.dice.below(40));
        self.later(soon, What::Seat(process, worker, generation));
        Ok(())
    }

    /// Workers are told to leave, whatever they wait for.
    pub(super) fn dissolve(&mut self, generation: u64, members: &[WorkerId]) -> Result<(), Broken> {
        for worker in members {
            let Some(process) = self.owner.get(worker).copied() else {
                return Err(format!("{worker} is to leave ring {generation}, and is gone"));
            };
            let member = &mut self.processes[process];
            if member.session != Some(*worker) {
                continue;
            }
            member.dissolved = generation;
            if member.stuck_in.take_if(|stuck| *stuck <= generation).is_some() {
                self.begin_job(process);
            }
            // what it is computing it computes to the end; nobody wants the answer
            let ring = self.rings.entry(generation).or_default();
            for (worker, job, _) in ring.parts.remove(&process).into_iter().chain(ring.sums.remove(&process)) {
                self.sent.push((worker, job.lease));
            }
        }
        Ok(())
    }

    /// A process is gone: others may notice before the coordinator does.
    pub(super) fn mourn(&mut self, process: usize) {
        let mut rings = self.rings.iter().rev().filter(|(_, ring)| ring.seated.contains(&process));
        let Some((generation, ring)) = rings.next() else { return };
        let (generation, left) = (*generation, ring.seated.clone());
        for other in left {
            if let (Some(session), true) = (self.processes[other].session, self.dice.below(2) == 0) {
                let soon = u64::from(self.dice.below(30));
                self.later(soon, What::Word(other, session, generation, Word::Broken));
            }
        }
    }

    /// Something happens in a ring.
    pub(super) fn in_ring(&mut self, process: usize, worker: WorkerId, what: What) -> Result<(), Broken> {
        let one = &self.processes[process];
        if one.frozen {
            self.later(20, what);
            return Ok(());
        }
        match what {
            What::Seat(_, _, generation) if one.dissolved >= generation => Ok(()),
            // one thread computes, and waits
            What::Seat(..) if one.stuck_in.is_some() || !one.jobs.is_empty() => {
                self.later(20, what);
                Ok(())
            }
            What::Seat(_, _, generation) => {
                self.sit_down(process, worker, generation);
                Ok(())
            }
            What::Word(_, _, generation, word) => {
                let stuck = one.stuck_in == Some(generation);
                let event = match word {
                    Word::Named => Event::Named { worker, generation, id: generation.to_le_bytes().to_vec() },
                    Word::Formed => Event::Formed { worker, generation },
                    Word::Waits if !stuck => return Ok(()),
                    Word::Waits => Event::Waits { worker, generation },
                    Word::Broken => {
                        self.world.counts.broken += 1;
                        Event::Broken { worker, generation, reason: "remote error".to_owned() }
                    }
                };
                self.tell(event, None)
            }
            What::Summed(_, _, generation) => {
                let sum = self.rings.get_mut(&generation).and_then(|ring| ring.sums.remove(&process));
                let Some((worker, job, sum)) = sum else { return Ok(()) };
                self.processes[process].stuck_in = None;
                self.respond(process, worker, job, sum)
            }
            _ => Ok(()),
        }
    }

    fn say(&mut self, process: usize, worker: WorkerId, generation: u64, word: Word) {
        let way = 1 + u64::from(self.dice.below(60));
        if word == Word::Waits {
            return self.later(PATIENT + way, What::Word(process, worker, generation, word));
        }
        // one stream, in order: a later word is never faster
        let arrives = (self.now + way).max(self.processes[process].said);
        self.processes[process].said = arrives;
        self.later(arrives - self.now, What::Word(process, worker, generation, word));
    }

    fn sit_down(&mut self, process: usize, worker: WorkerId, generation: u64) {
        let named = self.processes[process].seat == Some((generation, 0));
        if named {
            self.say(process, worker, generation, Word::Named);
        }
        if self.now < super::STORM && self.dice.below(30) == 0 {
            return self.say(process, worker, generation, Word::Broken);
        }
        self.processes[process].stuck_in = Some(generation);
        let ring = self.rings.entry(generation).or_default();
        ring.seated.insert(process);
        if ring.seated.len() < ring.size as usize {
            return self.say(process, worker, generation, Word::Waits);
        }
        for process in ring.seated.clone() {
            let one = &mut self.processes[process];
            let Some(worker) = one.session.filter(|_| one.stuck_in == Some(generation)) else { continue };
            (one.stuck_in, one.formed) = (None, generation);
            self.say(process, worker, generation, Word::Formed);
        }
    }

    /// A process has computed its part, and waits for the sum.
    pub(super) fn enter(&mut self, process: usize, worker: WorkerId, job: Job) -> Result<(), Broken> {
        let Work::Part { step, generation, .. } = job.work else { return Ok(()) };
        if self.processes[process].dissolved >= generation {
            self.begin_job(process);
            let event = Event::Failed { worker, lease: job.lease, reason: "its ring is dissolved".to_owned() };
            return self.send(worker, job, event, 0);
        }
        // once a step: two members that can't are taken for a step that can't be computed
        let whole = Work::Part { step, generation: 0, rank: 0, first: 0, end: 0 };
        if self.now < super::STORM && self.dice.below(200) == 0 && self.failed.insert(whole) {
            self.begin_job(process);
            let event = Event::Failed { worker, lease: job.lease, reason: "out of memory".to_owned() };
            return self.send(worker, job, event, 0);
        }
        self.processes[process].stuck_in = Some(generation);
        self.say(process, worker, generation, Word::Waits);
        let value = toy::compute(&self.plan, job.work, job.input.value);
        let ring = self.rings.entry(generation).or_default();
        ring.parts.insert(process, (worker, job, value));
        if ring.parts.len() < ring.size as usize {
            return Ok(());
        }
        let parts = std::mem::take(&mut ring.parts);
        let sum = parts.values().fold(0, |sum: u64, (_, _, value)| sum.wrapping_add(*value));
        ring.sums = parts.into_iter().map(|(process, (worker, job, _))| (process, (worker, job, sum))).collect();
        for (process, worker) in ring.sums.iter().map(|(process, (worker, ..))| (*process, *worker)).collect::<Vec<_>>()
        {
            let soon = 1 + u64::from(self.dice.below(10));
            self.later(soon, What::Summed(process, worker, generation));
        }
        Ok(())
    }

    /// What a member sends when the sum is there.
    fn respond(&mut self, process: usize, worker: WorkerId, mut job: Job, sum: u64) -> Result<(), Broken> {
        let Work::Part { step, rank, .. } = job.work else { return Ok(()) };
        let lease = job.lease;
        if self.now < super::STORM && self.dice.below(60) == 0 {
            self.begin_job(process);
            return self.send(worker, job, Event::Refused { worker, lease, reason: "checksum".to_owned() }, 0);
        }
        let value = if rank == 0 { sum } else { 0 };
        let poisoned = self.poison.is_some_and(|(poisoned, _)| poisoned == step) && rank == 0;
        let answered = |finding| Event::Answered { worker, lease, finding };
        if let Some(report) = job.report {
            // as if a bit flipped after the sum; of one rank alone nobody would know
            let size =
                self.processes[process].seat.and_then(|(ring, _)| self.rings.get(&ring)).map_or(0, |ring| ring.size);
            let drifts = self.now < super::STORM && self.liar == Some(process) && size > 1 && self.dice.below(3) == 0;
            if drifts {
                self.liars.insert(worker);
                self.world.counts.drifted += 1;
            }
            self.make_step(process, &mut job, &answered(Finding::Bits(0)), sum ^ u64::from(drifts));
            let bits = if report == Report::State { job.input.state } else { 0 };
            let finding = if poisoned { Finding::NotFinite("NaN".to_owned()) } else { Finding::Bits(bits) };
            self.begin_job(process);
            return self.send(worker, job, answered(finding), value);
        }
        let finding = if poisoned { Finding::NotFinite("NaN".to_owned()) } else { Finding::Bits(0) };
        self.begin_job(process);
        self.send(worker, job, answered(finding), value)
    }
}
